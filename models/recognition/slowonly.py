"""SlowOnly: the slow pathway of SlowFast by itself (Feichtenhofer et al., ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from models.blocks.heads import PooledClassifier
from models.blocks.nonlocal_block import KINDS, NonLocalBlock
from models.blocks.resnet2d import BLOCKS
from models.blocks.resnet3d import Place3d, ResNet3d, Slots3d, zero_init_residuals
from models.config import Checked, Count, OneOf, Rate

NONLOCAL_BLOCKS = {2: (0, 2), 3: (0, 2, 4)}  # stage -> blocks


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a SlowOnly. Raises ModelConfigError with field, found and allowed."""

    num_classes: Count
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    nonlocal_kind: Annotated[str | None, OneOf((None, *KINDS))] = None
    dropout: Rate = 0.5


TINY = Config(num_classes=5, depth=10, width=8)


class SlowOnly(PooledClassifier):
    """(B, 3, T, H, W) float, normalised RGB, any T -> logits (B, classes). Time is reached by the
    last two stages and never reduced.
    """

    def __init__(self, config: Config) -> None:
        def after(place: Place3d) -> nn.Module:
            if config.nonlocal_kind is None or place.index not in NONLOCAL_BLOCKS.get(
                place.stage, ()
            ):
                return nn.Identity()
            return NonLocalBlock(4 * place.channels, config.nonlocal_kind, scaled=True)

        trunk = ResNet3d(
            config.depth,
            config.width,
            inflate=(False, False, True, True),
            slots=Slots3d(after=after),
        )
        zero_init_residuals(trunk)
        super().__init__("slowonly", trunk, trunk.out_channels, config.num_classes, config.dropout)
        self.config = config


def build(config: Config) -> SlowOnly:
    """A SlowOnly with fresh weights."""
    return SlowOnly(config)
