"""Sizes, garbage, integrity and rebuilt ledgers of stores that are small and made on the spot."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from configs.schema import Dataset, Frames
from ops.files.storage import exists, list_files, read_bytes, remove, write_bytes
from ops.store.buckets import bucket_of
from ops.store.features import write_features
from ops.store.frames import write_frames
from ops.store.garbage import find_garbage
from ops.store.integrity import verify
from ops.store.journal import journal_of
from ops.store.layout import Layout
from ops.store.lease import Busy
from ops.store.ledger import Ledger, LedgerError
from ops.store.manifest import frames_key, read_manifest
from ops.store.rebuild import rebuild
from ops.store.shards import with_checksum
from ops.store.sizes import sizes
from ops.store.stores import Store, stores
from ops.store.tables import FEATURES, MANIFEST, VIDEOS, from_rows, write_table

FEATURES_KEY = "feature-key"
VIDEO_IDS = ("a", "b/c", "d.e", "f")


def frames_of(number: int) -> np.ndarray:
    y, x = np.meshgrid(np.arange(16), np.arange(24), indexing="ij")
    return np.stack(
        [np.stack([x * 5 + t * number, y * 9, x + y + t], -1) for t in range(10)]
    ).astype(np.uint8)


@pytest.fixture(params=["jpeg"])
def dataset(request, tmp_path) -> Dataset:
    frames = Frames(codec=request.param, frames_per_shard=4)
    return Dataset(
        name="world", title="t", licence="none", root=str(tmp_path / "world"), frames=frames
    )


def array_row(dataset: Dataset, layout: Layout, video_id: str, number: int) -> dict:
    """Stores a video's frames; returns the ledger's row."""
    sha256 = f"{number:064x}"
    key = frames_key(sha256, dataset)
    uri = layout.frames("world", dataset.frames.key(), video_id, key)
    about = {
        "fps": 5.0,
        "source_uri": f"{layout.videos_folder(dataset)}/{video_id}.mp4",
        "source_sha256": sha256,
        "decoder": "decord",
    }
    stored = write_frames(
        uri,
        frames_of(number),
        dataset.frames,
        {**about, "decoder_version": "1", "audit": {"verdict": "fine"}},
    )
    known = {
        "video_id": video_id,
        "dataset": "world",
        "sha256": sha256,
        "key": key,
        "array_uri": uri,
        "num_frames": 10,
        "height": 16,
        "width": 24,
    }
    texts = {
        "status": "ok",
        "reason": "",
        "decoder": "decord",
        "decoder_version": "1",
        "audit": "fine",
    }
    return {**known, **texts, "fps": 5.0, "bytes": stored.bytes, "seconds": 1.5}


@pytest.fixture
def filled(dataset, layout) -> Layout:
    """Four stored videos and a refused one, with their video tables, ledgers and features of one of
    them.
    """
    rows = [
        array_row(dataset, layout, video_id, number) for number, video_id in enumerate(VIDEO_IDS, 1)
    ]
    blank = {
        "array_uri": "",
        "num_frames": 0,
        "bytes": 0,
        "decoder": "",
        "decoder_version": "",
        "audit": "",
    }
    rows.append(
        {
            **rows[0],
            "video_id": "bad",
            "key": "k",
            **blank,
            "status": "quarantined",
            "reason": "no video",
        }
    )
    for bucket in {bucket_of(row["video_id"]) for row in rows}:
        here = [row for row in rows if bucket_of(row["video_id"]) == bucket]
        write_table(
            layout.manifest("world", dataset.frames.key(), bucket), from_rows(here, MANIFEST)
        )
        numbers = dict.fromkeys(
            (
                "width",
                "height",
                "rotation",
                "fps_num",
                "fps_den",
                "num_frames_declared",
                "num_frames_packets",
            ),
            0,
        )
        texts = dict.fromkeys(
            ("source_uri", "modified", "sha256", "container", "codec", "reason", "code_version"), ""
        )
        videos = [
            {
                **numbers,
                **texts,
                "video_id": row["video_id"],
                "dataset": "world",
                "bytes": 100,
                "duration_s": 1800.0,
            }
            for row in here
        ]
        write_table(
            layout.video_table("world", bucket),
            from_rows([{**row, "status": "ok"} for row in videos], VIDEOS),
        )
    uri = layout.features("world", FEATURES_KEY, "a", "fk")
    about = {"video_id": "a", "source_key": "src", "key": "fk", "features_key": FEATURES_KEY}
    size = write_features(uri, np.ones((5, 7), np.float32), about)
    row = {
        "video_id": "a",
        "dataset": "world",
        "sha256": "src",
        "key": "fk",
        "array_uri": uri,
        "num_steps": 5,
        "channels": 7,
    }
    with Ledger(
        layout.features_manifest("world", FEATURES_KEY, bucket_of("a")), FEATURES
    ) as ledger:
        ledger.put([{**row, "status": "ok", "reason": "", "bytes": size, "seconds": 0.0}])
    return layout


def found(dataset: Dataset, layout: Layout) -> tuple[Store, Store]:
    one, two = stores(layout, "world", {dataset.frames.key(), FEATURES_KEY})
    assert one.kind == "frames" and two.kind == "features" and one.current and two.current
    return one, two


def rows(dataset: Dataset, layout: Layout, **without: object) -> dict[str, dict]:
    return {
        row["video_id"]: {**row, **without} for row in read_manifest(layout, dataset).to_pylist()
    }


def test_sizes_are_those_of_the_ledgers_against_their_own_sources(dataset, filled):
    frames, features = sizes(filled, list(found(dataset, filled)))
    on_disk = sum(info.bytes for info in list_files(f"{frames.store.folder}/arrays"))
    assert (frames.videos, frames.bytes, frames.hours, frames.source_bytes) == (
        4,
        on_disk,
        2.0,
        400,
    )
    assert frames.bytes_per_hour == on_disk / 2 and frames.ratio == on_disk / 400
    assert (features.videos, features.hours, features.source_bytes) == (1, 0.5, 100)
    assert sizes(filled, []) == []


def test_garbage_is_what_no_ledger_names(dataset, filled):
    store, features = found(dataset, filled)
    assert find_garbage(store).bytes == 0 and find_garbage(features).bytes == 0
    orphan = f"{store.folder}/arrays/old/k1.zarr"
    write_bytes(f"{orphan}/c/0/0/0/0", b"x" * 10)
    half = f"{features.folder}/arrays/old/k1.zarr"
    write_bytes(f"{half}/c/0/0", b"x" * 7)
    temporary = Path(f"{store.folder}/arrays/a/.x.kinograph-tmp")
    temporary.write_bytes(b"tmp")
    os.utime(temporary, (time.time() - 10**6,) * 2)
    Path(f"{store.folder}/manifest/.y.kinograph-tmp").write_bytes(b"new")
    garbage = find_garbage(store)
    assert (
        garbage.arrays == {orphan: 10}
        and garbage.temporary == {str(temporary): 3}
        and exists(orphan)
        and garbage.bytes == 13
    )
    before = rows(dataset, filled)
    assert find_garbage(store, delete=True).arrays == {orphan: 10} and find_garbage(
        features, delete=True
    ).arrays == {half: 7}
    assert (
        not exists(orphan)
        and not exists(half)
        and not temporary.exists()
        and Path(f"{store.folder}/manifest/.y.kinograph-tmp").exists()
    )
    assert (
        rows(dataset, filled) == before
        and verify(store).damaged == []
        and find_garbage(store).bytes == 0
    )


def test_a_configuration_no_longer_in_use_goes_as_a_whole(dataset, filled):
    store, other = stores(filled, "world", {FEATURES_KEY})
    assert not store.current and other.current
    size = sum(info.bytes for info in list_files(store.folder))
    assert find_garbage(store).whole == size and exists(store.folder)
    with Ledger(store.ledgers[3], MANIFEST) as held:
        held.open()
        busy = find_garbage(store, delete=True)
        assert busy.whole is None and busy.busy == {3} and exists(f"{store.folder}/arrays")
    assert find_garbage(store, delete=True).whole is not None
    assert not exists(store.folder) and exists(other.folder)


def test_what_a_run_works_on_stays(dataset, filled):
    store, _ = found(dataset, filled)
    bucket = bucket_of("under way")
    other = next(name for name in ("x1", "x2", "x3", "x4") if bucket_of(name) != bucket)
    array, orphan = (
        f"{store.folder}/arrays/under way/k.zarr",
        f"{store.folder}/arrays/{other}/k.zarr",
    )
    run = Ledger(store.ledgers[bucket], MANIFEST)
    run.open()
    journal_of(store.ledgers[bucket]).open([array])
    for uri in (array, orphan):
        write_bytes(f"{uri}/c/0/0/0/0", b"x")
    assert (
        set(find_garbage(store).arrays)
        == set(find_garbage(store, delete=True).arrays) | {orphan}
        == {orphan}
    )
    assert exists(array) and not exists(orphan)
    run.abandon()  # it has died: what it has left is garbage
    assert find_garbage(store, delete=True).arrays == {array: 1} and not exists(array)


def test_garbage_is_not_looked_for_without_a_ledger(dataset, filled):
    store, _ = found(dataset, filled)
    write_bytes(store.ledgers[0], b"not parquet")
    with pytest.raises(LedgerError, match="store rebuild"):
        find_garbage(store, delete=True)
    assert len(list_files(f"{store.folder}/arrays")) == 16


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(bytes(data))


def swap_chunk(path: Path, per_shard: int = 4) -> None:
    """Puts other bytes, with the right checksum, in the place of the first chunk."""
    data = path.read_bytes()
    length = int.from_bytes(data[-(16 * per_shard + 4) :][8:16], "little")
    path.write_bytes(with_checksum(b"\0" * (length - 4)) + data[length:])


DAMAGE = {
    "a bit of a chunk": (
        lambda a: flip(a / "c/0/0/0/0", 3),
        "shard c/0/0/0/0: chunk 0: the checksum does not match",
    ),
    "a bit of an index": (
        lambda a: flip(a / "c/1/0/0/0", -9),
        "shard c/1/0/0/0: the checksum does not match",
    ),
    "a cut shard": (
        lambda a: (a / "c/2/0/0/0").write_bytes(b"x"),
        "shard c/2/0/0/0: the shard is shorter than its index",
    ),
    "a missing shard": (lambda a: (a / "c/1/0/0/0").unlink(), "its shard c/1/0/0/0 is missing"),
    "another shard": (
        lambda a: (a / "c/0/0/0/0").write_bytes((a / "c/1/0/0/0").read_bytes()),
        "not that of the array's metadata",
    ),
    "no metadata": (lambda a: (a / "zarr.json").unlink(), "it has no zarr.json"),
    "cut metadata": (lambda a: (a / "zarr.json").write_bytes(b"{"), "its zarr.json is damaged"),
    "one file more": (lambda a: (a / "more").write_bytes(b"12"), "bytes where the ledger has"),
    "nothing": (lambda a: remove(str(a)), "it is missing"),
}


BOTH = [("jpeg", kind) for kind in DAMAGE] + [("lossless", "a bit of a chunk")]


@pytest.mark.parametrize(("dataset", "kind"), BOTH, indirect=["dataset"])
def test_every_damage_is_found_and_repaired_by_forgetting(kind, dataset, filled):
    store, _ = found(dataset, filled)
    assert (verify(store, decode=True).arrays, verify(store).damaged) == (4, [])
    act, reason = DAMAGE[kind]
    act(Path(rows(dataset, filled)["b/c"]["array_uri"]))
    seen: list[tuple[int, int]] = []
    verdict = verify(store, progress=lambda done, total: seen.append((done, total)))
    assert (
        [damage.video_id for damage in verdict.damaged] == ["b/c"]
        and reason in verdict.damaged[0].reason
        and seen[-1] == (4, 4)
    )
    assert len(rows(dataset, filled)) == 5
    assert verify(store, repair=True).repaired
    assert set(rows(dataset, filled)) == {"a", "d.e", "f", "bad"} and verify(store).damaged == []


def test_a_picture_that_cannot_be_decoded_is_found_by_decoding(dataset, filled):
    store, _ = found(dataset, filled)
    swap_chunk(Path(rows(dataset, filled)["f"]["array_uri"]) / "c/1/0/0/0")
    assert verify(store).damaged == []
    (damage,) = verify(store, decode=True).damaged
    assert damage.video_id == "f" and "the stored data is damaged" in damage.reason


def test_a_row_that_says_something_else_is_damage_too(dataset, filled):
    store, features = found(dataset, filled)
    with Ledger(store.ledgers[bucket_of("f")], MANIFEST) as ledger:
        ledger.put([{**rows(dataset, filled)["f"], "num_frames": 11}])
    (damage,) = verify(store).damaged
    assert damage.reason == "shape [10, 16, 24, 3] where the ledger has [11, 16, 24, 3]"
    assert verify(features).damaged == [] and verify(features).arrays == 1
    flip(Path(filled.features("world", FEATURES_KEY, "a", "fk")) / "c/0/0", 5)
    (damage,) = verify(features).damaged
    assert damage.reason == "chunk c/0/0: the checksum does not match"


@pytest.mark.parametrize("loss", ["removed", "damaged", "part lost"])
def test_a_lost_ledger_is_made_anew_from_the_arrays(loss, dataset, filled, monkeypatch):
    monkeypatch.setattr("ops.store.ledger.READ_TRIES", 2)
    store, features = found(dataset, filled)
    before = rows(dataset, filled, seconds=0.0)
    feature_rows = read_bytes(features.ledgers[bucket_of("a")])
    for each in (store, features):
        for uri in each.ledgers:
            if loss == "removed":
                remove(uri)
            elif loss == "damaged" and exists(uri):
                write_bytes(uri, b"PAR1")
            elif exists(uri):
                remove(uri)
                write_bytes(uri.replace(".parquet", ".parts/00000007.parquet"), b"x")
    report = rebuild(dataset, filled, store)
    del before["bad"]  # why it was refused is lost: the next run tries it again
    assert rows(dataset, filled) == before
    assert (report.arrays, report.made, report.kept, report.incomplete, report.foreign) == (
        4,
        4,
        0,
        0,
        0,
    )
    assert (report.damaged > 0) == (loss != "removed")
    assert rebuild(dataset, filled, features).made == 1
    assert verify(store).damaged == verify(features).damaged == [] and verify(features).arrays == 1
    assert len(feature_rows) > 0
    with Ledger(store.ledgers[bucket_of("a")], MANIFEST) as ledger:  # and it can be written again
        ledger.drop(["a"])
    assert "a" not in rows(dataset, filled)


def test_rows_that_hold_stay_and_others_go(dataset, filled):
    store, _ = found(dataset, filled)
    before = rows(dataset, filled)
    remove(before["a"]["array_uri"])
    remove(f"{before['f']['array_uri']}/c/1/0/0/0")
    write_bytes(f"{store.folder}/arrays/x/0123456789abcdef.zarr/c/0/0/0/0", b"x")
    other = dataset.model_copy(update={"name": "other"})
    row = array_row(other, filled, "g", 9)
    # what another code version has left
    os.rename(row["array_uri"], row["array_uri"].replace(row["key"], "0" * 16))
    with Ledger(store.ledgers[bucket_of("d.e")], MANIFEST) as ledger:
        ledger.drop(["d.e"])
    report = rebuild(dataset, filled, store)
    assert (report.kept, report.made, report.dropped, report.incomplete, report.foreign) == (
        2,
        1,
        2,
        2,
        1,
    )
    after = rows(dataset, filled)
    assert after == {
        "b/c": before["b/c"],
        "bad": before["bad"],
        "d.e": {**before["d.e"], "seconds": 0.0},
    }
    assert rebuild(dataset, filled, store).made == 0


def test_no_ledger_is_rebuilt_under_a_run(dataset, filled):
    store, _ = found(dataset, filled)
    run = Ledger(store.ledgers[5], MANIFEST)
    run.open()
    with pytest.raises(Busy):
        rebuild(dataset, filled, store)
    run.close()
    assert rebuild(dataset, filled, store).kept == 5


@pytest.mark.slow  # some hundred requests
def test_stores_on_s3(s3, tmp_path):
    dataset = Dataset(
        name="world",
        title="t",
        licence="none",
        root="{storage}/world",
        frames=Frames(frames_per_shard=4),
    )
    layout = Layout(s3.bucket)
    row = array_row(dataset, layout, "a", 1)
    with Ledger(layout.manifest("world", dataset.frames.key(), bucket_of("a")), MANIFEST) as ledger:
        ledger.put([row])
    (store,) = stores(layout, "world", {dataset.frames.key()})
    assert verify(store, decode=True).damaged == []
    write_bytes(f"{store.folder}/arrays/old/k1.zarr/c/0/0/0/0", b"x" * 10)
    remove(store.ledgers[bucket_of("a")])
    assert rebuild(dataset, layout, store).made == 1
    assert list(find_garbage(store, delete=True).arrays.values()) == [10]
    assert verify(store).arrays == 1 and find_garbage(store).bytes == 0
