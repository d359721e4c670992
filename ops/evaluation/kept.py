"""An evaluation on disk, beside the weights that it scored. `evaluation.json` is written last, and without it nothing counts."""

from __future__ import annotations

import json
import time
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


@dataclass(frozen=True)
class Record:
    """Where the evaluation of some weights on one frozen set is kept, and what it is of.

    `owner` is the folder of the weights; `identity` hashes weights, recipe and split: what was kept for others does not count. The
    seconds that are kept count from when this was made.
    """

    owner: str
    identity: str
    eval_set: str
    began: float = field(default_factory=time.monotonic, compare=False)

    @property
    def folder(self) -> str:
        """Everything of the evaluation lies here."""
        return f"{self.owner}/evaluation/{self.eval_set}"

    def kept(self) -> Evaluation | None:
        """What the folder holds, if it is of this identity and whole."""
        try:
            record = json.loads(read_bytes(f"{self.folder}/{RECORD}"))
        except (FileNotFoundError, ValueError):  # cut short: it is made again
            return None
        own = isinstance(record, dict) and record.get("identity") == self.identity
        return _evaluation(self.folder, record, reused=True) if own else None

    def keep(
        self,
        *,
        noun: str,
        num_samples: int,
        metrics: Mapping[str, float],
        per_class: Mapping[str, float],
        predictions: pa.Table,
        pictures: Mapping[str, bytes],
        files: Mapping[str, bytes] | None = None,
    ) -> Evaluation:
        """Write everything, the record last: without it nothing counts. Raises StorageError."""
        files = files or {}
        remove(f"{self.folder}/{RECORD}")  # of other weights
        write_table(f"{self.folder}/{PREDICTIONS}", predictions)
        for name, data in {**pictures, **files}.items():
            write_bytes(f"{self.folder}/{name}", data)
        record = {
            "identity": self.identity,
            "eval_set": self.eval_set,
            "noun": noun,
            "num_samples": num_samples,
            "metrics": dict(metrics),
            "per_class": dict(per_class),
            "pictures": list(pictures),
            "files": list(files),
            "seconds": round(time.monotonic() - self.began, 3),
        }
        write_bytes(f"{self.folder}/{RECORD}", json.dumps(record, indent=1).encode())
        return _evaluation(self.folder, record, reused=False)


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
