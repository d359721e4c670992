"""DETR (Carion et al., ECCV 2020): objects as a set that a transformer predicts, one from each
query.

Boxes are cxcywh in fractions of an image's own, unpadded width and height. L decoder layers, B
images, Q queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor, nn

from models.blocks.boxes import to_corners
from models.blocks.image_encoder import STRIDES, ImageEncoder, agree_heads, require_images, resnet
from models.blocks.positions import KINDS
from models.blocks.resnet2d import BLOCKS
from models.blocks.transformer import MLP, Decoder
from models.config import Checked, Count, OneOf, Rate
from models.errors import ModelInputError
from models.parsing._detr_criterion import Criterion, Losses, Objects, Truth, counts

__all__ = [
    "TINY",
    "Config",
    "Criterion",
    "Detr",
    "Found",
    "Losses",
    "Objects",
    "Truth",
    "build",
    "counts",
    "decode",
]


@dataclass(frozen=True)
class Config(Checked):
    """Numbers of a DETR. Raises ModelConfigError with field, found and allowed.

    Attributes:
        num_classes: 91 for COCO.
        stride: pixels per cell of the encoded map; 16 is the published DC5.
        pre_norm: normalises inputs of branches.
    """

    num_classes: Count
    depth: Annotated[int, OneOf(BLOCKS)] = 50
    width: Count = 64
    stride: Annotated[int, OneOf(STRIDES)] = 32
    positions: Annotated[str, OneOf(KINDS)] = "sine"
    pre_norm: bool = False
    channels: Count = 256
    heads: Count = 8
    hidden: Count = 2048
    encoder_layers: Count = 6
    decoder_layers: Count = 6
    queries: Count = 100
    dropout: Rate = 0.1

    def agree(self) -> None:
        agree_heads(self, self.channels, self.heads)


TINY = Config(
    num_classes=5,
    depth=10,
    width=8,
    stride=16,
    channels=32,
    heads=2,
    hidden=64,
    queries=6,
    encoder_layers=2,
    decoder_layers=2,
    dropout=0.0,
)


class Found(NamedTuple):
    """All queries of each image. scores: (B, Q). labels: (B, Q) int64. boxes: (B, Q, 4) xyxy in
    pixels, not clipped.
    """

    scores: Tensor
    labels: Tensor
    boxes: Tensor


class Detr(nn.Module):
    """A trunk, an encoder, a decoder and two heads that all decoder layers share.

    `idle` cannot reach the answer: the decoder starts from zeros, and attention and normalisation
    have nothing to choose from in them.
    """

    idle = ("decoder.layers.0.self_attn.in_proj_weight", "decoder.layers.0.norm1.weight")

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        layer = (channels, config.heads, config.hidden, config.dropout, config.pre_norm)
        trunk = resnet(config.depth, config.width, "frozen", config.stride)
        self.scene = ImageEncoder(
            trunk, config.encoder_layers, *layer, positions_kind=config.positions
        )
        self.queries = nn.Embedding(config.queries, channels)
        self.decoder = Decoder(config.decoder_layers, *layer)
        self.classify = nn.Linear(channels, config.num_classes + 1)
        self.box = MLP(channels, channels, 4, 3)

    def forward(self, images: Tensor, padding: Tensor | None = None) -> Objects:
        """All objects of each image, after every decoder layer.

        Args:
            images: (B, 3, H, W) float, normalised RGB.
            padding: (B, H, W) bool, True where there is no image; None where all of it is.

        Raises:
            ModelInputError: they are something else.
        """
        require_images("detr", images, padding)
        memory = self.scene(images, padding)
        where = self.queries.weight[None].expand(images.shape[0], -1, -1)
        x, said = torch.zeros_like(where), []
        for layer in self.decoder.layers:
            x = layer(x, where, memory.tokens, memory.keys, memory.bias)
            said.append(self.decoder.norm(x))
        answers = torch.stack(said)
        return Objects(self.classify(answers), self.box(answers).sigmoid())


def decode(objects: Objects, sizes: Tensor) -> Found:
    """Each query's best class and box by the last layer.

    Args:
        objects: of the model; the last layer counts.
        sizes: (B, 2), height and width in pixels that the boxes are wanted in.

    Raises:
        ModelInputError: sizes of another shape.
    """
    logits, boxes = objects.logits[-1].float(), objects.boxes[-1].float()
    if sizes.shape != (len(logits), 2):
        raise ModelInputError(
            f"detr: sizes: found {tuple(sizes.shape)}; expected ({len(logits)}, 2), height and"
            " width"
        )
    scores, labels = logits.softmax(-1)[..., :-1].max(-1)
    scale = sizes.to(boxes).flip(1).repeat(1, 2)
    return Found(scores, labels, to_corners(boxes) * scale[:, None])


def build(config: Config) -> Detr:
    """A DETR with fresh weights."""
    return Detr(config)
