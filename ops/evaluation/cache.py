"""An evaluation on disk, beside the weights that it scored. `evaluation.json` is written last, and
without it nothing counts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from configs.schema import Precision
from ops.files.storage import exists, read_bytes, remove, write_bytes
from ops.store.tables import read_table, write_table

RECORD, PREDICTIONS = "evaluation.json", "predictions.parquet"


@dataclass(frozen=True)
class Evaluation:
    """One model on one frozen evaluation set of `num_samples` clips, videos, key frames or frames
    (`sample_unit`), in one precision.

    `pictures` (PNG) and `files` map file names to URIs.
    """

    metrics: dict[str, float]
    per_class: dict[str, float]
    eval_set: str
    num_samples: int
    predictions_uri: str
    pictures: dict[str, str]
    seconds: float
    sample_unit: str
    precision: Precision
    files: dict[str, str] = field(default_factory=dict)
    reused: bool = field(default=False, compare=False)

    def rows(self) -> pa.Table:
        """Predictions, in the schema of the task's evaluation."""
        return read_table(self.predictions_uri)


class Results(NamedTuple):
    """What a task makes of a model's answers; `pictures` (PNG) and `files` are contents by file
    name.
    """

    num_samples: int
    metrics: Mapping[str, float]
    per_class: Mapping[str, float]
    predictions: pa.Table
    pictures: Mapping[str, bytes]
    files: Mapping[str, bytes] = {}


@dataclass(frozen=True)
class EvaluationCache:
    """Where the evaluation of some weights on one frozen set lies, and what it is of.

    `owner` is the folder of the weights; `identity` hashes weights, recipe and split: an evaluation
    of others does not count. The seconds that are noted count from when this was made. `unsaid` is
    what those are taken for that do not note their precision: of before, when it was the
    training's.
    """

    owner: str
    identity: str
    eval_set: str
    sample_unit: str
    precision: Precision = "fp32"
    unsaid: Precision = "fp32"
    began: float = field(default_factory=time.monotonic, compare=False)

    @property
    def folder(self) -> str:
        """Everything of the evaluation lies here."""
        return f"{self.owner}/evaluation/{self.eval_set}"

    def load(self) -> Evaluation | None:
        """What the folder holds, if it is of this identity and precision, and whole."""
        try:
            record = json.loads(read_bytes(f"{self.folder}/{RECORD}"))
        except (FileNotFoundError, ValueError):  # cut short: it is made again
            return None
        own = isinstance(record, dict) and record.get("identity") == self.identity
        same = own and record.setdefault("precision", self.unsaid) == self.precision
        if not same:
            return None
        try:
            found = _evaluation(self.folder, record, reused=True)
        except (KeyError, TypeError):  # of another form
            return None
        uris = (found.predictions_uri, *found.pictures.values(), *found.files.values())
        return found if all(map(exists, uris)) else None  # else somebody has removed a file

    def save(self, results: Results) -> Evaluation:
        """Write everything, the record last: without it nothing counts. Raises StorageError."""
        remove(f"{self.folder}/{RECORD}")  # of other weights
        write_table(f"{self.folder}/{PREDICTIONS}", results.predictions)
        for name, data in {**results.pictures, **results.files}.items():
            write_bytes(f"{self.folder}/{name}", data)
        record = {
            "identity": self.identity,
            "eval_set": self.eval_set,
            "precision": self.precision,
            "noun": self.sample_unit,
            "num_samples": results.num_samples,
            "metrics": dict(results.metrics),
            "per_class": dict(results.per_class),
            "pictures": list(results.pictures),
            "files": list(results.files),
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
        sample_unit=record["noun"],
        precision=record["precision"],
        files={name: f"{folder}/{name}" for name in record["files"]},
        reused=reused,
    )
