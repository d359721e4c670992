"""Temporal Shift Module (Lin et al., ICCV 2019): a ResNet whose blocks see part of the channels one
frame early or late.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from models.blocks.heads import FrameClassifier
from models.blocks.mobilenetv2 import MobileNetV2
from models.blocks.mobileone import MobileOne
from models.blocks.nonlocal_block import KINDS, FramesNonLocal
from models.blocks.resnet2d import BLOCKS, STEMS, Place, ResNet2d, Slots
from models.blocks.temporal import TemporalShift
from models.config import AtLeast, Checked, Count, OneOf, Rate

TRUNKS = ("resnet", "mobilenetv2", "mobileone_s4", "mobileone_s4_merged")
NONLOCAL_BLOCKS = {2: (0, 2), 3: (0, 2, 4)}  # stage -> blocks


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a TSM; depth, width, stem and non-local blocks are those of a ResNet.

    `shift_segments` is how many frames a shift joins where that is not all of them (the published
    MobileOne model shifts within each half of its 16). Raises ModelConfigError with field, found
    and allowed.
    """

    num_classes: Count
    num_segments: Count = 8
    shift_segments: int | None = None
    trunk: Annotated[str, OneOf(TRUNKS)] = "resnet"
    nonlocal_kind: str | None = None
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    stem: Annotated[str, OneOf(STEMS)] = "pool"
    shift_div: Annotated[int, AtLeast(2)] = 8
    dropout: Rate = 0.5
    init_std: Rate = 0.001

    def agree(self) -> None:
        self.one_of(
            "shift_segments",
            (
                None,
                *(
                    count
                    for count in range(1, self.num_segments + 1)
                    if self.num_segments % count == 0
                ),
            ),
        )
        self.one_of("nonlocal_kind", (None, *KINDS) if self.trunk == "resnet" else (None,))


TINY = Config(num_classes=5, num_segments=4, depth=10, width=8)


class TSM(FrameClassifier):
    """(B, 3, num_segments, H, W) float, normalised RGB -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        trunk = _trunk(config)
        super().__init__(
            "tsm",
            trunk,
            trunk.out_channels,
            config.num_segments,
            config.num_classes,
            config.dropout,
            config.init_std,
        )
        self.config = config


def _trunk(config: Config) -> ResNet2d | MobileNetV2 | MobileOne:
    """The image network with shifts: (B*T, 3, H, W) -> (B*T, out_channels, h, w)."""

    def shift(*_: object) -> nn.Module:
        return TemporalShift(config.shift_segments or config.num_segments, config.shift_div)

    if config.trunk == "mobilenetv2":
        return MobileNetV2(shift)
    if config.trunk != "resnet":
        return MobileOne(merged=config.trunk.endswith("merged"), temporal=shift)
    # Very deep trunks (23 blocks and more in stage 3) shift in every second block of every stage.
    every = 2 if BLOCKS[config.depth][2] >= 23 else 1

    def some(place: Place) -> nn.Module:
        return nn.Identity() if place.index % every else shift()

    def after(place: Place) -> nn.Module:
        if config.nonlocal_kind is None or place.index not in NONLOCAL_BLOCKS.get(place.stage, ()):
            return nn.Identity()
        return FramesNonLocal(place.out_channels, config.nonlocal_kind, config.num_segments)

    return ResNet2d(
        config.depth, config.width, Slots(stem=STEMS[config.stem], temporal=some, after=after)
    )


def build(config: Config) -> TSM:
    """A TSM with fresh weights."""
    return TSM(config)
