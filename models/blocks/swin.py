"""Swin Transformer (Liu et al., ICCV 2021; over clips: CVPR 2022): attention in windows that every
other block shifts.

Maps are (B, T, H, W, C). Images are clips of one frame, with windows of one frame.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv import Triple
from models.blocks.drop import DropPath


def fitted(size: Triple, window: Triple, shift: Triple) -> tuple[Triple, Triple]:
    """Window and shift for maps of this size: no window is larger than the maps, and along an axis
    that it fills there is no shift.

    Args:
        size: T, H, W of the maps.
        window: places along each.
        shift: places along each.

    >>> fitted((1, 7, 14), (8, 7, 7), (4, 3, 3))
    ((1, 7, 7), (0, 0, 3))
    """
    fills = [length <= reach for length, reach in zip(size, window, strict=True)]
    windows = [
        length if full else reach for length, reach, full in zip(size, window, fills, strict=True)
    ]
    shifts = [0 if full else step for step, full in zip(shift, fills, strict=True)]
    return (windows[0], windows[1], windows[2]), (shifts[0], shifts[1], shifts[2])


def windowed(x: Tensor, window: Triple) -> Tensor:
    """Maps cut into windows, a view.

    Args:
        x: (B, T, H, W, C), the sizes multiples of the window's.
        window: places along T, H and W.

    Returns:
        (B, windows along T, H and W, places along T, H and W, C).
    """
    x = x.unflatten(3, (-1, window[2])).unflatten(2, (-1, window[1])).unflatten(1, (-1, window[0]))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7)


def torn_parts(
    size: Triple, window: Triple, shift: Triple
) -> list[tuple[tuple[slice, ...], np.ndarray | None]]:
    """The parts of shifted maps whose windows are alike. Along an axis the shift tears the last
    window and no other.

    Args:
        size: T, H, W of the maps, multiples of the window's.
        window: places along each.
        shift: places along each.

    Returns:
        Of each part its index into (B, T, H, W), and bool (places, places) whether the shift alone
        has brought two places of a window together; None where that is so for none.
    """
    axes: list[list[tuple[slice, np.ndarray]]] = []
    for length, reach, step in zip(size, window, shift, strict=True):
        side = np.arange(reach) >= reach - step
        parts = [
            (slice(0, length - reach), np.zeros(reach, bool)),
            (slice(length - reach, length), side),
        ]
        axes.append(parts if step else [(slice(0, length), np.zeros(reach, bool))])
    found: list[tuple[tuple[slice, ...], np.ndarray | None]] = []
    for along in itertools.product(*axes):
        sides = [side.ravel() for side in np.meshgrid(*(side for _, side in along), indexing="ij")]
        apart = np.any([side[:, None] != side for side in sides], axis=0)
        found.append(((slice(None), *(part for part, _ in along)), apart if apart.any() else None))
    return found


def relative_index(window: Triple) -> Tensor:
    """Int64 (places, places): where the distance of two places of a window stands in the bias
    table.
    """
    axes = torch.meshgrid(*(torch.arange(length) for length in window), indexing="ij")
    places = torch.stack(axes).flatten(1)
    distance = (places[:, :, None] - places[:, None, :]).permute(1, 2, 0).contiguous()
    sizes = [2 * length - 1 for length in window]
    for axis, length in enumerate(window):
        distance[..., axis] += length - 1
    return distance[..., 0] * sizes[1] * sizes[2] + distance[..., 1] * sizes[2] + distance[..., 2]


class WindowAttention(nn.Module):
    """Attention among the places of a window with a learnt bias for each distance. (windows,
    places, C) -> the same shape.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, window: Triple, heads: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        table = (2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table, heads))
        self.register_buffer("relative_position_index", relative_index(window))
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def bias(self, places: int) -> Tensor:
        """What is added to the attention of two places: (heads, places, places)."""
        index = self.relative_position_index[:places, :places].reshape(-1)
        return (
            self.relative_position_bias_table[index]
            .view(places, places, self.heads)
            .permute(2, 0, 1)
            .contiguous()
        )

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attention within each window.

        Args:
            x: (windows, places, C).
            bias: (heads, places, places), that of all these windows.
        """
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        return self.proj(out.transpose(1, 2).flatten(2))


class SwinBlock(nn.Module):
    """Window attention and a two-layer network, each on normalised input and added to it. (B, T, H,
    W, C) -> the same shape.

    Args:
        channels: C.
        heads: of the attention.
        window: places along T, H and W.
        shift: places along each by which the windows are shifted.
        drop_path: rate at which a branch is dropped in training.
    """

    def __init__(
        self, channels: int, heads: int, window: Triple, shift: Triple, drop_path: float
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1, self.attn = nn.LayerNorm(channels), WindowAttention(channels, window, heads)
        self.norm2 = nn.LayerNorm(channels)
        self.fc1, self.fc2 = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.fc2(F.gelu(self.fc1(self.norm2(x)))))

    def _attend(self, x: Tensor) -> Tensor:
        size: Triple = (x.shape[1], x.shape[2], x.shape[3])
        window, shift = fitted(size, self.window, self.shift)
        room = [-length % reach for length, reach in zip(size, window, strict=True)]
        if any(room):
            x = F.pad(x, (0, 0, 0, room[2], 0, room[1], 0, room[0]))
        padded: Triple = (size[0] + room[0], size[1] + room[1], size[2] + room[2])
        if any(shift):
            x = torch.roll(x, [-step for step in shift], (1, 2, 3))
        bias, attended = self.attn.bias(window[0] * window[1] * window[2]), []
        for part, apart in torn_parts(padded, window, shift):
            windows = windowed(x[part], window)
            here = bias if apart is None else bias - 100 * torch.from_numpy(apart).to(bias)
            attended.append(
                (part, self.attn(windows.flatten(4, 6).flatten(0, 3), here).view_as(windows))
            )
        out = attended[0][1].new_empty(x.shape)
        for part, windows in attended:
            windowed(out[part], window).copy_(windows)
        if any(shift):
            out = torch.roll(out, shift, (1, 2, 3))
        return out[:, : size[0], : size[1], : size[2]] if any(room) else out


class PatchMerging(nn.Module):
    """2 x 2 places of a frame as one. (B, T, H, W, C) -> (B, T, H / 2, W / 2, 2C), odd sizes
    padded.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.reduction = (
            nn.LayerNorm(4 * channels),
            nn.Linear(4 * channels, 2 * channels, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:4]
        if height % 2 or width % 2:
            x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        corners = [x[:, :, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class Swin(nn.Module):
    """Embedded patches (B, T, H, W, width) -> (B, T, H / 8, W / 8, 8 * width), normalised.

    Args:
        width: channels of the first stage; double at each.
        depths: blocks of each stage.
        heads: of each stage's attention.
        window: places along T, H and W.
        shift: places along each, of every other block.
        drop_path: rate of the last block; rises evenly from 0.
        init_std: of the linear layers' truncated normal weights.
    """

    def __init__(
        self,
        width: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        window: Triple,
        shift: Triple,
        drop_path: float = 0.0,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        stages: list[nn.Module] = []
        merges: list[nn.Module] = []
        for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            channels = width * 2**stage
            blocks = []
            for index in range(depth):
                blocks.append(  # noqa: PERF401
                    SwinBlock(
                        channels, count, window, shift if index % 2 else (0, 0, 0), rates.pop(0)
                    )
                )
            stages.append(nn.Sequential(*blocks))
            merges.append(PatchMerging(channels) if stage + 1 < len(depths) else nn.Identity())
        self.stages, self.merges = nn.ModuleList(stages), nn.ModuleList(merges)
        self.out_channels = width * 2 ** (len(depths) - 1)
        self.norm = nn.LayerNorm(self.out_channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        for stage, merge in zip(self.stages, self.merges, strict=True):
            x = merge(stage(x))
        return self.norm(x)

    def maps(self, x: Tensor) -> list[Tensor]:
        """(B, T, H, W, width) -> what each stage gives before the merging behind it, the last one
        normalised.
        """
        found = []
        for stage, merge in zip(self.stages, self.merges, strict=True):
            x = stage(x)
            found.append(x)
            x = merge(x)
        return [*found[:-1], self.norm(x)]


class SwinFrames(nn.Module):
    """Swin on single frames, the defaults Swin-B: (N, 3, H, W) -> (N, 8 * width, H / 32, W / 32).

    Args:
        width: channels of the first stage; double at each.
        depths: blocks of each stage.
        heads: of each stage's attention.
    """

    def __init__(
        self,
        width: int = 128,
        depths: tuple[int, ...] = (2, 2, 18, 2),
        heads: tuple[int, ...] = (4, 8, 16, 32),
    ) -> None:
        super().__init__()
        self.embed, self.embed_norm = nn.Conv2d(3, width, 4, 4), nn.LayerNorm(width)
        self.swin = Swin(width, depths, heads, (1, 7, 7), (0, 3, 3))
        self.out_channels = self.swin.out_channels

    def forward(self, x: Tensor) -> Tensor:
        places = self.embed_norm(self.embed(x).permute(0, 2, 3, 1))
        return self.swin(places[:, None])[:, 0].permute(0, 3, 1, 2)

    def maps(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> a map (N, C, h, w) of each stage, at strides 4, 8, 16, 32; sides that 4
        does not divide are padded.
        """
        x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
        places = self.embed_norm(self.embed(x).permute(0, 2, 3, 1))
        return [found[:, 0].permute(0, 3, 1, 2) for found in self.swin.maps(places[:, None])]
