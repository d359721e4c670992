"""What figures do: pose programs over a phase, the objects they use, and tracks that lead the phase
through time.

A program maps a phase `s` to a state and keeps no memory, so a film played backwards is the film of
the reversed track. That is how the time-order pairs are made: `pull` is `push` with its frames in
the other order, and nothing else differs.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ops.synthetic.skeleton import Anchor, Body, Colour, Point, Pose

LABELS = (
    "sit_down",
    "stand_up",
    "push",
    "pull",
    "pick_up",
    "put_down",
    "walk",
    "wave",
    "jump",
    "kick",
)
"""The ten actions of the trimmed and untrimmed videos, in the order of labels.txt."""

PAIRS = (("sit_down", "stand_up"), ("push", "pull"), ("pick_up", "put_down"))
"""Actions that only the order of time tells apart."""

REVERSE_OF = {second: first for first, second in PAIRS}


class Prop(NamedTuple):
    """An object in the body's frame: (x, y) is the middle of its bottom edge, metres."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    turn: float
    colour: Colour
    handle: Point | None = None


class State(NamedTuple):
    """A figure at one instant: its joints (body frame, metres), objects, and what its hands do ('',
    'hold' or 'push').
    """

    joints: dict[str, Point]
    props: tuple[Prop, ...]
    grip: str


@dataclass(frozen=True)
class Style:
    """How somebody moves and what they use: the same distribution for every action."""

    swing: float
    lean: float
    sway_hz: float
    sway_phase: float
    sway: float
    size: float
    aspect: float
    colour: Colour
    seat_back: bool
    two_hands: bool

    @staticmethod
    def draw(rng: np.random.Generator) -> Style:
        tint = rng.uniform(0.75, 1.1)
        wood = (
            (190, 120, 60),
            (220, 180, 60),
            (70, 120, 170),
            (170, 60, 60),
            (90, 150, 90),
            (210, 210, 215),
        )[int(rng.integers(6))]
        red, green, blue = (min(255, round(channel * tint)) for channel in wood)
        return Style(
            swing=float(rng.uniform(0.88, 1.15)),
            lean=float(rng.uniform(-3, 4)),
            sway_hz=float(rng.uniform(0.3, 0.8)),
            sway_phase=float(rng.uniform(0, math.tau)),
            sway=float(rng.uniform(0.5, 2.5)),
            size=float(rng.uniform(0.85, 1.2)),
            aspect=float(rng.uniform(0.85, 1.25)),
            colour=(red, green, blue),
            seat_back=bool(rng.random() < 0.6),
            two_hands=bool(rng.random() < 0.3),
        )


class Track(NamedTuple):
    """Phase over time through knots (seconds, phase); eased slows down at each knot. Constant
    before the first and after the last.
    """

    times: tuple[float, ...]
    phases: tuple[float, ...]
    eased: bool = True

    def at(self, t: float) -> float:
        after = bisect.bisect_right(self.times, t)
        if after == 0:
            return self.phases[0]
        if after == len(self.times):
            return self.phases[-1]
        span = self.times[after] - self.times[after - 1]
        share = (t - self.times[after - 1]) / span
        share = share * share * (3 - 2 * share) if self.eased else share
        return self.phases[after - 1] + (self.phases[after] - self.phases[after - 1]) * share


def _ease(value: float) -> float:
    value = max(0.0, min(1.0, value))
    return value * value * (3 - 2 * value)


def _through(keys: tuple[tuple[float, Pose], ...], s: float) -> Pose:
    s = max(keys[0][0], min(keys[-1][0], s))
    for (start, first), (end, second) in itertools.pairwise(keys):
        if s <= end:
            return first.to(second, _ease((s - start) / (end - start)))
    return keys[-1][1]


STAND = Pose()
LEANING = Pose(36, -12, 38, 22, 30, 25, 54, 76, 50, 70)
SEATED = Pose(5, 0, 34, 46, 30, 50, 84, 84, 80, 78)
BENT = Pose(66, -22, 22, 8, 16, 10, 72, 96, 64, 84)
CARRYING = Pose(-3, 0, 32, 62, 28, 66, 4, 4, -5, 3)
CROUCHED = Pose(34, -14, -42, 14, -46, 16, 56, 92, 50, 84)
SQUATTING = CROUCHED._replace(near_shoulder=30, near_elbow=40, far_shoulder=24, far_elbow=44)
FLYING = Pose(2, 4, 148, 12, 140, 14, 2, 8, -8, 14)
WOUND_UP = Pose(10, 4, 42, 22, -34, 26, -38, 62, 4, 10)
KICKING = Pose(-16, -4, -38, 22, 50, 26, 88, 6, -2, 6)
SIT_KEYS = ((0.0, STAND), (0.5, LEANING), (1.0, SEATED))
PICK_KEYS = ((0.0, STAND), (0.5, BENT), (1.0, CARRYING))
JUMP_KEYS = (
    (0.0, STAND),
    (0.3, CROUCHED),
    (0.42, FLYING),
    (0.7, FLYING),
    (0.82, CROUCHED),
    (1.0, STAND),
)
KICK_KEYS = ((0.0, STAND), (0.32, WOUND_UP), (0.55, KICKING), (0.65, KICKING), (1.0, STAND))


def stride(body: Body) -> float:
    """Metres per walking cycle (two steps)."""
    return 0.86 * body.height


def _gait(body: Body, metres: float, swing: float, arms: bool) -> Pose:
    phase = math.tau * metres / stride(body)
    sine, cosine = math.sin(phase), math.cos(phase)
    hips, flex = 29 * swing, 44 * swing
    return Pose(
        torso=5,
        near_shoulder=-30 * swing * sine if arms else 68,
        near_elbow=24 if arms else 14,
        far_shoulder=30 * swing * sine if arms else 62,
        far_elbow=24 if arms else 18,
        near_hip=hips * sine,
        near_knee=6 + flex * max(0.0, cosine),
        far_hip=-hips * sine,
        far_knee=6 + flex * max(0.0, -cosine),
    )


def _arms(pose: Pose, gesture: str, t: float, style: Style, share: float) -> Pose:
    """The pose with its arms brought `share` of the way to a gesture of the scenes."""
    beat = math.sin(math.tau * 2.0 * t + style.sway_phase)
    if gesture == "wave":
        other = pose._replace(near_shoulder=138, near_elbow=24 + 38 * beat)
    elif gesture == "clap":
        other = pose._replace(
            near_shoulder=62 + 26 * beat, near_elbow=26, far_shoulder=62 - 26 * beat, far_elbow=26
        )
    elif gesture == "hold":
        other = pose._replace(near_shoulder=30, near_elbow=62, far_shoulder=26, far_elbow=66)
    else:
        return pose
    return pose.to(other, share)


def _box(body: Body, style: Style, x: float, y: float) -> Prop:
    side = 0.19 * body.height * style.size
    return Prop("box", x, y, side * style.aspect, side, 0.0, style.colour)


def _middle(joints: dict[str, Point]) -> Point:
    near, far = joints["near_hand"], joints["far_hand"]
    return (near[0] + far[0]) / 2, (near[1] + far[1]) / 2


def stool(body: Body, style: Style) -> Prop:
    """The seat that fits a body: its middle is below the hip of the seated pose, its top under the
    thighs.
    """
    hip = body.joints(SEATED)["hip"]
    width, height = 0.25 * body.height, hip[1] - body.leg_radii[0] * 1.15
    return Prop(
        "seat" if style.seat_back else "stool",
        hip[0] - 0.01 * body.height,
        0.0,
        width,
        height,
        0.0,
        style.colour,
    )


def _picked(body: Body, style: Style, joints: dict[str, Point], s: float) -> Prop:
    grasp = _middle(body.joints(BENT._replace(torso=BENT.torso + style.lean)))
    half = _box(body, style, 0, 0).width / 2
    floor = (grasp[0] + 0.04 * body.height, 0.0)
    if s <= 0.5:
        return _box(body, style, *floor)
    hands, share = _middle(joints), _ease((s - 0.5) / 0.5)
    # The hands slide from the top of the box to its near edge while it comes up.
    away = (
        0.04 * body.height * (1 - share) + half * share,
        -grasp[1] * (1 - share) - 0.06 * body.height * share,
    )
    return _box(body, style, hands[0] + away[0], max(0.0, hands[1] + away[1]))


def _cart(body: Body, style: Style, joints: dict[str, Point], metres: float) -> Prop:
    hands = _middle(joints)
    height, width = 0.42 * body.height * style.size, 0.36 * body.height * style.size * style.aspect
    wheel = 0.055 * body.height
    return Prop(
        "cart",
        hands[0] + width / 2 + 0.03 * body.height,
        0.0,
        width,
        height,
        metres / wheel,
        style.colour,
        hands,
    )


def _posed(
    name: str, body: Body, style: Style, s: float, end: float
) -> tuple[Pose, Anchor, float, float]:
    """Pose, anchor, x and lift (metres) of a program at phase s; `end` is the phase at which a
    bounded program is over.
    """
    if name == "sit":
        return _through(SIT_KEYS, s), "feet", 0.0, 0.0
    if name == "pick":
        return _through(PICK_KEYS, s), "feet", 0.0, 0.0
    if name == "crouch":
        return STAND.to(SQUATTING, s), "feet", 0.0, 0.0
    if name in ("walk", "push"):
        gait = _gait(body, s, style.swing, arms=name == "walk")
        if name == "push":
            return gait._replace(torso=24, head=-10), "hip", s, 0.0
        return STAND.to(gait, _ease(min(s, end - s) / (0.12 * body.height))), "hip", s, 0.0
    if name == "wave":
        beat = 38 * style.swing * math.sin(math.tau * s)
        up = STAND._replace(near_shoulder=138, near_elbow=24 + beat)
        if style.two_hands:
            up = up._replace(far_shoulder=146, far_elbow=20 + beat)
        return STAND.to(up, _ease(min(s, end - s) * 2.2)), "feet", 0.0, 0.0
    if name == "jump":
        u = s % 1.0
        air = (u - 0.36) / (0.78 - 0.36)
        lift = 0.2 * style.swing * body.height * 4 * air * (1 - air) if 0 < air < 1 else 0.0
        return _through(JUMP_KEYS, u), "feet", 0.0, lift
    if name == "kick":
        return _through(KICK_KEYS, s % 1.0), "far_foot", 0.0, 0.0
    return STAND, "feet", 0.0, 0.0


def perform(
    name: str,
    body: Body,
    style: Style,
    s: float,
    t: float,
    end: float = math.inf,
    gesture: tuple[str, float] = ("", 0.0),
) -> State:
    """The state of a program at a phase and a time.

    Args:
        name: sit, pick, push, walk, wave, jump, kick, crouch or stand.
        body: who performs.
        style: in which manner.
        s: phase: 0..1 for sit, pick and crouch, metres for walk and push, repeats for the rest.
        t: seconds, for the sway of a living body.
        end: phase at which a bounded program is over; inf for those without an end.
        gesture: a gesture of the scenes (wave, clap, hold) and its share 0..1, laid over the arms.
    """
    pose, anchor, x, lift = _posed(name, body, style, s, end)
    sway = style.sway * math.sin(math.tau * style.sway_hz * t + style.sway_phase)
    pose = pose._replace(
        torso=pose.torso + style.lean + sway * 0.6,
        head=pose.head - sway,
        near_shoulder=pose.near_shoulder + sway,
        far_shoulder=pose.far_shoulder - sway,
    )
    if gesture[0]:
        pose = _arms(pose, gesture[0], t, style, gesture[1])
    joints = body.joints(pose, anchor, x, lift)
    props: list[Prop] = []
    grip = ""
    if name == "sit":
        props.append(stool(body, style))
    elif name == "pick":
        props.append(_picked(body, style, joints, s))
        grip = "hold" if s > 0.5 else ""
    elif name == "push":
        props.append(_cart(body, style, joints, s))
        grip = "push"
    if gesture[0] == "hold" and gesture[1] > 0.5:
        hands = _middle(joints)
        box = _box(body, style, 0, 0)
        props.append(
            box._replace(x=hands[0] + box.width / 2, y=max(0.0, hands[1] - 0.06 * body.height))
        )
        grip = "hold"
    return State(joints, tuple(props), grip)


class Take(NamedTuple):
    """One performance: `state(t)` for t in seconds from its start, and the way (metres along the
    facing) that it covers.
    """

    state: Callable[[float], State]
    reach: tuple[float, float]


def program_of(label: str) -> str:
    """The program behind a label; the two members of a pair share one."""
    return {"sit_down": "sit", "pick_up": "pick"}.get(
        REVERSE_OF.get(label, label), REVERSE_OF.get(label, label)
    )


def reach_of(name: str, body: Body, track: Track) -> tuple[float, float]:
    """From where to where (metres along the facing, body frame) a performance takes place, its
    objects included.
    """
    low, high = (min(track.phases), max(track.phases)) if name in ("walk", "push") else (0.0, 0.0)
    bounds = {
        "push": (low, high + 0.75 * body.height),
        "sit": (-0.3 * body.height, 0.1 * body.height),
    }
    bounds["pick"] = (-0.1 * body.height, 0.4 * body.height)
    return bounds.get(name, (low, high))


def draw_take(program: str, body: Body, rng: np.random.Generator, duration: float) -> Take:
    """A performance that fills a trimmed clip of `duration` seconds, with ends held still for a
    random while.
    """
    style = Style.draw(rng)
    before, after = (float(share) * duration for share in rng.uniform(0.0, 0.22, 2))
    amount, start = float(rng.random()), float(rng.random())
    if program in ("sit", "pick"):
        low, high = 0.12 * start, 1.0 - 0.1 * amount
        track = Track((0.0, before, duration - after, duration), (low, low, high, high))
    elif program == "push":
        metres = (0.5 + 0.3 * amount) * body.height
        track = Track(
            (0.0, before / 2, duration - after / 2, duration),
            (start, start, start + metres, start + metres),
        )
    elif program == "walk":
        metres = (0.7 + 0.45 * amount) * body.height
        track = Track((0.0, duration), (5 + start, 5 + start + metres), eased=False)
    elif program == "wave":
        first = 0.0 if start < 0.3 else 1 + start
        track = Track(
            (before / 3, duration), (first, first + (1.2 + 0.9 * amount) * duration), eased=False
        )
    else:
        repeats = 1 if amount < 0.5 else 2
        shorter = 0.6 if repeats == 2 else 1.0
        track = Track(
            (before * shorter, duration - after * shorter), (0.0, repeats - 1e-6), eased=False
        )

    def state(t: float) -> State:
        return perform(program, body, style, track.at(t), t)

    return Take(state, reach_of(program, body, track))
