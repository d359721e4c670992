"""RoIAlign (He et al., ICCV 2017) in its aligned form, on one map or on a pyramid, in plain torch.

Boxes are (K, 4) float xyxy in input pixels, pixel edges at whole numbers; `batch_index` (K,) int64
names each box's image. A bin is the mean of bilinear samples; samples more than one cell outside a
map are zero. Bilinear sampling is separable, so a bin is a weighted sum of a few cells, and all
bins of all boxes are one `embedding_bag` over the rows of the maps. Gradients reach the maps and,
through the places of the samples, the boxes; compiled RoIAligns have none for boxes: detach them to
have the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import ModelInputError


class Maps(NamedTuple):
    """Feature maps of one or more levels as rows of a table, for pooling from them many times."""

    rows: Tensor  # (R, C): each level's (B, H, W) cells, level after level
    starts: Tensor  # (levels,) int64: a level's first row
    sizes: Tensor  # (levels, 2) int64: width, height
    scales: Tensor  # (levels,) float32: cells per input pixel


def lay_out(levels: Sequence[Tensor], scales: Sequence[float]) -> Maps:
    """Maps of one or more levels as one table.

    Args:
        levels: (B, C, H, W) each, of the same B and C.
        scales: cells per input pixel, of each level.

    Raises:
        ModelInputError: no level, one of another shape, or another number of scales.
    """
    if len(levels) != len(scales) or not levels or any(level.ndim != 4 for level in levels):
        shapes = [tuple(level.shape) for level in levels]
        raise ModelInputError(
            f"roi: levels: found shapes {shapes} and {len(scales)} scales; expected (B, C, H, W)"
            " each and as many scales"
        )
    rows = [level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]) for level in levels]
    device, starts = levels[0].device, [0]
    for part in rows[:-1]:
        starts.append(starts[-1] + len(part))
    sizes = [[level.shape[3], level.shape[2]] for level in levels]
    return Maps(
        torch.cat(rows) if len(rows) > 1 else rows[0],
        torch.tensor(starts, device=device),
        torch.tensor(sizes, device=device),
        torch.tensor(scales, dtype=torch.float32, device=device),
    )


def choose_levels(
    boxes: Tensor, levels: int, first: int = 2, canonical: int = 4, canonical_size: float = 224.0
) -> Tensor:
    """Index of each box's level (Lin et al., CVPR 2017).

    Args:
        boxes: (K, 4) xyxy in input pixels.
        levels: how many there are.
        first: number of the finest level, whose index is 0.
        canonical: number of the level at which a box of `canonical_size` is read; one of half the
            size is read one level below.
        canonical_size: root of a box's area, in input pixels.

    Returns:
        (K,) int64 in 0 .. levels - 1.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = (canonical + torch.log2(area.sqrt() / canonical_size + 1e-8)).floor()
    return level.nan_to_num(first).clamp(first, first + levels - 1).long() - first


def roi_align(
    features: Tensor,
    boxes: Tensor,
    batch_index: Tensor,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int = 2,
) -> Tensor:
    """RoIAlign on one map, as detectron2's ROIAlign with aligned=True.

    Args:
        features: (B, C, H, W).
        boxes: (K, 4) xyxy in input pixels.
        batch_index: (K,) int64, each box's image.
        output_size: bins per axis.
        spatial_scale: cells per input pixel.
        sampling_ratio: samples per bin and axis; 0 takes as many as a bin has cells.

    Returns:
        (K, C, output_size, output_size).

    Raises:
        ModelInputError: tensors of other shapes.
    """
    maps = lay_out([features], [spatial_scale])
    pooled = pool(
        maps, boxes, batch_index, batch_index.new_zeros(len(boxes)), output_size, sampling_ratio
    )
    return pooled.unflatten(1, (output_size, output_size)).permute(0, 3, 1, 2)


def pool(
    maps: Maps,
    boxes: Tensor,
    batch_index: Tensor,
    level: Tensor,
    output_size: int,
    sampling_ratio: int = 2,
) -> Tensor:
    """RoIAlign on the levels of a pyramid.

    Sums are taken in float32 at least, so that gradients of many boxes add up exactly enough under
    autocast too.

    Args:
        maps: from `lay_out`.
        boxes: (K, 4) xyxy in input pixels.
        batch_index: (K,) int64, each box's image.
        level: (K,) int64, index of the level that each box is read from.
        output_size: bins per axis.
        sampling_ratio: samples per bin and axis; 0 takes as many as a bin has cells.

    Returns:
        (K, output_size ** 2, C), row after row of bins, in the maps' dtype.

    Raises:
        ModelInputError: boxes or batch_index of another shape.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or batch_index.shape != boxes.shape[:1]:
        found = f"boxes {tuple(boxes.shape)} and batch_index {tuple(batch_index.shape)}"
        raise ModelInputError(f"roi: found {found}; expected (K, 4) and (K,)")
    dtype = maps.rows.dtype
    wide = dtype if dtype == torch.float64 else torch.float32
    if len(boxes) == 0:
        return maps.rows.new_zeros((0, output_size**2, maps.rows.shape[1]))
    sizes = maps.sizes[level]
    edges = boxes.to(wide) * maps.scales[level][:, None] - 0.5
    across, weight_x = _taps(edges[:, 0], edges[:, 2], sizes[:, 0], output_size, sampling_ratio)
    down, weight_y = _taps(edges[:, 1], edges[:, 3], sizes[:, 1], output_size, sampling_ratio)
    first = (maps.starts[level] + batch_index * sizes.prod(1))[:, None, None]
    line = first + down * sizes[:, 0, None, None]
    # (K, rows of bins, columns of bins, taps, taps)
    cell = line[:, :, None, :, None] + across[:, None, :, None, :]
    weight = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
    bins = F.embedding_bag(
        cell.flatten(3).flatten(0, 2),
        maps.rows.to(wide),
        per_sample_weights=weight.flatten(3).flatten(0, 2),
        mode="sum",
    )
    return bins.to(dtype).unflatten(0, (len(boxes), output_size**2))


def _taps(low: Tensor, high: Tensor, size: Tensor, bins: int, ratio: int) -> tuple[Tensor, Tensor]:
    """What each bin of each box reads on one axis: cells and their weights, (K, bins, taps) each.

    `low` and `high` (K,) are the box's ends in cells, cell centres at whole numbers; `size` (K,) is
    the number of cells.
    """
    extent = high - low
    if ratio > 0:
        most, count = ratio, torch.full_like(extent, ratio)
    else:  # as many samples as a bin has cells; none in a box without extent
        count = (extent / bins).ceil().nan_to_num().clamp(min=0)
        most = max(int(count.max()), 1)
    sample = torch.arange(most, device=low.device)
    share = (sample + 0.5) / count.clamp(min=1)[:, None]  # (K, samples): places within a bin
    at = (
        low[:, None, None]
        + (torch.arange(bins, device=low.device)[:, None] + share[:, None])
        * (extent / bins)[:, None, None]
    )
    last = (size - 1)[:, None, None]
    inside = (at >= -1) & (at <= size[:, None, None]) & (sample < count[:, None])[:, None]
    at = torch.minimum(at.clamp(min=0), size[:, None, None].to(at))
    cell = torch.minimum(at.floor().nan_to_num().long(), last)
    part = torch.where(cell == last, 0, at - cell)
    share_of_sample = torch.where(at.isnan(), at, inside / count.clamp(min=1)[:, None, None])
    cells = torch.stack([cell, torch.minimum(cell + 1, last)], -1).flatten(2)
    weights = torch.stack([share_of_sample * (1 - part), share_of_sample * part], -1).flatten(2)
    return (cells, weights) if most <= 2 else _merged(cells, weights)


def _merged(cells: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The same sums with each cell once: a run of cells from a bin's first one, as long as the
    longest bin.
    """
    low = cells.amin(2, keepdim=True)
    run = int((cells - low).max()) + 1
    if run >= cells.shape[2]:
        return cells, weights
    summed = weights.new_zeros((*weights.shape[:2], run)).scatter_add_(2, cells - low, weights)
    top = cells.amax(2, keepdim=True)
    return torch.minimum(low + torch.arange(run, device=cells.device), top), summed
