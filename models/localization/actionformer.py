"""ActionFormer (Zhang et al., ECCV 2022): every moment of a video says what happens there and how
far away it begins and ends.

Model, criterion and decoding are three things: `ActionFormer` gives a `Pyramid`, `Criterion`
compares it with true segments, `decode` and `suppress_candidates` make segments of it. The feature
grid is the unit of all of them: point i is the i-th feature vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import AtLeast, Checked, Count, Each, OneOf, OrNone, Rate
from models.errors import ModelInputError
from models.localization._criterion import (
    Criterion,
    Losses,
    Targets,
    assign_targets,
    next_normaliser,
    points,
)
from models.localization._decoding import (
    Candidates,
    Decoding,
    decode,
    fuse_scores,
    in_seconds,
    suppress_candidates,
)
from models.localization._layers import (
    Block,
    Embedding,
    Head,
    IdentityNeck,
    PyramidNeck,
    Span,
    joined,
)
from models.localization._outputs import Pyramid

__all__ = [
    "TINY",
    "ActionFormer",
    "Batch",
    "Candidates",
    "Config",
    "Criterion",
    "Decoding",
    "Losses",
    "Pyramid",
    "Targets",
    "assign_targets",
    "build",
    "decode",
    "fuse_scores",
    "in_seconds",
    "next_normaliser",
    "pad",
    "points",
    "suppress_candidates",
]


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of an ActionFormer; the defaults are those of THUMOS14. Raises ModelConfigError with
    field, found and allowed.

    One level of the pyramid per entry of `ranges`: the least and greatest distance to an action's
    farther end that a point of the level answers for, on the feature grid. `windows` is how many
    points attention sees (half on each side), -1 for all; one number for all levels or one per
    level. Several `input_dims` are streams that stand one after the other in the features, each
    projected to its own entry of `width` first; one number for both is the usual case. `max_length`
    is what shorter inputs count as, and what a training crop may have at most. `empty_classes` have
    no training segment and start from a probability of 1e-6.
    """

    num_classes: Count
    input_dims: Annotated[int | tuple[int, ...], Each(1)] = 2048
    width: Annotated[int | tuple[int, ...], Each(1)] = 512
    heads: Count = 4
    windows: int | tuple[int, ...] = 19
    ranges: Annotated[tuple[tuple[float, float], ...], _Ranges()] = (
        (0, 4),
        (4, 8),
        (8, 16),
        (16, 32),
        (32, 64),
        (64, 10000),
    )
    embed_layers: Count = 2
    stem_layers: Annotated[int, AtLeast(0)] = 2
    positions: bool = False
    neck: Annotated[str, OneOf(("identity", "fpn"))] = "identity"
    neck_width: Annotated[int | None, OrNone(AtLeast(1))] = None
    head_width: Annotated[int | None, OrNone(AtLeast(1))] = None
    head_layers: Count = 3
    max_length: Count = 2304
    dropout: Rate = 0.0
    drop_path: Rate = 0.1
    prior: Rate = 0.01
    empty_classes: tuple[int, ...] = ()

    def agree(self) -> None:
        if len(self.widths) not in (1, len(self.streams)):
            self.refuse("width", f"one number, or one for each of {len(self.streams)} streams")
        if sum(self.widths) % self.heads:
            self.refuse("heads", f"a divisor of the width, {sum(self.widths)}")
        windows = self.windows if isinstance(self.windows, tuple) else (self.windows,) * self.levels
        if len(windows) != self.levels or not all(
            type(one) is int and (one == -1 or one > 1) for one in windows
        ):
            self.refuse(
                "windows",
                f"an integer above 1, or -1 for all; or {self.levels} of them, one per level",
            )
        if self.max_length % self.divisor or self.divisor % self.top_stride:
            self.refuse(
                "max_length",
                f"a multiple of {self.divisor}, itself one of {self.top_stride}, the coarsest"
                " level's stride",
            )
        if self.neck == "identity" and self.neck_width not in (None, sum(self.widths)):
            self.refuse("neck_width", f"none, or the width {sum(self.widths)} for this neck")
        empty = self.empty_classes
        if not isinstance(empty, tuple) or not all(
            type(one) is int and 0 <= one < self.num_classes for one in empty
        ):
            self.refuse("empty_classes", f"integers of 0 to {self.num_classes - 1}")

    @property
    def streams(self) -> tuple[int, ...]:
        """Channels of each stream."""
        return self.input_dims if isinstance(self.input_dims, tuple) else (self.input_dims,)

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each stream's projection; one number without projections."""
        return self.width if isinstance(self.width, tuple) else (self.width,)

    @property
    def levels(self) -> int:
        """Levels of the pyramid."""
        return len(self.ranges)

    @property
    def top_stride(self) -> int:
        """Stride of the coarsest level."""
        return 2 ** (self.levels - 1)

    @property
    def level_windows(self) -> tuple[int, ...]:
        """Window of every level."""
        return self.windows if isinstance(self.windows, tuple) else (self.windows,) * self.levels

    @property
    def divisor(self) -> int:
        """What the length of an input beyond `max_length` is rounded up to a multiple of."""
        return max(
            2**level * (2 * (window // 2) if window > 1 else 1)
            for level, window in enumerate(self.level_windows)
        )

    def padded_length(self, length: int) -> int:
        """What an input of this length counts as."""
        return (
            self.max_length
            if length <= self.max_length
            else -(-length // self.divisor) * self.divisor
        )


@dataclass(frozen=True)
class _Ranges:
    def allowed(self, value: Any, config: Checked) -> str | None:
        pairs = (
            isinstance(value, tuple)
            and len(value) > 0
            and all(isinstance(one, tuple) and len(one) == 2 for one in value)
        )
        numbers = pairs and all(type(end) in (int, float) for one in value for end in one)
        fits = numbers and all(0 <= low < high for low, high in value)
        return None if fits else "a pair of distances, 0 <= least < greatest, for every level"


TINY = Config(
    num_classes=5,
    input_dims=24,
    width=16,
    heads=2,
    windows=(5, 5, -1),
    ranges=((0, 4), (2, 8), (4, 10000)),
    positions=True,
    max_length=64,
)


class Batch(NamedTuple):
    """Videos side by side: features (B, C, T), 0 after each video's end, and valid (B, T) bool."""

    features: Tensor
    valid: Tensor


def pad(videos: Sequence[Tensor]) -> Batch:
    """A batch of (C, T_i) features; T is the longest one's. `ActionFormer` itself pads on to the
    length that it needs.

    Raises ModelInputError for no video, one without a single vector, and unequal widths.
    """
    if (
        not videos
        or any(video.ndim != 2 or 0 in video.shape for video in videos)
        or len({video.shape[0] for video in videos}) != 1
    ):
        found = ", ".join(str(tuple(video.shape)) for video in videos) or "no video"
        raise ModelInputError(
            f"actionformer: features: found {found}; expected (C, T) each, with one C and T of at"
            " least 1"
        )
    lengths = torch.tensor([video.shape[1] for video in videos], device=videos[0].device)
    longest = max(video.shape[1] for video in videos)
    features = torch.stack([F.pad(video, (0, longest - video.shape[1])) for video in videos])
    return Batch(features, torch.arange(longest, device=lengths.device) < lengths[:, None])


class ActionFormer(nn.Module):
    """(B, C, T) features and (B, T) bool of what belongs to a video -> Pyramid. Any T of at least
    1.

    An input counts as `max_length` long, or as the next multiple of `divisor` where it is longer,
    as published: what stands right after a video's end makes a small difference. In a batch every
    video gets what it gets alone.
    """

    # (1, max_length, width), where the configuration has them; no part of the state
    positions: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, neck_width = sum(config.widths), config.neck_width or sum(config.widths)
        windows = config.level_windows
        self.embed = Embedding(config.streams, config.widths, config.embed_layers)
        self.stem = nn.ModuleList(_block(config, windows[0], 1) for _ in range(config.stem_layers))
        self.branch = nn.ModuleList(_block(config, window, 2) for window in windows[1:])
        self.neck = (
            IdentityNeck(width, config.levels)
            if config.neck == "identity"
            else PyramidNeck(width, neck_width, config.levels)
        )
        head_width = config.head_width or neck_width
        self.classify = Head(neck_width, head_width, config.head_layers, config.num_classes)
        self.regress = Head(neck_width, head_width, config.head_layers, 2)
        self.scales = nn.ParameterList(
            nn.Parameter(torch.tensor(1.0)) for _ in range(config.levels)
        )
        if config.positions:
            self.register_buffer(
                "positions", _sinusoids(config.max_length, width), persistent=False
            )
        self._start()

    def _start(self) -> None:
        """Biases start at 0, those of the classes at the prior; weights as torch draws them."""
        for module in self.modules():
            if isinstance(module, nn.Conv1d) and module.bias is not None:
                nn.init.zeros_(module.bias)
        bias = self.classify.last.bias
        assert bias is not None
        if self.config.prior > 0:
            nn.init.constant_(bias, -math.log((1 - self.config.prior) / self.config.prior))
        with torch.no_grad():
            bias[list(self.config.empty_classes)] = -math.log((1 - 1e-6) / 1e-6)

    def forward(self, features: Tensor, valid: Tensor) -> Pyramid:
        """Raises ModelInputError for other shapes and types, and (on the CPU) for a video of which
        nothing is valid.
        """
        self._check(features, valid)
        length, top = features.shape[2], self.config.top_stride
        total = self.config.padded_length(length)
        # Padding is all alike, so one point of it after the longest video, on every level, does
        # what all of it would do.
        run = min(total, (-(-length // top) + 1) * top)
        ends = self._ends(valid, total)
        span = _span(F.pad(valid, (0, run - length)), ends)
        x = self.embed(features, span)
        if self.config.positions:
            x = x + span.clean(self._positions(ends or [total], run).to(x.dtype))
        levels, spans = self._levels(x, span)
        del x
        levels = self.neck(levels, spans)
        whole, everything = _joined(levels), joined(spans)
        del levels
        logits, offsets = (
            self._split(head(whole, everything), spans) for head in (self.classify, self.regress)
        )
        offsets = [
            F.relu(offset * scale) for offset, scale in zip(offsets, self.scales, strict=True)
        ]
        lengths = [total // 2**level for level in range(self.config.levels)]
        logits, offsets = (
            [_extended(one, size) for one, size in zip(part, lengths, strict=True)]
            for part in (logits, offsets)
        )
        known = [
            F.pad(one.valid, (0, size - one.valid.shape[1]))
            for one, size in zip(spans, lengths, strict=True)
        ]
        return Pyramid(logits, offsets, known)

    def _check(self, features: Tensor, valid: Tensor) -> None:
        channels = sum(self.config.streams)
        expected = f"floating-point (B, {channels}, T), B and T of at least 1"
        if not isinstance(features, Tensor):
            raise ModelInputError(
                f"actionformer: features: found {type(features).__name__}; expected a tensor,"
                f" {expected}"
            )
        if (
            features.ndim != 3
            or features.shape[1] != channels
            or 0 in features.shape
            or not features.is_floating_point()
        ):
            dtype = str(features.dtype).removeprefix("torch.")
            raise ModelInputError(
                f"actionformer: features: found {dtype} {tuple(features.shape)}; expected"
                f" {expected}"
            )
        if (
            not isinstance(valid, Tensor)
            or valid.dtype != torch.bool
            or valid.shape != (features.shape[0], features.shape[2])
        ):
            found = (
                f"{str(valid.dtype).removeprefix('torch.')} {tuple(valid.shape)}"
                if isinstance(valid, Tensor)
                else type(valid).__name__
            )
            raise ModelInputError(
                f"actionformer: valid: found {found}; expected bool"
                f" {(features.shape[0], features.shape[2])}"
            )
        if (
            valid.device.type == "cpu"
            and not torch.compiler.is_compiling()
            and not valid.any(1).all()
        ):
            empty = int((~valid.any(1)).nonzero()[0])
            raise ModelInputError(
                f"actionformer: valid: found video {empty} without a point; expected at least 1"
            )

    def _ends(self, valid: Tensor, total: int) -> list[int] | None:
        """What each video counts as, where that may differ from `total`; None where it does not."""
        if total == self.config.max_length or torch.compiler.is_compiling():
            return None
        last = (valid * torch.arange(1, valid.shape[1] + 1, device=valid.device)).amax(1)
        ends = [self.config.padded_length(int(one)) for one in last.tolist()]
        return None if all(end == total for end in ends) else ends

    def _positions(self, ends: list[int], run: int) -> Tensor:
        """(videos, run, width): the table as it is, stretched for what is longer, 0 after a video's
        end.
        """
        rows = []
        for end in ends:
            table = self.positions
            if end > self.config.max_length:
                table = F.interpolate(
                    table.transpose(1, 2), size=end, mode="linear", align_corners=False
                ).transpose(1, 2)
            rows.append(F.pad(table[:, :run], (0, 0, 0, max(run - end, 0))))
        return torch.cat(rows)

    def _levels(self, x: Tensor, span: Span) -> tuple[list[Tensor], list[Span]]:
        bias = None
        for block in self.stem:
            assert isinstance(block, Block)
            # one window, and one bias, for all of them
            bias = block.attn.bias(span) if bias is None else bias
            x = block(x, span, span, bias)
        levels, spans = [x], [span]
        for block in self.branch:
            assert isinstance(block, Block)
            spans.append(spans[-1].halved())
            levels.append(block(levels[-1], spans[-2], spans[-1], block.attn.bias(spans[-1])))
        return levels, spans

    def _split(self, whole: Tensor, spans: list[Span]) -> list[Tensor]:
        """The inverse of `_joined`."""
        parts = whole.split([size for span in spans for size in (span.valid.shape[1], 1)], 1)
        return list(parts[::2])


def _block(config: Config, window: int, stride: int) -> Block:
    return Block(sum(config.widths), config.heads, window, stride, config.dropout, config.drop_path)


def _span(valid: Tensor, ends: list[int] | None) -> Span:
    inside = None
    if ends is not None and min(ends) < valid.shape[1]:
        inside = (
            torch.arange(valid.shape[1], device=valid.device)
            < torch.tensor(ends, device=valid.device)[:, None]
        )
    # elsewhere asking would make the host wait
    known = valid.device.type == "cpu" and not torch.compiler.is_compiling()
    return Span(valid, inside, whole=known and bool(valid.all()))


def _joined(levels: list[Tensor]) -> Tensor:
    """(B, T_l, C) levels, each followed by a point of zeros, as one sequence."""
    gap = levels[0].new_zeros(levels[0].shape[0], 1, levels[0].shape[2])
    return torch.cat([part for level in levels for part in (level, gap)], 1)


def _extended(x: Tensor, length: int) -> Tensor:
    return F.pad(x, (0, 0, 0, length - x.shape[1])) if x.shape[1] < length else x


def _sinusoids(length: int, width: int) -> Tensor:
    """(1, length, width): sines at even and cosines at odd channels (Vaswani et al., 2017), over
    the root of the width.
    """
    pair = torch.arange(width, dtype=torch.float64) // 2
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (2 * pair / width)
    table = torch.where(torch.arange(width) % 2 == 0, angle.sin(), angle.cos())
    return table.float()[None] / width**0.5


def build(config: Config) -> ActionFormer:
    """The model with fresh weights, drawn from torch's global generator."""
    return ActionFormer(config)
