"""Pixels from the store to the model: uint8 frames [T, H, W, 3] RGB to normalised float32 [3, T, H, W].

Work stays in uint8 until the last step, where one table per channel does brightness, contrast and normalisation at once.
Every random number comes from the generator that the caller passes, so that a clip depends on nothing but its seed.
Resizing is bilinear without antialiasing, as in the originals (OpenCV's).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from configs.schema import ConfigError, Transforms

GRAY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma
MULTI_SCALES = (1.0, 0.875, 0.75, 0.66)  # of the short side (TSN)
ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10


class Window(NamedTuple):
    """A rectangle in pixels, origin at the top left."""

    x: int
    y: int
    width: int
    height: int


def resize(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize of uint8 [T, H, W, 3]; the same array when the size is already right."""
    if frames.shape[1:3] == (height, width):
        return frames
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)  # channels-last memory, no copy
    return interpolate(images, (height, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1).numpy()


def resize_short_side(frames: np.ndarray, short_side: int) -> np.ndarray:
    """Resize so that the shorter side has `short_side` pixels; the longer one is rounded to the nearest pixel."""
    height, width = frames.shape[1:3]
    scale = short_side / min(height, width)
    return resize(frames, max(short_side, round(height * scale)), max(short_side, round(width * scale)))


def random_view(frames: np.ndarray, config: Transforms, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """One random view: float32 [3, T, crop, crop] and whether it is mirrored (the label may have to change with it)."""
    check(config)
    if config.train_crop == "random_resized":  # the share of the area is what counts: no need for a first resize
        window = random_resized(frames.shape[1], frames.shape[2], config.area, rng)
    else:
        frames = resize_short_side(frames, config.short_side)
        choose = random_window if config.train_crop == "random" else multi_scale
        window = choose(frames.shape[1], frames.shape[2], config.crop, rng)
    view = resize(cut(frames, window), config.crop, config.crop)
    mirrored = bool(rng.random() < config.flip)
    factors = jitter_factors(config, rng)
    return normalise(view[:, :, ::-1] if mirrored else view, config, *factors), mirrored


def fixed_views(frames: np.ndarray, config: Transforms, num_crops: int) -> np.ndarray:
    """The fixed views of testing: float32 [num_crops, 3, T, crop, crop].

    1: centre. 3: left, right, middle (top, bottom, middle of an upright video). 10: four corners and centre, each
    followed by its mirror image.
    """
    check(config)
    frames = resize_short_side(frames, config.short_side)
    views = []
    for window in fixed_windows(frames.shape[1], frames.shape[2], config.crop, num_crops):
        view = cut(frames, window)
        views += [view, view[:, :, ::-1]] if num_crops == 10 else [view]
    return np.stack([normalise(view, config) for view in views])


def check(config: Transforms) -> None:
    """Raise ConfigError when a crop cannot be cut from a resized frame."""
    if config.crop > config.short_side:
        raise ConfigError("recipe", "transforms.crop", config.crop, f"at most transforms.short_side = {config.short_side}")


def cut(frames: np.ndarray, window: Window) -> np.ndarray:
    """The window of every frame, as a view of the same memory."""
    return frames[:, window.y : window.y + window.height, window.x : window.x + window.width]


def random_window(height: int, width: int, size: int, rng: np.random.Generator) -> Window:
    """A square anywhere in the frame."""
    return Window(int(rng.integers(width - size + 1)), int(rng.integers(height - size + 1)), size, size)


def random_resized(height: int, width: int, area: tuple[float, float], rng: np.random.Generator) -> Window:
    """A rectangle of random area and aspect (Inception crop); the centred square when ten tries find none that fits."""
    aspects = np.exp(rng.uniform(np.log(ASPECT[0]), np.log(ASPECT[1]), ATTEMPTS))
    areas = rng.uniform(*area, ATTEMPTS) * height * width
    widths = np.round(np.sqrt(areas * aspects)).astype(int)
    heights = np.round(np.sqrt(areas / aspects)).astype(int)
    for w, h in zip(widths, heights, strict=True):
        if 0 < w <= width and 0 < h <= height:
            return Window(int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), int(w), int(h))
    side = min(height, width)
    return Window((width - side) // 2, (height - side) // 2, side, side)


def multi_scale(height: int, width: int, crop: int, rng: np.random.Generator) -> Window:
    """One of TSN's fixed sizes (sides at most one scale apart) at one of its 13 fixed places."""
    sides = [int(min(height, width) * scale) for scale in MULTI_SCALES]
    sides = [crop if abs(side - crop) < 3 else side for side in sides]
    pairs = [(sides[i], sides[j]) for i in range(len(sides)) for j in range(len(sides)) if abs(i - j) <= 1]
    w, h = pairs[rng.integers(len(pairs))]
    x_step, y_step = (width - w) // 4, (height - h) // 4
    corners_and_edges = [(x, y) for x in (0, 2, 4) for y in (0, 2, 4)]
    x, y = [*corners_and_edges, (1, 1), (3, 1), (1, 3), (3, 3)][rng.integers(13)]
    return Window(x * x_step, y * y_step, w, h)


def fixed_windows(height: int, width: int, crop: int, num_crops: int) -> list[Window]:
    """Windows of `fixed_views`, before mirroring."""
    if num_crops == 1:
        return [Window((width - crop) // 2, (height - crop) // 2, crop, crop)]
    if num_crops == 3:
        x, y = (width - crop) // 2, (height - crop) // 2
        if width >= height:
            return [Window(at, y, crop, crop) for at in (0, 2 * x, x)]
        return [Window(x, at, crop, crop) for at in (0, 2 * y, y)]
    x, y = (width - crop) // 4, (height - crop) // 4
    return [Window(i * x, j * y, crop, crop) for i, j in ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))]


def jitter_factors(config: Transforms, rng: np.random.Generator) -> tuple[float, float, float]:
    """Brightness, contrast and saturation factors, each uniform around 1; one draw for the whole clip."""
    amounts = (config.brightness, config.contrast, config.saturation)
    brightness, contrast, saturation = (float(rng.uniform(max(0.0, 1 - amount), 1 + amount)) for amount in amounts)
    return brightness, contrast, saturation


def normalise(
    frames: np.ndarray, config: Transforms, brightness: float = 1.0, contrast: float = 1.0, saturation: float = 1.0
) -> np.ndarray:
    """Jitter (brightness, then contrast, then saturation) and (x - mean) / std: uint8 [T, H, W, 3] to float32 [3, T, H, W].

    Contrast turns around the clip's mean grey, taken from every second row and column. Values stay within 0..255 after
    each step.
    """
    mean, std = np.asarray(config.mean, np.float32), np.asarray(config.std, np.float32)
    table = np.clip(np.arange(256, dtype=np.float32) * brightness, 0, 255)
    if contrast != 1.0:
        some = frames[:, ::2, ::2]  # a quarter of the pixels tells the mean as well
        grey = float(table[some].mean(axis=(0, 1, 2)) @ GRAY)
        table = np.clip(contrast * table + (1 - contrast) * grey, 0, 255)
    if saturation != 1.0:
        return _saturate(table[frames], saturation, mean, std)
    out = np.empty((3, *frames.shape[:3]), np.float32)
    for channel in range(3):
        levels = ((table - mean[channel]) / std[channel]).astype(np.float32)
        np.take(levels, frames[..., channel], out=out[channel], mode="clip")  # "clip" lets numpy write straight into out
    return out


def _saturate(frames: np.ndarray, saturation: float, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    grey = (frames @ GRAY)[..., None]
    pixels = np.clip(saturation * frames + (1 - saturation) * grey, 0, 255)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(3, 0, 1, 2), dtype=np.float32)
