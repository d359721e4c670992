"""Pictures of a localization evaluation: small, valid, with many labels and with nothing found."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ops.tasks.localization.errors import gains
from ops.tasks.localization.metric import Segments, segments_of
from ops.tasks.localization.report import _pictures, analyse
from ops.tasks.localization.segments import FeatureVideo


def world(num_labels: int, num_found: int) -> tuple[Segments, Segments, list[FeatureVideo]]:
    rng = np.random.default_rng(0)
    names = [f"folder/a_rather_long_name_of_a_video_{index}" for index in range(8)]
    truth = [
        (names[index % 8], float(index), index + 2.0, index % num_labels, 1.0)
        for index in range(max(16, num_labels))
    ]
    found = [
        (
            names[int(rng.integers(8))],
            *sorted(rng.uniform(0, 80, 2)),
            int(rng.integers(num_labels)),
            rng.random(),
        )
        for _ in range(num_found)
    ]
    blank = (np.empty((0, 2)), np.empty(0, np.int64))
    return (
        segments_of(truth),
        segments_of(found),
        [FeatureVideo(name, "val", "", "", 10, 8, 10.0, 80.0, *blank) for name in names],
    )


@pytest.mark.parametrize(("num_labels", "num_found"), [(3, 0), (120, 400)])
def test_all_four_are_pictures(num_labels: int, num_found: int) -> None:
    truth, found, videos = world(num_labels, num_found)
    recipe = SimpleNamespace(tiou=(0.3, 0.4, 0.5), recall=(1,))
    analysed = analyse(
        truth, found, [f"label number {index}" for index in range(num_labels)], recipe
    )  # type: ignore[arg-type]
    pictures = _pictures(analysed, videos, gains(truth, found, analysed.errors, analysed.matches))
    assert len(pictures) == 4
    for name, data in pictures.items():
        image = Image.open(io.BytesIO(data))
        image.load()
        assert image.format == "PNG" and 300 < image.width < 2500 and len(data) < 250_000, name
