"""Video Swin Transformer (Liu et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from models.blocks.conv import Conv3d, channels_last
from models.blocks.heads import classifier
from models.blocks.swin import Swin
from models.config import Checked, Count, Counts, Rate
from models.errors import require_clip, require_features

PATCH = (2, 4, 4)


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a Video Swin: channels of the first stage, blocks and heads of all. Raises
    ModelConfigError.
    """

    num_classes: Count
    width: Count = 96
    depths: Annotated[tuple[int, ...], Counts()] = (2, 2, 6, 2)
    heads: Annotated[tuple[int, ...], Counts()] = (3, 6, 12, 24)
    window: Annotated[tuple[int, ...], Counts(3)] = (8, 7, 7)
    drop_path: Rate = 0.1
    dropout: Rate = 0.5
    init_std: Rate = 0.02

    def agree(self) -> None:
        if len(self.heads) != len(self.depths):
            self.refuse("heads", f"{len(self.depths)} positive integers")
        if any(self.width * 2**stage % heads for stage, heads in enumerate(self.heads)):
            self.refuse("heads", "divisors of the channels of their stages")


TINY = Config(num_classes=5, width=8, depths=(2, 2), heads=(1, 2), window=(2, 3, 3))
TINY_INPUT = (3, 4, 32, 28)


class VideoSwin(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB, T even, sides multiples of 4 -> logits (B,
    classes).
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        window = (config.window[0], config.window[1], config.window[2])
        shift = (window[0] // 2, window[1] // 2, window[2] // 2)
        self.embed, self.embed_norm = (
            Conv3d(3, config.width, PATCH, PATCH),
            nn.LayerNorm(config.width),
        )
        self.swin = Swin(
            config.width,
            tuple(config.depths),
            tuple(config.heads),
            window,
            shift,
            config.drop_path,
            config.init_std,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.fc = classifier(self.swin.out_channels, config.num_classes, 0.01)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): mean over all places. Features of several views may be
        averaged.
        """
        require_clip("videoswin", clip)
        room = [-size % step for size, step in zip(clip.shape[2:], PATCH, strict=True)]
        if any(room):
            clip = nn.functional.pad(clip, (0, room[2], 0, room[1], 0, room[0]))
        return self.swin(
            self.embed_norm(self.embed(channels_last(clip)).permute(0, 2, 3, 4, 1))
        ).mean((1, 2, 3))

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        require_features(
            "videoswin", features, (None, self.fc.in_features), f"(B, {self.fc.in_features})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


def build(config: Config) -> VideoSwin:
    """A Video Swin with fresh weights."""
    return VideoSwin(config)
