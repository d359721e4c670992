"""Annotation files on their way into tables, and which files the tables were read from."""

from __future__ import annotations

import hashlib

from configs import versions
from configs.schema import PROBLEM_KINDS, Dataset, content_hash
from ops.annotations.read import AnnotationReport, annotate
from ops.files.storage import list_files, read_bytes, remove, write_bytes
from ops.store.layout import Layout


def annotate_dataset(dataset: Dataset, layout: Layout) -> AnnotationReport:
    """Read the dataset's annotation files into tables, and note as which files they were read."""
    found = sources(dataset, layout)
    remove(_sources_uri(dataset, layout))
    report = annotate(dataset, layout)
    write_bytes(_sources_uri(dataset, layout), found.encode())
    return report


def sources(dataset: Dataset, layout: Layout) -> str:
    """Hash of the dataset's annotation files and of how they are read; of a folder the listing
    counts, of a file its content.
    """
    root = layout.dataset_root(dataset)
    paths = sorted(
        {
            path
            for file in dataset.annotations
            for path in (file.path, file.labels, file.exclusions)
            if path
        }
    )
    found = {path: _stamp(f"{root}/{path}") for path in paths}
    # names of checks change nothing of what is read
    allow = [kind for kind in dataset.allow if kind in PROBLEM_KINDS]
    how = [[file.model_dump() for file in dataset.annotations], allow, dataset.expected]
    return content_hash([how, found, versions.ANNOTATIONS])


def _stamp(uri: str) -> str | None:
    if listed := list_files(uri):
        return content_hash([(info.path_below, info.bytes, info.modified) for info in listed])
    try:
        return hashlib.sha256(read_bytes(uri)).hexdigest()
    except FileNotFoundError:
        return None  # the reader will say so


def _sources_uri(dataset: Dataset, layout: Layout) -> str:
    return layout.problem_table(dataset.name).removesuffix("problems.parquet") + "annotations.read"


def read_sources(dataset: Dataset, layout: Layout) -> str | None:
    """As which files the tables were read; None where nobody has noted it."""
    try:
        return read_bytes(_sources_uri(dataset, layout)).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
