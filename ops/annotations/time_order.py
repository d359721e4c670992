"""Labels that are each other played backwards, as a dataset's own file names them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from configs.schema import ConfigError, Dataset
from ops.files.storage import read_bytes
from ops.store.layout import Layout

Pairs = list[tuple[str, str]]
PAIRS_FILE = "annotations/time_order_pairs.json"


def read_pairs(layout: Layout, dataset: Dataset, labels: Sequence[str]) -> Pairs:
    """Pairs of labels that are each other played backwards, from the dataset's own folder; none
    without the file.

    Raises ConfigError when the file is not a JSON list of two known labels each.
    """
    uri = f"{layout.dataset_root(dataset)}/{PAIRS_FILE}"
    try:
        found = json.loads(read_bytes(uri))
    except FileNotFoundError:
        return []
    except ValueError as error:
        raise ConfigError(
            uri, "(whole file)", str(error), "JSON: a list of pairs of labels"
        ) from error
    if not isinstance(found, list):
        raise ConfigError(uri, "(whole file)", type(found).__name__, "a list of pairs of labels")
    for index, pair in enumerate(found):
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or pair[0] == pair[1]
            or not set(pair) <= set(labels)
        ):
            raise ConfigError(
                uri, f"[{index}]", pair, f"two different labels out of {', '.join(labels)}"
            )
    return [(first, second) for first, second in found]
