"""Small videos made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from configs.schema import Dataset, Frames

Make = Callable[..., Path]


def moving(num_frames: int, height: int, width: int) -> np.ndarray:
    """Smooth moving colours, uint8 [T, H, W, 3]; the top left corner is bright, the others are not."""
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [110 + 60 * np.sin((x + 2 * t) / 9 + k) * np.cos((y - t) / 7 + k) for k in range(3)]
    frames = np.stack(waves, -1).astype(np.uint8)
    frames[:, : height // 4, : width // 4] = 250
    return frames


@pytest.fixture
def make_video() -> Make:
    """make_video(path, num_frames=24, size=(64, 96), fps=25, codec="libx264", options=None, frames=None) -> path."""

    def make(path: Path, num_frames=24, size=(64, 96), fps=25, codec="libx264", options=None, container=None, frames=None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = moving(num_frames, *size) if frames is None else frames
        # x264's macroblock tree reads past the rows of small pictures: the same frames would not always give the same bytes
        steady = {"mbtree": "0"} if codec == "libx264" else {}
        with av.open(str(path), "w", options=container or {}) as output:
            stream = output.add_stream(codec, rate=fps, options={**steady, **(options or {})})
            stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            for image in frames:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            output.mux(stream.encode())
        return path

    return make


@pytest.fixture
def cut() -> Callable[[Path, Path, int], Path]:
    """cut(source, target, first): a stream copy whose first `first` frames are hidden by an edit list."""

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
def dataset(tmp_path: Path) -> Dataset:
    """A dataset whose videos lie in <tmp>/world/videos."""
    return Dataset(name="world", title="t", licence="none", root=str(tmp_path / "world"), frames=Frames(frames_per_shard=8))


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """The folder of its videos."""
    return tmp_path / "world" / "videos"


def turn(path: Path, degrees: int) -> Path:
    """Writes a rotation into the display matrix of an mp4's only track."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    for at, value in zip((0, 4, 12, 16), matrix, strict=True):
        data[place + at : place + at + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(bytes(data))
    return path


@pytest.fixture(name="turn")
def _turn() -> Callable[[Path, int], Path]:
    return turn
