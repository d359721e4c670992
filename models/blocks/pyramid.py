"""Feature pyramid (Lin et al., CVPR 2017) from maps of a trunk that has one resolution throughout
(a plain Vision Transformer).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class PlainPyramid(nn.Module):
    """Four maps (B, in, h, w), shallow to deep -> four (B, out, ., .) at 4, 2, 1 and 1/2 times h
    and w, which are even.

    The maps stand for levels 2 to 5: each is resized to its level (nearest), projected, and added
    to the doubled level above. A 1x1 convolution commutes with nearest resizing, so the projections
    run at the trunk's resolution.
    """

    def __init__(self, in_channels: int, out_channels: int = 256) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(in_channels, out_channels, 1) for _ in range(4))
        self.outputs = nn.ModuleList(
            nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in range(4)
        )
        for conv in (*self.laterals, *self.outputs):
            nn.init.kaiming_uniform_(conv.weight, a=1)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        two, three, four, five = (
            lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)
        )
        five = five[..., ::2, ::2]
        four = four + _double(five)
        three = _double(three + four)
        two = _double(_double(two) + three)
        return [output(x) for output, x in zip(self.outputs, (two, three, four, five), strict=True)]
