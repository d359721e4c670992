"""Non-local blocks (Wang et al., CVPR 2018): every place of a clip looks at every other."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Conv3d, as_maps

KINDS = ("dot_product", "gaussian", "embedded_gaussian")


class NonLocalBlock(nn.Module):
    """x + norm(conv(attention)), (N, C, T, H, W) -> the same shape.

    Keys and values are pooled 2x2 in space; they have C / 2 channels. The last normalisation starts
    at zero: a fresh block changes nothing.

    Args:
        channels: C.
        kind: gaussian compares the input itself, embedded_gaussian two projections of it, both with
            a softmax; dot_product divides by the number of keys instead.
        scaled: divides the softmax's argument by the root of the projections' size.
    """

    def __init__(self, channels: int, kind: str, scaled: bool = False) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.kind = kind
        self.scale = inner**-0.5 if scaled else 1.0
        self.value = Conv3d(channels, inner, 1)
        self.query = nn.Identity() if kind == "gaussian" else Conv3d(channels, inner, 1)
        self.key = nn.Identity() if kind == "gaussian" else Conv3d(channels, inner, 1)
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.out = Conv3d(inner, channels, 1, bias=False)
        self.bn = nn.BatchNorm3d(channels)
        for conv in (self.value, self.query, self.key):
            if isinstance(conv, nn.Conv3d):
                nn.init.normal_(conv.weight, std=0.01)
                nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.query(x).flatten(2).transpose(1, 2)
        keys = self.pool(self.key(x)).flatten(2).transpose(1, 2)
        values = self.pool(self.value(x)).flatten(2).transpose(1, 2)
        if self.kind == "dot_product":
            mixed = (queries @ keys.transpose(1, 2) / keys.shape[1]) @ values
        else:
            # A softmax does not see what all keys share. Without it the products are small, and
            # exact where nothing scales them.
            keys = keys - keys.mean(1, keepdim=True)
            mixed = F.scaled_dot_product_attention(
                queries[:, None], keys[:, None], values[:, None], scale=self.scale
            )[:, 0]
        return x + self.bn(self.out(as_maps(mixed, x.shape[2:])))


class FramesNonLocal(NonLocalBlock):
    """The block on frames that are folded into the batch: (B*T, C, H, W) -> the same shape.

    Args:
        channels: C.
        kind: as in `NonLocalBlock`.
        num_segments: T.
    """

    def __init__(self, channels: int, kind: str, num_segments: int) -> None:
        super().__init__(channels, kind)
        self.num_segments = num_segments

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unflatten(0, (-1, self.num_segments)).transpose(1, 2)
        return super().forward(clips).transpose(1, 2).flatten(0, 1)
