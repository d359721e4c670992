"""What differs between the folder and the tables, seen from listings."""

from __future__ import annotations

from configs.schema import BUCKETS
from ops.files.storage import remove
from ops.media.changes import changed_buckets, unstored_videos
from ops.media.ingest import ingest
from ops.media.materialize import materialize
from ops.store.buckets import bucket_of


def test_a_change_is_seen_counted_and_named(dataset, layout, videos, make_video) -> None:
    assert changed_buckets(dataset, layout) == {}  # no folder
    for index in range(3):
        make_video(videos / f"v{index}.mp4", 4 + index)
    (videos / "notes.txt").write_text("text")
    changes = changed_buckets(dataset, layout)
    assert sum(change.num_files for change in changes.values()) == 4
    assert set(changes) == {bucket_of(name) for name in ("v0", "v1", "v2", "notes")}
    assert changed_buckets(dataset, layout) == changes

    ingest(dataset, layout)
    assert changed_buckets(dataset, layout) == {}
    make_video(videos / "v1.mp4", 9)
    first = changed_buckets(dataset, layout)
    # one file, not its two states
    assert {bucket: change.num_files for bucket, change in first.items()} == {bucket_of("v1"): 1}
    (videos / "v1.mp4").unlink()
    gone = changed_buckets(dataset, layout)
    assert (
        gone[bucket_of("v1")].num_files == 1
        and gone[bucket_of("v1")].key != first[bucket_of("v1")].key
    )
    for path in videos.iterdir():
        path.unlink()
    # an empty folder is a mistake for ingest to name, not a change
    assert changed_buckets(dataset, layout) == {}


def test_unstored_videos_are_the_usable_ones_that_the_ledger_lacks(
    dataset, layout, videos, make_video
) -> None:
    assert unstored_videos(dataset, layout, range(BUCKETS)) == 0
    for index in range(3):
        make_video(videos / f"v{index}.mp4", 4 + index)
    (videos / "notes.txt").write_text("text")
    ingest(dataset, layout)
    assert unstored_videos(dataset, layout, range(BUCKETS)) == 3
    assert unstored_videos(dataset, layout, [bucket_of("v0")]) == sum(
        bucket_of(f"v{n}") == bucket_of("v0") for n in range(3)
    )
    materialize(dataset, layout, workers=1)
    assert unstored_videos(dataset, layout, range(BUCKETS)) == 0
    make_video(videos / "v2.mp4", 12)
    ingest(dataset, layout)
    assert unstored_videos(dataset, layout, range(BUCKETS)) == 1
    other = dataset.model_copy(update={"frames": dataset.frames.model_copy(update={"quality": 50})})
    assert unstored_videos(other, layout, range(BUCKETS)) == 3
    remove(layout.manifest(dataset.name, dataset.frames.key(), bucket_of("v0")))
    assert unstored_videos(dataset, layout, range(BUCKETS)) >= 2
