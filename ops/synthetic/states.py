"""What each part is doing: short verbs read off the motion itself, by rules over joint positions
and speeds.

Speeds are differences between a frame and the next one shown, so a film that runs backwards has the
states of what it shows. Lengths in the rules are shares of the figure's height, speeds are per
second.
"""

from __future__ import annotations

import math

from ops.synthetic.actions import State
from ops.synthetic.skeleton import PARTS, Body, Point

STATES = (
    *("none", "stand", "step", "lift", "swing", "bend", "kick", "raise", "wave"),
    *("hold", "push", "pull", "reach", "sit", "lower", "rise", "move", "lean"),
)
"""All verbs that can occur."""


def _speed(now: State, then: State, name: str, body: Body, step_s: float) -> Point:
    (x1, y1), (x2, y2) = now.joints[name], then.joints[name]
    return (x2 - x1) / body.height / step_s, (y2 - y1) / body.height / step_s


def _angle(state: State, first: str, second: str) -> float:
    (x1, y1), (x2, y2) = state.joints[first], state.joints[second]
    return math.degrees(math.atan2(x2 - x1, y1 - y2))


def _turned(first: float, second: float) -> float:
    return abs((second - first + 180) % 360 - 180)


def _arm(now: State, then: State, side: str, body: Body, step_s: float) -> str:
    shoulder, elbow, wrist = f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"
    upper = _angle(now, shoulder, elbow)
    if now.grip:
        return (
            "hold"
            if now.grip == "hold"
            else "push"
            if _speed(now, then, "hip", body, step_s)[0] >= 0
            else "pull"
        )
    if abs(upper) > 115:
        return "raise"
    if _turned(upper, _angle(then, shoulder, elbow)) / step_s > 45:
        return "swing"
    return "bend" if _turned(upper, _angle(now, elbow, wrist)) > 35 else "none"


def _hand(now: State, then: State, side: str, body: Body, step_s: float) -> str:
    if now.grip:
        forward = _speed(now, then, "hip", body, step_s)[0]
        return (
            "hold"
            if now.grip == "hold" or abs(forward) < 0.03
            else "push"
            if forward > 0
            else "pull"
        )
    hand, speed = (
        now.joints[f"{side}_hand"],
        math.hypot(*_speed(now, then, f"{side}_hand", body, step_s)),
    )
    if hand[1] > now.joints["head"][1]:
        return "wave" if speed > 0.25 else "raise"
    if hand[1] < 0.3 * body.height and hand[1] < now.joints["hip"][1] - 0.05 * body.height:
        return "reach"
    return "swing" if speed > 0.45 else "none"


def _leg(now: State, then: State, side: str, body: Body, step_s: float) -> str:
    thigh = _angle(now, f"{side}_hip", f"{side}_knee")
    bend = _turned(thigh, _angle(now, f"{side}_knee", f"{side}_ankle"))
    ankle = now.joints[f"{side}_ankle"]
    if ankle[1] > 0.22 * body.height and thigh > 40 and bend < 35:
        return "kick"
    if _turned(thigh, _angle(then, f"{side}_hip", f"{side}_knee")) / step_s > 45:
        return "swing" if bend < 60 else "bend"
    return "bend" if bend > 35 else "stand"


def _foot(now: State, then: State, side: str, body: Body, step_s: float) -> str:
    low = min(now.joints[f"{side}_heel"][1], now.joints[f"{side}_toe"][1]) - body.foot_radius
    if low > 0.02 * body.height:
        return "lift"
    return (
        "step" if math.hypot(*_speed(now, then, f"{side}_heel", body, step_s)) > 0.25 else "stand"
    )


def _hip(now: State, then: State, body: Body, step_s: float) -> str:
    speed = _speed(now, then, "hip", body, step_s)
    seated = (
        any(prop.kind in ("stool", "seat") for prop in now.props)
        and _angle(now, "near_hip", "near_knee") > 70
    )
    if abs(speed[1]) > 0.06 and abs(speed[1]) > abs(speed[0]) * 0.3:
        return "rise" if speed[1] > 0 else "lower"
    if seated:
        return "sit"
    return "move" if abs(speed[0]) > 0.1 else "stand"


def part_states(now: State, then: State, facing: int, body: Body, step_s: float) -> dict[str, str]:
    """The state of each of the ten parts.

    Args:
        now: this frame's state.
        then: the next frame's state.
        facing: 1 to the right, -1 to the left.
        body: whose states they are.
        step_s: seconds between the two frames.
    """
    near, far = ("right", "left") if facing > 0 else ("left", "right")
    lean = abs(_angle(now, "head", "chest"))
    found = {"head": "lean" if lean > 25 else "none", "hip": _hip(now, then, body, step_s)}
    for side, name in (("near", near), ("far", far)):
        found[f"{name}_arm"] = _arm(now, then, side, body, step_s)
        found[f"{name}_hand"] = _hand(now, then, side, body, step_s)
        found[f"{name}_leg"] = _leg(now, then, side, body, step_s)
        found[f"{name}_foot"] = _foot(now, then, side, body, step_s)
    return {part: found[part] for part in PARTS}
