"""The frozen views of a recipe: the same frames and pixels of a clip whenever it is validated,
tested, served or scored again.
"""

from __future__ import annotations

import numpy as np

from configs.schema import ConfigError, Sampling, Transforms, Views
from ops.data.samplers import fixed_indices, num_fixed
from ops.data.transforms import check, fixed_views


class FrozenViews:
    """Frames and pixels of a recipe's test views: `num_clips` views in time, times the crops of
    each.

    All views in time of the first crop come first, as in the originals. Raises ConfigError for
    settings that contradict each other.
    """

    def __init__(self, sampling: Sampling, transforms: Transforms, views: Views) -> None:
        if views.num_segments is not None and sampling.kind not in (
            "segments",
            "dense_sample",
            "pan",
        ):
            raise ConfigError(
                "recipe",
                "views.num_segments",
                views.num_segments,
                f"null with sampling.kind '{sampling.kind}'",
            )
        self.views = views
        self.sampling = sampling.model_copy(
            update={"num_segments": views.num_segments or sampling.num_segments}
        )
        sizes = {
            "short_side": views.short_side or transforms.short_side,
            "crop": views.crop or transforms.crop,
        }
        self.transforms = transforms.model_copy(update={**sizes, "short_side_range": None})
        self.num_clips = num_fixed(self.sampling, views.num_clips, views.twice)
        if not views.full:
            check(self.transforms)
        elif views.num_crops != 1:
            raise ConfigError("recipe", "views.num_crops", views.num_crops, "1 with views.full")

    @property
    def num_frames(self) -> int:
        """Frames of all views in time of one clip: num_clips * T."""
        return self.num_clips * self.sampling.num_frames

    def indices(self, num_frames: int) -> np.ndarray:
        """Frame indices int64 [num_clips * T] in a clip of `num_frames` frames, view by view."""
        return fixed_indices(
            self.sampling, num_frames, self.views.num_clips, self.views.twice
        ).reshape(-1)

    def pixels(self, frames: np.ndarray) -> np.ndarray:
        """Views float32 [num_crops * num_clips, 3, T, S, S] of the frames uint8 [num_clips * T, H,
        W, 3] at `indices`.
        """
        return fixed_views(
            frames, self.transforms, self.views.num_crops, self.views.full, self.num_clips
        )

    def __len__(self) -> int:
        """Views of a clip: num_crops * num_clips."""
        return self.views.num_crops * self.num_clips
