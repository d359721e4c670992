"""C3D (Tran et al., ICCV 2015): eight 3x3x3 convolutions and three linear layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Conv3d, channels_last
from models.blocks.heads import classifier
from models.blocks.pooling import PairPool
from models.config import Checked, Count, OneOf, Rate
from models.errors import ModelInputError, require_clip, require_features

# Convolutions by the original's names, with their widths in multiples of the first one's; None is a
# pooling.
LAYERS: tuple[tuple[str, int] | None, ...] = (
    ("conv1a", 1),
    None,
    ("conv2a", 2),
    None,
    ("conv3a", 4),
    ("conv3b", 4),
    None,
    ("conv4a", 8),
    ("conv4b", 8),
    None,
    ("conv5a", 8),
    ("conv5b", 8),
    None,
)


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a C3D: it takes 16 frames of `size` x `size` pixels only. Raises ModelConfigError
    with field, found and allowed.
    """

    num_classes: Count
    width: Count = 64
    hidden: Count = 4096
    size: Annotated[int, OneOf(range(32, 513))] = 112
    dropout: Rate = 0.5
    init_std: Rate = 0.005


NUM_FRAMES = 16
TINY = Config(num_classes=5, width=8, hidden=16, size=64)
TINY_INPUT = (3, NUM_FRAMES, 64, 64)


class C3D(nn.Module):
    """(B, 3, 16, size, size) float, normalised RGB -> logits (B, classes)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        self.names: list[str] = []
        channels, side, time = 3, config.size, NUM_FRAMES
        for layer in LAYERS:
            if layer is not None:
                name, factor = layer
                conv = Conv3d(channels, factor * config.width, 3, padding=1)
                nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
                self.names.append(f"{len(layers)}.{name}")
                layers += [conv, nn.ReLU()]
                channels = factor * config.width
            elif channels == config.width:
                layers.append(PairPool((1, 2, 2)))
                side //= 2
            elif len(self.names) == 8:
                layers.append(nn.MaxPool3d(2, padding=(0, 1, 1)))
                side, time = side // 2 + 1, time // 2
            else:
                layers.append(PairPool((2, 2, 2)))
                side, time = side // 2, time // 2
        self.trunk = nn.Sequential(*layers)
        self.fc6 = classifier(channels * time * side * side, config.hidden, config.init_std)
        self.fc7 = classifier(config.hidden, config.hidden, config.init_std)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(config.hidden, config.num_classes, 0.01)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, 16, size, size) -> (B, hidden)."""
        require_clip("c3d", clip, NUM_FRAMES)
        size = self.config.size
        if tuple(clip.shape[3:]) != (size, size):
            raise ModelInputError(
                f"c3d: input: found {clip.shape[3]}x{clip.shape[4]} pixels; expected {size}x{size}"
            )
        x = F.relu_(self.fc6(self.trunk(channels_last(clip)).flatten(1)))
        return F.relu_(self.fc7(self.dropout(x)))

    def classify(self, features: Tensor) -> Tensor:
        """(B, hidden) -> logits (B, classes)."""
        require_features("c3d", features, (None, self.config.hidden), f"(B, {self.config.hidden})")
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> C3D:
    """A C3D with fresh weights."""
    return C3D(config)
