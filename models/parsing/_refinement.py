"""APCT's refinement of part states: parts look at the person they belong to, on a finer map than
the decoder's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.boxes import to_corners
from models.blocks.image_encoder import Memory
from models.blocks.positions import SinePositions, box_waves
from models.blocks.roi import roi_align
from models.blocks.transformer import DecoderLayer, spread

STRIDE = 8
PERSON_BINS, PART_BINS = 7, 3


class Refinement(nn.Module):
    """States (B, Q, K, S) from what RoIAlign reads in the predicted boxes of parts (queries) and of
    their person (keys and values).

    The map has the cells of the trunk's second stage, 8 pixels each: that stage, projected, plus
    the encoder's memory. A part's query is its RoI, its kind and the decoder's answer for its
    person; its position is its box within the person's. Parts of a person look at each other, then
    at the person, as a decoder's layers do.

    Args:
        layers: how many.
        channels: C of the memory and of the decoder's answers.
        heads: of each layer's attention.
        hidden: width of each layer's two-layer network.
        dropout: rate in training.
        map_channels: of the trunk's second stage.
        parts: K.
        states: S.
    """

    def __init__(  # noqa: ANN204
        self,
        layers: int,
        channels: int,
        heads: int,
        hidden: int,
        dropout: float,
        map_channels: int,
        parts: int,
        states: int,
    ):
        super().__init__()
        self.lateral = nn.Conv2d(map_channels, channels, 1)
        self.part = nn.Linear(PART_BINS**2 * channels, channels)
        self.person = nn.Linear(channels, channels)
        self.kinds = nn.Parameter(0.02 * torch.randn(parts, channels))
        self.place = nn.Linear(2 * channels, channels)
        self.positions = SinePositions(channels)
        self.layers = nn.ModuleList(
            [DecoderLayer(channels, heads, hidden, dropout, False) for _ in range(layers)]
        )
        spread(self.layers)
        self.norm = nn.LayerNorm(channels)
        self.states = nn.Linear(channels, states)
        nn.init.zeros_(self.states.weight)  # the states start as the decoder's
        nn.init.zeros_(self.states.bias)

    def forward(self, memory: Memory, answers: Tensor, boxes: Tensor, parts: Tensor) -> Tensor:
        """What to add to the states (B, Q, K, S). No gradient reaches the boxes.

        Args:
            memory: of the same images, with the trunk's maps.
            answers: (B, Q, C) of the last decoder layer.
            boxes: (B, Q, 4) cxcywh fractions of the image.
            parts: (B, Q, K, 4) cxcywh fractions of the image.
        """
        images, queries, kinds = parts.shape[:3]
        finer = self._finer(memory)
        boxes, parts = boxes.detach(), parts.detach()
        of_image = torch.arange(images, device=boxes.device)[:, None].expand(-1, queries)
        person = (
            _read(finer, boxes, of_image, memory.extent, PERSON_BINS).flatten(2).transpose(1, 2)
        )
        seen = _read(
            finer,
            parts.flatten(1, 2),
            of_image.repeat_interleave(kinds, 1),
            memory.extent,
            PART_BINS,
        )
        x = self.part(seen.flatten(1)).view(images * queries, kinds, -1)
        x = x + self.kinds + self.person(answers).flatten(0, 1)[:, None]
        inside = (parts[..., :2] - boxes[..., None, :2]) / boxes[..., None, 2:].clamp(
            min=1e-3
        ) + 0.5
        share = parts[..., 2:] / boxes[..., None, 2:].clamp(min=1e-3)
        where = self.place(
            box_waves(torch.cat([inside, share], -1), finer.shape[1]).to(x.dtype)
        ).flatten(0, 1)
        grid = self.positions(
            boxes.new_zeros((1, PERSON_BINS, PERSON_BINS), dtype=torch.bool)
        ).flatten(1, 2)
        keys = person + grid.to(person.dtype)
        for layer in self.layers:
            x = layer(x, where, person, keys)
        return self.states(self.norm(x)).unflatten(0, (images, queries))

    def _finer(self, memory: Memory) -> Tensor:
        """(B, C, H / 8, W / 8)."""
        stage = memory.maps[1]
        coarse = memory.tokens.transpose(1, 2).unflatten(2, memory.size)
        return self.lateral(stage) + F.interpolate(coarse, stage.shape[2:])


def _read(maps: Tensor, boxes: Tensor, of_image: Tensor, extent: Tensor, bins: int) -> Tensor:
    """Boxes (B, M, 4) cxcywh fractions, cut at the image's edges -> (B * M, C, bins, bins)."""
    corners = to_corners(boxes.float()).clamp(0, 1) * extent.float().repeat(1, 2)[:, None]
    return roi_align(maps, corners.flatten(0, 1), of_image.flatten(), bins, 1 / STRIDE)
