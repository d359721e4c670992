"""Reading stored frames against decord's own exact access to the same mp4, on one machine in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from configs.schema import Frames
from ops.media.decode import decode
from ops.store.frames import write_frames
from ops.store.reader import FrameReader

FRAMES, HEIGHT, WIDTH = 300, 256, 340
ROUNDS = 11


def natural(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A still with about the spectrum of a filmed photograph (amplitude 1/f^1.4) and muted colours, float32 [H, W, 3] around 120."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    falloff = np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** -1.4
    planes = [np.fft.irfft2(falloff * np.exp(2j * np.pi * rng.random(falloff.shape)), (height, width)) for _ in range(3)]
    grey, one, two = (plane / plane.std() for plane in planes)
    return (120 + np.stack([45 * grey + 10 * one, 45 * grey, 45 * grey + 10 * two], -1)).astype(np.float32)


def seen(scene: np.ndarray, top: float, left: float) -> np.ndarray:
    """What a camera at a fractional place of the scene sees (bilinear)."""
    y, x = int(top), int(left)
    window = scene[y : y + HEIGHT + 1, x : x + WIDTH + 1]
    rows = window[:-1] * (1 - top + y) + window[1:] * (top - y)
    return rows[:, :-1] * (1 - left + x) + rows[:, 1:] * (left - x)


def film(path: Path) -> None:
    """300 frames of a camera that pans over a scene with two things moving in it, H.264 with x264's usual settings."""
    rng = np.random.default_rng(0)
    scene, thing = natural(rng, HEIGHT + 120, WIDTH + 200), natural(rng, 80, 60) + 40
    grain = rng.normal(0, 2, (8, HEIGHT, WIDTH, 1)).astype(np.float32)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"crf": "23", "preset": "medium"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for t in range(FRAMES):
            image = seen(scene, 60 + 50 * np.sin(t / 30), 100 + 90 * np.cos(t / 38)) + grain[t % 8]
            for phase in (0.0, 2.0):
                y, x = int(88 + 80 * np.sin(t / 11 + phase)), int(140 + 130 * np.cos(t / 17 + phase))
                image[y : y + 80, x : x + 60] = thing
            pixels = np.clip(image, 0, 255).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())


@pytest.fixture(scope="module", params=["made", "filmed"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
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
    print(f"\n{request.param}: mp4 {size / 1e6:.2f} MB, stored {stored.bytes / 1e6:.2f} MB ({stored.bytes / size:.1f}x)")
    return path, uri


def compare(ours: Callable[[int], np.ndarray], theirs: Callable[[int], np.ndarray], name: str) -> float:
    """Ratio of the median times, theirs to ours, taken in turns; both must give the same frames up to JPEG."""
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(ROUNDS):
        results = []
        for action, taken in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            results.append(action(round_))
            taken.append(time.perf_counter() - start)
        assert np.abs(results[0].astype(int) - results[1]).mean() < 4
    mine, other = (statistics.median(taken) for taken in times)
    print(f"{name}: ours {mine * 1e3:.2f} ms, decord {other * 1e3:.2f} ms, ratio {other / mine:.1f}")
    return other / mine


def sparse(seed: int) -> list[int]:
    """Eight frames, one of each eighth of the video: the segment sampling of TSN."""
    step = FRAMES / 8
    return [int(k * step + np.random.default_rng(seed).uniform(0, step)) for k in range(8)]


def dense(seed: int) -> list[int]:
    """Thirty-two frames, two apart: a clip of the 3D families."""
    first = int(np.random.default_rng(seed).integers(0, FRAMES - 64))
    return list(range(first, first + 64, 2))


@pytest.mark.bench
@pytest.mark.parametrize("pick, floor", [(sparse, 10), (dense, 4)], ids=["8 sparse", "32x2 dense"])
def test_reading_beats_decord(pick, floor, clip):
    import decord

    path, uri = clip
    warm = FrameReader(uri)
    warm.read([0])

    def by_decord(seed: int) -> np.ndarray:
        return decord.VideoReader(str(path)).get_batch(pick(seed)).asnumpy()

    by_decord(0)
    cold = compare(lambda seed: FrameReader(uri).read(pick(seed)), by_decord, f"{pick.__name__}, opened each time")
    compare(lambda seed: warm.read(pick(seed)), by_decord, f"{pick.__name__}, reader kept")
    assert cold >= floor
