"""An evaluation on disk, beside the weights that it scored. `evaluation.json` is written last, and without it nothing counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ops.store.files import read_bytes, remove, write_bytes
from ops.store.tables import read_table, write_table

RECORD, PREDICTIONS = "evaluation.json", "predictions.parquet"


@dataclass(frozen=True)
class Evaluation:
    """One model on one frozen evaluation set of `num_samples` clips, videos, key frames or frames (`noun`).

    `pictures` (PNG) and `files` map file names to URIs.
    """

    metrics: dict[str, float]
    per_class: dict[str, float]
    eval_set: str
    num_samples: int
    predictions_uri: str
    pictures: dict[str, str]
    seconds: float
    noun: str = "clips"
    files: dict[str, str] = field(default_factory=dict)
    reused: bool = field(default=False, compare=False)

    def rows(self) -> pa.Table:
        """Predictions, in the schema of the task's evaluation."""
        return read_table(self.predictions_uri)


def folder_of(weights_uri: str, eval_set: str) -> str:
    """Where the evaluation of these weights on this set is kept."""
    return f"{weights_uri.rpartition('/')[0]}/evaluation/{eval_set}"


def kept(folder: str, identity: str) -> Evaluation | None:
    """What the folder holds, if it is of this identity (weights, recipe, split) and whole."""
    try:
        record = json.loads(read_bytes(f"{folder}/{RECORD}"))
    except FileNotFoundError:
        return None
    return _evaluation(folder, record, reused=True) if record["identity"] == identity else None


def keep(
    folder: str,
    identity: str,
    *,
    eval_set: str,
    noun: str,
    num_samples: int,
    metrics: Mapping[str, float],
    per_class: Mapping[str, float],
    predictions: pa.Table,
    pictures: Mapping[str, bytes],
    seconds: float,
    files: Mapping[str, bytes] | None = None,
) -> Evaluation:
    """Write everything, the record last: without it nothing counts. Raises StorageError."""
    files = files or {}
    remove(f"{folder}/{RECORD}")  # of other weights
    write_table(f"{folder}/{PREDICTIONS}", predictions)
    for name, data in {**pictures, **files}.items():
        write_bytes(f"{folder}/{name}", data)
    record = {
        "identity": identity,
        "eval_set": eval_set,
        "noun": noun,
        "num_samples": num_samples,
        "metrics": dict(metrics),
        "per_class": dict(per_class),
        "pictures": list(pictures),
        "files": list(files),
        "seconds": round(seconds, 3),
    }
    write_bytes(f"{folder}/{RECORD}", json.dumps(record, indent=1).encode())
    return _evaluation(folder, record, reused=False)


def _evaluation(folder: str, record: dict[str, Any], reused: bool) -> Evaluation:
    return Evaluation(
        metrics=record["metrics"],
        per_class=record["per_class"],
        eval_set=record["eval_set"],
        num_samples=record["num_samples"],
        predictions_uri=f"{folder}/{PREDICTIONS}",
        pictures={name: f"{folder}/{name}" for name in record["pictures"]},
        seconds=record["seconds"],
        noun=record["noun"],
        files={name: f"{folder}/{name}" for name in record["files"]},
        reused=reused,
    )
