"""A 300-frame video as an mp4 and as a stored array: one made on the spot, one filmed."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from configs.schema import Frames
from ops.media.decode import decode
from ops.store.frames import write_frames
from s3_fixtures import s3, s3_server  # noqa: F401 - fixtures

FRAMES, HEIGHT, WIDTH = 300, 256, 340


def natural(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A still with about the spectrum of a filmed photograph (amplitude 1/f^1.4) and muted colours,
    float32 [H, W, 3] around 120.
    """
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** -1.4
    planes = [
        np.fft.irfft2(falloff * np.exp(2j * np.pi * rng.random(falloff.shape)), (height, width))
        for _ in range(3)
    ]
    grey, one, two = (plane / plane.std() for plane in planes)
    return (120 + np.stack([45 * grey + 10 * one, 45 * grey, 45 * grey + 10 * two], -1)).astype(
        np.float32
    )


def seen(scene: np.ndarray, top: float, left: float) -> np.ndarray:
    """What a camera at a fractional place of the scene sees (bilinear)."""
    y, x = int(top), int(left)
    window = scene[y : y + HEIGHT + 1, x : x + WIDTH + 1]
    rows = window[:-1] * (1 - top + y) + window[1:] * (top - y)
    return rows[:, :-1] * (1 - left + x) + rows[:, 1:] * (left - x)


def film(path: Path) -> None:
    """300 frames of a camera that pans over a scene with two things moving in it, H.264 with x264's
    usual settings.
    """
    rng = np.random.default_rng(0)
    scene, thing = natural(rng, HEIGHT + 120, WIDTH + 200), natural(rng, 80, 60) + 40
    grain = rng.normal(0, 2, (8, HEIGHT, WIDTH, 1)).astype(np.float32)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"crf": "23", "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for t in range(FRAMES):
            image = seen(scene, 60 + 50 * np.sin(t / 30), 100 + 90 * np.cos(t / 38)) + grain[t % 8]
            for phase in (0.0, 2.0):
                y, x = (
                    int(88 + 80 * np.sin(t / 11 + phase)),
                    int(140 + 130 * np.cos(t / 17 + phase)),
                )
                image[y : y + 80, x : x + 60] = thing
            pixels = np.clip(image, 0, 255).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())


@pytest.fixture(scope="session", params=["made", "filmed"])
def clip(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A 300-frame 340x256 mp4, and its stored array with a dataset's usual settings."""
    folder = tmp_path_factory.mktemp("bench")
    path = folder / "clip.mp4"
    if request.param == "made":
        film(path)
    else:
        path = request.getfixturevalue("shared") / "media" / "mmaction2" / "test.mp4"
    uri = str(folder / "clip.zarr")
    stored = write_frames(uri, decode(path).pieces, Frames(), {})
    assert (stored.num_frames, stored.height, stored.width) == (FRAMES, HEIGHT, WIDTH)
    size = path.stat().st_size
    print(
        f"\n{request.param}: mp4 {size / 1e6:.2f} MB, stored {stored.bytes / 1e6:.2f} MB"
        f" ({stored.bytes / size:.1f}x)"
    )
    return path, uri
