"""Bodies: builds, looks (who somebody is to the eye) and forward kinematics of a flat, ten-part
figure.

Frame of a body: metres, x forward (the way the figure faces), y up, the ground at y = 0. Angles are
degrees from straight down, positive forward, so 0 is a hanging arm, 90 points ahead and 180 points
up; the torso's angle is its lean from upright. The figure is seen from the side: one arm and leg
are near the viewer, the others far.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

Point = tuple[float, float]
Colour = tuple[int, int, int]
Anchor = Literal["feet", "hip", "far_foot"]

PARTS = (
    "head",
    "left_arm",
    "right_arm",
    "left_hand",
    "right_hand",
    "hip",
    "left_leg",
    "right_leg",
    "left_foot",
    "right_foot",
)
"""The ten annotated parts. Left and right are the figure's own, as in Kinetics-TPS."""

SKINS: tuple[Colour, ...] = (
    (255, 219, 185),
    (238, 190, 150),
    (209, 155, 112),
    (166, 112, 74),
    (120, 78, 50),
    (86, 56, 40),
)
HAIRS: tuple[Colour, ...] = (
    (36, 28, 26),
    (84, 52, 30),
    (150, 96, 46),
    (222, 184, 104),
    (196, 80, 40),
    (190, 190, 196),
    (110, 60, 140),
)


class Build(NamedTuple):
    """Proportions: height in metres, the rest as factors of the usual figure."""

    name: str
    height: float
    girth: float
    limbs: float
    head: float


BUILDS = (
    Build("usual", 1.72, 1.0, 1.0, 1.0),
    Build("tall", 1.92, 0.95, 0.95, 0.92),
    Build("slim", 1.70, 0.80, 0.86, 1.0),
    Build("stout", 1.66, 1.32, 1.15, 1.0),
    Build("child", 1.30, 0.95, 1.05, 1.22),
)


@dataclass(frozen=True)
class Look:
    """One identity: build, skin, hair and clothes. Looks are what train and validation never
    share.
    """

    id: str
    split: str
    build: Build
    skin: Colour
    hair: Colour
    hair_style: Literal["short", "long", "cap", "bald"]
    top: Colour
    bottom: Colour
    shoes: Colour
    long_sleeves: bool
    long_trousers: bool

    def clothes(self) -> tuple[object, ...]:
        """All that the eye sees: equal for two looks only if they are the same person."""
        return (
            self.build.name,
            self.skin,
            self.hair,
            self.hair_style,
            self.top,
            self.bottom,
            self.shoes,
            self.long_sleeves,
            self.long_trousers,
        )


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def make_looks(seed: int, split: str, number: int) -> list[Look]:
    """`number` different looks of one split; those of two splits differ in their clothes' hues and
    are told apart by `clothes()`.
    """
    rng = np.random.default_rng([seed, 1, 0 if split == "train" else 1])
    looks: list[Look] = []
    seen: set[tuple[object, ...]] = set()
    while len(looks) < number:
        hue = float(rng.random())
        # Hues interleave between the splits on a fine comb, so that no top of one split is a top of
        # the other.
        hue = (
            math.floor(hue * 64) + (0.1 if split == "train" else 0.6) + 0.3 * float(rng.random())
        ) / 64
        look = Look(
            id=f"{split}-{len(looks):04d}",
            split=split,
            build=BUILDS[int(rng.integers(len(BUILDS)))],
            skin=SKINS[int(rng.integers(len(SKINS)))],
            hair=HAIRS[int(rng.integers(len(HAIRS)))],
            hair_style=("short", "long", "cap", "bald")[int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))],  # type: ignore[arg-type]
            top=_hsv(hue, float(rng.uniform(0.65, 0.95)), float(rng.uniform(0.7, 1.0))),
            bottom=_hsv(
                float(rng.random()), float(rng.uniform(0.2, 0.7)), float(rng.uniform(0.25, 0.65))
            ),
            shoes=_hsv(float(rng.random()), 0.3, float(rng.choice([0.15, 0.35, 0.95]))),
            long_sleeves=bool(rng.random() < 0.5),
            long_trousers=bool(rng.random() < 0.7),
        )
        if look.clothes() not in seen:
            seen.add(look.clothes())
            looks.append(look)
    return looks


class Pose(NamedTuple):
    """Joint angles in degrees. Elbow and knee are flexions: a forearm points at shoulder + elbow, a
    shin at hip - knee.
    """

    torso: float = 2.0
    head: float = 0.0
    near_shoulder: float = 6.0
    near_elbow: float = 10.0
    far_shoulder: float = -8.0
    far_elbow: float = 12.0
    near_hip: float = 4.0
    near_knee: float = 4.0
    far_hip: float = -5.0
    far_knee: float = 3.0

    def to(self, other: Pose, share: float) -> Pose:
        """The pose `share` of the way (0..1) to another."""
        return Pose(*(a + (b - a) * share for a, b in zip(self, other, strict=True)))


def _step(start: Point, length: float, degrees: float) -> Point:
    angle = math.radians(degrees)
    return start[0] + length * math.sin(angle), start[1] - length * math.cos(angle)


class Body:
    """Lengths and thicknesses (metres) of one build, and its forward kinematics."""

    def __init__(self, build: Build, scale: float = 1.0) -> None:
        height = build.height * scale
        self.height = height
        self.torso, self.neck, self.head = (
            0.285 * height,
            0.02 * height,
            0.078 * height * build.head,
        )
        self.upper_arm, self.forearm, self.hand = 0.165 * height, 0.145 * height, 0.036 * height
        self.thigh, self.shin, self.foot = 0.235 * height, 0.225 * height, 0.105 * height
        self.chest_radius, self.waist_radius = (
            0.078 * height * build.girth,
            0.066 * height * build.girth,
        )
        self.hip_radius = 0.072 * height * build.girth
        self.arm_radii = (
            0.037 * height * build.limbs,
            0.031 * height * build.limbs,
            0.027 * height * build.limbs,
        )
        self.leg_radii = (
            0.057 * height * build.limbs,
            0.043 * height * build.limbs,
            0.034 * height * build.limbs,
        )
        self.foot_radius = 0.029 * height

    def joints(
        self, pose: Pose, anchor: Anchor = "feet", x: float = 0.0, lift: float = 0.0
    ) -> dict[str, Point]:
        """Joints in the body's frame, metres.

        Args:
            pose: angles of the limbs.
            anchor: what stands at `x`: the middle of the ankles, the hip, or the far ankle.
            x: of the anchor, metres.
            lift: of the lowest foot above the ground, metres.
        """
        hip: Point = (0.0, 0.0)
        chest = _step(hip, self.torso, 180 - pose.torso)
        head = _step(
            chest,
            self.neck + self.head + self.chest_radius * 0.6,
            180 - (pose.torso * 0.6 + pose.head),
        )
        found: dict[str, Point] = {"hip": hip, "chest": chest, "head": head}
        sides = (
            ("near", -0.010, pose.near_shoulder, pose.near_elbow, pose.near_hip, pose.near_knee),
            ("far", 0.018, pose.far_shoulder, pose.far_elbow, pose.far_hip, pose.far_knee),
        )
        for side, shift, shoulder, elbow, thigh, knee in sides:
            # The far limbs are set a little forward, as if seen a few degrees from the front: both
            # stay visible at rest.
            start = (chest[0] + shift * self.height, chest[1] - 0.02 * self.height)
            found[f"{side}_shoulder"] = start
            found[f"{side}_elbow"] = middle = _step(start, self.upper_arm, shoulder)
            found[f"{side}_wrist"] = wrist = _step(middle, self.forearm, shoulder + elbow)
            found[f"{side}_hand"] = _step(wrist, self.hand, shoulder + elbow)
            found[f"{side}_hip"] = start = (shift * self.height, -0.01 * self.height)
            found[f"{side}_knee"] = middle = _step(start, self.thigh, thigh)
            shin = thigh - knee
            found[f"{side}_ankle"] = ankle = _step(middle, self.shin, shin)
            # A foot stays flat while its shin is near upright, then follows it.
            tilt = 90 + 0.8 * (shin - max(-24.0, min(24.0, shin)))
            found[f"{side}_heel"] = heel = (
                ankle[0] - 0.01 * self.height,
                ankle[1] - 0.012 * self.height,
            )
            found[f"{side}_toe"] = _step(heel, self.foot, tilt)
        low = (
            min(found[f"{side}_{end}"][1] for side in ("near", "far") for end in ("heel", "toe"))
            - self.foot_radius
        )
        near_x, far_x = found["near_ankle"][0], found["far_ankle"][0]
        origin = {"feet": (near_x + far_x) / 2, "hip": 0.0, "far_foot": far_x}[anchor]
        return {name: (px - origin + x, py - low + lift) for name, (px, py) in found.items()}
