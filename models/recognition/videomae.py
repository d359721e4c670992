"""Vision Transformer on tubes of patches, as VideoMAE (Tong et al., NeurIPS 2022) and V2 (Wang et
al., CVPR 2023) fine-tune it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from models.blocks.conv import Conv3d, channels_last
from models.blocks.heads import classifier
from models.blocks.vit import Block, drop_rates, init_linear, sine_positions
from models.config import Checked, Count, MultipleOf, Rate
from models.errors import ModelInputError, require_clip, require_features

TUBELET = 2


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a VideoMAE model, for clips of `num_frames` frames of `size` x `size` pixels.
    Raises ModelConfigError.
    """

    num_classes: Count
    width: Annotated[int, MultipleOf("heads")] = 768
    depth: Count = 12
    heads: Count = 12
    num_frames: Annotated[int, MultipleOf(TUBELET, 1024)] = 16
    size: Annotated[int, MultipleOf("patch", 4096)] = 224
    patch: Count = 16
    drop_path: Rate = 0.0
    dropout: Rate = 0.0
    init_std: Rate = 0.02


TINY = Config(num_classes=5, width=16, depth=2, heads=2, num_frames=4, size=32)
TINY_INPUT = (3, 4, 32, 32)


class VideoMAE(nn.Module):
    """(B, 3, num_frames, size, size) float, normalised RGB -> logits (B, classes). The mean of all
    tokens is classified.
    """

    positions: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch
        places = config.num_frames // TUBELET * (config.size // patch) ** 2
        self.register_buffer("positions", sine_positions(places, width))
        self.embed = Conv3d(3, width, (TUBELET, patch, patch), (TUBELET, patch, patch))
        rates = drop_rates(config.drop_path, config.depth)
        self.blocks = nn.Sequential(
            *(Block(width, config.heads, "qv", drop_path=rate) for rate in rates)
        )
        self.norm = nn.LayerNorm(width, 1e-6)
        init_linear(self, config.init_std)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(width, config.num_classes, 0.02)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, num_frames, size, size) -> (B, width). Features of several views may be
        averaged.
        """
        require_clip("videomae", clip, self.config.num_frames)
        size = self.config.size
        if tuple(clip.shape[3:]) != (size, size):
            raise ModelInputError(
                f"videomae: input: found {clip.shape[3]}x{clip.shape[4]} pixels; expected"
                f" {size}x{size}"
            )
        tokens = self.embed(channels_last(clip)).flatten(2).transpose(1, 2) + self.positions
        return self.norm(self.blocks(tokens).mean(1))

    def classify(self, features: Tensor) -> Tensor:
        """(B, width) -> logits (B, classes)."""
        require_features(
            "videomae", features, (None, self.config.width), f"(B, {self.config.width})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> VideoMAE:
    """A VideoMAE model with fresh weights."""
    return VideoMAE(config)
