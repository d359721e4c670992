"""The features that come with the project: every YAML is valid, and the published ones have
ActionFormer's numbers.
"""

from __future__ import annotations

import pytest

import configs
from ops.features.listing import check_template

# name -> (fps, stride, num_frames, channels), from the configurations of ActionFormer's release
PUBLISHED = {
    "thumos14_i3d": (None, 4, 16, 2048),
    "activitynet13_tsp": (15, 16, 16, 512),
    "activitynet13_i3d": (25, 16, 16, 2048),
    "epic_kitchens100_slowfast": (30, 16, 32, 2304),
    "ego4d_mq_slowfast": (30, 16, 32, 2304),
    "ego4d_mq_omnivore": (30, 16, 32, 1536),
    "ego4d_mq_egovlp": (30, 16, 16, 256),
    "ego4d_mq_slowfast_egovlp": (30, 16, 32, 2560),
    "ego4d_mq_omnivore_egovlp": (30, 16, 32, 1792),
    "ego4d_mq_slowfast_omnivore_egovlp": (30, 16, 32, 4096),
    "ego4d_mq_omnivore_egovlp_internvideo": (30, 16, 32, 2816),
}


@pytest.mark.parametrize("name", configs.features_names())
def test_every_yaml_is_whole(name: str) -> None:
    features = configs.features(name)
    assert features.name == name and features.about.endswith(".")
    for stream in features.files:
        check_template(name, stream)
    if features.dataset in configs.datasets():
        assert configs.dataset(features.dataset).name == features.dataset
    if features.extract:
        assert all(extraction.model.startswith("models:/") for extraction in features.extract)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_numbers(name: str) -> None:
    features = configs.features(name)
    found = (
        features.fps,
        features.stride,
        features.num_frames,
        sum(stream.channels for stream in features.files),
    )
    assert found == PUBLISHED[name]
