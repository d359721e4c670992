"""Whoever can write to a store, or name a file in it, reaches nothing beside it: places are
computed, never believed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from configs.schema import Dataset, Frames
from ops.files.storage import StorageError, list_files, local_copy, write_bytes
from ops.media.ingest import ingest
from ops.media.materialize import materialize
from ops.store.buckets import bucket_of, bucket_of_file
from ops.store.journal import journal_of
from ops.store.layout import Layout, array_below, below, is_safe
from ops.store.ledger import Ledger, LedgerError
from ops.store.manifest import read_manifest
from ops.store.reader import FrameReader
from ops.store.tables import FEATURES, MANIFEST, from_rows, write_table


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of the operator's, beside the store."""
    letter = tmp_path / "mine" / "letter.txt"
    letter.parent.mkdir()
    letter.write_text("keep")
    return letter


@pytest.fixture
def manifest(dataset: Dataset, layout: Layout, videos: Path, make_video) -> str:
    """Ledger of one stored video, a.mp4."""
    make_video(videos / "a.mp4", 5)
    ingest(dataset, layout, workers=1)
    materialize(dataset, layout, workers=1)
    return layout.manifest("world", dataset.frames.key(), bucket_of_file("a.mp4"))


def ghost(manifest: str, **changes: object) -> None:
    """Adds the row of a video that does not exist, as somebody else with the bucket's keys
    would.
    """
    rows = pq.read_table(manifest).to_pylist()
    write_table(manifest, from_rows([*rows, {**rows[0], "video_id": "ghost", **changes}], MANIFEST))


@pytest.mark.parametrize(
    "place",
    [
        "{mine}",
        "{store}/../../../mine",
        "{store}/arrays",
        "{store}/arrays/a/../../../../x.zarr",
        "s3://other/b",
    ],
)
def test_a_row_that_names_another_place_is_damage_and_nothing_goes(
    dataset, layout, manifest, mine, place
) -> None:
    store = manifest.rpartition("/manifest/")[0]
    ghost(manifest, array_uri=place.format(mine=mine.parent, store=store))
    for work in (
        lambda: materialize(dataset, layout, workers=1),
        lambda: read_manifest(layout, dataset),
    ):
        with pytest.raises(LedgerError, match="damaged.*ghost.*nothing was touched.*store rebuild"):
            work()
    assert mine.read_text() == "keep" and len(list_files(f"{store}/arrays")) > 1


def test_a_row_whose_id_leaves_the_store_is_damage(dataset, layout, manifest, mine) -> None:
    store = manifest.rpartition("/manifest/")[0]
    outside = f"../../../../../{mine.parent.name}"
    ghost(manifest, video_id=outside, array_uri=f"{store}/arrays/{outside}/{'0' * 16}.zarr")
    with pytest.raises(LedgerError, match="damaged"):
        materialize(dataset, layout, workers=1)
    assert mine.read_text() == "keep"


@pytest.mark.parametrize("content", ["[{mine}]", '["arrays"]', "{{}}5", "[[[", "[null]"])
def test_a_journal_that_names_another_place_is_damage_and_nothing_goes(
    dataset, layout, manifest, mine, content
) -> None:
    journal = journal_of(manifest)
    write_bytes(
        f"{journal.folder}/00000000.json",
        content.format(mine=json.dumps(str(mine.parent))).encode(),
    )
    with pytest.raises(StorageError, match="00000000.json: damaged"):
        materialize(dataset, layout, workers=1)
    assert mine.read_text() == "keep" and read_manifest(layout, dataset)[
        "array_uri"
    ].to_pylist() != [""]


def test_a_link_in_the_store_is_not_followed_when_an_array_goes(
    dataset, layout, manifest, mine
) -> None:
    store = manifest.rpartition("/manifest/")[0]
    shutil.copytree(mine.parent, mine.parent / "0123456789abcdef.zarr")
    Path(f"{store}/arrays/ghost").symlink_to(mine.parent)
    ghost(manifest, array_uri=f"{store}/arrays/ghost/0123456789abcdef.zarr")
    with pytest.raises(StorageError, match="a link leads out of"):
        materialize(dataset, layout, workers=1)
    assert (mine.parent / "0123456789abcdef.zarr" / "letter.txt").read_text() == "keep"


def test_a_store_that_was_moved_is_read_where_it_lies(dataset, layout, manifest, tmp_path) -> None:
    before = read_manifest(layout, dataset).to_pylist()[0]["array_uri"]
    moved = Layout(str(tmp_path / "elsewhere"))
    shutil.move(layout.root, moved.root)
    after = read_manifest(moved, dataset).to_pylist()[0]["array_uri"]
    assert after == before.replace(layout.root, moved.root) and FrameReader(after).read(
        [0, 4]
    ).shape == (2, 64, 96, 3)


def test_an_array_place_is_known_by_its_part_below_the_root() -> None:
    arrays = "s3://bucket/p/frames/world/key/arrays"
    good = f"{arrays}/b/c/0123.zarr"
    assert (
        array_below(arrays, good)
        == array_below(arrays, "/old/frames/world/key/arrays/b/c/0123.zarr")
        == good
    )
    assert array_below(arrays, good, "b/c") == good and array_below(arrays, good, "b") is None
    for bad in (
        "",
        "/",
        arrays,
        f"{arrays}/0123.zarr",
        f"{arrays}/b/0123",
        f"{arrays}/b/../0123.zarr",
        f"{arrays}//0123.zarr",
    ):
        assert array_below(arrays, bad) is None
    for bad in (
        f"{arrays}/b/.zarr",
        f"{arrays}/b\\c/0.zarr",
        f"{arrays}/b/x\0.zarr",
        "/old/frames/other/key/arrays/b/0123.zarr",
    ):
        assert array_below(arrays, bad) is None


@pytest.mark.parametrize(
    "path", ["", ".", "..", "a/..", "../a", "a//b", "/a", "a/", "a/./b", "a\\b", "a\0", "a/../../b"]
)
def test_unsafe_paths(path: str, layout: Layout) -> None:
    assert not is_safe(path)
    with pytest.raises(StorageError, match="allowed: one without empty"):
        below("/root", path)
    if path:
        with pytest.raises(StorageError, match="allowed"):
            layout.frames("world", "key", path, "0123")
        with pytest.raises(StorageError, match="allowed"):
            layout.features("world", "key", path, "0123")


def test_safe_paths() -> None:
    for path in ("a", "a.b", "...", "..a", "a..", ".a", "a/b/c", "é/日本", "a b", "a\nb", "-", "~"):
        assert is_safe(path) and below("/root", path) == f"/root/{path}"


def test_keys_of_s3_with_dots_are_refused_by_name(s3, tmp_path, make_video) -> None:
    import boto3

    dataset = Dataset(
        name="remote",
        title="t",
        licence="none",
        root="{storage}/datasets/remote",
        frames=Frames(frames_per_shard=8),
    )
    layout = Layout(s3.bucket)
    film = make_video(tmp_path / "a.mp4", 5).read_bytes()
    names = [
        "a.mp4",
        "../../../../../escaped/evil.mp4",
        "b/./c.mp4",
        "d//e.mp4",
        "f\\g.mp4",
        "h/..",
    ]
    client = boto3.client("s3")
    prefix = layout.videos_folder(dataset).removeprefix(f"{s3.bucket}/")
    for name in names:
        client.put_object(Bucket=s3.bucket.removeprefix("s3://"), Key=f"{prefix}/{name}", Body=film)
    report = ingest(dataset, layout, workers=1)
    assert (report.ok, report.quarantined) == (1, 5) and all(
        "unsafe name" in reason for reason in report.reasons
    )
    assert any(repr(names[1]) in reason for reason in report.reasons)
    materialize(dataset, layout, workers=1)
    stored = {
        row["video_id"]: row["array_uri"] for row in read_manifest(layout, dataset).to_pylist()
    }
    assert [name for name, uri in stored.items() if uri] == ["a"]
    with local_copy(f"s3://{s3.bucket.removeprefix('s3://')}/{prefix}/h/..") as copy:
        assert copy.is_file() and copy.read_bytes() == film


def test_features_of_another_place_are_damage_and_nothing_goes(layout, mine) -> None:
    manifest = layout.features_manifest("world", "fkey", bucket_of("a"))
    ok = {"status": "ok", "reason": ""}
    texts = {
        "video_id": "a",
        "dataset": "world",
        "sha256": "s",
        "key": "0" * 16,
        "array_uri": str(mine.parent),
    } | ok
    write_table(
        manifest,
        from_rows(
            [{**texts, "num_steps": 2, "channels": 3, "bytes": 24, "seconds": 0.0}], FEATURES
        ),
    )
    with pytest.raises(LedgerError, match="damaged"):
        Ledger(manifest, FEATURES).read()
    with pytest.raises(StorageError, match="allowed: arrays below this folder"):
        journal_of(manifest).remove_arrays([str(mine.parent)])
    assert mine.read_text() == "keep"
