"""A trained recognition model with its recipe and labels, ready for frames that no dataset
knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn

from configs.schema import Provenance, RecognitionRecipe
from configs.settings import Settings
from ops.data.test_views import FrozenViews
from ops.data.timeline import timeline
from ops.evaluation.weights import Served, frames_of
from ops.media.sampled import sampled_frames
from ops.tasks.recognition.metric import probabilities
from ops.tasks.recognition.views import view_scores
from ops.training.inference import place_of


@dataclass(frozen=True)
class Recognizer:
    """Model in evaluation mode, its recipe, its labels in the order of the classes, and where it
    comes from.
    """

    model: nn.Module
    recipe: RecognitionRecipe
    labels: Sequence[str]
    provenance: Provenance | None = None

    def on_video(self, path: Path) -> list[tuple[str, float]]:
        """All labels of a video file with their probabilities, best first. Raises DecodeError,
        ConfigError.
        """
        short_side = frames_of(self.recipe, self.provenance).short_side  # what training saw
        shares = self.probabilities(
            sampled_frames(path, self.indices, short_side=short_side, on_clock=self.needs_times)
        )
        return [
            (self.labels[index], float(shares[index]))
            for index in np.argsort(-shares, kind="stable")
        ]

    def lines(self, found: Sequence[tuple[str, float]]) -> list[str]:
        """A line per label, with a bar as long as its probability."""
        return [f"{share:6.1%}  {'█' * round(share * 30):<30}  {label}" for label, share in found]

    @cached_property
    def frozen(self) -> FrozenViews:
        """The recipe's test views."""
        return FrozenViews(self.recipe.sampling, self.recipe.transforms, self.recipe.views)

    @property
    def num_frames(self) -> int:
        """Frames of all test views of one video: num_clips * T."""
        return self.frozen.num_frames

    @property
    def needs_times(self) -> bool:
        """Whether the recipe samples on a clock, so that `indices` takes timestamps."""
        return self.recipe.sampling.fps is not None

    def indices(self, num_frames: int, timestamps_s: Sequence[float] = ()) -> np.ndarray:
        """Frame indices int64 [num_clips * T] of the recipe's test views of a video, view by view.

        Args:
            num_frames: of the video.
            timestamps_s: of its frames, in seconds; needed for a sampling on a clock.
        """
        line = timeline(num_frames, {"timestamps_s": timestamps_s}, fps=self.recipe.sampling.fps)
        return line[self.frozen.indices(len(line))]

    @torch.inference_mode()
    def probabilities(self, frames: np.ndarray) -> np.ndarray:
        """Class probabilities float32 [classes] of uint8 RGB frames [num_clips * T, H, W, 3], view
        by view.

        The views are averaged as the recipe says. Raises ValueError for frames of another shape or
        type.
        """
        if (
            frames.dtype != np.uint8
            or frames.ndim != 4
            or frames.shape[0] != self.num_frames
            or frames.shape[3] != 3
        ):
            raise ValueError(
                f"frames: found {frames.dtype} {list(frames.shape)}; allowed: uint8"
                f" [{self.num_frames}, H, W, 3]"
            )
        views, average = (
            torch.from_numpy(self.frozen.pixels(frames)).to(place_of(self.model)),
            self.recipe.views.average,
        )
        scores = view_scores(self.model, views, len(views), average)
        return probabilities(scores, average)[0].astype(np.float32)


def build(served: Served, settings: Settings | None = None) -> Recognizer:
    """The predictor of a trained model."""
    return Recognizer(served.model, served.recipe, served.vocabulary["labels"], served.provenance)
