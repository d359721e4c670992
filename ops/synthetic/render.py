"""From a stage to pixels, and from the same shapes to exact boxes.

Everything is drawn on a canvas of twice the video's size and reduced by two. Boxes are xyxy in
pixels of the video, measured between pixel edges (the full image is 0, 0, width, height) on the
canvas, hence in steps of half a pixel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ops.synthetic.skeleton import PARTS
from ops.synthetic.stage import Blob, Shape, Stage, shapes

SUPERSAMPLING = 2
Box = tuple[float, float, float, float]


class PartTruth(NamedTuple):
    """Where a part is. box: clipped to the image; visible: share of its pixels in the image that
    nothing covers; inside: share of its extent that is in the image.
    """

    box: Box
    visible: float
    inside: float


class PersonTruth(NamedTuple):
    """Where a person is (objects not counted) and its parts that touch the image; `person` is its
    place in `Stage.figures`.
    """

    person: int
    whole: PartTruth
    parts: dict[str, PartTruth]


def _outline(stage: Stage, scale: float) -> float:
    return max(1.6, 0.011 * scale) * stage.size[1] / 192


def _draw_blob(draw: ImageDraw.ImageDraw, blob: Blob, grow: float, fill: object) -> None:
    x1, y1, r1, x2, y2, r2 = blob
    r1, r2 = r1 + grow, r2 + grow
    colour: tuple[int, ...] | int = fill  # type: ignore[assignment]
    draw.ellipse((x1 - r1, y1 - r1, x1 + r1, y1 + r1), fill=colour)
    length = math.hypot(x2 - x1, y2 - y1)
    if length < 1e-6:
        return
    draw.ellipse((x2 - r2, y2 - r2, x2 + r2, y2 + r2), fill=colour)
    nx, ny = (y2 - y1) / length, (x1 - x2) / length
    draw.polygon(
        (
            (x1 + nx * r1, y1 + ny * r1),
            (x2 + nx * r2, y2 + ny * r2),
            (x2 - nx * r2, y2 - ny * r2),
            (x1 - nx * r1, y1 - ny * r1),
        ),
        fill=colour,
    )


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: Shape, grow: float, outline: object, solid: object = None
) -> None:
    """Outline first, colours over it; with `solid` all of it in that one value."""
    line: tuple[int, ...] | int = outline if solid is None else solid  # type: ignore[assignment]
    for layer in shape.layers:
        for blob in layer.blobs:
            _draw_blob(draw, blob, grow, line)
        for polygon in layer.polygons:
            draw.polygon(polygon, fill=line, outline=line, width=max(1, round(grow * 2)))
    for layer in shape.layers if solid is None else ():
        for blob in layer.blobs:
            _draw_blob(draw, blob, 0.0, layer.fill)
        for polygon in layer.polygons:
            draw.polygon(polygon, fill=layer.fill)


def canvas_of(stage: Stage, t: float) -> Image.Image:
    """The canvas at time t, before it is reduced to the picture."""
    view = stage.camera.view(t)
    transform = stage.camera.backdrop_transform(t, stage.backdrop.origin)
    canvas = stage.backdrop.image.transform(
        stage.size, Image.Transform.AFFINE, transform, Image.Resampling.NEAREST
    )
    draw = ImageDraw.Draw(canvas)
    for mover in stage.movers:
        mover.draw(draw, view, t)
    grow = _outline(stage, view.scale)
    for figure in stage.figures:
        for shape in shapes(figure, view, t):
            _draw_shape(draw, shape, grow if figure.annotated else grow * 0.6, stage.outline)
    for occluder in stage.occluders:
        occluder.draw(draw, stage.size, t)
    return canvas


def frame(stage: Stage, t: float) -> np.ndarray:
    """The picture at time t: uint8 [height, width, 3], RGB."""
    return np.asarray(canvas_of(stage, t).reduce(SUPERSAMPLING))


def _half(box: tuple[int, int, int, int]) -> Box:
    left, top, right, bottom = box
    return left / SUPERSAMPLING, top / SUPERSAMPLING, right / SUPERSAMPLING, bottom / SUPERSAMPLING


def _extent(found: list[Shape], grow: float) -> tuple[float, float, float, float]:
    edges = [
        (min(x1 - r1, x2 - r2), min(y1 - r1, y2 - r2), max(x1 + r1, x2 + r2), max(y1 + r1, y2 + r2))
        for shape in found
        for layer in shape.layers
        for x1, y1, r1, x2, y2, r2 in layer.blobs
    ]
    return (
        min(e[0] for e in edges) - grow,
        min(e[1] for e in edges) - grow,
        max(e[2] for e in edges) + grow,
        max(e[3] for e in edges) + grow,
    )


def _inside(extent: tuple[float, float, float, float], size: tuple[int, int]) -> float:
    left, top, right, bottom = extent
    width, height = min(right, size[0]) - max(left, 0), min(bottom, size[1]) - max(top, 0)
    return max(0.0, width) * max(0.0, height) / ((right - left) * (bottom - top))


def mask(stage: Stage, found: list[Shape], t: float) -> Image.Image:
    """The canvas mask (mode L, 0 or 255) of some shapes drawn alone."""
    canvas = Image.new("L", stage.size, 0)
    draw = ImageDraw.Draw(canvas)
    for shape in found:
        _draw_shape(draw, shape, _outline(stage, stage.camera.view(t).scale), 0, solid=255)
    return canvas


def _covered(stage: Stage, t: float) -> np.ndarray:
    """What is in front at each canvas pixel: 0 for nothing of interest, else 16 * (figure + 1) +
    place of the part (15 for torso).
    """
    view = stage.camera.view(t)
    canvas = Image.new("L", stage.size, 0)
    draw = ImageDraw.Draw(canvas)
    for person, figure in enumerate(stage.figures):
        for shape in shapes(figure, view, t):
            part = PARTS.index(shape.name) if shape.name in PARTS else 15
            value = 0 if shape.name == "prop" or not figure.annotated else 16 * (person + 1) + part
            _draw_shape(draw, shape, _outline(stage, view.scale), 0, solid=value)
    for occluder in stage.occluders:
        occluder.draw(draw, stage.size, t, fill=0)
    return np.asarray(canvas)


def truth(stage: Stage, t: float, with_parts: bool = True) -> list[PersonTruth]:
    """The exact boxes of all annotated figures that touch the image at time t."""
    view = stage.camera.view(t)
    front, grow = _covered(stage, t), _outline(stage, view.scale)
    found: list[PersonTruth] = []
    for person, figure in enumerate(stage.figures):
        own = (
            [shape for shape in shapes(figure, view, t) if shape.name != "prop"]
            if figure.annotated
            else []
        )
        alone = mask(stage, own, t)
        box = alone.getbbox()
        if box is None:
            continue
        area, mine = np.count_nonzero(np.asarray(alone)), (front >> 4) == person + 1
        whole = PartTruth(
            _half(box), np.count_nonzero(mine) / area, _inside(_extent(own, grow), stage.size)
        )
        parts: dict[str, PartTruth] = {}
        for shape in own if with_parts else ():
            if shape.name not in PARTS:
                continue
            alone = mask(stage, [shape], t)
            box = alone.getbbox()
            if box is not None:
                seen = np.count_nonzero(front == 16 * (person + 1) + PARTS.index(shape.name))
                area = np.count_nonzero(np.asarray(alone))
                parts[shape.name] = PartTruth(
                    _half(box), seen / area, _inside(_extent([shape], grow), stage.size)
                )
        found.append(PersonTruth(person, whole, parts))
    return found
