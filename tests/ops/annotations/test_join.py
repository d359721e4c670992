"""Rows against each other and against the videos."""

import numpy as np
import pyarrow as pa
import pytest

from configs.schema import Dataset, TableName
from ops.annotations.join import (
    coverage,
    entries_table,
    train_labels,
    unannotated,
    unmet,
    videos_of,
    with_ids,
    with_videos,
    without_repeats,
)
from ops.annotations.rows import Entry
from ops.annotations.vocabulary import AnnotationError, from_found, from_names
from ops.store.tables import BOXES, CLIPS, PARTS, SEGMENTS, VIDEOS

DATASET = Dataset(name="d", title="t", licence="none", root="/r", expected={"clips.train.rows": 9})
SCHEMAS = {"clips": CLIPS, "segments": SEGMENTS, "boxes": BOXES, "parts": PARTS}


def table(kind: TableName, *rows: dict, **common: object) -> pa.Table:
    """Rows of the table's schema; what a row does not say is null, and its source is f:<number>."""
    schema = SCHEMAS[kind]
    usual = {"dataset": "d", "split": "train", "target": "label"}
    full = [
        {**usual, "source": f"f:{number}", **common, **row} for number, row in enumerate(rows, 1)
    ]
    return pa.Table.from_pylist(
        [{name: row.get(name) for name in schema.names} for row in full], schema=schema
    )


def clip(name: str, label: str | None = "run", **more: object) -> dict:
    return {"clip_id": name, "video_id": name, "label": label, **more}


def videos(**lengths: float | None):
    """Videos of these lengths in s, with 10 frames a second; None for one that could not be
    read.
    """
    rows = [
        {
            "video_id": name,
            "status": "ok" if length else "quarantined",
            "duration_s": length,
            "num_frames_packets": length and int(length * 10),
        }
        for name, length in lengths.items()
    ]
    return videos_of(
        DATASET,
        pa.Table.from_pylist(
            [{name: row.get(name) for name in VIDEOS.names} for row in rows], schema=VIDEOS
        ),
    )


def told(problems: list) -> list[tuple]:
    return [(problem.line, problem.kind, problem.found) for problem in problems]


def test_a_table_without_repeats_stays_as_it_is():
    rows = table("clips", clip("a"), clip("b"), clip("a", target="verb"))
    assert without_repeats(rows, "clips") == (rows, [])


def test_of_equal_clips_the_first_stays_and_of_contradicting_ones_none():
    rows = table(
        "clips",
        clip("a"),
        clip("b"),
        clip("a"),
        clip("c"),
        clip("c", "jump"),
        clip("e"),
        clip("e", split="val"),
        clip("a"),
        clip("g", None),
    )
    kept, problems = without_repeats(rows, "clips")
    assert kept["clip_id"].to_pylist() == ["a", "b", "g"]
    assert told(problems) == [
        (3, "duplicate", "a, run, train; first at f:1"),
        (8, "duplicate", "a, run, train; first at f:1"),
        (4, "contradiction", "run for c; jump at f:5"),
        (5, "contradiction", "jump for c; run at f:4"),
        (6, "contradiction", "train for e; val at f:7"),
        (7, "contradiction", "val for e; train at f:6"),
    ]


def test_a_clip_may_have_several_labels_where_the_config_says_so_but_one_split():
    rows = table(
        "clips", clip("a"), clip("a", "jump"), clip("a"), clip("b"), clip("b", "jump", split="val")
    )
    kept, problems = without_repeats(rows, "clips", multi_label=True)
    assert kept["label"].to_pylist() == ["run", "jump"]
    assert [problem.kind for problem in problems] == ["duplicate", "contradiction", "contradiction"]


def test_repeats_of_the_other_tables():
    span = {"video_id": "v", "label": "run", "start_s": 0.0, "end_s": 1.0}
    kept, problems = without_repeats(
        table("segments", span, {**span, "end_s": 2.0}, span, {**span, "label": "jump"}), "segments"
    )
    assert kept.num_rows == 3 and told(problems) == [
        (3, "duplicate", "v, run, 0.0, 1.0, train; first at f:1")
    ]
    box = {
        "video_id": "v",
        "timestamp_s": 1.0,
        "x1": 0.1,
        "y1": 0.1,
        "x2": 0.5,
        "y2": 0.5,
        "label": "sit",
        "label_id": 3,
        "person_id": 0,
    }
    kept, problems = without_repeats(
        table("boxes", box, {**box, "label_id": 4}, {**box, "split": "val"}), "boxes"
    )
    assert (
        kept["label_id"].to_pylist() == [4]
        and [problem.kind for problem in problems] == ["contradiction"] * 2
    )
    part = {"video_id": "v", "frame": 0, "person": 0, "part": "head", "state": "turn", "x1": 1.0}
    kept, problems = without_repeats(
        table(
            "parts", part, part, {**part, "part": "hand"}, {**part, "part": "hand", "state": "rest"}
        ),
        "parts",
    )
    assert kept["part"].to_pylist() == ["head"]
    assert told(problems)[0][1:] == ("duplicate", "v, 0, 0, head, train, 1.0, turn; first at f:1")
    assert told(problems)[1][2].startswith("turn for v, 0, 0, hand; rest at")


def test_many_contradictions_cost_no_time():
    rows = table("clips", *(clip(f"c{number % 5000}", str(number % 7)) for number in range(10_000)))
    kept, problems = without_repeats(rows, "clips")
    assert kept.num_rows + len(problems) == 10_000 and len(problems) > 8000


def test_rows_of_missing_videos_and_rows_past_an_end_are_left_out():
    there = videos(a=10.0, b=5.0, bad=None)
    rows = table(
        "clips",
        clip("a"),
        clip("a", start_s=9.0, end_s=19.0),
        clip("b", start_s=5.0, end_s=6.0),
        clip("gone"),
        clip("bad", start_s=99.0),
    )
    kept, problems = with_videos(rows, "clips", there)
    assert kept["source"].to_pylist() == ["f:1", "f:2", "f:5"]
    assert told(problems) == [
        (4, "missing_video", "gone"),
        (3, "past_end", "5 of b (duration_s 5)"),
    ]
    boxes = table(
        "boxes",
        {"video_id": "a", "timestamp_s": 9.5},
        {"video_id": "a", "frame": 99},
        {"video_id": "a", "frame": 100},
    )
    kept, problems = with_videos(boxes, "boxes", there)
    assert kept.num_rows == 2 and told(problems) == [
        (3, "past_end", "100 of a (num_frames_packets 100)")
    ]
    parts = table(
        "parts",
        *({"video_id": "a", "frame": frame, "person": 0, "part": "head"} for frame in (99, 100)),
    )
    kept, problems = with_videos(parts, "parts", there)
    assert kept["frame"].to_pylist() == [99] and told(problems) == [
        (2, "past_end", "100 of a (num_frames_packets 100)")
    ]
    segments = table(
        "segments",
        *(
            {"video_id": "a", "label": "x", "start_s": at, "end_s": at + 1}
            for at in (9.5, 10.0, 30.0)
        ),
    )
    kept, problems = with_videos(segments, "segments", there)
    assert (
        kept["start_s"].to_pylist() == [9.5]
        and [row[1] for row in told(problems)] == ["past_end"] * 2
    )


def test_the_place_inside_a_json_file_is_told():
    rows = table(
        "segments",
        {"video_id": "gone", "label": "x", "start_s": 0.0, "source": "s.json:gone.annotations[3]"},
    )
    _, problems = with_videos(rows, "segments", videos(a=1.0))
    assert problems[0][:4] == ("s.json", 0, "video", "gone.annotations[3]: gone")


def test_names_that_meet_no_file_are_one_error():
    error = unmet("clips", table("clips", clip("a.mp4"), clip("b.mp4")), videos(a=1.0, b=1.0))
    assert (
        error is not None
        and "f:1: video: found 'a.mp4'; expected: a video_id of the video table, such as 'a', 'b'"
        in str(error)
    )
    assert unmet("clips", table("clips", clip("a"), clip("no")), videos(a=1.0)) is None
    assert unmet("clips", table("clips"), videos(a=1.0)) is None


def test_coverage_entries_and_videos_without_annotation():
    there = videos(a=10.0, b=5.0, bad=None, free=1.0, empty=3.0)
    read: dict[TableName, pa.Table] = {
        "clips": table("clips", clip("a"), clip("bad"), clip("gone"), clip("b", split="val"))
    }
    kept = {"clips": with_videos(read["clips"], "clips", there)[0]}
    entries: list[tuple[TableName, Entry]] = [
        ("segments", Entry("empty", "val", 3.0, 25.0)),
        ("segments", Entry("gone", "val")),
    ]
    found = {
        (item.table, item.split): (
            item.rows,
            item.annotated,
            item.found,
            item.usable,
            item.expected,
        )
        for item in coverage(read, kept, entries, there)
    }
    assert found == {
        ("clips", "train"): (2, 3, 2, 1, 9),
        ("clips", "val"): (1, 1, 1, 1, None),
        ("segments", "val"): (0, 2, 1, 1, None),
    }
    rows = entries_table("d", kept, entries, there).to_pylist()
    assert [
        (row["table"], row["split"], row["video_id"], row["num_rows"], row["fps"]) for row in rows
    ] == [
        ("clips", "train", "a", 1, None),
        ("clips", "train", "bad", 1, None),
        ("clips", "val", "b", 1, None),
        ("segments", "val", "empty", 0, 25.0),
    ]
    assert [(problem.found, problem.kind) for problem in unannotated(read, entries, there)] == [
        ("free", "unannotated_video")
    ]


def test_ids_are_filled_in_where_the_vocabulary_comes_from_the_rows():
    rows = table(
        "clips",
        clip("a"),
        clip("b", "jump"),
        clip("c", "fly", split="val"),
        clip("d", None, split="test"),
    )
    words = from_found(train_labels(rows), "here")
    assert words == from_names(["jump", "run"])
    known, unknown = with_ids(rows, words)
    assert known["label_id"].to_pylist() == [1, 0, None] and told(unknown) == [
        (3, "unknown_label", "fly")
    ]
    assert from_found(["0", "10", "9"], "here").names == tuple(map(str, range(11)))
    assert from_found(["01", "2"], "here").names == ("01", "2")
    with pytest.raises(AnnotationError, match="no labelled row is in the train split"):
        from_found([], "here")


def test_a_hundred_thousand_rows_join_in_a_second_or_two():
    import time

    number = 100_000
    names = [f"v{index}" for index in range(number)]
    columns = {name: pa.nulls(number, CLIPS.field(name).type) for name in CLIPS.names}
    columns |= {
        "clip_id": pa.array(names),
        "video_id": pa.array(names),
        "source": pa.array([f"f:{index}" for index in range(number)]),
    }
    columns |= {
        "split": pa.array(np.where(np.arange(number) % 9, "train", "val")),
        "label": pa.array(["run"] * number),
        "target": pa.array(["label"] * number),
    }
    rows = pa.table(columns, schema=CLIPS)
    there = videos(**{name: 1.0 for name in names[:1000]})
    began = time.perf_counter()
    kept, problems = with_videos(without_repeats(rows, "clips")[0], "clips", there)
    assert kept.num_rows == 1000 and len(problems) == 99_000
    assert time.perf_counter() - began < 10
