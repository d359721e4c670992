"""EVAD's classification branch: what each actor does, from its region over time and from the tokens
that were kept.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks.pruning import positions, recompute
from models.blocks.roi import Maps, pool
from models.blocks.vit import Block, drop_rates
from models.detection._encoder import Encoded

BINS = 7


class RefinementBlock(Block):
    """A block over context and actors, with its own action head on the actors."""

    def __init__(
        self, channels: int, heads: int, hidden: int, num_classes: int, drop_path: float
    ) -> None:
        super().__init__(channels, heads, "qv", drop_path=drop_path)
        self.act_module = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.LayerNorm(hidden), nn.ReLU(inplace=True)
        )
        self.action_logits = nn.Linear(hidden, num_classes)

    def refine(self, x: Tensor, actors: int) -> tuple[Tensor, Tensor]:
        """Lets context and actors look at each other.

        Args:
            x: tokens (B, N, C), the actors last.
            actors: how many those are.

        Returns:
            Tokens of the same shape, and the actors' logits (B, actors, classes).
        """
        x = self(x)
        return x, self.action_logits(self.act_module(x[:, -actors:]))

    def conclude(self, x: Tensor, actors: int) -> Tensor:
        """As `refine`, the logits alone: nobody reads the context after the last block, so only the
        actors go through it.
        """
        attention = self.attn
        q, k, v = (
            attention.project(self.norm1(x))
            .unflatten(2, (3, attention.heads, -1))
            .permute(2, 0, 3, 1, 4)
        )
        looked = F.scaled_dot_product_attention(q[:, :, -actors:], k, v).transpose(1, 2).flatten(2)
        x = x[:, -actors:] + self.drop_path(attention.proj(looked))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return self.action_logits(self.act_module(x))


class ActionBranch(nn.Module):
    """Boxes and encoded tokens -> action logits after every block of the context refinement
    decoder.

    The map of the whole clip is restored from the kept tokens, with one learned token wherever one
    was dropped; regions of it, each box widened and taken over all time, start the actors.

    Args:
        in_channels: of the encoder's tokens.
        channels: of this decoder's.
        depth: blocks.
        heads: of each block's attention.
        hidden: width of each block's action head.
        num_classes: of actions.
        drop_path: rate of the last block; rises evenly from 0.
        side: patches along a side of the pretraining's images, for positions.
        key_slot: time slot of the key frame.
        patch: a token's side in input pixels.
        extension: what boxes grow by as shares of width and height, both sides together.
        in_place: puts every kept token back where it came from. Published models do not: they fill
            the kept places in time order with the tokens by falling score, and their weights count
            on it.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        depth: int,
        heads: int,
        hidden: int,
        num_classes: int,
        drop_path: float,
        side: int,
        key_slot: int,
        patch: int,
        extension: tuple[float, float],
        in_place: bool,
    ) -> None:
        super().__init__()
        self.side, self.key_slot, self.patch, self.extension, self.in_place = (
            side,
            key_slot,
            patch,
            extension,
            in_place,
        )
        self.save_memory = False
        self.mask_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.encoder_to_decoder = nn.Linear(in_channels, channels, bias=False)
        rates = drop_rates(drop_path, depth)
        self.blocks = nn.ModuleList(
            RefinementBlock(channels, heads, hidden, num_classes, rate) for rate in rates
        )

    def forward(self, encoded: Encoded, boxes: Tensor, sizes: Tensor) -> list[Tensor]:
        """Logits (B, Q, classes) of each block.

        Args:
            encoded: of the same clips.
            boxes: (B, Q, 4) xyxy in input pixels; no gradient reaches them.
            sizes: (B, 2) height and width of the unpadded images, in pixels.
        """
        context, whole = self._restore(encoded)
        actors = self._regions(whole, encoded.grid, self.extended(boxes.detach(), sizes))
        queries, logits = boxes.shape[1], []
        x = torch.cat([context, actors], 1)
        saving = self.save_memory and self.training and torch.is_grad_enabled()
        for block in self.blocks[:-1]:
            assert isinstance(block, RefinementBlock)
            x, said = recompute(block.refine, x, queries) if saving else block.refine(x, queries)
            logits.append(said)
        last = self.blocks[-1]
        assert isinstance(last, RefinementBlock)
        logits.append(recompute(last.conclude, x, queries) if saving else last.conclude(x, queries))
        return logits

    def _restore(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Kept tokens with positions (B, N, C), and the whole clip's map with positions (B, slots,
        h * w, C).
        """
        slots, height, width = encoded.grid
        places, start = height * width, self.key_slot * height * width
        x = self.encoder_to_decoder(encoded.tokens)
        batch, _, channels = x.shape
        table = positions(slots, self.side, height, width, x)
        place = encoded.kept if self.in_place else encoded.kept.sort(1).values
        index = place[:, :, None].expand(-1, -1, channels)
        others = (
            self.mask_token.to(x.dtype)
            .expand(batch, (slots - 1) * places, -1)
            .scatter(1, index, x[:, places:])
        )
        whole = torch.cat([others[:, :start], x[:, :places], others[:, start:]], 1) + table
        others_positions = torch.cat([table[:, :start], table[:, start + places :]], 1).expand(
            batch, -1, -1
        )
        seen = torch.cat(
            [
                table[:, start : start + places].expand(batch, -1, -1),
                others_positions.gather(1, index),
            ],
            1,
        )
        return x + seen, whole.unflatten(1, (slots, places))

    def _regions(self, whole: Tensor, grid: tuple[int, int, int], boxes: Tensor) -> Tensor:
        """Boxes (B, Q, 4) -> (B, Q, C): the strongest of 7 x 7 bins in each time slot, averaged
        over time.
        """
        slots, height, width = grid
        batch, queries = boxes.shape[:2]
        device = boxes.device
        # a box covers the same places in all slots, so the slots are pooled as if they were
        # channels
        maps = Maps(
            whole.transpose(1, 2).reshape(batch * height * width, -1),
            torch.zeros(1, dtype=torch.int64, device=device),
            torch.tensor([[width, height]], device=device),
            torch.tensor([1 / self.patch], device=device),
        )
        image = torch.arange(batch, device=device).repeat_interleave(queries)
        bins = pool(maps, boxes.flatten(0, 1), image, torch.zeros_like(image), BINS)
        return bins.amax(1).unflatten(1, (slots, -1)).mean(1).unflatten(0, (batch, queries))

    def extended(self, boxes: Tensor, sizes: Tensor) -> Tensor:
        """Boxes widened by shares of their width and height, half on each side, within the image.

        A box from x1 to x2 counts as x2 - x1 + 1 pixels wide and ends at the last pixel's number,
        as in the published models.

        Args:
            boxes: (B, Q, 4) xyxy in input pixels.
            sizes: (B, 2) height and width of the unpadded images, in pixels.
        """
        low, high = boxes[..., :2], boxes[..., 2:]
        margin = (high - low + 1) * boxes.new_tensor(self.extension) / 2
        last = sizes.to(boxes).flip(-1)[:, None] - 1
        grown = [torch.minimum(edge.clamp(min=0), last) for edge in (low - margin, high + margin)]
        return torch.cat(grown, -1)
