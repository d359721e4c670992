"""Where everything lies below the storage root. The one place that knows paths; every value is an
fsspec URI.

A place is computed from dataset, id and key, never believed: what a ledger or a journal names is
another's word wherever somebody else can write to the store. `below` is the one assertion that a
path stays below its root.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from configs.schema import ConfigError, Dataset, TableName
from ops.files.storage import StorageError

# of a path: '', '.' and '..', backslashes and NUL; for `re` and Arrow's RE2 alike
UNSAFE_PARTS = r"(^|/)\.{0,2}(/|$)|[\\\x00]"
ARRAY_NAME = r"^[^./\\\x00][^/\\\x00]*\.zarr$"
_unsafe = re.compile(UNSAFE_PARTS).search


def is_safe(path: str) -> bool:
    """Whether a relative path, joined to a folder, stays below it on every machine: no empty, '.'
    or '..' part, backslash or NUL.
    """
    return _unsafe(path) is None


def below(root: str, path: str) -> str:
    """`<root>/<path>`. Raises StorageError for a path that would leave the root."""
    if _unsafe(path) is not None:
        raise StorageError(
            root,
            f"found the name {path!r}; allowed: one without empty, '.' or '..' parts, backslashes"
            " and NUL",
        )
    return f"{root}/{path}"


def arrays_of_ledger(ledger: str) -> str | None:
    """Folder of the arrays that a ledger of frames or features names; None for another kind of
    table.
    """
    store, manifest, _ = ledger.rpartition("/manifest/")
    return f"{store}/arrays" if manifest else None


def array_below(arrays: str, uri: str, video_id: str | None = None) -> str | None:
    """The place below a folder that a URI stands for, or None where it is none of that folder's.

    Args:
        arrays: the folder.
        uri: may have been written when the storage root lay elsewhere: what counts is the part
            below the root.
        video_id: whose array it must be; None is any video's.
    """
    rest = uri.removeprefix(f"{arrays}/")
    if rest == uri:
        # /frames/<dataset>/<configuration>/arrays/
        tail = "/".join(["", *arrays.split("/")[-4:], ""])
        rest = f"/{uri}".rpartition(tail)[2] if tail in f"/{uri}" else ""
    named, _, name = rest.rpartition("/")
    safe = bool(named) and is_safe(rest) and re.match(ARRAY_NAME, name) is not None
    return f"{arrays}/{rest}" if safe and video_id in (None, named) else None


@dataclass(frozen=True)
class Layout:
    """Paths below `root`, a local path or an s3:// URI without a trailing slash."""

    root: str

    def dataset_root(self, dataset: Dataset) -> str:
        """Folder of the dataset's own files, as its owner laid them out."""
        return self.placed(dataset.root).rstrip("/")

    def placed(self, uri: str) -> str:
        """A URI of a YAML, in which '{storage}' stands for the root and a '~' in front for the home
        folder; other braces are a name's.
        """
        return os.path.expanduser(uri.replace("{storage}", self.root))

    def videos_folder(self, dataset: Dataset) -> str:
        """Folder that ingest scans. Raises ConfigError for a dataset without video files."""
        if dataset.videos is None:
            allowed = "a folder below the root: it has features only, nothing to decode"
            raise ConfigError(f"dataset '{dataset.name}'", "videos", None, allowed)
        return f"{self.dataset_root(dataset)}/{dataset.videos}".rstrip("/")

    def video_table(self, dataset: str, bucket: int) -> str:
        """Parquet, one row per video file of the bucket."""
        return f"{self.root}/tables/{dataset}/videos/{bucket:04d}.parquet"

    def annotation_table(self, dataset: str, table: TableName) -> str:
        """Parquet, one row per good annotation."""
        return f"{self.root}/tables/{dataset}/{table}.parquet"

    def problem_table(self, dataset: str) -> str:
        """Parquet, one row per refused annotation row: file, line, field, found, reason."""
        return f"{self.root}/tables/{dataset}/problems.parquet"

    def manifest(self, dataset: str, frames_key: str, bucket: int) -> str:
        """Parquet ledger of the bucket's stored videos; what it does not name does not exist."""
        return f"{self.root}/frames/{dataset}/{frames_key}/manifest/{bucket:04d}.parquet"

    def frames(self, dataset: str, frames_key: str, video_id: str, key: str) -> str:
        """Zarr array of one video; `key` is its ledger key, so that another content or code version
        lies elsewhere.

        Raises StorageError for an id that would leave the folder; `features` too.
        """
        return below(f"{self.root}/frames/{dataset}/{frames_key}/arrays", f"{video_id}/{key}.zarr")

    def entries_table(self, dataset: str) -> str:
        """Parquet, one row per annotated video, table and split."""
        return f"{self.root}/tables/{dataset}/entries.parquet"

    def excluded_table(self, dataset: str) -> str:
        """Parquet, one row per key frame that must not count."""
        return f"{self.root}/tables/{dataset}/excluded.parquet"

    def features_manifest(self, dataset: str, features_key: str, bucket: int) -> str:
        """Parquet ledger of the bucket's feature arrays; what it does not name does not exist."""
        return f"{self.root}/features/{dataset}/{features_key}/manifest/{bucket:04d}.parquet"

    def features(self, dataset: str, features_key: str, video_id: str, key: str) -> str:
        """Zarr array [T, C] of one video."""
        return below(
            f"{self.root}/features/{dataset}/{features_key}/arrays", f"{video_id}/{key}.zarr"
        )

    def actions(self, dataset: str, model_key: str) -> str:
        """Parquet, one row per video: the action that one recognition model names."""
        return f"{self.root}/actions/{dataset}/{model_key}.parquet"

    def run(self, recipe: str, run_key: str) -> str:
        """Folder of one training: checkpoints, MLflow run id, final weights, completion record."""
        return f"{self.root}/runs/{recipe}-{run_key}"
