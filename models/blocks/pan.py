"""PAN's two modules (Zhang et al., 2020): persistence of appearance, and pooling over several
timescales with learnt weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.errors import ModelInputError

FEATURES = 8
EPS = 1e-6  # added to every difference, as torch.nn.PairwiseDistance does


class PA(nn.Module):
    """How much neighbouring frames differ at their boundaries: [N*T*m, 3, H, W] -> [N*T, m-1, H,
    W], m = `n_length` frames a segment.

    Eight low-level features of every frame, and the distance of neighbours in them at every place.
    """

    def __init__(self, n_length: int) -> None:
        super().__init__()
        self.n_length = n_length
        self.shallow_conv = nn.Conv2d(3, FEATURES, 7, padding=3)
        nn.init.normal_(self.shallow_conv.weight, std=0.001)
        nn.init.zeros_(self.shallow_conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3 or x.shape[0] % self.n_length or 0 in x.shape:
            raise ModelInputError(
                f"PA: input: found {tuple(x.shape)}; expected (N * T * {self.n_length}, 3, H, W)"
            )
        maps = self.shallow_conv(x).unflatten(0, (-1, self.n_length))
        return (maps[:, :-1] - maps[:, 1:]).add_(EPS).square_().sum(2).sqrt_()


class VAP(nn.Module):
    """Features of a clip's frames, pooled at several timescales and weighed: [N*T, D] -> [N,
    num_class].

    At timescale s = 1, 2, 4, ... every s-th segment is pooled by its maximum, from each of the s
    starts; a small network on the means of all the pooled vectors decides on their weights.

    Args:
        n_segment: T, a power of 2.
        feature_dim: D.
        num_class: outputs.
        dropout_ratio: rate, of the weighed features in training.
    """

    def __init__(
        self, n_segment: int, feature_dim: int, num_class: int, dropout_ratio: float
    ) -> None:
        super().__init__()
        self.n_segment = n_segment
        vectors = n_segment - 1  # 1 + 2 + 4 + ... + n_segment / 2
        self.TES = nn.Sequential(
            nn.Linear(vectors, 4 * vectors, bias=False),
            nn.ReLU(),
            nn.Linear(4 * vectors, vectors, bias=False),
        )
        self.dropout = nn.Dropout(dropout_ratio)
        self.pred = nn.Linear(feature_dim, num_class)
        nn.init.normal_(self.pred.weight, std=0.001)
        nn.init.zeros_(self.pred.bias)

    def forward(self, x: Tensor) -> Tensor:
        if (
            x.ndim != 2
            or x.shape[1] != self.pred.in_features
            or x.shape[0] % self.n_segment
            or x.shape[0] == 0
        ):
            expected = f"(N * {self.n_segment}, {self.pred.in_features})"
            raise ModelInputError(f"VAP: input: found {tuple(x.shape)}; expected {expected}")
        frames = x.unflatten(0, (-1, self.n_segment))
        pooled, step = [], 1
        while step < self.n_segment:
            pooled.append(frames.unflatten(1, (-1, step)).amax(1))  # B, step, D
            step *= 2
        vectors = torch.cat(pooled, 1)
        weights = self.TES(vectors.mean(2)).softmax(1)
        return self.pred(self.dropout((vectors * weights[..., None]).sum(1)))
