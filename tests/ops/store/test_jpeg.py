"""Frames as JPEG images: what decoding gives, where it writes, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import simplejpeg

from ops.store.jpeg import decode, encode


def picture(height: int = 64, width: int = 96) -> np.ndarray:
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    waves = [127 + 90 * np.sin(x / 9 + k) * np.cos(y / 7 - k) for k in range(3)]
    return np.clip(np.stack(waves, -1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1), (2, 300)])
def test_it_is_written_into_the_given_memory(size: tuple[int, int]) -> None:
    clip = np.zeros((3, *size, 3), np.uint8)
    decode(encode(picture(*size), 95), clip[1])
    assert not clip[0].any() and not clip[2].any()
    assert np.abs(clip[1].astype(int) - picture(*size)).mean() < 12


def test_the_accurate_transform_is_used() -> None:
    """Pixels are those of the accurate cosine transform: the fast one moves them for little
    gain.
    """
    data, out = encode(picture(), 95), np.empty((64, 96, 3), np.uint8)
    decode(data, out)
    assert np.array_equal(out, simplejpeg.decode_jpeg(data, fastupsample=True))
    assert not np.array_equal(out, simplejpeg.decode_jpeg(data, fastupsample=True, fastdct=True))


def test_another_size_and_damage_are_errors() -> None:
    data = encode(picture(), 95)
    for height, width in ((64, 95), (32, 192), (128, 96)):
        with pytest.raises(ValueError):
            decode(data, np.empty((height, width, 3), np.uint8))
    for damaged in (b"", b"not a picture", data[:40], data[: len(data) // 2]):
        with pytest.raises((ValueError, RuntimeError)):
            decode(damaged, np.empty((64, 96, 3), np.uint8))
