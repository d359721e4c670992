"""Small videos and a dataset of them: `from video_fixtures import dataset, make_video, videos` in a
conftest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import made_videos as made
from configs.schema import Dataset, Frames

Make = Callable[..., Path]


@pytest.fixture
def make_video() -> Make:
    """make_video(path, num_frames=24, size=(64, 96), fps=25, codec="libx264", options=None,
    container=None, frames=None) -> path.
    """
    return made.encoded


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A dataset whose videos lie in <tmp>/world/videos."""
    return Dataset(
        name="world",
        title="t",
        licence="none",
        root=str(tmp_path / "world"),
        frames=Frames(frames_per_shard=8),
    )


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """The folder of its videos."""
    return tmp_path / "world" / "videos"
