"""Where it happens: backdrops, things that move in them, the camera, and what passes in front.

Pixels here are those of the drawing canvas (twice the video's size). Nothing in this module knows
the action, so that no label can be read off the surroundings. `difficulty` (0..1) scales every
nuisance.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ops.synthetic.skeleton import Colour, Point

GROUND = 0.87
"""Height of the ground line under the figure's feet, as a share of the image from its top, when the
camera is level.
"""


class View(NamedTuple):
    """World (metres, y up) to canvas (pixels, y down): px = a x + b y + c, py = d x + e y + f;
    `scale` is pixels per metre.
    """

    a: float
    b: float
    c: float
    d: float
    e: float
    f: float
    scale: float

    def point(self, x: float, y: float) -> Point:
        return self.a * x + self.b * y + self.c, self.d * x + self.e * y + self.f


@dataclass(frozen=True)
class Camera:
    """A hand-held camera: it follows a subject in part, drifts, zooms and rolls, all in slow sines
    of random phase.
    """

    width: int
    height: int
    scale: float
    follow: float
    subject: Callable[[float], float]
    centre: float
    pan: tuple[float, float, float]
    tilt: tuple[float, float, float]
    zoom: tuple[float, float, float]
    roll: tuple[float, float, float]
    limit: float

    @staticmethod
    def _sine(wave: tuple[float, float, float], t: float) -> float:
        return wave[0] * math.sin(math.tau * wave[1] * t + wave[2])

    def _pose(self, t: float) -> tuple[float, float, float, float]:
        x = self.centre + self.follow * (self.subject(t) - self.centre) + self._sine(self.pan, t)
        x = max(-self.limit, min(self.limit, x))
        return (
            x,
            self._sine(self.tilt, t),
            math.exp(self._sine(self.zoom, t)),
            math.radians(self._sine(self.roll, t)),
        )

    def view(self, t: float) -> View:
        """The transform at time t (seconds)."""
        x, y, zoom, roll = self._pose(t)
        size, cosine, sine = self.scale * zoom, math.cos(roll), math.sin(roll)
        drop = (GROUND - 0.5) * self.height * zoom
        # From the ground line at the camera's x: scale, then turn about the middle of the image.
        a, b, d, e = size * cosine, size * sine, size * sine, -size * cosine
        c = self.width / 2 - sine * drop - a * x - b * y
        f = self.height / 2 + cosine * drop - d * x - e * y
        return View(a, b, c, d, e, f, size)

    def backdrop_transform(self, t: float, origin: Point) -> tuple[float, ...]:
        """The six numbers of `Image.transform(AFFINE)` from canvas to backdrop pixels; `origin` is
        the backdrop's pixel of world (0, 0).
        """
        x, y, zoom, roll = self._pose(t)
        cosine, sine = math.cos(roll) / zoom, math.sin(roll) / zoom
        left, top = (
            origin[0] + self.scale * x,
            origin[1] - self.scale * y - (GROUND - 0.5) * self.height,
        )
        half_w, half_h = self.width / 2, self.height / 2
        return (
            cosine,
            sine,
            left - cosine * half_w - sine * half_h,
            -sine,
            cosine,
            top + sine * half_w - cosine * half_h,
        )


def draw_camera(
    rng: np.random.Generator,
    size: tuple[int, int],
    scale: float,
    subject: Callable[[float], float],
    centre: float,
    difficulty: float,
) -> Camera:
    """A camera that looks at `centre`.

    Args:
        rng: draws its moves.
        size: width and height of the canvas in pixels.
        scale: canvas pixels per metre.
        subject: x of what it may follow, in metres, at a time in seconds.
        centre: metres.
        difficulty: how much the camera moves, 0..1.
    """
    reach = size[0] / scale

    def wave(amplitude: float, slow: float, fast: float) -> tuple[float, float, float]:
        return (
            float(rng.uniform(-1, 1)) * amplitude * difficulty,
            float(rng.uniform(slow, fast)),
            float(rng.uniform(0, math.tau)),
        )

    return Camera(
        size[0],
        size[1],
        scale,
        follow=float(rng.uniform(0, 0.6)) * min(1.0, difficulty * 1.5),
        subject=subject,
        centre=centre,
        pan=wave(0.14 * reach, 0.05, 0.35),
        tilt=wave(0.05 * reach, 0.05, 0.3),
        zoom=wave(0.22, 0.05, 0.3),
        roll=wave(5.0, 0.05, 0.4),
        limit=0.36 * reach,
    )


def _colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(
        float(rng.random()), float(rng.uniform(*saturation)), float(rng.uniform(*value))
    )
    return round(red * 255), round(green * 255), round(blue * 255)


def _noise(rng: np.random.Generator, size: tuple[int, int], cells: int) -> np.ndarray:
    grid = rng.uniform(-1, 1, (cells, cells * 2)).astype(np.float32)
    return np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC))


class Backdrop(NamedTuple):
    """A painted backdrop: image, its pixel of world (0, 0), its mean brightness (0..255)."""

    image: Image.Image
    origin: Point
    brightness: float


def _furnish(
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    horizon: float,
    value: tuple[float, float],
) -> None:
    width, height = size
    kind = int(rng.integers(4))
    for _ in range(int(rng.integers(3, 9))):
        x, w = float(rng.uniform(0, width)), float(rng.uniform(0.04, 0.16)) * width
        tone = _colour(rng, (0.05, 0.35), value)
        if kind == 0:  # houses on the horizon
            draw.rectangle(
                (x, horizon - float(rng.uniform(0.15, 0.5)) * height, x + w, horizon), fill=tone
            )
        elif kind == 1:  # trees
            top = horizon - float(rng.uniform(0.2, 0.5)) * height
            draw.rectangle(
                (x + w * 0.42, top, x + w * 0.58, horizon),
                fill=_colour(rng, (0.2, 0.4), (0.25, 0.5)),
            )
            draw.ellipse((x, top - w * 0.6, x + w, top + w * 0.7), fill=tone)
        elif kind == 2:  # pictures on a wall
            y = float(rng.uniform(0.1, 0.6)) * horizon
            draw.rectangle(
                (x, y, x + w, y + w * 0.8),
                fill=tone,
                outline=_colour(rng, (0.1, 0.3), value),
                width=2,
            )
        else:  # hills
            draw.ellipse((x - 2 * w, horizon - w, x + 2 * w, horizon + w), fill=tone)


def draw_backdrop(rng: np.random.Generator, size: tuple[int, int], difficulty: float) -> Backdrop:
    """A backdrop for a canvas of `size` pixels, wide enough for every move of the camera.

    It is painted at half of the canvas's scale, which is the video's, and enlarged: that is four
    times faster, and as sharp.
    """
    width, height = round(size[0] * 1.1), round(size[1] * 0.95)
    origin = (width / 2, (0.45 + GROUND) * size[1] / 2)
    horizon = origin[1] - float(rng.uniform(0.02, 0.08)) * size[1]
    low = float(rng.uniform(0.3, 0.72))
    value = (low, low + 0.2)
    top, bottom, floor = (np.array(_colour(rng, (0.05, 0.4), value), np.float32) for _ in range(3))
    share = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    wall = np.broadcast_to(top * (1 - share) + bottom * share, (height, width, 3))
    image = Image.fromarray(wall.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    _furnish(rng, draw, (width, height), horizon, value)
    draw.rectangle(
        (0, horizon, width, height),
        fill=tuple(int(channel) for channel in floor * float(rng.uniform(0.7, 1.1))),
    )  # type: ignore[arg-type]
    if rng.random() < 0.5:  # seams of the floor, so that a pan is seen there too
        step, tone = (
            float(rng.uniform(0.06, 0.15)) * size[0],
            tuple(int(channel) for channel in floor * 0.62),
        )
        for x in np.arange(float(rng.uniform(0, step)), width, step):
            draw.line((x, horizon, x + (x - width / 2) * 0.6, height), fill=tone, width=2)
    grain = _noise(rng, (width, height), int(rng.integers(4, 10))) + 0.6 * _noise(
        rng, (width, height), int(rng.integers(14, 34))
    )
    pixels = np.asarray(image, np.float32) + grain[..., None] * (6 + 18 * difficulty)
    painted = np.clip(pixels, 0, 255).astype(np.uint8)
    image = Image.fromarray(painted).resize((2 * width, 2 * height), Image.Resampling.BILINEAR)
    return Backdrop(image, (2 * origin[0], 2 * origin[1]), float(painted.mean()))


class Mover(NamedTuple):
    """Something that moves behind the figures: metres and metres per second."""

    kind: int
    x: float
    y: float
    speed: float
    bob: float
    width: float
    height: float
    colour: Colour

    def draw(self, draw: ImageDraw.ImageDraw, view: View, t: float) -> None:
        x, y = view.point(self.x + self.speed * t, self.y + self.bob * math.sin(2 * t + self.x))
        w, h = self.width * view.scale / 2, self.height * view.scale / 2
        if self.kind == 0:
            draw.ellipse((x - w, y - h, x + w, y + h), fill=self.colour)
        elif self.kind == 1:
            draw.rectangle((x - w, y - h, x + w, y + h), fill=self.colour)
        else:
            draw.polygon(((x - w, y + h), (x, y - h), (x + w, y + h)), fill=self.colour)


class Occluder(NamedTuple):
    """Something that passes in front: shares of the canvas and shares per second."""

    kind: int
    x: float
    speed: float
    width: float
    top: float
    colour: Colour

    def draw(
        self, draw: ImageDraw.ImageDraw, size: tuple[int, int], t: float, fill: object = None
    ) -> None:
        """Draw it; `fill` replaces its colour (to draw masks)."""
        x, w = (self.x + self.speed * t) * size[0], self.width * size[0] / 2
        colour: tuple[int, ...] | int = self.colour if fill is None else fill  # type: ignore[assignment]
        top = self.top * size[1]
        if self.kind == 0:
            draw.rectangle((x - w, top, x + w, size[1]), fill=colour)
        else:
            draw.ellipse((x - 1.6 * w, top, x + 1.6 * w, top + 1.4 * size[1]), fill=colour)


def draw_movers(rng: np.random.Generator, reach: float, difficulty: float) -> tuple[Mover, ...]:
    """Up to four movers; `reach` is the visible width in metres."""
    number = int(rng.integers(0, 1 + round(4 * difficulty) + 1))
    return tuple(
        Mover(
            int(rng.integers(3)),
            float(rng.uniform(-0.6, 0.6)) * reach,
            float(rng.uniform(0.1, 0.55)) * reach,
            float(rng.uniform(-0.25, 0.25)) * reach,
            float(rng.uniform(0, 0.04)) * reach,
            float(rng.uniform(0.05, 0.2)) * reach,
            float(rng.uniform(0.04, 0.14)) * reach,
            _colour(rng, (0.1, 0.45), (0.35, 0.85)),
        )
        for _ in range(number)
    )


def draw_occluders(
    rng: np.random.Generator, seconds: float, difficulty: float
) -> tuple[Occluder, ...]:
    """With some probability one or two occluders that cross the picture within `seconds`."""
    found = []
    for _ in range(1 + int(seconds // 8)):
        crosses, kind, way = (
            rng.random() < 0.7 * difficulty,
            int(rng.integers(2)),
            1 if rng.random() < 0.5 else -1,
        )
        speed = way * float(rng.uniform(0.25, 0.8))
        moment, width, top = (
            float(rng.uniform(-0.2, 1.2)) * seconds,
            float(rng.uniform(0.05, 0.12)),
            float(rng.uniform(0.0, 0.6)),
        )
        colour = _colour(rng, (0.1, 0.5), (0.15, 0.6))
        if crosses:
            found.append(
                Occluder(
                    kind,
                    0.5 - speed * moment,
                    speed,
                    width,
                    0.0 if kind == 0 and top < 0.3 else max(0.45, top),
                    colour,
                )
            )
    return tuple(found)
