"""Random changes of a clip's pixels, the same for all its frames: colours, RandAugment, random
erasing.

RandAugment (Cubuk et al., 2020) and random erasing (Zhong et al., 2020) are in timm's form: its
list of operations, its magnitudes of 0 to 10 with normal noise, its fill by the mean colour; an
operation's strength and sign are drawn once for the whole clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from configs.schema import RandAugment, RandomErasing, Transforms

Picture = Image.Image
Operation = Callable[[Picture], Picture]
Colours = tuple[int, int, int]
Triple = tuple[float, float, float]
MAGNITUDES = 10.0  # the full scale
ATTEMPTS = 10
RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
OPERATIONS = (
    "auto_contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize_add",
    "colour",
    "contrast",
    "brightness",
    "sharpness",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)
ENHANCERS = {
    "colour": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}
SIGNED = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


class Colour(NamedTuple):
    """Factors of a colour jitter, and the turn of the hue as a share of the colour circle; these
    change nothing.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


def random_colour(config: Transforms, rng: np.random.Generator) -> Colour:
    """One jitter for the whole clip, each value uniform around no change; none at all but with
    `colour_probability`.
    """
    # All five are drawn whatever happens, so that a probability changes nothing of the draws that
    # follow.
    draws = rng.random(5)
    if draws[0] >= config.colour_probability:
        return Colour()
    amounts = np.array([config.brightness, config.contrast, config.saturation])
    # [3] factors around 1, never below 0; draws 1 to 3 in [0, 1) say where between.
    low, high = np.maximum(0.0, 1 - amounts), 1 + amounts
    brightness, contrast, saturation = (low + (high - low) * draws[1:4]).tolist()
    return Colour(brightness, contrast, saturation, config.hue * (2 * float(draws[4]) - 1))


def shift_hue(frames: np.ndarray, turn: float) -> np.ndarray:
    """uint8 [T, H, W, 3] with its hue turned by a share of the colour circle, in steps of 1/256
    (Pillow's HSV, which rounds a little).
    """
    step = round(turn * 256) % 256
    if not step:
        return frames
    turned = np.empty(frames.shape, np.uint8)
    for frame, out in zip(frames, turned, strict=True):
        hsv = np.array(Image.fromarray(np.ascontiguousarray(frame)).convert("HSV"))
        hsv[..., 0] += np.uint8(step)  # wraps around, as hue does
        out[...] = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
    return turned


# --------------------------------------------------------------------------------------------------
# RandAugment


def rand_augment(
    frames: np.ndarray,
    config: RandAugment,
    rng: np.random.Generator,
    fill: Colours = (128, 128, 128),
    interpolation: str = "bicubic",
) -> np.ndarray:
    """uint8 [T, H, W, 3] after `num_ops` random operations (each with its probability), the same
    ones for every frame.

    `fill` is the colour of what geometry uncovers. Contrast and histogram operations look at each
    frame alone.
    """
    operations = random_operations(
        config, rng, frames.shape[2], frames.shape[1], fill, interpolation
    )
    if not operations:
        return frames
    changed = np.empty(frames.shape, np.uint8)
    for frame, out in zip(frames, changed, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        for operation in operations:
            picture = operation(picture)
        out[...] = np.asarray(picture)
    return changed


def random_operations(
    config: RandAugment,
    rng: np.random.Generator,
    width: int,
    height: int,
    fill: Colours,
    interpolation: str,
) -> list[Operation]:
    """The operations that are applied, drawn with repeats from the 15 of timm's list."""
    operations = []
    for _ in range(config.num_ops):
        name = OPERATIONS[rng.integers(len(OPERATIONS))]
        applied, sign = rng.random() < config.probability, -1.0 if rng.random() > 0.5 else 1.0
        magnitude = min(
            max(config.magnitude + config.magnitude_std * rng.standard_normal(), 0.0), MAGNITUDES
        )
        if applied:
            operations.append(
                operation_of(
                    name, magnitude, sign, config.increasing, (width, height), fill, interpolation
                )
            )
    return operations


def operation_of(
    name: str,
    magnitude: float,
    sign: float,
    increasing: bool,
    size: tuple[int, int],
    fill: Colours,
    interpolation: str,
) -> Operation:
    """One operation at a magnitude in [0, 10]; `sign` turns what has a direction. `size` is (width,
    height).
    """
    strength = magnitude / MAGNITUDES
    resample = RESAMPLE[interpolation]
    if name in ENHANCERS:
        factor = max(0.1, 1 + sign * 0.9 * strength) if increasing else 0.1 + 1.8 * strength
        return lambda picture: ENHANCERS[name](picture).enhance(factor)
    if name in SIGNED:
        return _geometry(name, sign * strength, size, fill, resample)
    if name == "posterize":
        bits = int(4 * strength)
        # up to all 8, which Pillow's own posterize refuses
        lost = 8 - (4 - bits if increasing else bits)
        return _table([level >> lost << lost for level in range(256)])
    if name == "solarize":
        threshold = min(256, int(256 * strength))
        return partial(ImageOps.solarize, threshold=256 - threshold if increasing else threshold)
    if name == "solarize_add":
        added = min(128, int(110 * strength))
        return _table([min(255, level + added) if level < 128 else level for level in range(256)])
    plain: dict[str, Operation] = {
        "auto_contrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
    }
    return plain[name]


def _table(levels: list[int]) -> Operation:
    return lambda picture: picture.point(levels * 3)


def _geometry(
    name: str, strength: float, size: tuple[int, int], fill: Colours, resample: Image.Resampling
) -> Operation:
    """Rotation by up to 30 degrees, shear by up to 0.3, translation by up to 0.45 of the side."""
    if name == "rotate":
        return lambda picture: picture.rotate(30 * strength, resample, fillcolor=fill)
    width, height = size
    matrix = {
        "shear_x": (1, 0.3 * strength, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * strength, 1, 0),
        "translate_x": (1, 0, 0.45 * strength * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, 0.45 * strength * height),
    }[name]
    return lambda picture: picture.transform(
        size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill
    )


# ----------------------------------------------------------------------------------------------
# random erasing


def erase(
    pixels: np.ndarray,
    config: RandomErasing,
    rng: np.random.Generator,
    mean: Triple = (127.5,) * 3,
    std: Triple = (127.5,) * 3,
) -> None:
    """Fill one rectangle of a clip, at the same place in all frames, in place.

    Args:
        pixels: float32 [3, T, H, W], normalised.
        config: probability, area and aspect; `mode` 'constant' is 0, 'random' one colour of normal
            noise for the clip, 'pixel' noise of its own for every value, 'bytes' uniform noise of
            0..255.
        rng: draws whether, where and what.
        mean: of red, green, blue in 0..255, by which 'bytes' are normalised.
        std: as `mean`.
    """
    if rng.random() >= config.probability:
        return
    found = _rectangle(pixels.shape[2], pixels.shape[3], config, rng)
    if found is None:
        return
    top, left, height, width = found
    # A view [3, T, h, w] into the clip: writing to it fills the rectangle of every frame.
    hole = pixels[:, :, top : top + height, left : left + width]
    if config.mode == "bytes":
        noise = rng.integers(0, 256, hole.shape, np.uint8).astype(np.float32)
        # [3, 1, 1, 1]: one a channel, over frames, rows and columns.
        means, scales = (
            np.asarray(values, np.float32)[:, None, None, None] for values in (mean, std)
        )
        hole[...] = (noise - means) / scales
    elif config.mode == "pixel":
        hole[...] = rng.standard_normal(hole.shape, np.float32)
    else:
        hole[...] = (
            rng.standard_normal((3, 1, 1, 1), np.float32) if config.mode == "random" else 0.0
        )


def _rectangle(
    height: int, width: int, config: RandomErasing, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a rectangle smaller than the frame; None where ten tries find
    none.
    """
    for _ in range(ATTEMPTS):
        area = rng.uniform(*config.area) * height * width
        aspect = math.exp(rng.uniform(math.log(config.aspect[0]), math.log(config.aspect[1])))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if h < height and w < width:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    return None
