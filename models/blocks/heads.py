"""What turns a trunk's maps into scores."""

from __future__ import annotations

from torch import Tensor, nn

from models.blocks.conv import fold_frames
from models.errors import require_clip, require_features


def classifier(in_features: int, num_classes: int, init_std: float) -> nn.Linear:
    """A linear layer.

    Args:
        in_features: D.
        num_classes: outputs.
        init_std: of its normal weights; biases are zero.
    """
    fc = nn.Linear(in_features, num_classes)
    nn.init.normal_(fc.weight, std=init_std)
    nn.init.zeros_(fc.bias)
    return fc


class PooledClassifier(nn.Module):
    """A trunk, the mean over all places, dropout and one linear layer. (B, 3, T, H, W) -> (B,
    classes).

    Args:
        name: the family's, for messages.
        trunk: (B, 3, T, H, W) -> (B, D, t, h, w).
        channels: D.
        num_classes: of the classifier.
        dropout: rate, of features in training.
        init_std: of the classifier's normal weights.
        num_frames: T where only one fits; None takes any.
    """

    def __init__(
        self,
        name: str,
        trunk: nn.Module,
        channels: int,
        num_classes: int,
        dropout: float,
        init_std: float = 0.01,
        num_frames: int | None = None,
    ) -> None:
        super().__init__()
        self.name, self.num_frames = name, num_frames
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.fc = classifier(channels, num_classes, init_std)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, D). Features of several views may be averaged."""
        require_clip(self.name, clip, self.num_frames)
        return self.trunk(clip).mean((2, 3, 4))

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> logits (B, classes)."""
        require_features(
            self.name, features, (None, self.fc.in_features), f"(B, {self.fc.in_features})"
        )
        return self.fc(self.dropout(features))

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))


class FrameClassifier(nn.Module):
    """An image trunk on each frame, the mean over places, and the mean of the frames' scores. (B,
    3, T, H, W) -> (B, classes).

    Args:
        name: the family's, for messages.
        trunk: (B * T, 3, H, W) -> (B * T, D, h, w).
        channels: D.
        num_segments: T, the only one that fits.
        num_classes: of the classifier.
        dropout: rate, of features in training.
        init_std: of the classifier's normal weights.
    """

    def __init__(
        self,
        name: str,
        trunk: nn.Module,
        channels: int,
        num_segments: int,
        num_classes: int,
        dropout: float,
        init_std: float,
    ) -> None:
        super().__init__()
        self.name, self.num_segments = name, num_segments
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.fc = classifier(channels, num_classes, init_std)

    def features(self, clip: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T, D): mean over places, one feature a frame."""
        require_clip(self.name, clip, self.num_segments)
        return (
            self.trunk(fold_frames(clip)).mean((2, 3)).unflatten(0, (clip.shape[0], clip.shape[2]))
        )

    def classify(self, features: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, classes): scores of each frame, averaged."""
        size = self.fc.in_features
        require_features(
            self.name,
            features,
            (None, self.num_segments, size),
            f"(B, {self.num_segments}, {size})",
        )
        return self.fc(self.dropout(features)).mean(1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.classify(self.features(clip))
