"""The places that a line writes to and reads from: storage, disk, tracking store, cluster."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc

from configs.schema import BUCKETS, ConfigError
from ops.files.storage import (
    StorageError,
    is_local,
    list_files,
    local_path,
    read_bytes,
    remove,
    write_bytes,
)
from ops.preflight.about import About
from ops.store.ledger import read_ledgers
from ops.store.tables import MANIFEST

PROBE = ".kinograph-preflight"
# Stored bytes per byte of a source file, measured on filmed H.264 (README); where enough is stored,
# that dataset's own.
FACTOR = {"jpeg": 7.0, "lossless": 38.0}
ENOUGH_BYTES = 50e6  # of sources that are stored, to trust their own factor
SAMPLE_WORLD_BYTES = 2.2e6  # per video: film and frames at the demo's size
# beside frames and checkpoints: tables, logs, pictures, the registry's copies of weights
ROOM = 0.5e9
# of a checkpoint on disk at a time: two that are kept, one in writing, and the final weights with
# their copy in the registry
COPIES = 4


def storage(about: About) -> Iterator[ConfigError]:
    """The storage root can be written and read."""
    root = about.settings.storage
    probe = f"{root}/{PROBE}-{uuid.uuid4().hex[:8]}"
    made = (
        None
        if not is_local(root)
        else next(
            (one for one in (local_path(root), *local_path(root).parents) if one.exists()), None
        )
    )
    try:
        write_bytes(probe, b"kinograph")
        if read_bytes(probe) != b"kinograph":
            yield ConfigError(
                "environment", "KINOGRAPH_STORAGE", root, "a store that gives back what is written"
            )
        remove(probe)
    except (OSError, StorageError) as error:
        yield ConfigError(
            "environment", "KINOGRAPH_STORAGE", root, f"a store that can be written to ({error})"
        )
    finally:
        _unmake(root, made)


def _unmake(root: str, before: Path | None) -> None:
    """Take away folders that the probe made, as long as they are empty."""
    folder = local_path(root)
    while before is not None and folder != before and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def disk(about: About) -> Iterator[ConfigError]:
    """There is room for frames and checkpoints. Of S3 nothing is known."""
    root = about.settings.storage
    if not is_local(root):
        return
    there = next(one for one in (local_path(root), *local_path(root).parents) if one.exists())
    free = shutil.disk_usage(there).free
    frames, checkpoints = frame_bytes(about), checkpoint_bytes(about)
    needed = frames + checkpoints + ROOM
    if free < needed:
        parts = (
            f"{frames / 1e9:.1f} GB of frames to store, {checkpoints / 1e9:.1f} GB of checkpoints,"
            f" {ROOM / 1e9:.1f} GB for all else"
        )
        found = f"{free / 1e9:.1f} GB free at {there}"
        yield ConfigError(
            "environment", "KINOGRAPH_STORAGE", found, f"at least {needed / 1e9:.1f} GB: {parts}"
        )


def frame_bytes(about: About) -> float:
    """Bytes that frames still to be stored will take: those of their files times what this
    dataset's, or filmed video's, take.
    """
    dataset, layout = about.dataset, about.layout
    if about.facts.world_videos:
        return about.facts.world_videos * SAMPLE_WORLD_BYTES
    if dataset.videos is None:
        return 0.0
    files = {info.uri: info.bytes for info in list_files(layout.videos_folder(dataset))}
    ledgers = (
        layout.manifest(dataset.name, dataset.frames.key(), bucket) for bucket in range(BUCKETS)
    )
    stored = read_ledgers(ledgers, MANIFEST, ["video_id", "bytes", "status"])
    of_store = float(pc.sum(stored["bytes"]).as_py() or 0)
    sources = _source_bytes(about, set(stored["video_id"].to_pylist()))
    factor = (
        of_store / sources if sources > ENOUGH_BYTES and of_store else FACTOR[dataset.frames.codec]
    )
    return max(0.0, sum(files.values()) - sources) * factor


def _source_bytes(about: About, stored: set[str]) -> float:
    from ops.store.tables import VIDEOS, read_tables

    tables = (about.layout.video_table(about.dataset.name, bucket) for bucket in range(BUCKETS))
    rows = read_tables(tables, VIDEOS).select(["video_id", "bytes"]).to_pylist()
    return float(sum(row["bytes"] or 0 for row in rows if row["video_id"] in stored))


def checkpoint_bytes(about: About) -> float:
    """Bytes of the checkpoints that lie there at a time: weights, what the optimizer keeps of each,
    and their average.
    """
    from ops.preflight.network import on_meta

    recipe = about.recipe
    weights = sum(one.numel() * one.element_size() for one in on_meta(about).state_dict().values())
    moments = 2 if recipe.optimizer.name == "adamw" else 1 if recipe.optimizer.momentum else 0
    return float(COPIES * weights * (1 + moments + (recipe.training.ema_decay is not None)))


def tracking(about: About) -> Iterator[ConfigError]:
    """MLflow answers. A database that is not there yet is not made for the asking."""
    from ops.tracking.connect import TrackingError, client, shown

    uri = about.settings.tracking_uri
    if _not_made(uri):
        return
    try:
        client(uri)
    except TrackingError as error:
        yield ConfigError(
            "environment",
            "MLFLOW_TRACKING_URI",
            shown(uri),
            f"a tracking store that answers ({error})",
        )


def _not_made(tracking_uri: str) -> bool:
    return (
        tracking_uri.startswith("sqlite:///")
        and not Path(tracking_uri.removeprefix("sqlite:///").split("?")[0]).exists()
    )


def registry(about: About) -> Iterator[ConfigError]:
    """The champion that the gate will ask."""
    from ops.preflight.settings import champion

    if not _not_made(about.settings.tracking_uri):
        yield from champion(about)


def cluster(about: About) -> Iterator[ConfigError]:
    """Ray, where an address is named, is there."""
    if about.settings.ray_address:
        from ops.compute.cluster import _knock

        _knock(about.settings.ray_address)
    yield from ()
