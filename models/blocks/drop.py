"""Stochastic depth (Huang et al., ECCV 2016)."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """Drops a branch for whole samples in training and scales the others, so that the mean stays.
    Any shape with the batch first.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.rate)
        return x * keep / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"
