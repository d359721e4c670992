"""PAN (Zhang et al., 2020): a TSM trunk that sees persistence of appearance beside, or in place of,
the frames, and VAP on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from models.blocks.conv import channels_last, fold_frames
from models.blocks.pan import PA, VAP
from models.blocks.resnet2d import BLOCKS, Place, ResNet2d, Slots
from models.blocks.temporal import TemporalShift
from models.config import AtLeast, Checked, Count, OneOf, Rate
from models.errors import require_clip

BRANCHES = ("rgb", "pa", "lite")
FUSIONS = {"full": ("rgb", "pa"), "en": ("lite", "rgb", "pa")}
"""Published fusions: the mean of the branches' scores."""


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a PAN. `modality` is one branch (rgb, pa, or lite: the first frame and the maps
    together) or a fusion of branches.

    A clip has `num_segments` segments of `data_length` consecutive frames each; the rgb branch
    alone has segments of one frame. Raises ModelConfigError with field, found and allowed.
    """

    num_classes: Count
    modality: Annotated[str, OneOf((*BRANCHES, *FUSIONS))] = "lite"
    num_segments: Annotated[int, OneOf((2, 4, 8, 16, 32))] = 8
    data_length: Annotated[int, OneOf(range(2, 65))] = 4
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    shift_div: Annotated[int, AtLeast(2)] = 8
    dropout: Rate = 0.5

    def agree(self) -> None:
        if self.modality in ("pa", "full", "en"):  # the maps take the place of three colours
            self.one_of("data_length", (4,))

    @property
    def frames_per_segment(self) -> int:
        """Frames of one segment in the model's input."""
        return 1 if self.modality == "rgb" else self.data_length


TINY = Config(num_classes=5, num_segments=4, depth=10, width=8)
TINY_INPUT = (3, 16, 64, 48)


class Branch(nn.Module):
    """One modality: (B * T, m, 3, H, W) frames of segments -> scores (B, classes)."""

    def __init__(self, config: Config, modality: str) -> None:
        super().__init__()
        self.modality = modality
        self.PA = PA(config.data_length) if modality != "rgb" else None
        every = 2 if BLOCKS[config.depth][2] >= 23 else 1

        def shift(place: Place) -> nn.Module:
            return (
                nn.Identity()
                if place.index % every
                else TemporalShift(config.num_segments, config.shift_div)
            )

        channels = 3 + config.data_length - 1 if modality == "lite" else 3
        self.trunk = ResNet2d(
            config.depth, config.width, Slots(temporal=shift), in_channels=channels
        )
        self.vap = VAP(
            config.num_segments, self.trunk.out_channels, config.num_classes, config.dropout
        )

    def features(self, segments: Tensor) -> Tensor:
        """(B * T, m, 3, H, W) -> (B * T, D): mean over places."""
        first = segments[:, 0]
        if self.PA is None:
            return self.trunk(channels_last(first)).mean((2, 3))
        maps = self.PA(segments.flatten(0, 1))
        return self.trunk(
            channels_last(torch.cat([first, maps], 1) if self.modality == "lite" else maps)
        ).mean((2, 3))


class PAN(nn.Module):
    """(B, 3, T * m, H, W) float, normalised RGB, segment by segment -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        names = FUSIONS.get(config.modality, (config.modality,))
        self.branches = nn.ModuleDict({name: Branch(config, name) for name in names})

    def _branch(self, name: str) -> Branch:
        branch = self.branches[name]
        assert isinstance(branch, Branch)
        return branch

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T * m, H, W) -> (B, branches, T, D): mean over places, one feature a segment."""
        config = self.config
        length = config.frames_per_segment
        require_clip("pan", clip, config.num_segments * length)
        segments = fold_frames(clip).unflatten(0, (-1, length))
        return torch.stack(
            [
                self._branch(name).features(segments).unflatten(0, (clip.shape[0], -1))
                for name in self.branches
            ],
            1,
        )

    def classify(self, features: Tensor) -> Tensor:
        """(B, branches, T, D) -> logits (B, classes): the mean of the branches' scores."""
        scores = [
            self._branch(name).vap(features[:, index].flatten(0, 1))
            for index, name in enumerate(self.branches)
        ]
        return torch.stack(scores).mean(0)

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> PAN:
    """A PAN with fresh weights."""
    return PAN(config)
