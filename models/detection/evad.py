"""EVAD (Chen et al., ICCV 2023): end-to-end spatio-temporal action detection on a Vision
Transformer with token pruning.

`EVAD` maps a clip to `Detections`, `Criterion` compares those with `Target`s, `decode` turns them
into `Persons`. Boxes are xyxy; inside the model and in targets they are in pixels of the unpadded
input image, decoded ones are shares of its width and height.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from models.blocks.boxes import to_corners
from models.blocks.dynamic_conv import ProposalHead
from models.blocks.pyramid import PlainPyramid
from models.blocks.roi import lay_out
from models.blocks.vit import init_linear
from models.config import Checked, Count, MultipleOf, OneOf, Rate, Within
from models.detection._actions import ActionBranch
from models.detection._criterion import (
    NO_PERSON,
    Counts,
    Criterion,
    Losses,
    Target,
    Weights,
    counts,
    match,
)
from models.detection._decode import Persons, decode
from models.detection._encoder import TUBELET, Encoder
from models.detection._outputs import Detections
from models.errors import ModelInputError, require_clip

__all__ = [
    "EVAD",
    "TINY",
    "TINY_INPUT",
    "Config",
    "Counts",
    "Criterion",
    "Detections",
    "Losses",
    "Persons",
    "Target",
    "Weights",
    "build",
    "counts",
    "decode",
    "match",
]


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of an EVAD model. Raises ModelConfigError.

    Blocks are counted from 0.

    Attributes:
        position_size: side in pixels of the images of the pretraining, whose position table is
            resized to the clip's.
        key_frame: number of the clip's frame that boxes belong to; None is the middle one,
            num_frames // 2.
        keep_rate: share of the tokens that each pruning block leaves; 1 prunes nowhere.
        prune_blocks: blocks that drop tokens.
        taps: blocks whose key-frame maps make the pyramid.
        roi_extension: what regions grow by as shares of width and height, both sides together.
        in_place: restores dropped-out maps with every token at its own place (see ActionBranch);
            published weights need False.
        multi_label: actions are independent (sigmoid); without it exactly one holds (softmax).
        checkpointing: trades time for memory in training.
    """

    num_classes: Count
    width: Annotated[int, MultipleOf("heads")] = 768
    depth: Count = 12
    heads: Count = 12
    num_frames: Annotated[int, MultipleOf(TUBELET, 1024)] = 16
    patch: Annotated[int, OneOf((8, 16, 32))] = 16
    position_size: Annotated[int, MultipleOf("patch", 4096)] = 224
    key_frame: int | None = None
    keep_rate: Annotated[float, Within(0, 1, above=True)] = 0.7
    key_weight: Annotated[float, Within(0, 16, above=True)] = 1.0
    prune_blocks: tuple[int, ...] = (3, 6, 9)
    taps: tuple[int, ...] = (2, 5, 8, 11)
    drop_path: Rate = 0.1
    proposals: Count = 100
    stages: Count = 6
    hidden: Annotated[int, MultipleOf(8)] = 256
    dynamic: Count = 64
    feedforward: Count = 2048
    decoder_width: Annotated[int, MultipleOf("decoder_heads")] = 384
    decoder_depth: Count = 6
    decoder_heads: Count = 6
    decoder_drop_path: Rate = 0.1
    action_hidden: Count = 2048
    roi_extension: tuple[float, float] = (0.4, 0.2)
    in_place: bool = False
    multi_label: bool = True
    checkpointing: bool = False

    def agree(self) -> None:
        if self.key_frame is not None and (
            type(self.key_frame) is not int or not 0 <= self.key_frame < self.num_frames
        ):
            self.refuse("key_frame", f"null (the middle) or 0 to {self.num_frames - 1}")
        for field, count in (("prune_blocks", None), ("taps", 4)):
            blocks = getattr(self, field)
            whole = isinstance(blocks, tuple) and all(type(block) is int for block in blocks)
            rising = [block for block in range(self.depth) if whole and block in blocks]
            if not whole or list(blocks) != rising or count not in (None, len(blocks)):
                self.refuse(
                    field, f"{count or 'some'} rising numbers of blocks, 0 to {self.depth - 1}"
                )
        if self.keep_rate ** len(self.prune_blocks) * self.slots <= 1 < self.slots:
            least = self.slots ** (-1 / len(self.prune_blocks))
            self.refuse(
                "keep_rate",
                f"above {least:.3f}, or fewer prune_blocks: only the key frame would stay",
            )
        shares = self.roi_extension
        fits = (
            isinstance(shares, tuple)
            and len(shares) == 2
            and all(isinstance(one, (int, float)) and 0 <= one <= 4 for one in shares)
        )
        if not fits:
            self.refuse("roi_extension", "two numbers in [0, 4], of width and height")

    @property
    def slots(self) -> int:
        """Places of tokens along time."""
        return self.num_frames // TUBELET

    @property
    def key_slot(self) -> int:
        """The time slot of the key frame."""
        return (self.num_frames // 2 if self.key_frame is None else self.key_frame) // TUBELET

    @property
    def multiple(self) -> int:
        """What heights and widths of (padded) clips are multiples of."""
        return 2 * self.patch


TINY = Config(
    num_classes=5,
    width=32,
    depth=4,
    heads=2,
    num_frames=8,
    position_size=64,
    prune_blocks=(1, 2),
    taps=(0, 1, 2, 3),
    proposals=6,
    stages=2,
    hidden=16,
    dynamic=8,
    feedforward=32,
    decoder_width=16,
    decoder_depth=2,
    decoder_heads=2,
    action_hidden=32,
)
TINY_INPUT = (3, 8, 64, 96)


class Head(nn.Module):
    """What starts fresh and is trained with its own learning rate: the stages that find people, and
    the branch that says what they do.
    """

    def __init__(self, stages: Iterable[ProposalHead], actions: ActionBranch) -> None:
        super().__init__()
        self.stages, self.actions = nn.ModuleList(stages), actions


class EVAD(nn.Module):
    """(B, 3, num_frames, H, W) float, normalised RGB, padded at the bottom and right -> Detections.

    H and W are multiples of 32 (twice the patch). The padded area is seen as pixels are; boxes
    refer to `sizes`, the images' own.
    """

    class_weights: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        side = config.position_size // config.patch
        pruning = config.prune_blocks if config.keep_rate < 1 else ()
        self.encoder = Encoder(
            config.width,
            config.depth,
            config.heads,
            config.patch,
            side,
            config.key_slot,
            config.taps,
            pruning,
            config.keep_rate,
            config.key_weight,
            config.drop_path,
        )
        stages = (
            ProposalHead(config.hidden, config.dynamic, feedforward=config.feedforward)
            for _ in range(config.stages)
        )
        actions = ActionBranch(
            config.width,
            config.decoder_width,
            config.decoder_depth,
            config.decoder_heads,
            config.action_hidden,
            config.num_classes,
            config.decoder_drop_path,
            side,
            config.key_slot,
            config.patch,
            config.roi_extension,
            config.in_place,
        )
        self.head = Head(stages, actions)
        self.pyramid = PlainPyramid(config.width, config.hidden)
        self.proposal_features = nn.Embedding(config.proposals, config.hidden)
        self.proposal_boxes = nn.Embedding(config.proposals, 4)
        # Of person and nothing in the loss. Published checkpoints carry them; Criterion has its own
        # number.
        self.register_buffer("class_weights", torch.tensor([1.0, NO_PERSON]))
        self.encoder.save_memory = self.head.actions.save_memory = config.checkpointing
        self._start()

    def _start(self) -> None:
        """Fresh weights: the encoder's as VideoMAE's, the head's uniform by fan (Glorot), every
        proposal the whole image.
        """
        init_linear(self.encoder)
        for parameter in self.head.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        with torch.no_grad():
            self.proposal_boxes.weight.copy_(torch.tensor([0.5, 0.5, 1.0, 1.0]))

    def forward(self, clip: Tensor, sizes: Tensor | None = None) -> Detections:
        """Detects the people of each clip's key frame, and what they do.

        Args:
            clip: (B, 3, num_frames, H, W) float, normalised RGB, H and W multiples of twice the
                patch.
            sizes: (B, 2) heights and widths of the images before padding, in pixels; None is H and
                W.

        Raises:
            ModelInputError: clips or sizes that do not fit.
        """
        sizes = self._checked(clip, sizes)
        encoded = self.encoder(clip)
        patch = self.config.patch
        pyramid = lay_out(
            self.pyramid(encoded.key_maps), [share / patch for share in (4, 2, 1, 0.5)]
        )
        boxes = to_corners(self.proposal_boxes.weight)[None] * sizes.flip(1).repeat(1, 2)[:, None]
        features = self.proposal_features.weight.expand(len(clip), -1, -1)
        logits, placed = [], []
        for stage in self.head.stages:
            said = stage(pyramid, boxes, features)
            logits.append(said.logits)
            placed.append(said.boxes)
            boxes, features = said.boxes.detach(), said.features
        return Detections(
            logits, placed, self.head.actions(encoded, boxes, sizes), sizes, encoded.kept
        )

    def _checked(self, clip: Tensor, sizes: Tensor | None) -> Tensor:
        require_clip("evad", clip, self.config.num_frames)
        height, width = clip.shape[3:]
        multiple = self.config.multiple
        if height % multiple or width % multiple:
            fits = f"{-height % multiple + height}x{-width % multiple + width}"
            raise ModelInputError(
                f"evad: input: found {height}x{width} pixels; expected multiples of {multiple}: pad"
                f" at the bottom and right to {fits}"
            )
        kind = torch.promote_types(self.proposal_boxes.weight.dtype, torch.float32)
        if sizes is None:
            return torch.tensor([[height, width]], dtype=kind, device=clip.device).expand(
                len(clip), 2
            )
        if not isinstance(sizes, Tensor) or sizes.shape != (len(clip), 2):
            found = tuple(sizes.shape) if isinstance(sizes, Tensor) else type(sizes).__name__
            raise ModelInputError(
                f"evad: sizes: found {found}; expected ({len(clip)}, 2), height and width of each"
                " image before padding"
            )
        if sizes.device.type == "cpu" and not bool(
            ((sizes > 0) & (sizes <= torch.tensor([height, width]))).all()
        ):
            raise ModelInputError(
                f"evad: sizes: found {sizes.tolist()}; expected heights in 1..{height} and widths"
                f" in 1..{width}"
            )
        return sizes.to(clip.device, kind)


def build(config: Config) -> EVAD:
    """An EVAD model with fresh weights."""
    return EVAD(config)
