"""Names of an APCT's tensors. No checkpoint of the authors is public: ours are the original names. What a DETR's become is here too."""

from __future__ import annotations

from torch import nn

from models.keymaps.detr import shared_names

COCO_PERSON = 1
"""Row of the class "person" in a classifier for COCO's 91 labels, whose last row is "no object"."""


def original_names(model: nn.Module) -> dict[str, str]:
    """Our key -> the same key, for every tensor."""
    return {key: key for key in model.state_dict()}


def start_names(model: nn.Module) -> dict[str, str]:
    """Our key -> key of a DETR's checkpoint with the same shape, where APCT has a tensor of the same meaning.

    Only the first layer's offsets of a cascade answer from zeros, as DETR's boxes do; the others take its hidden layers, and their last
    ones stay zero.
    The classifier is not here: `person` comes from two of its rows (see `models.parsing.apct.load_detr`).
    """
    names = shared_names(model)
    for index, offsets in enumerate(model.offsets):  # type: ignore[arg-type]
        keys = list(offsets.box.state_dict())
        last = keys[-1].rpartition(".")[0]
        names |= {f"offsets.{index}.box.{key}": f"bbox_embed.{key}" for key in keys if index == 0 or not key.startswith(last)}
    return names
