"""Small videos made on the spot, with frames that carry their numbers, and the pool's job that
stores one.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from configs.schema import Frames


def moving(num_frames: int, height: int, width: int) -> np.ndarray:
    """Smooth moving colours, uint8 [T, H, W, 3]; the top left corner is bright, the others are
    not.
    """
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [110 + 60 * np.sin((x + 2 * t) / 9 + k) * np.cos((y - t) / 7 + k) for k in range(3)]
    frames = np.stack(waves, -1).astype(np.uint8)
    frames[:, : height // 4, : width // 4] = 250
    return frames


def numbered(num_frames: int, height: int = 120, width: int = 160, first: int = 0) -> np.ndarray:
    """Moving colours, uint8 [T, H, W, 3], with the frame's number in the top strip: eight bright or
    dark blocks, lowest bit first.
    """
    frames = moving(num_frames, height, width)
    strip, block = height // 4, width // 8
    for t in range(num_frames):
        for bit in range(8):
            frames[t, :strip, bit * block : (bit + 1) * block] = (
                230 if (first + t) >> bit & 1 else 20
            )
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers that `numbered` wrote, read back from frames of any size [T, H, W, 3]."""
    height, width = frames.shape[1:3]
    rows = slice(height // 16, height * 3 // 16)
    found = []
    for frame in frames:
        bits = [
            frame[rows, int((bit + 0.25) * width / 8) : int((bit + 0.75) * width / 8)].mean() > 125
            for bit in range(8)
        ]
        found.append(sum(1 << bit for bit in range(8) if bits[bit]))
    return found


def encoded(
    path: Path,
    num_frames=24,
    size=(64, 96),
    fps=25,
    codec="libx264",
    options=None,
    container=None,
    frames=None,
) -> Path:
    """Writes a video of these frames, uint8 [T, H, W, 3] (None: moving colours)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = moving(num_frames, *size) if frames is None else frames
    # x264's macroblock tree reads past the rows of small pictures: the same frames would not always
    # give the same bytes
    steady = {"mbtree": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=container or {}) as output:
        stream = output.add_stream(codec, rate=fps, options={**steady, **(options or {})})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for image in frames:
            output.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                )
            )
        output.mux(stream.encode())
    return path


def store_job(path: Path, uri: Path | str, frames: Frames | None = None, deadline_s: float = 30.0):
    """A pool's job that stores one file, its key the file's name."""
    from ops.compute.pool import Job
    from ops.files.storage import sha256_of
    from ops.media.store_job import StoreJob

    job = StoreJob(
        path.name, str(path), sha256_of(path), str(uri), frames or Frames(frames_per_shard=16), 1
    )
    return Job(path.name, job, deadline_s)


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
