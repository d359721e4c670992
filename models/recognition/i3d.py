"""Inflated 3D ResNet (Carreira and Zisserman, CVPR 2017; with non-local blocks, Wang et al., CVPR
2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from models.blocks.heads import PooledClassifier
from models.blocks.nonlocal_block import KINDS, NonLocalBlock
from models.blocks.pooling import PairPool
from models.blocks.resnet2d import BLOCKS
from models.blocks.resnet3d import Place3d, ResNet3d, Slots3d, Stem3d
from models.config import Checked, Count, OneOf, Rate

# Every second block reaches along time; the heavy variant inflates all and keeps the frame rate in
# the stem.
EVERY_SECOND = ((1, 1, 1), (1, 0, 1, 0), (1, 0, 1, 0, 1, 0), (0, 1, 0))
NONLOCAL_BLOCKS = {2: (1, 3), 3: (1, 3, 5)}  # stage -> blocks


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of an I3D. Raises ModelConfigError with field, found and allowed."""

    num_classes: Count
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    heavy: bool = False
    nonlocal_kind: Annotated[str | None, OneOf((None, *KINDS))] = None
    dropout: Rate = 0.5


TINY = Config(num_classes=5, depth=10, width=8)


class I3D(PooledClassifier):
    """(B, 3, T, H, W) float, normalised RGB -> logits (B, classes). Made for T = 32; any T that is
    not below 8 works.
    """

    def __init__(self, config: Config) -> None:
        def after(place: Place3d) -> nn.Module:
            if config.nonlocal_kind is None or place.index not in NONLOCAL_BLOCKS.get(
                place.stage, ()
            ):
                return nn.Identity()
            return NonLocalBlock(4 * place.channels, config.nonlocal_kind)

        steps = 1 if config.heavy else 2
        trunk = ResNet3d(
            config.depth,
            config.width,
            Stem3d(5, steps, steps),
            (True,) * 4 if config.heavy or config.depth != 50 else EVERY_SECOND,
            slots=Slots3d(after=after, second_pool=lambda: PairPool((2, 1, 1))),
        )
        super().__init__("i3d", trunk, trunk.out_channels, config.num_classes, config.dropout)
        self.config = config


def build(config: Config) -> I3D:
    """An I3D with fresh weights."""
    return I3D(config)
