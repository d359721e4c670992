"""A stage: figures, backdrop, camera and occluders as functions of time, and the shapes that a
figure is drawn from.

A shape is a set of blobs (a blob is the hull of two discs) and polygons in canvas pixels. The same
shapes make the picture and the masks that the ground truth is read from, so a box is the extent of
what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ops.synthetic.actions import Prop, State
from ops.synthetic.scenery import Backdrop, Camera, Mover, Occluder, View
from ops.synthetic.skeleton import Body, Colour, Look, Point

Blob = tuple[float, float, float, float, float, float]
"""x, y, radius of one disc, then of the other; canvas pixels."""


class Layer(NamedTuple):
    """Blobs and polygons of one colour."""

    fill: Colour
    blobs: tuple[Blob, ...] = ()
    polygons: tuple[tuple[Point, ...], ...] = ()


class Shape(NamedTuple):
    """Something drawn in one go, with an outline: a part of PARTS, 'torso', or 'prop'. Parts of a
    figure count as its person.
    """

    name: str
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Figure:
    """One person on a stage. `state(t)` is in the body's frame; facing is +1 (right) or -1 (left)
    and may change with time.
    """

    look: Look
    body: Body
    x: float
    state: Callable[[float], State]
    facing: Callable[[float], int]
    ground: float = 0.0
    annotated: bool = True


@dataclass(frozen=True)
class Stage:
    """All that one shot shows. Figures are listed from the farthest to the nearest."""

    size: tuple[int, int]
    backdrop: Backdrop
    camera: Camera
    movers: tuple[Mover, ...]
    figures: tuple[Figure, ...]
    occluders: tuple[Occluder, ...]

    @property
    def outline(self) -> Colour:
        """The outline that stands out from the backdrop."""
        return (24, 22, 30) if self.backdrop.brightness > 92 else (240, 238, 228)


class _Pencil:
    """From a body's frame to canvas pixels."""

    def __init__(self, figure: Figure, state: State, facing: int, view: View) -> None:
        self.figure, self.joints, self.facing, self.view = figure, state.joints, facing, view

    def at(self, point: Point) -> Point:
        return self.view.point(
            self.figure.x + self.facing * point[0], self.figure.ground + point[1]
        )

    def blob(self, first: Point, radius: float, second: Point, other: float) -> Blob:
        (x1, y1), (x2, y2) = self.at(first), self.at(second)
        return x1, y1, radius * self.view.scale, x2, y2, other * self.view.scale

    def limb(self, first: str, radius: float, second: str, other: float) -> Blob:
        return self.blob(self.joints[first], radius, self.joints[second], other)

    def disc(self, centre: Point, radius: float) -> Blob:
        return self.blob(centre, radius, centre, radius)


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = colour
    return min(255, int(red * factor)), min(255, int(green * factor)), min(255, int(blue * factor))


def _arm(pencil: _Pencil, side: str, name: str) -> list[Shape]:
    look, body, tone = pencil.figure.look, pencil.figure.body, 1.0 if side == "near" else 0.7
    upper, middle, lower = body.arm_radii
    sleeve, skin = _shade(look.top, tone), _shade(look.skin, tone)
    arm = (
        Layer(
            sleeve if look.long_sleeves else skin,
            (pencil.limb(f"{side}_elbow", middle, f"{side}_wrist", lower),),
        ),
        Layer(sleeve, (pencil.limb(f"{side}_shoulder", upper, f"{side}_elbow", middle),)),
    )
    hand = Layer(
        skin, (pencil.limb(f"{side}_wrist", body.hand * 0.8, f"{side}_hand", body.hand * 0.9),)
    )
    return [Shape(f"{name}_arm", arm), Shape(f"{name}_hand", (hand,))]


def _leg(pencil: _Pencil, side: str, name: str) -> list[Shape]:
    look, body, tone = pencil.figure.look, pencil.figure.body, 1.0 if side == "near" else 0.7
    upper, middle, lower = body.leg_radii
    cloth, skin = _shade(look.bottom, tone), _shade(look.skin, tone)
    leg = (
        Layer(
            cloth if look.long_trousers else skin,
            (pencil.limb(f"{side}_knee", middle, f"{side}_ankle", lower),),
        ),
        Layer(cloth, (pencil.limb(f"{side}_hip", upper, f"{side}_knee", middle),)),
    )
    foot = Layer(
        _shade(look.shoes, tone),
        (pencil.limb(f"{side}_heel", body.foot_radius, f"{side}_toe", body.foot_radius * 0.85),),
    )
    return [Shape(f"{name}_foot", (foot,)), Shape(f"{name}_leg", leg)]


def _head(pencil: _Pencil) -> Shape:
    look, body, joints = pencil.figure.look, pencil.figure.body, pencil.joints
    (x, y), radius = joints["head"], body.head
    neck = pencil.blob(joints["chest"], body.head * 0.45, joints["head"], body.head * 0.4)
    face = Layer(
        look.skin,
        (
            neck,
            pencil.disc((x, y), radius),
            pencil.disc((x + radius * 0.98, y - radius * 0.1), radius * 0.2),
        ),
    )
    eye = Layer((20, 20, 24), (pencil.disc((x + radius * 0.5, y + radius * 0.12), radius * 0.15),))
    crown = pencil.blob(
        (x - radius * 0.55, y + radius * 0.3),
        radius * 0.62,
        (x + radius * 0.15, y + radius * 0.62),
        radius * 0.52,
    )
    if look.hair_style == "bald":
        return Shape("head", (face, eye))
    if look.hair_style == "long":
        tail = pencil.blob(
            (x - radius * 0.6, y + radius * 0.2),
            radius * 0.6,
            (x - radius * 0.95, y - radius * 1.1),
            radius * 0.4,
        )
        return Shape("head", (face, eye, Layer(look.hair, (tail, crown))))
    if look.hair_style == "cap":
        peak = pencil.blob(
            (x, y + radius * 0.5),
            radius * 0.3,
            (x + radius * 1.2, y + radius * 0.42),
            radius * 0.16,
        )
        return Shape("head", (face, eye, Layer(look.bottom, (peak, crown))))
    return Shape("head", (face, eye, Layer(look.hair, (crown,))))


def _trunk(pencil: _Pencil) -> list[Shape]:
    look, body, joints = pencil.figure.look, pencil.figure.body, pencil.joints
    (hip_x, hip_y), (chest_x, chest_y) = joints["hip"], joints["chest"]
    waist = (hip_x + (chest_x - hip_x) * 0.3, hip_y + (chest_y - hip_y) * 0.3)
    high = (hip_x + (chest_x - hip_x) * 0.9, hip_y + (chest_y - hip_y) * 0.9)
    hip = Layer(
        look.bottom,
        (
            pencil.blob(
                joints["hip"], body.hip_radius, (hip_x, hip_y - 0.02 * body.height), body.hip_radius
            ),
        ),
    )
    torso = Layer(look.top, (pencil.blob(waist, body.waist_radius, high, body.chest_radius),))
    return [Shape("hip", (hip,)), Shape("torso", (torso,))]


def _prop(pencil: _Pencil, prop: Prop) -> Shape:
    x, y, width, height = prop.x, prop.y, prop.width, prop.height

    def slab(left: float, bottom: float, right: float, top: float) -> tuple[Point, ...]:
        return tuple(
            pencil.at(corner)
            for corner in ((left, bottom), (right, bottom), (right, top), (left, top))
        )

    left, right, top = x - width / 2, x + width / 2, y + height
    dark, bar = _shade(prop.colour, 0.62), 0.16 * height
    if prop.kind == "box":
        stripe = slab(left, y + height * 0.42, right, y + height * 0.58)
        return Shape(
            "prop",
            (
                Layer(prop.colour, polygons=(slab(left, y, right, top),)),
                Layer(dark, polygons=(stripe,)),
            ),
        )
    if prop.kind in ("stool", "seat"):
        legs = (slab(left, y, left + bar, top), slab(right - bar, y, right, top))
        back = (
            (slab(left - bar, y, left + bar * 0.3, top + height * 1.05),)
            if prop.kind == "seat"
            else ()
        )
        return Shape(
            "prop",
            (
                Layer(dark, polygons=legs + back),
                Layer(prop.colour, polygons=(slab(left - bar, top - bar, right, top),)),
            ),
        )
    wheel = 0.2 * height
    axles = ((left + wheel, y + wheel), (right - wheel, y + wheel))
    body = slab(left, y + wheel * 1.2, right, top)
    band = slab(left, top - height * 0.22, right, top - height * 0.1)
    layers = [
        Layer(prop.colour, polygons=(body,)),
        Layer(dark, polygons=(band,)),
        Layer((40, 40, 44), tuple(pencil.disc(axle, wheel) for axle in axles)),
    ]
    if prop.handle is not None:
        layers.insert(
            0,
            Layer(dark, (pencil.blob(prop.handle, 0.02, (left + 0.03, top - height * 0.1), 0.02),)),
        )
    return Shape("prop", tuple(layers))


def shapes(figure: Figure, view: View, t: float) -> list[Shape]:
    """The shapes of one figure and its objects at time t, from back to front, canvas pixels.

    A figure that faces right shows its right side, so its near limbs are the right ones; facing
    left they are the left ones.
    """
    state, facing = figure.state(t), figure.facing(t)
    pencil = _Pencil(figure, state, facing, view)
    near, far = ("right", "left") if facing > 0 else ("left", "right")
    seats = [_prop(pencil, prop) for prop in state.props if prop.kind in ("stool", "seat")]
    held = [_prop(pencil, prop) for prop in state.props if prop.kind not in ("stool", "seat")]
    body = [
        *_arm(pencil, "far", far),
        *_leg(pencil, "far", far),
        *_leg(pencil, "near", near),
        *_trunk(pencil),
        _head(pencil),
    ]
    return [*seats, *body, *held, *_arm(pencil, "near", near)]
