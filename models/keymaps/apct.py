"""Names of an APCT's tensors. No checkpoint of the authors is public: ours are the original names.
What a DETR's become is here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from models.checkpoints import PublishedWeightsError
from models.keymaps.detr import shared_names
from models.weights import Report, fit

COCO_PERSON = 1
"""Row of the class "person" in a classifier for COCO's 91 labels, whose last row is "no object"."""


def original_names(model: nn.Module) -> dict[str, str]:
    """Our key -> the same key, for every tensor."""
    return {key: key for key in model.state_dict()}


def detr_names(model: nn.Module) -> dict[str, str]:
    """Our key -> key of a DETR's checkpoint with the same shape, where APCT has a tensor of the
    same meaning.

    Only the first layer's offsets of a cascade answer from zeros, as DETR's boxes do; the others
    take its hidden layers, and their last ones stay zero. The classifier is not here: `person`
    comes from two of its rows (see `init_from`).
    """
    names = shared_names(model)
    for index, offsets in enumerate(model.offsets):  # type: ignore[arg-type]
        keys = list(offsets.box.state_dict())
        last = keys[-1].rpartition(".")[0]
        names |= {
            f"offsets.{index}.box.{key}": f"bbox_embed.{key}"
            for key in keys
            if index == 0 or not key.startswith(last)
        }
    return names


def init_from(model: nn.Module, found: Mapping[str, Any], source: str) -> Report | None:
    """Starts a model from what fits of a DETR's checkpoint; None for a checkpoint of another
    network.

    `person` is the classifier's row of persons less that of no object, which makes the sigmoid the
    share of the two; `queries` are the first ones where there are fewer. The rest stays fresh.

    Args:
        model: takes the weights; unchanged where anything does not fit.
        found: the checkpoint, original key to tensor.
        source: where it is, for the report.

    Raises:
        PublishedWeightsError: half a DETR.
    """
    if "class_embed.weight" not in found:
        return None
    found = {key: value for key, value in found.items() if isinstance(value, Tensor)}
    if "class_embed.bias" not in found or "query_embed.weight" not in found:
        raise PublishedWeightsError(
            f"{source}: found {len(found)} tensors, no class_embed.bias or query_embed.weight;"
            " expected a DETR's"
        )
    names = detr_names(model) | {
        f"heads.person.{leaf}": f"class_embed.{leaf}" for leaf in ("weight", "bias")
    }
    state = model.state_dict()
    fitting = {
        ours: key
        for ours, key in names.items()
        if key in found and _of_detr(key, found[key], state[ours]).shape == state[ours].shape
    }
    optional = dict.fromkeys(state, "not as in a DETR")
    return fit(
        model,
        found,
        fitting,
        source=source,
        kind="a DETR",
        optional=optional,
        unused=lambda _: True,
        adapt=_of_detr,
    )


def _of_detr(key: str, value: Tensor, ours: Tensor) -> Tensor:
    if key.startswith("class_embed."):
        return value[COCO_PERSON : COCO_PERSON + 1] - value[-1:]
    return value[: len(ours)] if key == "query_embed.weight" else value
