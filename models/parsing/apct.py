"""APCT: action parsing with a cascaded transformer (Zhang et al., third place of the Kinetics-TPS
track, DeeperAction at ECCV 2022).

A DETR whose queries are persons with K part boxes and K part states each. In the cascade each
decoder layer answers with offsets to the answers of the one before it, and is told them; the
refinement reads the predicted boxes and says the states again. No code of the authors is public.
What their report leaves open is chosen here:

- references: a person's box is the sigmoid of a sum of offsets, so that zeros are the middle of the
  image; a part's centre is the person's plus an offset in units of the person's size, its size the
  person's times twice a sigmoid, so that zeros are the whole person. Gradients go through
  references, so that a layer learns from what the later ones make of its boxes too; none goes from
  parts to the person they are measured by. Without the cascade every layer answers from zeros, with
  the same heads.
- conditioning: a layer's input is the answer of the one before plus a projection of what the
  encoded image holds at the centres of the boxes that it gave, the person's and each part's: it
  looks again where they are said to be.
- heads: persons and states are told by the same heads in all layers, offsets by each layer's own;
  those behind the first start with offsets of zero.
- states: one vocabulary of S states for all parts. The refinement adds to the decoder's states; it
  sees the last layer's predicted boxes in training as in use, of all queries.
- queries: 100 as DETR has, so that its weights for COCO are a start for all of them (see
  `models.keymaps.apct.init_from`).

Boxes are cxcywh in fractions of an image's own, unpadded width and height. L decoder layers, B
images, Q queries, K parts, S states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.boxes import to_corners
from models.blocks.image_encoder import (
    NORMS,
    STRIDES,
    ImageEncoder,
    Memory,
    agree_heads,
    require_images,
    resnet,
)
from models.blocks.resnet2d import BLOCKS, ResNet2d
from models.blocks.swin import SwinFrames
from models.blocks.transformer import MLP, Decoder
from models.config import AtLeast, Checked, Count, OneOf, Rate
from models.errors import ModelInputError
from models.parsing._apct_criterion import Criterion, Losses, Parsed, People, Weights, totals
from models.parsing._refinement import Refinement

__all__ = [
    "APCT",
    "LADDER",
    "TINY",
    "Config",
    "Criterion",
    "Losses",
    "Parsed",
    "People",
    "Persons",
    "Weights",
    "build",
    "decode",
    "totals",
]
TRUNKS = ("resnet", "swin_base")


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of an APCT. Raises ModelConfigError with field, found and allowed.

    Depth, width, norm and stride are a ResNet's (see `models.blocks.image_encoder.resnet`).

    Attributes:
        num_classes: S, the states of all parts.
        refine_layers: of the refinement; 0 leaves it out.
    """

    num_classes: Count
    num_parts: Count = 10
    trunk: Annotated[str, OneOf(TRUNKS)] = "resnet"
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    norm: Annotated[str, OneOf(NORMS)] = "frozen"
    stride: Annotated[int, OneOf(STRIDES)] = 32
    channels: Count = 256
    heads: Count = 8
    hidden: Count = 2048
    encoder_layers: Count = 6
    decoder_layers: Count = 6
    queries: Count = 100
    dropout: Rate = 0.1
    cascade: bool = True
    refine_layers: Annotated[int, AtLeast(0)] = 2

    def agree(self) -> None:
        if self.trunk == "swin_base" and self.stride != 32:
            self.refuse("stride", "32 with trunk swin_base")
        agree_heads(self, self.channels, self.heads)


LADDER: dict[str, dict[str, Any]] = {
    "baseline": {"cascade": False, "refine_layers": 0},
    "cascade": {"refine_layers": 0},
    "refinement": {},
    "swin_base": {"trunk": "swin_base"},
}
"""The rows of the report's table 2 as model sections, each one step above the one before. The last
row, 2x, is a schedule.
"""

TINY = Config(
    num_classes=5,
    num_parts=3,
    depth=10,
    width=8,
    norm="batch",
    stride=16,
    channels=32,
    heads=2,
    hidden=64,
    queries=6,
    encoder_layers=1,
    decoder_layers=2,
    refine_layers=1,
    dropout=0.0,
)


class Persons(NamedTuple):
    """One image's persons, best first; P is at most the number asked for.

    scores: (P,). boxes: (P, 4) and parts: (P, K, 4) xyxy in pixels, inside the image. states: (P,
    K, N) int64 and state_scores: (P, K, N): the N best states of each part, best first, each a
    proposal with that part's box.
    """

    scores: Tensor
    boxes: Tensor
    parts: Tensor
    states: Tensor
    state_scores: Tensor


class Heads(nn.Module):
    """A decoder layer's answer (B, Q, C) -> logits of persons (B, Q) and of states (B, Q, K, S)."""

    def __init__(self, channels: int, parts: int, states: int) -> None:
        super().__init__()
        self.shape = (parts, states)
        self.person, self.state = nn.Linear(channels, 1), MLP(channels, channels, parts * states, 2)
        # each state as likely as the others
        nn.init.constant_(self.state.last().bias, -math.log(states))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.person(x)[..., 0], self.state(x).unflatten(-1, self.shape)


class Offsets(nn.Module):
    """A decoder layer's answer (B, Q, C) -> offsets of persons (B, Q, 4) and of parts (B, Q, K,
    4).
    """

    def __init__(self, channels: int, parts: int, zero_init: bool) -> None:
        super().__init__()
        self.parts = parts
        self.box, self.part = MLP(channels, channels, 4, 3), MLP(channels, channels, 4 * parts, 3)
        for head in (self.box, self.part) if zero_init else ():
            nn.init.zeros_(head.last().weight)
            nn.init.zeros_(head.last().bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.box(x), self.part(x).unflatten(-1, (self.parts, 4))


class Reading(nn.Module):
    """The encoded image at the centres of boxes (B, Q, 4) and parts (B, Q, K, 4), cxcywh fractions
    -> (B, Q, C). Boxes get no gradient.
    """

    def __init__(self, channels: int, parts: int) -> None:
        super().__init__()
        self.project = nn.Linear((1 + parts) * channels, channels)
        nn.init.zeros_(self.project.weight)  # a cascade starts as the DETR that it may come from
        nn.init.zeros_(self.project.bias)

    def forward(self, memory: Memory, inside: Tensor, boxes: Tensor, parts: Tensor) -> Tensor:
        """The encoded image at the centres of boxes.

        Args:
            memory: of the same images.
            inside: (B, 2), the shares of the padded image's width and height that each image takes.
            boxes: (B, Q, 4) cxcywh fractions of the image; get no gradient.
            parts: (B, Q, K, 4) cxcywh fractions of the image; get no gradient.

        Returns:
            (B, Q, C).
        """
        centres = (
            torch.cat([boxes[:, :, None, :2], parts[..., :2]], 2).detach() * inside[:, None, None]
        )
        maps = memory.tokens.transpose(1, 2).unflatten(2, memory.size)
        found = F.grid_sample(
            maps, (2 * centres - 1).to(maps.dtype), padding_mode="border", align_corners=False
        )
        return self.project(found.permute(0, 2, 3, 1).flatten(2))


class APCT(nn.Module):
    """A scene, a decoder with heads, what tells a layer of the one before, and the refinement; see
    the module.

    `idle` cannot reach the answer: the decoder starts from zeros, and attention has nothing to
    choose from in them.
    """

    idle = ("decoder.layers.0.self_attn.in_proj_weight",)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels, parts, states = config.channels, config.num_parts, config.num_classes
        layer = (channels, config.heads, config.hidden, config.dropout)
        trunk = (
            SwinFrames()
            if config.trunk == "swin_base"
            else resnet(config.depth, config.width, config.norm, config.stride)
        )
        self.scene = ImageEncoder(trunk, config.encoder_layers, *layer)
        self.queries = nn.Embedding(config.queries, channels)
        self.decoder = Decoder(config.decoder_layers, *layer)
        later = config.decoder_layers - 1 if config.cascade else 0
        self.heads = Heads(channels, parts, states)
        self.offsets = nn.ModuleList(
            [Offsets(channels, parts, zero_init=index > 0) for index in range(1 + later)]
        )
        self.readings = nn.ModuleList([Reading(channels, parts) for _ in range(later)])
        finer = _second_stage(trunk)
        self.refinement = (
            Refinement(config.refine_layers, *layer, finer, parts, states)
            if config.refine_layers
            else None
        )

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Parsed:
        """Persons with their parts and states, after every decoder layer.

        Args:
            images: (B, 3, H, W) float, normalised RGB.
            padding: (B, H, W) bool, True where there is no image; None where all of it is.

        Raises:
            ModelInputError: they are something else.
        """
        require_images("apct", images, padding)
        memory = self.scene(images, padding)
        persons, boxes, parts, states, answer = self._decoded(
            memory, memory.extent / memory.extent.new_tensor(images.shape[:1:-1])
        )
        refined = states[-1].detach()
        if self.refinement is not None:
            refined = refined + self.refinement(memory, answer, boxes[-1], parts[-1])
        return Parsed(persons, boxes, parts, states, refined)

    def _decoded(
        self, memory: Memory, inside: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """All layers' persons, boxes, parts and states, and the last layer's answer (B, Q, C)."""
        # len() would fix it in an export
        own = self.queries.weight[None].expand(memory.tokens.shape[0], -1, -1)
        x, zeros = torch.zeros_like(own), memory.tokens.new_zeros(())
        box, part = (
            zeros.expand(*own.shape[:2], 4),
            zeros.expand(*own.shape[:2], self.config.num_parts, 4),
        )
        said: list[tuple[Tensor, ...]] = []
        for index, layer in enumerate(self.decoder.layers):
            if index and self.config.cascade:
                x = x + self.readings[index - 1](memory, inside, *said[-1][1:3])
            x = layer(x, own, memory.tokens, memory.keys, memory.bias)
            answer = self.decoder.norm(x)
            (person, state), offsets = (
                self.heads(answer),
                self.offsets[index if self.config.cascade else 0](answer),
            )
            new_box, new_part = box + offsets[0], part + offsets[1]
            said.append((person, *_boxes(new_box, new_part), state))
            if self.config.cascade:
                box, part = new_box, new_part
        persons, boxes, parts, states = (torch.stack(column) for column in zip(*said, strict=True))
        return persons, boxes, parts, states, answer


def _boxes(box: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """Summed offsets -> persons and parts, cxcywh fractions of the image."""
    persons = box.sigmoid()
    person = persons.detach()[..., None, :]
    centre, size = (
        person[..., :2] + part[..., :2] * person[..., 2:],
        person[..., 2:] * 2 * part[..., 2:].sigmoid(),
    )
    return persons, torch.cat([centre, size], -1)


def _second_stage(trunk: ResNet2d | SwinFrames) -> int:
    """Channels of the map with cells of 8 pixels."""
    return trunk.out_channels // 4


def decode(
    parsed: Parsed,
    sizes: Tensor,
    *,
    persons: int = 10,
    proposals: int = 1,
    min_score: float = 0.0,
    allowed: Tensor | None = None,
) -> list[Persons]:
    """Each image's best persons.

    Args:
        parsed: of the model; the last layer and the refined states count.
        sizes: (B, 2), height and width in pixels that the boxes are wanted in.
        persons: how many of an image are given at most.
        proposals: states named for each part; Acc^p divides the credit of a part by their number,
            so that one is best where scores can be trusted.
        min_score: the least score of a person, from 0 to 1.
        allowed: (K, S) bool, the states that a part can have, at least `proposals` for each; None
            allows all.

    Raises:
        ModelInputError: sizes, proposals or allowed states that do not fit.
    """
    _, images, _queries, parts, states = parsed.states.shape
    if tuple(sizes.shape) != (images, 2):
        raise ModelInputError(
            f"apct: sizes: found {tuple(sizes.shape)}; expected ({images}, 2), height and width"
        )
    if not 1 <= proposals <= states:
        raise ModelInputError(
            f"apct: proposals: found {proposals}; expected 1 to {states}, the number of states"
        )
    if allowed is not None and (
        tuple(allowed.shape) != (parts, states) or int(allowed.sum(1).min()) < proposals
    ):
        raise ModelInputError(
            f"apct: allowed: found {tuple(allowed.shape)}; expected ({parts}, {states}) with"
            f" {proposals} or more a part"
        )
    chances = parsed.refined.float().sigmoid()
    if allowed is not None:
        chances = chances.masked_fill(~allowed.to(chances.device), -1.0)
    best, order = parsed.persons[-1].float().sigmoid().sort(dim=-1, descending=True, stable=True)
    limit = sizes.to(parsed.boxes.device).flip(1).repeat(1, 2).float()
    found = []
    for image in range(images):
        kept = order[image, :persons][best[image, :persons] >= min_score]
        scores = best[image, : len(kept)]
        boxes, part_boxes = (
            to_corners(of[-1][image, kept].float()).clamp(0, 1) * limit[image]
            for of in (parsed.boxes, parsed.parts)
        )
        state_scores, named = chances[image, kept].topk(proposals, -1)
        found.append(Persons(scores, boxes, part_boxes, named, state_scores))
    return found


def build(config: Config) -> APCT:
    """An APCT with fresh weights."""
    return APCT(config)
