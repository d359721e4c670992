"""Pixels from the store to the model: uint8 frames [T, H, W, 3] RGB to normalised float32 [3, T, H,
W].

A crop is cut first and resized once; work stays in uint8 until the last step. Every kind of
randomness (window, flip, colour, RandAugment, erasing) has its own generator, spawned from the one
that the caller passes: to change one option of a recipe leaves the draws of the others as they
were. Resizing is bilinear or bicubic (a = -0.75) without antialiasing, as OpenCV's in the
originals.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import interpolate

from configs.schema import ConfigError, Transforms
from ops.data.augment import Colour, erase, rand_augment, random_colour, shift_hue
from ops.data.crops import Window, fixed_windows, short_side_size, training_window

GRAY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma


def random_view(
    frames: np.ndarray, config: Transforms, rng: np.random.Generator
) -> tuple[np.ndarray, bool]:
    """One random view: float32 [3, T, crop, crop] and whether it is mirrored (the label may have to
    change with it).

    RandAugment comes first, on frames of `short_side`, or where it says so behind the crop; then
    crop, flip, colour, and erasing last, after normalisation.

    Args:
        frames: uint8 [T, H, W, 3] RGB, of any size.
        config: sizes, and what is drawn how often and how strongly.
        rng: gives each kind of draw a generator of its own.

    Raises:
        ConfigError: sizes do not fit.
    """
    check(config)
    places, sides, colours, operations, holes = rng.spawn(5)
    random, fill = (
        config.randaugment,
        (round(config.mean[0]), round(config.mean[1]), round(config.mean[2])),
    )
    if random is not None and not random.after_crop:
        frames = resize_short_side(frames, config.short_side, config.interpolation)
        frames = rand_augment(frames, random, operations, fill, config.interpolation)
    window = training_window(frames.shape[1], frames.shape[2], config, places)
    view = resize(cut(frames, window), config.crop, config.crop, config.interpolation)
    if random is not None and random.after_crop:
        view = rand_augment(view, random, operations, fill, config.interpolation)
    mirrored = bool(sides.random() < config.flip)
    if mirrored:
        view = view[:, :, ::-1]
    colour = random_colour(config, colours)
    if colour.hue:
        view = shift_hue(view, colour.hue)
    pixels = normalise(view, config, colour.brightness, colour.contrast, colour.saturation)
    if config.erasing is not None:
        erase(pixels, config.erasing, holes, config.mean, config.std)
    return pixels, mirrored


def fixed_views(
    frames: np.ndarray,
    config: Transforms,
    num_crops: int = 1,
    full: bool = False,
    num_clips: int = 1,
) -> np.ndarray:
    """The fixed views of testing: float32 [num_crops * num_clips, 3, T, crop, crop]; all clips of
    the first crop come first.

    Args:
        frames: uint8 [num_clips * T, H, W, 3] RGB, one clip after another.
        config: sizes and normalisation.
        num_crops: 1: centre. 3: left, right, middle (top, bottom, middle of an upright video). 5:
            four corners and centre. 10: these, each followed by its mirror image.
        full: no crop: [num_clips, 3, T, H, W]; `num_crops` is 1.
        num_clips: views in time.

    Raises:
        ConfigError: sizes do not fit.
    """
    if full and num_crops != 1:
        raise ConfigError("recipe", "views.num_crops", num_crops, "1 with views.full")
    if not full:
        check(config)
    frames = resize_short_side(frames, config.short_side, config.interpolation)
    height, width = frames.shape[1:3]
    windows = (
        [Window(0, 0, width, height)]
        if full
        else fixed_windows(height, width, config.crop, num_crops)
    )
    views = []
    for window in windows:
        view = cut(frames, window)
        views += [view, view[:, :, ::-1]] if num_crops == 10 else [view]
    # Crop by crop, clip by clip: views of the same memory, [T, h, w, 3] each.
    clips = [clip for view in views for clip in np.split(view, num_clips)]
    pixels = np.empty((len(clips), 3, *clips[0].shape[:3]), np.float32)
    for place, clip in zip(pixels, clips, strict=True):
        normalise(clip, config, out=place)
    return pixels


def check(config: Transforms) -> None:
    """Raise ConfigError when a crop cannot be cut from a resized frame."""
    if config.crop > config.short_side:
        raise ConfigError(
            "recipe",
            "transforms.crop",
            config.crop,
            f"at most transforms.short_side = {config.short_side}",
        )
    sides = config.short_side_range
    if sides is not None and config.crop > sides[0]:
        raise ConfigError(
            "recipe",
            "transforms.short_side_range",
            sides,
            f"two ascending sizes of at least crop = {config.crop}",
        )
    if config.train_crop == "multi_scale" and not (
        config.scales and 0 < min(config.scales) and max(config.scales) <= 1
    ):
        raise ConfigError(
            "recipe",
            "transforms.scales",
            config.scales,
            "shares of the shorter side, above 0 and at most 1",
        )
    if config.area[1] > 1:
        raise ConfigError(
            "recipe", "transforms.area", config.area, "two ascending shares, above 0 and at most 1"
        )


def resize(
    frames: np.ndarray, height: int, width: int, interpolation: str = "bilinear"
) -> np.ndarray:
    """Resize of frames; the same array when the size is already right.

    Args:
        frames: uint8 [T, H, W, 3].
        height: of the result, in pixels.
        width: of the result, in pixels.
        interpolation: 'bilinear' or 'bicubic'.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    # channels-last memory, no copy
    images = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return (
        interpolate(images, (height, width), mode=interpolation, align_corners=False)
        .permute(0, 2, 3, 1)
        .numpy()
    )


def resize_short_side(
    frames: np.ndarray, short_side: int, interpolation: str = "bilinear"
) -> np.ndarray:
    """Resize so that the shorter side has `short_side` pixels; the longer one is rounded to the
    nearest pixel.
    """
    return resize(
        frames, *short_side_size(frames.shape[1], frames.shape[2], short_side), interpolation
    )


def cut(frames: np.ndarray, window: Window) -> np.ndarray:
    """The window of every frame, as a view of the same memory."""
    return frames[:, window.y : window.y + window.height, window.x : window.x + window.width]


def normalise(
    frames: np.ndarray,
    config: Transforms,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Jitter (brightness, then contrast, then saturation) and (x - mean) / std: to float32 [3, T,
    H, W]. Values stay within 0..255 after each step of the jitter.

    Args:
        frames: uint8 [T, H, W, 3] RGB.
        config: mean and std, in 0..255.
        brightness: factor; 1 changes nothing.
        contrast: factor around the clip's mean grey, taken from every fourth row and column.
        saturation: factor around each pixel's own grey.
        out: takes the result; None makes a new array.
    """
    pixels = np.empty((3, *frames.shape[:3]), np.float32) if out is None else out
    mean, scale = (
        np.asarray(config.mean, np.float32),
        (1 / np.asarray(config.std)).astype(np.float32),
    )
    jitter = Colour(brightness, contrast, saturation)
    plain, grey = jitter == Colour(), _mean_grey(frames, brightness) if contrast != 1.0 else 0.0
    # frame by frame and plane by plane: what is read twice is still in the cache
    for t, frame in enumerate(frames):
        planes = pixels[:, t]
        for channel in range(3):
            planes[channel] = frame[..., channel]
        if not plain:
            _jitter(planes, jitter, grey)
        for channel in range(3):
            planes[channel] -= mean[channel]
            planes[channel] *= scale[channel]
    return pixels


def _mean_grey(frames: np.ndarray, brightness: float) -> float:
    # a sixteenth of the pixels tells the mean as well
    some = frames[:, ::4, ::4].astype(np.float32)
    return float(np.minimum(some * np.float32(brightness), 255).mean(axis=(0, 1, 2)) @ GRAY)


def _jitter(planes: np.ndarray, jitter: Colour, grey: float) -> None:
    """Brightness, contrast around a grey level, and saturation of one frame's float32 planes [3, H,
    W] of 0..255, in place.
    """
    brightness, contrast, saturation, _ = map(np.float32, jitter)
    for plane in planes:
        if brightness != 1:
            plane *= brightness
            np.minimum(plane, 255, out=plane)
        if contrast != 1:
            plane *= contrast
            plane += (1 - contrast) * np.float32(grey)
            np.clip(plane, 0, 255, out=plane)
    if saturation != 1:
        # [H, W]: the luma that every channel moves towards (or away from) by 1 - saturation.
        own_grey = (1 - saturation) * (
            GRAY[0] * planes[0] + GRAY[1] * planes[1] + GRAY[2] * planes[2]
        )
        for plane in planes:
            plane *= saturation
            plane += own_grey
            np.clip(plane, 0, 255, out=plane)
