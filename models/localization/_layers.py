"""Parts of ActionFormer, on (B, T, C), and the account of which of the T points belong to a
video.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.conv1d import ChannelNorm, Conv3, Depthwise, Pointwise
from models.blocks.local_attention import local_attention, window_bias

# Points that go through a stack of layers at a time where no gradient is asked for. Convolutions
# transform their weights each time.
_PIECE, _EMBED_PIECE, _PROJECTED_PIECE, _MLP_PIECE = 4096, 2048, 1024, 1024


@dataclass(frozen=True)
class Span:
    """Which points of a level are a video's own.

    valid: (B, T) bool. inside: (B, T) bool, or None for everywhere: points that exist for the video
    at all; the others stand for nothing, as what lies beyond the end of an array does. whole: every
    point is valid, known beforehand, so that nothing is masked.

    The layers' norms are not masked, so that padding holds their biases and the next convolution
    mixes these into the last valid point. The published weights are made for that; what is not
    `inside` takes no part in it.
    """

    valid: Tensor
    inside: Tensor | None = None
    whole: bool = False

    def clean(self, x: Tensor) -> Tensor:
        """0 at padding; (B, T, C)."""
        return x if self.whole else x * self.valid[..., None].to(x.dtype)

    def cut(self, x: Tensor) -> Tensor:
        """0 where nothing is; (B, T, C), which may be changed in place."""
        if self.inside is None:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return x * self.inside[..., None].to(x.dtype)
        # few points, by their places: no pass over all the others
        x[(~self.inside).nonzero(as_tuple=True)] = 0
        return x

    def halved(self) -> Span:
        """Every second point."""
        return Span(
            self.valid[:, ::2], None if self.inside is None else self.inside[:, ::2], self.whole
        )

    def part(self, low: int, high: int) -> Span:
        """Points `low` to `high`."""
        return Span(
            self.valid[:, low:high],
            None if self.inside is None else self.inside[:, low:high],
            self.whole,
        )


def joined(spans: Sequence[Span]) -> Span:
    """Levels one after the other, each followed by one point that is nothing, so that a three-tap
    convolution does not mix them.
    """
    gap = spans[0].valid.new_zeros(spans[0].valid.shape[0], 1)
    valid = [part for span in spans for part in (span.valid, gap)]
    inside = [
        part
        for span in spans
        for part in (torch.ones_like(span.valid) if span.inside is None else span.inside, gap)
    ]
    return Span(torch.cat(valid, 1), torch.cat(inside, 1), all(span.whole for span in spans))


def pieces(length: int, halo: int, size: int = _PIECE) -> Iterator[tuple[slice, int, int]]:
    """Where to cut a sequence that goes through convolutions.

    One piece where gradients are kept: cutting saves memory that they would hold anyway.

    Args:
        length: points of the sequence.
        halo: points that the convolutions reach on each side.
        size: points to keep of each piece, the last one's aside.

    Returns:
        (points to keep, from, to) of each piece, from and to with halos.
    """
    step = (
        length
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or length < 2 * size
        else size
    )
    for at in range(0, length, step):
        end = min(at + step, length)
        yield slice(at, end), max(at - halo, 0), min(end + halo, length)


class Tower(nn.Module):
    """Convolution, norm and ReLU, several times. What leaves it is not masked, as `Span`
    explains.
    """

    def __init__(self, in_channels: int, channels: int, layers: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            Conv3(in_channels if at == 0 else channels, channels) for at in range(layers)
        )
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(layers))

    def forward(self, x: Tensor, span: Span) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(span.cut(norm(span.clean(conv(x)))), inplace=True)
        return x


class Embedding(nn.Module):
    """(B, C, T) features -> (B, T, width). T may be shorter than the span.

    Args:
        streams: channels of each stream, one after the other in C.
        widths: channels that each is projected to first, where there are several; their sum is the
            width.
        layers: of the tower behind that.
    """

    def __init__(self, streams: tuple[int, ...], widths: tuple[int, ...], layers: int) -> None:
        super().__init__()
        self.streams, self.layers = streams, layers
        width = sum(widths)
        if len(widths) > 1:
            self.projections = nn.ModuleList(
                Pointwise(size, out) for size, out in zip(streams, widths, strict=True)
            )
        self.tower = Tower(width if len(widths) > 1 else sum(streams), width, layers)

    def forward(self, features: Tensor, span: Span) -> Tensor:
        batch, length = span.valid.shape
        out: Tensor | None = None
        for keep, low, high in pieces(length, self.layers, _EMBED_PIECE):
            here = span.part(low, high)
            done = self.tower(self._streams(self._rows(features, low, high, here), here), here)
            if done.shape[1] == length:
                return done
            out = done.new_empty(batch, length, done.shape[2]) if out is None else out
            out[:, keep] = done[:, keep.start - low : keep.stop - low]
        assert out is not None
        return out

    def _rows(self, features: Tensor, low: int, high: int, span: Span) -> Tensor:
        """(B, high - low, C), a view, 0 after the end; whatever stands in the padding of a batch is
        no part of it.
        """
        x = features[:, :, low:high]
        x = F.pad(x, (0, high - low - x.shape[2])) if x.shape[2] < high - low else x.contiguous()
        return (x if span.whole else x.masked_fill(~span.valid[:, None], 0)).transpose(1, 2)

    def _streams(self, x: Tensor, span: Span) -> Tensor:
        if not hasattr(self, "projections"):
            return x
        streams = x.split(self.streams, -1)
        return torch.cat(
            [
                span.clean(project(stream))
                for project, stream in zip(self.projections, streams, strict=True)
            ],
            -1,
        )


class ScaledDropPath(nn.Module):
    """Adds a branch to the way around it, each channel with a scale that is learnt; in training the
    branch is left out for some samples.

    The scale exists only where `rate` is above 0, as in the published checkpoints.
    """

    def __init__(self, channels: int, rate: float, initial: float = 1e-4) -> None:
        super().__init__()
        self.rate = rate
        if rate > 0:
            self.scale = nn.Parameter(torch.full((1, channels, 1), initial))

    def forward(self, around: Tensor, branch: Tensor) -> Tensor:
        if self.rate == 0:
            return around + branch
        scale = self.scale.transpose(1, 2)
        if self.training:
            keep = around.new_empty(around.shape[0], 1, 1).bernoulli_(1 - self.rate)
            scale = scale * keep / (1 - self.rate)
        return torch.addcmul(around, branch, scale)


class Attention(nn.Module):
    """Self-attention whose queries, keys and values are three-tap depthwise convolutions first.

    Args:
        channels: C, a multiple of the heads.
        heads: how many look side by side.
        window: points that a query sees, half on each side; 1 or less is everything.
        stride: of the convolutions: 2 halves the sequence.
        dropout: rate, of the answer in training.
    """

    def __init__(self, channels: int, heads: int, window: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.reach = heads, window // 2 if window > 1 else 0
        self.query_conv, self.query_norm = Depthwise(channels, stride), ChannelNorm(channels)
        self.key_conv, self.key_norm = Depthwise(channels, stride), ChannelNorm(channels)
        self.value_conv, self.value_norm = Depthwise(channels, stride), ChannelNorm(channels)
        self.key, self.query, self.value = (Pointwise(channels, channels) for _ in range(3))
        self.proj = Pointwise(channels, channels)
        self.proj_drop = nn.Dropout(dropout)

    def bias(self, span: Span) -> Tensor | None:
        """What attention within the span's points adds to its scores."""
        if self.reach:
            return window_bias(span.valid, self.reach)
        return None if span.whole else span.valid[:, None, None]

    def forward(
        self, points: Callable[[int, int], Tensor], span: Span, bias: Tensor | None
    ) -> Tensor:
        """Attends within the span's points.

        Args:
            points: `points(low, high)` gives a part of what attends, (B, high - low, C), counted
                before a stride.
            span: after the stride.
            bias: what the method `bias` gives for that span.
        """
        query, key, value = self._projected(points, span)
        if self.reach and bias is not None:
            out = local_attention(query, key, value, bias, self.heads, self.reach)
        else:
            query, key, value = (
                part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)
            )
            out = (
                F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
                .transpose(1, 2)
                .flatten(2)
            )
        del query, key, value
        return self.proj_drop(self.proj(out))

    def _projected(self, points: Callable[[int, int], Tensor], span: Span) -> list[Tensor]:
        """Queries, keys and values of the span's points, (B, T, C) each."""
        batch, length = span.valid.shape
        stride, whole = self.query_conv.stride[0], list[Tensor]()
        ways = (
            (self.query_conv, self.query_norm, self.query),
            (self.key_conv, self.key_norm, self.key),
            (self.value_conv, self.value_norm, self.value),
        )
        for keep, low, high in pieces(length, 1, _PROJECTED_PIECE):
            x, here = points(low * stride, high * stride), span.part(low, high)
            parts = [linear(norm(here.clean(conv(x)))) for conv, norm, linear in ways]
            if high - low == length:
                return parts
            whole = whole or [part.new_empty(batch, length, part.shape[2]) for part in parts]
            for into, part in zip(whole, parts, strict=True):
                into[:, keep] = part[:, keep.start - low : keep.stop - low]
        return whole


class Mlp(nn.Module):
    """Two linear maps with a GELU between."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.fc1, self.fc2 = Pointwise(channels, 4 * channels), Pointwise(4 * channels, channels)
        self.drop1, self.drop2 = nn.Dropout(dropout), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop2(self.fc2(self.drop1(F.gelu(self.fc1(x)))))


class Block(nn.Module):
    """A pre-norm transformer block.

    Args:
        channels: C, a multiple of the heads.
        heads: of the attention.
        window: as in `Attention`.
        stride: 2 halves the sequence, 1 keeps it.
        dropout: rate in training.
        drop_path: rate at which a branch is dropped in training; above 0 branches have learnt
            scales.
    """

    def __init__(
        self, channels: int, heads: int, window: int, stride: int, dropout: float, drop_path: float
    ) -> None:
        super().__init__()
        self.stride = stride
        self.ln1, self.ln2 = ChannelNorm(channels), ChannelNorm(channels)
        self.attn = Attention(channels, heads, window, stride, dropout)
        self.mlp = Mlp(channels, dropout)
        self.drop_path_attn, self.drop_path_mlp = (
            ScaledDropPath(channels, drop_path),
            ScaledDropPath(channels, drop_path),
        )

    def forward(self, x: Tensor, before: Span, after: Span, bias: Tensor | None) -> Tensor:
        """(B, T, C) -> (B, T / stride, C). 0 at padding; what comes in need not be.

        Args:
            x: (B, T, C).
            before: its span.
            after: the span of what is given.
            bias: `attn.bias(after)`.
        """
        branch = self.attn(
            lambda low, high: before.part(low, high).cut(self.ln1(x[:, low:high])), after, bias
        )
        x = after.clean(self.drop_path_attn(_pooled(x) if self.stride == 2 else x, branch))
        del branch
        for keep, low, high in pieces(x.shape[1], 0, _MLP_PIECE):
            done = self._after_attention(x[:, keep], after.part(low, high))
            if done.shape == x.shape:
                return done
            x[:, keep] = done  # in its place: `x` is this block's own, and no gradient asks for it
        return x

    def _after_attention(self, x: Tensor, span: Span) -> Tensor:
        return span.clean(self.drop_path_mlp(x, self.mlp(self.ln2(x))))


def _pooled(x: Tensor) -> Tensor:
    """The greatest of three neighbours around every second point; (B, T, C) -> (B, T / 2, C)."""
    image = x.unsqueeze(1).permute(0, 3, 1, 2)
    return F.max_pool2d(image, (1, 3), (1, 2), (0, 1)).squeeze(2).transpose(1, 2)


class IdentityNeck(nn.Module):
    """A norm per level."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(levels))

    def forward(self, levels: list[Tensor], spans: Sequence[Span]) -> list[Tensor]:
        return [
            span.cut(norm(level))
            for norm, level, span in zip(self.norms, levels, spans, strict=True)
        ]


class PyramidNeck(nn.Module):
    """Feature pyramid (Lin et al., CVPR 2017) along time: coarser levels are added to finer ones,
    then a depthwise convolution and norm.
    """

    def __init__(self, in_channels: int, channels: int, levels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            Pointwise(in_channels, channels, bias=False) for _ in range(levels)
        )
        self.convs = nn.ModuleList(Depthwise(channels) for _ in range(levels))
        self.norms = nn.ModuleList(ChannelNorm(channels) for _ in range(levels))

    def forward(self, levels: list[Tensor], spans: Sequence[Span]) -> list[Tensor]:
        sums = [
            span.clean(lateral(level))
            for lateral, level, span in zip(self.laterals, levels, spans, strict=True)
        ]
        for at in range(len(sums) - 1, 0, -1):
            sums[at - 1] = sums[at - 1] + sums[at].repeat_interleave(2, 1)
        return [
            span.cut(norm(span.clean(conv(one))))
            for conv, norm, one, span in zip(self.convs, self.norms, sums, spans, strict=True)
        ]


class Head(nn.Module):
    """A tower and a last convolution with bias, for levels that are joined; (B, S, C) -> (B, S,
    outputs), 0 at padding.

    Args:
        in_channels: C.
        channels: between the convolutions.
        layers: convolutions, the last one among them.
        outputs: numbers that each point says.
    """

    def __init__(self, in_channels: int, channels: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.tower = Tower(in_channels, channels, layers - 1)
        self.last = Conv3(channels if layers > 1 else in_channels, outputs, bias=True)
        self.reach = layers

    def forward(self, x: Tensor, span: Span) -> Tensor:
        out = []
        for keep, low, high in pieces(x.shape[1], self.reach):
            here = span.part(low, high)
            out.append(
                here.clean(self.last(self.tower(x[:, low:high], here)))[
                    :, keep.start - low : keep.stop - low
                ]
            )
        return out[0] if len(out) == 1 else torch.cat(out, 1)
