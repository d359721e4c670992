"""OmniSource (Duan et al., ECCV 2020): a SlowOnly trunk with a two-layer head, trained on videos
and web images together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.resnet2d import BLOCKS
from models.blocks.resnet3d import ResNet3d, zero_init_residuals
from models.config import Checked, Count, OneOf, Rate
from models.errors import require_clip, require_features


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of an OmniSource model; `image_classes` are those of the branch for images. Raises
    ModelConfigError.
    """

    num_classes: Count
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    image_classes: Count = 1000
    dropout: Rate = 0.5


TINY = Config(num_classes=5, depth=10, width=8, image_classes=3)


class OmniSource(nn.Module):
    """(B, 3, T, H, W) float, normalised RGB, any T -> logits (B, classes); images go through
    `forward_images`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.trunk = zero_init_residuals(
            ResNet3d(config.depth, config.width, inflate=(False, False, True, True))
        )
        for module in self.trunk.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = 0.01
        channels, hidden = self.trunk.out_channels, 2 * config.num_classes
        self.image_norm, self.image_fc = (
            nn.BatchNorm1d(channels),
            nn.Linear(channels, config.image_classes),
        )
        self.fc1, self.norm, self.fc = (
            nn.Linear(channels, hidden),
            nn.BatchNorm1d(hidden),
            nn.Linear(hidden, config.num_classes),
        )
        self.dropout = nn.Dropout(config.dropout)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D): mean over all places."""
        require_clip("omnisource", clip)
        return self.trunk(clip).mean((2, 3, 4))

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        size = self.trunk.out_channels
        require_features("omnisource", features, (None, size), f"(B, {size})")
        return self.fc(self.dropout(F.relu_(self.norm(self.fc1(features)))))

    def forward_images(self, images: Tensor) -> Tensor:
        """(B, 3, 1, H, W) -> logits (B, image_classes): the branch that the web images train."""
        return self._classify_images(self.features(images))

    def _classify_images(self, features: Tensor) -> Tensor:
        return self.image_fc(self.dropout(self.image_norm(features)))

    def forward(
        self, clip: Tensor, every_head: bool = False, images: Tensor | None = None
    ) -> Tensor | list[tuple[Tensor, float]]:
        """Scores of a clip.

        Args:
            clip: (B, 3, T, H, W) float, normalised RGB.
            every_head: gives a list of (logits, weight of their loss): those of videos, then those
                of images.
            images: (B, 3, 1, H, W) of their own: the list is given too, its second logits are
                theirs, and their loss counts. None takes the clip's frames, whose loss does not.

        Returns:
            Logits (B, classes), or that list.

        Raises:
            ModelInputError: a clip or images of other shapes.
        """
        features = self.features(clip)
        logits = self.classify(features)
        if images is not None:
            return [(logits, 1.0), (self.forward_images(images), 1.0)]
        return [(logits, 1.0), (self._classify_images(features), 0.0)] if every_head else logits


def build(config: Config) -> OmniSource:
    """An OmniSource model with fresh weights."""
    return OmniSource(config)
