"""Films before they are rendered: which stage is shown at which moment, and what is true of it.

Every film has its own random generator, seeded by (seed, kind, split, place), so that it does not
depend on which process makes it or on how many others there are.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ops.media.encode import Coding, draw_coding
from ops.synthetic import actions
from ops.synthetic.actions import (
    LABELS,
    REVERSE_OF,
    State,
    Style,
    Track,
    draw_take,
    perform,
    program_of,
    reach_of,
)
from ops.synthetic.render import SUPERSAMPLING
from ops.synthetic.scenery import Backdrop, draw_backdrop, draw_camera, draw_movers, draw_occluders
from ops.synthetic.skeleton import Body, Look
from ops.synthetic.stage import Figure, Stage

TRIMMED, UNTRIMMED, SCENE = 2, 3, 4


@dataclass(frozen=True)
class World:
    """What all films share: seed, picture size (pixels of the video), frames per second, nuisance
    and the looks of each split.
    """

    seed: int
    width: int
    height: int
    fps: int
    clip_frames: int
    difficulty: float
    looks: dict[str, tuple[Look, ...]]

    @property
    def canvas(self) -> tuple[int, int]:
        return self.width * SUPERSAMPLING, self.height * SUPERSAMPLING

    def generator(self, kind: int, split: str, *place: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, kind, 0 if split == "train" else 1, *place])


class Segment(NamedTuple):
    """An action from start_s to end_s (seconds from the film's start)."""

    label: str
    start_s: float
    end_s: float


class Film(NamedTuple):
    """Frames to show in order, as (stage, time on that stage), and what is known of them.

    acts: for each figure of a scene, what it does at a time (seconds), as names of SCENE_ACTIONS.
    """

    video_id: str
    split: str
    frames: list[tuple[Stage, float]]
    coding: Coding
    looks: tuple[str, ...]
    label: str = ""
    segments: tuple[Segment, ...] = ()
    acts: tuple[Callable[[float], tuple[str, ...]], ...] = ()


def _look(world: World, split: str, rng: np.random.Generator) -> Look:
    pool = world.looks[split]
    return pool[int(rng.integers(len(pool)))]


def _way(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _always(facing: int) -> Callable[[float], int]:
    return lambda t: facing


def _cached(state: Callable[[float], State]) -> Callable[[float], State]:
    return functools.lru_cache(maxsize=8)(state)


def _bystander(
    world: World, split: str, rng: np.random.Generator, scale: float, seconds: float
) -> Figure:
    """Somebody who crosses the background, far away and not annotated."""
    look, facing = _look(world, split, rng), _way(rng)
    body, style = Body(look.build, 0.42), Style.draw(rng)
    speed, reach = float(rng.uniform(0.25, 0.5)), world.canvas[0] / scale

    def state(t: float) -> State:
        return perform("walk", body, style, 5 + speed * (t - seconds / 2), t)

    return Figure(
        look,
        body,
        -5.0 * facing + float(rng.uniform(-0.3, 0.3)) * reach,
        state,
        _always(facing),
        0.1,
        annotated=False,
    )


def _distractor(
    world: World, split: str, rng: np.random.Generator, scale: float, seconds: float
) -> tuple[Figure, ...]:
    wanted = rng.random() < 0.35 * world.difficulty
    figure = _bystander(world, split, rng, scale, seconds)
    return (figure,) if wanted else ()


def _solo_stage(
    world: World,
    split: str,
    rng: np.random.Generator,
    figure: Figure,
    share: float,
    seconds: float,
    backdrop: Backdrop | None = None,
) -> Stage:
    """A stage for one figure whose standing height is `share` of the image's."""
    scale = share * world.canvas[1] / figure.body.height
    backdrop = backdrop or draw_backdrop(rng, world.canvas, world.difficulty)
    jitter = float(rng.uniform(-0.05, 0.05)) * world.canvas[0] / scale

    def subject(t: float) -> float:
        return figure.x + figure.facing(t) * figure.state(t).joints["hip"][0]

    camera = draw_camera(rng, world.canvas, scale, subject, jitter, world.difficulty)
    extra = _distractor(world, split, rng, scale, seconds)
    return Stage(
        world.canvas,
        backdrop,
        camera,
        draw_movers(rng, world.canvas[0] / scale, world.difficulty),
        (*extra, figure),
        draw_occluders(rng, seconds, world.difficulty),
    )


def _share(rng: np.random.Generator) -> float:
    return float(rng.uniform(0.55, 0.76))


def trimmed_film(world: World, split: str, index: int) -> Film:
    """Clip number `index` of a split. Its label is index modulo ten.

    The later member of a time-order pair is a clip of the earlier one with its frames in the other
    order. In the validation split it is even the same clip, so a model that does not see order
    scores exactly one half within a pair, up to the codec's noise.
    """
    label = LABELS[index % len(LABELS)]
    source = REVERSE_OF.get(label, label)
    rng = world.generator(
        TRIMMED, split, index // len(LABELS), LABELS.index(source if split == "val" else label)
    )
    number = world.clip_frames + int(
        rng.integers(-world.clip_frames // 8, world.clip_frames // 8 + 1)
    )
    seconds = number / world.fps
    look, facing = _look(world, split, rng), _way(rng)
    body = Body(look.build)
    take = draw_take(program_of(label), body, rng, (number - 1) / world.fps)
    low, high = take.reach
    figure = Figure(look, body, -facing * (low + high) / 2, _cached(take.state), _always(facing))
    stage = _solo_stage(world, split, rng, figure, _share(rng), seconds)
    times = [place / world.fps for place in range(number)]
    if label in REVERSE_OF:
        times.reverse()
    start = int(rng.integers(0, 300))
    name = f"{'train' if split == 'train' else 'valid'}{index:06d}_{start:06d}_{start + math.ceil(seconds):06d}"  # noqa: E501
    return Film(
        f"trimmed/{name}",
        split,
        [(stage, t) for t in times],
        draw_coding(rng, world.fps),
        _names(stage),
        label,
    )


def _names(*stages: Stage) -> tuple[str, ...]:
    return tuple(sorted({figure.look.id for stage in stages for figure in stage.figures}))


class _Shot(NamedTuple):
    stage: Stage
    frames: int
    segments: tuple[Segment, ...]


def _script(
    label: str, body: Body, rng: np.random.Generator
) -> tuple[Track, tuple[Segment, ...], float]:
    """A track that waits, acts, and for the pairs sometimes acts back: its knots are the exact ends
    of the actions.
    """
    program, first = program_of(label), label not in REVERSE_OF
    clock, segments = float(rng.uniform(0.6, 2.2)), []
    if program in ("sit", "pick", "push"):
        far = 1.0 if program != "push" else float(rng.uniform(0.55, 0.85)) * body.height
        phase = 0.0 if first else far
        times, phases = [0.0], [phase]
        other = next(
            two if one == label else one for one, two in actions.PAIRS if label in (one, two)
        )
        for name in (label, other) if rng.random() < 0.5 else (label,):
            length = float(rng.uniform(1.1, 2.0))
            segments.append(Segment(name, clock, clock + length))
            times += [clock, clock + length]
            phases += [phase, far - phase]
            phase, clock = far - phase, clock + length + float(rng.uniform(0.6, 1.8))
        return Track(tuple(times), tuple(phases)), tuple(segments), clock
    length = float(rng.uniform(1.6, 2.8))
    amount = {"walk": 0.45 * body.height * length, "wave": round(1.6 * length) + 0.0}.get(
        program, float(round(length / 1.4))
    )
    track = Track((0.0, clock, clock + length), (0.0, 0.0, amount), eased=False)
    return (
        track,
        (Segment(label, clock, clock + length),),
        clock + length + float(rng.uniform(0.6, 1.8)),
    )


def _act_shot(
    world: World, split: str, look: Look, label: str, rng: np.random.Generator, backdrop: Backdrop
) -> _Shot:
    body, style, program, facing = Body(look.build), Style.draw(rng), program_of(label), _way(rng)
    track, segments, seconds = _script(label, body, rng)
    low, high = reach_of(program, body, track)
    end = track.phases[-1] if program in ("walk", "wave") else math.inf

    def state(t: float) -> State:
        phase = track.at(t)
        return perform(
            program,
            body,
            style,
            min(phase, end - 1e-6) if program in ("jump", "kick") else phase,
            t,
            end,
        )

    figure = Figure(look, body, -facing * (low + high) / 2, _cached(state), _always(facing))
    return _Shot(
        _solo_stage(world, split, rng, figure, _share(rng), seconds, backdrop),
        round(seconds * world.fps),
        segments,
    )


def _empty_shot(
    world: World, split: str, look: Look, rng: np.random.Generator, backdrop: Backdrop
) -> _Shot:
    """Background: nobody at all, somebody far away who passes, or the actor who stands idle."""
    seconds, kind = float(rng.uniform(1.5, 4.0)), int(rng.integers(3))
    body, style = Body(look.build), Style.draw(rng)
    figure = Figure(
        look,
        body,
        0.0,
        _cached(lambda t: perform("stand", body, style, 0.0, t)),
        _always(_way(rng)),
    )
    stage = _solo_stage(world, split, rng, figure, _share(rng), seconds, backdrop)
    if kind < 2:
        people = () if kind == 0 else (_bystander(world, split, rng, stage.camera.scale, seconds),)
        stage = Stage(
            stage.size, stage.backdrop, stage.camera, stage.movers, people, stage.occluders
        )
    return _Shot(stage, round(seconds * world.fps), ())


def untrimmed_film(world: World, split: str, index: int) -> Film:
    """Untrimmed video `index` of a split: 20 to 60 s of shots with one actor, actions and
    background in turn.
    """
    rng = world.generator(UNTRIMMED, split, index)
    wanted, look = float(rng.uniform(20, 52)) * world.fps, _look(world, split, rng)
    frames: list[tuple[Stage, float]] = []
    segments: list[Segment] = []
    stages: list[Stage] = []
    backdrop = draw_backdrop(rng, world.canvas, world.difficulty)
    order: list[int] = []
    while len(frames) < wanted:
        order = order or [int(place) for place in rng.permutation(len(LABELS))]
        if rng.random() < 0.4:
            backdrop = draw_backdrop(rng, world.canvas, world.difficulty)
        shot = (
            _empty_shot(world, split, look, rng, backdrop)
            if rng.random() < 0.3
            else _act_shot(world, split, look, LABELS[order.pop()], rng, backdrop)
        )
        start = len(frames) / world.fps
        segments += [
            Segment(label, start + first, start + last) for label, first, last in shot.segments
        ]
        frames += [(shot.stage, place / world.fps) for place in range(shot.frames)]
        stages.append(shot.stage)
    return Film(
        f"untrimmed/{split}_{index:04d}",
        split,
        frames,
        draw_coding(rng, world.fps),
        _names(*stages),
        segments=tuple(segments),
    )


SCENE_ACTIONS = ("stand", "sit", "walk", "crouch", "wave", "clap", "hold", "push")
"""The actions of the scenes; action_id is the place plus one. The first four are poses, of which
everybody has exactly one.
"""


def _gestures(rng: np.random.Generator, edges: list[float]) -> list[str]:
    return [("", "wave", "clap", "hold")[int(rng.integers(4))] for _ in range(len(edges) + 1)]


def _person(
    world: World, split: str, rng: np.random.Generator, x: float, reach: float, seconds: float
) -> tuple[Figure, Callable[[float], tuple[str, ...]]]:
    """One person of a scene and what it does. Changes fall half-way between key frames, so that
    every key frame is clear.
    """
    look, facing, style = _look(world, split, rng), _way(rng), Style.draw(rng)
    body, program = (
        Body(look.build),
        ("sit", "crouch", "walk", "push")[int(rng.choice(4, p=[0.3, 0.3, 0.25, 0.15]))],
    )
    edges, clock = [], 0.5
    while clock < seconds:
        clock += int(rng.integers(2, 5))
        edges.append(clock)
    gestures = _gestures(rng, edges) if program != "push" else [""] * (len(edges) + 1)
    low_first = rng.random() < 0.5
    if program in ("walk", "push"):
        speed = float(rng.uniform(0.3, 0.5)) * body.height
        track = Track((0.0, seconds), (10.0, 10.0 + speed * seconds), eased=False)
        x = -facing * (10.0 + float(rng.uniform(0.1, 0.55)) * reach)
    else:
        down = [float((place % 2 == 0) == low_first) for place in range(len(edges) + 1)]
        times = [edge + shift for edge in edges for shift in (-0.35, 0.35)]
        track = Track(
            tuple(times),
            tuple(value for first, last in itertools.pairwise(down) for value in (first, last)),
        )

    def section(t: float) -> int:
        return sum(t >= edge for edge in edges)

    def state(t: float) -> State:
        away = min(abs(t - edge) for edge in edges)
        return perform(
            program,
            body,
            style,
            track.at(t),
            t,
            gesture=(gestures[section(t)], min(1.0, away / 0.3)),
        )

    def acts(t: float) -> tuple[str, ...]:
        pose = (
            program
            if program == "walk"
            else "walk"
            if program == "push"
            else "stand"
            if track.at(t) < 0.5
            else program
        )
        return tuple(
            name
            for name in (pose, gestures[section(t)], "push" if program == "push" else "")
            if name
        )

    return Figure(look, body, x, _cached(state), _always(facing)), acts


def scene_film(world: World, split: str, index: int, seconds: float = 10.0) -> Film:
    """Scene `index` of a split: one to four people, each with a pose and often a gesture, for about
    ten seconds.
    """
    rng = world.generator(SCENE, split, index)
    number = 1 + int(rng.choice(4, p=[0.2, 0.35, 0.3, 0.15]))
    share = float(rng.uniform(0.52, 0.62)) if number < 3 else float(rng.uniform(0.45, 0.54))
    scale = share * world.canvas[1] / 1.75
    reach = world.canvas[0] / scale
    people = []
    for place in range(number):
        x = ((place + 0.5) / number - 0.5) * reach * 0.86 + float(rng.uniform(-0.05, 0.05)) * reach
        people.append(_person(world, split, rng, x, reach, seconds))
    figures = tuple(figure for figure, _ in people)
    camera = draw_camera(rng, world.canvas, scale, lambda t: 0.0, 0.0, world.difficulty)
    stage = Stage(
        world.canvas,
        draw_backdrop(rng, world.canvas, world.difficulty),
        camera,
        draw_movers(rng, reach, world.difficulty),
        figures,
        draw_occluders(rng, seconds, world.difficulty),
    )
    frames = [(stage, place / world.fps) for place in range(round(seconds * world.fps))]
    return Film(
        f"scenes/{split}_{index:04d}",
        split,
        frames,
        draw_coding(rng, world.fps),
        _names(stage),
        acts=tuple(acts for _, acts in people),
    )
