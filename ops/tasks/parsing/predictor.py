"""A trained parsing model with its recipe and vocabulary, ready for videos that no dataset
knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import configs
from configs.schema import ConfigError, Provenance
from configs.schema.parsing import ParsingRecipe
from configs.settings import Settings
from ops.evaluation.weights import Served, frames_of
from ops.media.sampled import sampled_frames
from ops.tasks.parsing.part_frames import Scene, normalised, padded, test_view
from ops.tasks.parsing.parts import Humans
from ops.tasks.parsing.task import decoded, known_pairs
from ops.training.inference import place_of

FRAMES_AT_ONCE = 8
SURE = 0.3  # persons below are not told, but for the best one of a frame


class Part(NamedTuple):
    """A body part: its box xyxy in pixels, its likeliest state, and how sure that is (0..1)."""

    name: str
    box: tuple[float, float, float, float]
    state: str
    score: float


class Person(NamedTuple):
    """A person of a frame: box xyxy in pixels, and all parts."""

    score: float
    box: tuple[float, float, float, float]
    parts: tuple[Part, ...]


class FramePeople(NamedTuple):
    """The people of one frame, best first; `frame` counts from 0."""

    frame: int
    people: tuple[Person, ...]


class VideoPeople(NamedTuple):
    """What is seen in a video: its action, where a recognition model is at hand, and every n-th
    frame.
    """

    action: str | None
    probability: float
    frames: tuple[FramePeople, ...]


@dataclass(frozen=True)
class Parser:
    """Model in evaluation mode, its recipe, its vocabulary, the settings that lead to the action
    model, and where it comes from.
    """

    model: nn.Module
    recipe: ParsingRecipe
    vocabulary: Mapping[str, Sequence[str]]
    settings: Settings | None = None
    provenance: Provenance | None = None

    @cached_property
    def pairs(self) -> np.ndarray:
        """bool [K, S]: the states that each part was seen with in training."""
        return known_pairs(self.vocabulary)

    @torch.inference_mode()
    def arrays(self, pictures: np.ndarray) -> list[dict[str, np.ndarray]]:
        """For each picture of uint8 [N, H, W, 3] RGB: scores (P,), boxes (P, 4), parts (P, K, 4),
        states and state_scores (P, K, N).

        Raises ValueError for pictures of another shape or type.
        """
        if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3:
            raise ValueError(
                f"pictures: found {pictures.dtype} {list(pictures.shape)}; allowed: uint8 [N, H,"
                " W, 3]"
            )
        found: list[dict[str, np.ndarray]] = []
        for start in range(0, len(pictures), FRAMES_AT_ONCE):
            some = pictures[start : start + FRAMES_AT_ONCE]
            shown = [
                normalised(
                    test_view(Scene(picture, self._nobody()), self.recipe.images).picture,
                    self.recipe.images,
                )
                for picture in some
            ]
            images, padding = (
                torch.from_numpy(array).to(place_of(self.model)) for array in padded(shown)
            )
            sizes = torch.tensor([picture.shape[:2] for picture in some], dtype=torch.float32)
            found += decoded(self.model(images, padding), sizes, self.recipe, self.pairs)
        return found

    def on_frames(self, pictures: np.ndarray) -> list[tuple[Person, ...]]:
        """The people of every picture of uint8 [N, H, W, 3] RGB, best first. Raises ValueError."""
        return [self._people(one) for one in self.arrays(pictures)]

    def on_video(self, path: Path) -> VideoPeople:
        """The people of every n-th frame of a video file, as the recipe evaluates it, and the
        video's action. Raises DecodeError.

        Boxes are pixels of the frames as training saw them: of the dataset's `short_side` where it
        had one.
        """
        short_side, frames = (
            frames_of(self.recipe, self.provenance).short_side,
            np.empty(0, np.int64),
        )

        def choose(num_frames: int, timestamps_s: list[float]) -> np.ndarray:
            nonlocal frames
            frames = np.arange(0, num_frames, self.recipe.frames.every)
            return frames

        people = self.on_frames(sampled_frames(path, choose, short_side=short_side))
        action, probability = self._action(path)
        shown = tuple(
            FramePeople(frame, own) for frame, own in zip(frames.tolist(), people, strict=True)
        )
        return VideoPeople(action, probability, shown)

    def lines(self, found: VideoPeople) -> list[str]:
        """The action, then a line per person and frame: how sure, and what the parts do."""
        head = [f"{found.probability:6.1%}  {found.action}"] if found.action is not None else []
        for frame in found.frames:
            for person in [
                own for place, own in enumerate(frame.people) if own.score >= SURE or not place
            ]:
                doing = ", ".join(
                    f"{part.name.replace('_', ' ')} {part.state}" for part in person.parts
                )
                head.append(f"{person.score:6.1%}  frame {frame.frame:>4}  {doing}")
        return head

    def _nobody(self) -> Humans:
        num_parts = len(self.vocabulary["parts"])
        return Humans(
            np.empty((0, 4), np.float32),
            np.empty((0, num_parts), bool),
            np.empty((0, num_parts, 4), np.float32),
            np.empty((0, num_parts), np.int64),
        )

    def _people(self, found: Mapping[str, np.ndarray]) -> tuple[Person, ...]:
        people = []
        for person, score in enumerate(found["scores"].tolist()):
            parts = tuple(
                Part(
                    name,
                    tuple(found["parts"][person, number].tolist()),
                    self.vocabulary["states"][int(found["states"][person, number, 0])],
                    float(found["state_scores"][person, number, 0]),
                )
                for number, name in enumerate(self.vocabulary["parts"])
            )
            people.append(Person(score, tuple(found["boxes"][person].tolist()), parts))
        return tuple(people)

    def _action(self, path: Path) -> tuple[str | None, float]:
        """The action model's best label; None where the recipe names no model."""
        if self.recipe.action_model is None:
            return None, 0.0
        from ops.evaluation.predictors import load
        from ops.tasks.recognition.predictor import Recognizer
        from ops.tracking.artifacts import MissingModelError, pinned_uri

        pinned = None if self.provenance is None else self.provenance.action_model
        settings = self.settings or configs.settings()
        try:
            uri = self.recipe.action_model if pinned is None else pinned_uri(pinned, settings)
        except MissingModelError as error:
            where, allowed = (
                f"recipe '{self.recipe.name}'",
                f"a model that is still there ({error})",
            )
            raise ConfigError(where, "action_model", self.recipe.action_model, allowed) from error
        recognizer = load(uri, settings)
        if not isinstance(recognizer, Recognizer):
            raise ConfigError(
                f"recipe '{self.recipe.name}'",
                "action_model",
                self.recipe.action_model,
                "a recognition model",
            )
        return recognizer.on_video(path)[0]


def build(served: Served, settings: Settings | None = None) -> Parser:
    """The predictor of a trained model."""
    return Parser(served.model, served.recipe, served.vocabulary, settings, served.provenance)
