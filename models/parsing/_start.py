"""A trained DETR's weights as the start of an APCT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.checkpoints import PublishedWeightsError, read_checkpoint
from models.keymaps.apct import COCO_PERSON, start_names
from models.weights import unwrap


@dataclass(frozen=True)
class Start:
    """What an APCT took from a DETR. `loaded` and `fresh` are keys of the APCT; `unused` are keys of the DETR's checkpoint."""

    source: str
    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors of a DETR are the start of {len(self.loaded) + len(self.fresh)}"]
        for title, keys in (("loaded", self.loaded), ("fresh", self.fresh), ("not used", self.unused)):
            lines += [f"  {title}: {_places(keys)}"] if keys else []
        return "\n".join(lines)


def load_detr(model: nn.Module, source: Mapping[str, Any] | str | Path) -> Start:
    """Loads what fits of a DETR's checkpoint in its original key names into an APCT, and says what; the rest stays fresh.

    `person` is the classifier's row of persons less that of no object, which makes the sigmoid the share of the two; `queries` are the
    first ones where there are fewer. Raises PublishedWeightsError for a checkpoint of no DETR, FileNotFoundError.
    """
    where = str(source) if isinstance(source, (str, Path)) else "mapping"
    read = unwrap(read_checkpoint(source) if isinstance(source, (str, Path)) else source)
    found = {key: value for key, value in read.items() if isinstance(value, Tensor)}
    if "class_embed.weight" not in found or "query_embed.weight" not in found:
        raise PublishedWeightsError(f"{where}: found {len(found)} tensors, no class_embed.weight or query_embed.weight; expected a DETR's")
    state, used, taken = model.state_dict(), {"class_embed.weight", "class_embed.bias"}, {}
    for ours, original in start_names(model).items():
        value = found.get(original)
        if value is not None and ours == "queries.weight":
            value = value[: len(state[ours])]
        if value is not None and value.shape == state[ours].shape:
            taken[ours] = value
            used.add(original)
    for leaf in ("weight", "bias"):
        rows = found[f"class_embed.{leaf}"]
        person = rows[COCO_PERSON : COCO_PERSON + 1] - rows[-1:]
        if state[f"heads.person.{leaf}"].shape == person.shape:
            taken[f"heads.person.{leaf}"] = person
    model.load_state_dict(taken, strict=False)
    fresh = tuple(key for key in state if key not in taken and not key.endswith("num_batches_tracked"))
    return Start(where, tuple(taken), fresh, tuple(key for key in found if key not in used))


def _places(keys: Iterable[str]) -> str:
    """Keys as places with their numbers: scene.trunk.layer1 (50), ..."""
    counted = [(place, len(list(group))) for place, group in groupby(sorted(keys), key=lambda key: ".".join(key.split(".")[:3]))]
    return ", ".join(f"{place} ({number})" if number > 1 else place for place, number in counted)
