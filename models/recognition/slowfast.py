"""SlowFast (Feichtenhofer et al., ICCV 2019): few frames in many channels beside many frames in
few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from models.blocks.conv import Conv3d, ConvNorm3d
from models.blocks.heads import classifier
from models.blocks.resnet2d import BLOCKS
from models.blocks.resnet3d import Bottleneck3d, ResNet3d, Stem3d, zero_init_residuals
from models.config import Checked, Count, OneOf, Rate
from models.errors import ModelInputError, require_clip, require_features


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a SlowFast. Raises ModelConfigError with field, found and allowed.

    Attributes:
        tau: stride of the slow pathway's frames.
        alpha: how many times more of them the fast pathway has.
    """

    num_classes: Count
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    fast_depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    fast_width: Count = 8
    tau: Count = 8
    alpha: int = 8
    fusion_kernel: Annotated[int, OneOf((1, 3, 5, 7, 9))] = 5
    fusion_norm: bool = False
    dropout: Rate = 0.5

    def agree(self) -> None:
        self.one_of("alpha", [one for one in range(1, self.tau + 1) if self.tau % one == 0])


TINY = Config(num_classes=5, depth=10, fast_depth=10, width=8, fast_width=4, tau=4, alpha=4)
TINY_INPUT = (3, 8, 64, 48)


class SlowFast(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB, T a multiple of tau -> logits (B, classes).

    The slow pathway sees every tau-th frame, the fast one every (tau / alpha)-th. Before each stage
    the fast pathway's maps, brought to the slow one's rate by a convolution along time, are put
    behind the slow pathway's channels.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.fast = zero_init_residuals(
            ResNet3d(config.fast_depth, config.fast_width, Stem3d(kernel=5))
        )
        expansion = Bottleneck3d.expansion if config.fast_depth >= 50 else 1
        sizes = [config.fast_width] + [
            config.fast_width * 2**stage * expansion for stage in range(3)
        ]
        lateral = [2 * size for size in sizes]
        self.slow = zero_init_residuals(
            ResNet3d(
                config.depth, config.width, inflate=(False, False, True, True), lateral=lateral
            )
        )
        self.lateral = nn.ModuleList(_lateral(size, config) for size in sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(
            self.slow.out_channels + self.fast.out_channels, config.num_classes, 0.01
        )

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): means of the fast maps, then of the slow ones."""
        require_clip("slowfast", clip)
        tau = self.config.tau
        if clip.shape[2] % tau:
            raise ModelInputError(
                f"slowfast: input: found {clip.shape[2]} frames; expected a multiple of {tau}"
            )
        slow, fast = (
            self.slow.enter(clip[:, :, ::tau]),
            self.fast.enter(clip[:, :, :: tau // self.config.alpha]),
        )
        for index in range(4):
            slow = torch.cat([slow, self.lateral[index](fast)], 1)
            slow = getattr(self.slow, f"layer{index + 1}")(slow)
            fast = getattr(self.fast, f"layer{index + 1}")(fast)
        return torch.cat([fast.mean((2, 3, 4)), slow.mean((2, 3, 4))], 1)

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        require_features(
            "slowfast", features, (None, self.fc.in_features), f"(B, {self.fc.in_features})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def _lateral(channels: int, config: Config) -> nn.Module:
    kernel, stride = (config.fusion_kernel, 1, 1), (config.alpha, 1, 1)
    if config.fusion_norm:
        return ConvNorm3d(channels, 2 * channels, kernel, stride)
    conv = Conv3d(
        channels, 2 * channels, kernel, stride, (config.fusion_kernel // 2, 0, 0), bias=False
    )
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def build(config: Config) -> SlowFast:
    """A SlowFast with fresh weights."""
    return SlowFast(config)
