"""Temporal Segment Networks (Wang et al., ECCV 2016): an image network on sparse frames, averaged
before the classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from models.blocks.conv import fold_frames
from models.blocks.densenet import DenseNet
from models.blocks.mobileone import MobileOne
from models.blocks.resnet2d import BLOCKS, STEMS, ResNet2d, Slots
from models.blocks.resnext import resnext
from models.blocks.swin import SwinFrames
from models.config import Checked, Count, OneOf, Rate
from models.errors import require_clip, require_features

Trunk = ResNet2d | DenseNet | SwinFrames | MobileOne
TRUNKS: dict[str, Callable[[Config], Trunk]] = {
    "resnet": lambda config: ResNet2d(config.depth, config.width, Slots(stem=STEMS[config.stem])),
    "resnext": lambda config: resnext(config.depth, config.width),
    "densenet161": lambda config: DenseNet(),
    "swin_base": lambda config: SwinFrames(),
    "mobileone_s4": lambda config: MobileOne(),
    "mobileone_s4_merged": lambda config: MobileOne(merged=True),
}
"""Networks on single frames: (N, 3, H, W) -> (N, out_channels, h, w)."""


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a TSN; depth, width and stem are those of a ResNet. Raises ModelConfigError with
    field, found and allowed.
    """

    num_classes: Count
    trunk: Annotated[str, OneOf(TRUNKS)] = "resnet"
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    stem: Annotated[str, OneOf(STEMS)] = "pool"
    dropout: Rate = 0.4
    init_std: Rate = 0.01


TINY = Config(num_classes=5, depth=10, width=8)


class TSN(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB, any T -> logits (B, classes).

    T counts all frames of a video that are averaged: segments, and at test time crops as well.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.trunk = TRUNKS[config.trunk](config)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(self.trunk.out_channels, config.num_classes)
        nn.init.normal_(self.fc.weight, std=config.init_std)
        nn.init.zeros_(self.fc.bias)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): mean over places and frames. Features of several views may be
        averaged.
        """
        require_clip("tsn", clip)
        maps = self.trunk(fold_frames(clip))
        return maps.mean((2, 3)).unflatten(0, (clip.shape[0], clip.shape[2])).mean(1)

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        require_features(
            "tsn", features, (None, self.fc.in_features), f"(B, {self.fc.in_features})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> TSN:
    """A TSN with fresh weights."""
    return TSN(config)
