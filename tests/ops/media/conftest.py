"""Small videos made on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest

import made_videos as made
from video_fixtures import dataset, make_video, videos  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    """ffmpeg(*arguments): runs the command-line program; skips where it is not installed."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("ffmpeg is not installed")

    def run(*arguments: object) -> None:
        command = [
            str(program),
            "-hide_banner",
            "-loglevel",
            "error",
            "-nostdin",
            "-y",
            *map(str, arguments),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "AV_LOG_FORCE_NOCOLOR": "1"},
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-600:]}")

    return run


@pytest.fixture
def cut() -> Callable[[Path, Path, int], Path]:
    """cut(source, target, first): a stream copy whose first `first` frames are hidden by an edit
    list.
    """

    def copy(source: Path, target: Path, first: int) -> Path:
        with av.open(str(source)) as opened, av.open(str(target), "w") as output:
            stream = opened.streams.video[0]
            copied = output.add_stream_from_template(stream)
            ticks = round(first / float(stream.average_rate) / float(stream.time_base))
            for packet in opened.demux(stream):
                if packet.dts is not None:
                    packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                    packet.stream = copied
                    output.mux(packet)
        return target

    return copy


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., dict]:
    """store(path, frames=None, attempt="") -> the fields that storing the file gives, done in this
    process.
    """
    from ops.media.store_video import store_video

    return lambda path, frames=None, attempt="": store_video(
        made.store_job(path, tmp_path / f"{path.name}.zarr", frames).payload, attempt
    )


@pytest.fixture
def turn() -> Callable[[Path, int], Path]:
    """turn(path, degrees) -> path."""
    return made.turn
