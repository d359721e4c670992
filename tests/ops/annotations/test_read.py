"""Annotation files of a whole dataset: tables, problems and coverage against the video tables."""

import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from configs.schema import BUCKETS, AnnotationFile, ConfigError, Dataset, ProblemKind
from ops.annotations.read import annotate, labels, last_report, vocabulary
from ops.annotations.vocabulary import AnnotationError
from ops.store.buckets import bucket_of
from ops.store.layout import Layout
from ops.store.tables import (
    BOXES,
    CLIPS,
    ENTRIES,
    EXCLUDED,
    PARTS,
    PROBLEMS,
    SEGMENTS,
    VIDEOS,
    from_rows,
    read_table,
    write_table,
)

FILES = (
    AnnotationFile(
        table="clips",
        format="kinetics_csv",
        path="clips.csv",
        video="trimmed/{youtube_id}_{time_start:06d}",
        labels="labels.txt",
    ),
    AnnotationFile(
        table="segments", format="activitynet_json", path="segments.json", video="untrimmed/{video}"
    ),
    AnnotationFile(
        table="boxes",
        format="ava_csv",
        path="boxes.csv",
        split="val",
        video="scenes/{video}",
        labels="a.pbtxt",
        exclusions="out.csv",
    ),
    AnnotationFile(
        table="parts", format="kinetics_tps_json", path="parts", video="trimmed/{video}"
    ),
)
FRAME = {
    "humans": [{"box": [0, 0, 9, 9], "parts": {"head": {"box": [1, 1, 2, 2], "verb": "turn"}}}]
}
CONTENT = {
    "labels.txt": "jump\nrun\n",
    "a.pbtxt": 'item {\n name: "wave"\n id: 4\n}\nitem {\n name: "sit"\n id: 9\n}\n',
    "out.csv": "s,0003\n",
    "clips.csv": (
        "label,youtube_id,time_start,time_end,split\nrun,a,1,4,train\njump,b,2,5,val\nrun,bad,0,3,train\n"
    ),
    "segments.json": json.dumps(
        {
            "u": {
                "subset": "training",
                "annotations": [
                    {"label": "hop", "segment": [0, 2]},
                    {"label": "hop", "segment": [3, 12]},
                ],
            }
        }
    ),
    "boxes.csv": "s,0001,0,0,1,1,9,0\ns,0001,0,0,1,1,4,0\ns,0003,0,0,1,1,9,0\n",
    "parts/run/a_000001/img_00001.json": json.dumps(FRAME),
    "parts/run/a_000001/img_00030.json": json.dumps(FRAME),
}
VIDEO_IDS = {
    "trimmed/a_000001": "ok",
    "trimmed/b_000002": "ok",
    "trimmed/bad_000000": "quarantined",
    "untrimmed/u": "ok",
    "scenes/s": "ok",
}


def _write(layout: Layout, content: dict[str, str] = CONTENT) -> None:
    for name, text in content.items():
        path = Path(layout.root, "datasets/d", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _ingested(
    layout: Layout, statuses: dict[str, str] = VIDEO_IDS, skip: tuple[int, ...] = ()
) -> None:
    """Video tables of 30-frame videos that last 10 s; a quarantined one has no length."""
    empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in VIDEOS}
    for bucket in set(range(BUCKETS)) - set(skip):
        rows = [
            {**empty, "video_id": name, "status": status}
            | ({"duration_s": 10.0, "num_frames_packets": 30} if status == "ok" else {})
            for name, status in statuses.items()
            if bucket_of(name) == bucket
        ]
        write_table(layout.video_table("d", bucket), from_rows(rows, VIDEOS))


def _dataset(*files: AnnotationFile, **facts: object) -> Dataset:
    return Dataset(
        name="d",
        title="t",
        licence="none",
        root="{storage}/datasets/d",
        annotations=files or FILES,
        **facts,
    )  # type: ignore[arg-type]


@pytest.fixture
def filled(layout: Layout) -> Layout:
    """A storage root with all annotation files and all videos."""
    _write(layout)
    _ingested(layout)
    return layout


def _problems(layout: Layout) -> list[tuple]:
    rows = [
        row
        for row in read_table(layout.problem_table("d")).to_pylist()
        if row["kind"] != "unannotated_video"
    ]
    return [(row["file"], row["line"], row["field"], row["reason"]) for row in rows]


def test_four_files_become_four_tables_and_a_report(filled: Layout):
    report = annotate(
        _dataset(
            expected={
                "clips.train.rows": 3,
                "clips.test.rows": 1,
                "clips.val.rows": 1,
                "boxes.val.videos": 1,
            }
        ),
        filled,
    )
    tables = {
        name: read_table(filled.annotation_table("d", name))
        for name in ("clips", "segments", "boxes", "parts")
    }
    for name, schema in {
        "clips": CLIPS,
        "segments": SEGMENTS,
        "boxes": BOXES,
        "parts": PARTS,
    }.items():
        assert tables[name].schema.equals(schema), name
    assert {name: table.num_rows for name, table in tables.items()} == {
        "clips": 3,
        "segments": 2,
        "boxes": 2,
        "parts": 2,
    }
    assert (report.rows, report.num_problems, report.kinds, report.excluded) == (9, 0, {}, 1)
    assert {count.key: (count.expected, count.found, count.differs) for count in report.counts} == {
        "clips.train.rows": (3, 2, True),
        "clips.test.rows": (1, 0, True),
        "clips.val.rows": (1, 1, False),
        "boxes.val.videos": (1, 1, False),
    }
    assert [
        (c.split, c.rows, c.annotated, c.found, c.usable, c.expected)
        for c in report.coverage
        if c.table == "clips"
    ] == [
        ("test", 0, 0, 0, 0, 1),
        # the quarantined one is found, and keeps its clip, but cannot be used
        ("train", 2, 2, 2, 1, 3),
        ("val", 1, 1, 1, 1, 1),
    ]
    # from the clips: the form has none
    assert tables["parts"]["split"].to_pylist() == ["train", "train"]
    assert tables["parts"]["frame"].to_pylist() == [0, 29]
    problems = read_table(filled.problem_table("d"))
    assert problems.schema.equals(PROBLEMS)
    assert [
        (row["file"], row["field"], row["found"], row["kind"], row["allowed"])
        for row in problems.to_pylist()
    ] == [
        ("clips.csv", "clips.train.rows", "2", "count", True),
        ("clips.csv", "clips.test.rows", "0", "count", True),
    ]
    assert report.notes == {"count": 2} and not report.refused
    assert last_report("d", filled) == report
    assert report.metrics()["clips.train.coverage"] == 0.5


BAD = {
    "clips.csv": (
        CONTENT["clips.csv"]
        + "fly,a,1,2,train\nrun,gone,0,3,train\nrun,a,1,4,train\njump,bad,0,3,val\n"
    ),
    "segments.json": CONTENT["segments.json"].replace("[3, 12]", "[10, 12]"),
    "boxes.csv": CONTENT["boxes.csv"] + "s,0010,0,0,1,1,4,0\ns,0001,0,0,1,1,9,0\n",
    "out.csv": "s,0003\ns\n",
    "parts/run/a_000001/img_00031.json": json.dumps(FRAME),
}
KINDS: dict[ProblemKind, int] = {
    "unknown_label": 1,
    "missing_video": 1,
    "duplicate": 2,
    "contradiction": 2,
    "past_end": 3,
    "columns": 1,
}


def test_one_refusal_tells_the_problems_of_all_files_and_the_table_holds_them(filled: Layout):
    _write(filled, BAD)
    with pytest.raises(AnnotationError) as caught:
        annotate(_dataset(), filled)
    said = str(caught.value)
    assert "10 bad rows" in said and "2 x contradiction: two rows that cannot both be true" in said
    assert "clips.csv:5: label 'fly': unknown label" in said and filled.problem_table("d") in said
    assert "allow: [" in said and "kinograph check d" in said
    assert not Path(filled.annotation_table("d", "clips")).exists()
    rows = read_table(filled.problem_table("d")).to_pylist()
    assert len(rows) == 10 and not any(row["allowed"] for row in rows)
    report = last_report("d", filled)
    assert report.refused and report.kinds == KINDS
    assert str(pickle.loads(pickle.dumps(caught.value))) == said


def test_rows_that_are_allowed_by_name_are_left_out_and_all_others_kept(filled: Layout):
    _write(filled, BAD)
    report = annotate(_dataset(allow=tuple(KINDS)), filled)
    assert sorted(_problems(filled)) == sorted([
        ("clips.csv", 5, "label", "unknown label"),
        ("clips.csv", 6, "video", "no such video"),
        ("clips.csv", 7, "(row)", "duplicate row"),
        ("clips.csv", 4, "label", "contradicts another row in its label"),
        ("clips.csv", 8, "label", "contradicts another row in its label"),
        ("segments.json", 0, "start_s", "not before the end of the video"),
        ("out.csv", 2, "(line)", "not video,timestamp"),
        ("boxes.csv", 4, "timestamp_s", "not before the end of the video"),
        ("boxes.csv", 5, "(row)", "duplicate row"),
        ("parts/run/a_000001/img_00031.json", 0, "frame", "not before the end of the video"),
    ])  # fmt: skip
    table = read_table(filled.problem_table("d"))
    assert all(table["allowed"].to_pylist())
    found = {(row["file"], row["line"]): row["found"] for row in table.to_pylist()}
    assert found["clips.csv", 7] == "trimmed/a_000001, run, train; first at clips.csv:2"
    assert found["clips.csv", 8] == "jump for trimmed/bad_000000; run at clips.csv:4"
    assert found["segments.json", 0] == "u.annotations[1]: 10 of untrimmed/u (duration_s 10)"
    assert (report.rows, report.num_problems, report.kinds) == (7, 10, KINDS) and report.metrics()[
        "problems.past_end"
    ] == 3
    assert report.notes == {}
    clips = next(c for c in report.coverage if (c.table, c.split) == ("clips", "train"))
    assert (clips.rows, clips.annotated, clips.found, clips.usable) == (1, 2, 1, 1)


def test_a_file_may_allow_for_itself_alone(filled: Layout):
    _write(filled, {"clips.csv": BAD["clips.csv"], "boxes.csv": BAD["boxes.csv"]})
    clips = FILES[0].model_copy(
        update={"allow": ("unknown_label", "missing_video", "duplicate", "contradiction")}
    )
    with pytest.raises(AnnotationError) as caught:
        annotate(_dataset(clips, *FILES[1:]), filled)
    assert (
        "2 bad rows" in str(caught.value)
        and "boxes.csv:5" in str(caught.value)
        and "clips.csv" not in str(caught.value)
    )
    allowed = {
        (row["file"], row["allowed"]) for row in read_table(filled.problem_table("d")).to_pylist()
    }
    assert allowed == {("clips.csv", True), ("boxes.csv", False)}
    boxes = FILES[2].model_copy(update={"allow": ("past_end", "duplicate")})
    assert annotate(_dataset(clips, FILES[1], boxes, FILES[3]), filled).num_problems == 7


def test_a_refusal_shows_twenty_rows_in_words_and_counts_all(filled: Layout):
    _write(filled, {"clips.csv": CONTENT["clips.csv"] + "fly,a,1,2,train\n" * 300})
    with pytest.raises(AnnotationError) as caught:
        annotate(_dataset(FILES[0]), filled)
    said = str(caught.value)
    assert (
        "300 bad rows" in said
        and "the first 20 of them" in said
        and said.count("unknown label") == 20
    )


def test_a_file_without_a_good_row_is_refused_with_every_row_of_it(filled: Layout):
    _write(filled, {"boxes.csv": "s,0001,0,0,1,1,7,0\ns,0001,0,0,1,2,4,0\n"})
    with pytest.raises(AnnotationError, match="no good row"):
        annotate(_dataset(allow=("unknown_label", "box_outside")), filled)
    assert [problem[:2] for problem in _problems(filled)] == [("boxes.csv", 1), ("boxes.csv", 2)]


def test_videos_without_annotation_and_other_counts_are_notes(filled: Layout):
    _ingested(filled, {**VIDEO_IDS, "trimmed/free": "ok", "trimmed/unread": "quarantined"})
    report = annotate(
        _dataset(
            expected={"segments.all.classes": 2, "segments.train.rows": 2, "parts.train.videos": 7}
        ),
        filled,
    )
    assert report.notes == {"unannotated_video": 1, "count": 2} and report.num_problems == 0
    rows = {row["kind"]: row for row in read_table(filled.problem_table("d")).to_pylist()}
    assert (
        rows["unannotated_video"]["found"] == "trimmed/free"
        and rows["unannotated_video"]["allowed"]
    )
    assert {row.key: (row.expected, row.found) for row in report.counts} == {
        "segments.all.classes": (2, 1), "segments.train.rows": (2, 2), "parts.train.videos": (7, 1),
    }  # fmt: skip


def test_every_annotated_video_is_an_entry_and_excluded_frames_are_kept(filled: Layout):
    listed = {
        "database": {
            "u": {
                "subset": "training",
                "duration": 10,
                "annotations": [{"label": "hop", "segment": [0, 2]}],
            }
        }
    }
    listed["database"]["empty"] = {"subset": "validation", "duration": 7.5, "annotations": []}
    _write(filled, {"segments.json": json.dumps(listed)})
    _ingested(filled, {**VIDEO_IDS, "untrimmed/empty": "ok"})
    annotate(_dataset(), filled)
    table = read_table(filled.entries_table("d"))
    assert table.schema.equals(ENTRIES)
    rows = {
        (row["table"], row["video_id"]): (row["split"], row["num_rows"], row["duration_s"])
        for row in table.to_pylist()
    }
    assert rows["segments", "untrimmed/empty"] == ("val", 0, 7.5)
    assert rows["segments", "untrimmed/u"] == ("train", 1, 10.0)
    assert rows["clips", "trimmed/b_000002"] == ("val", 1, None)
    excluded = read_table(filled.excluded_table("d"))
    assert excluded.schema.equals(EXCLUDED)
    assert [
        (row["video_id"], row["split"], row["timestamp_s"]) for row in excluded.to_pylist()
    ] == [("scenes/s", "val", 3.0)]


def test_the_same_clip_in_two_files_is_one_clip_or_a_contradiction(filled: Layout):
    _write(filled, {"more.csv": CONTENT["clips.csv"]})
    more = FILES[0].model_copy(update={"path": "more.csv"})
    assert annotate(_dataset(FILES[0], more, allow=("duplicate",)), filled).kinds == {
        "duplicate": 3
    }
    _write(filled, {"more.csv": CONTENT["clips.csv"].replace("val", "train")})
    report = annotate(_dataset(FILES[0], more, allow=("duplicate", "contradiction")), filled)
    assert report.kinds == {"duplicate": 2, "contradiction": 2} and report.rows == 2


def test_each_target_has_its_own_vocabulary(filled: Layout):
    _write(
        filled,
        {
            "verbs.csv": CONTENT["clips.csv"].replace("jump", "run"),
            "nouns.csv": CONTENT["clips.csv"],
        },
    )
    verbs, nouns = (
        FILES[0].model_copy(update={"path": f"{n}s.csv", "target": n, "labels": None})
        for n in ("verb", "noun")
    )
    dataset = _dataset(
        verbs,
        nouns.model_copy(update={"split": "train"}),
        allow=("contradiction",),
        expected={"clips.train.rows": 2},
    )
    assert labels(dataset, "clips", filled, "verb") == ["run"] and labels(
        dataset, "clips", filled, "noun"
    ) == ["jump", "run"]
    with pytest.raises(AnnotationError, match="target: found 'label'; expected: noun, verb"):
        labels(dataset, "clips", filled)
    report = annotate(dataset, filled)
    rows = read_table(filled.annotation_table("d", "clips")).to_pylist()
    assert {(row["target"], row["label"], row["label_id"]) for row in rows} == {
        ("verb", "run", 0),
        ("noun", "run", 1),
        ("noun", "jump", 0),
    }
    # verbs have two, nouns three: the one that differs
    assert report.rows == 6 and report.counts[0].found == 3


def test_labels_that_are_numbers_keep_them(filled: Layout):
    _write(filled, {"clips.csv": CONTENT["clips.csv"].replace("run", "10").replace("jump", "2")})
    bare = FILES[0].model_copy(update={"labels": None, "split": "train"})
    assert labels(_dataset(bare), "clips", filled) == [str(number) for number in range(11)]
    annotate(_dataset(bare), filled)
    assert read_table(filled.annotation_table("d", "clips"))["label_id"].to_pylist() == [10, 2, 10]


def test_a_second_call_writes_the_same_bytes(filled: Layout):
    annotate(_dataset(), filled)
    first = Path(filled.annotation_table("d", "clips")).read_bytes()
    annotate(_dataset(), filled)
    assert Path(filled.annotation_table("d", "clips")).read_bytes() == first


def test_a_table_that_the_config_drops_is_removed(filled: Layout):
    annotate(_dataset(), filled)
    annotate(_dataset(FILES[0]), filled)
    assert (
        not Path(filled.annotation_table("d", "boxes")).exists()
        and Path(filled.annotation_table("d", "clips")).exists()
    )


def test_a_bucket_that_is_not_ingested_is_said(filled: Layout):
    bucket = bucket_of("trimmed/a_000001")
    Path(filled.video_table("d", bucket)).unlink()
    annotate(_dataset(FILES[0], allow=("missing_video",)), filled)
    assert (
        "clips.csv",
        2,
        "video",
        f"no such video (bucket {bucket} is not ingested yet)",
    ) in _problems(filled)


def test_nothing_ingested_is_an_error(layout: Layout):
    _write(layout)
    with pytest.raises(AnnotationError, match="no video table.*ingest of dataset 'd'"):
        annotate(_dataset(), layout)


def test_a_template_that_meets_no_video_is_an_error_with_examples(filled: Layout):
    wrong = FILES[0].model_copy(update={"video": "{youtube_id}"})
    with pytest.raises(
        AnnotationError, match=r"clips.csv:2: video: found 'a'; .*'trimmed/|'untrimmed/|'scenes/"
    ):
        annotate(_dataset(wrong), filled)


def test_all_unusable_files_are_named_in_one_error_and_no_table_is_written(filled: Layout):
    annotate(_dataset(), filled)
    before = Path(filled.annotation_table("d", "clips")).read_bytes()
    _write(
        filled,
        {
            "segments.json": "[",
            "boxes.csv": "",
            "clips.csv": CONTENT["clips.csv"].replace("run", "jump") + "fly,a,1,2,train\n",
        },
    )
    with pytest.raises(AnnotationError) as caught:
        annotate(_dataset(), filled)
    said = str(caught.value)
    assert (
        "2 unusable files" in said
        and "datasets/d/segments.json:1" in said
        and "datasets/d/boxes.csv" in said
    )
    assert "1 bad row" in said and "fly" in said  # the rows of the other files are told as well
    assert Path(filled.annotation_table("d", "clips")).read_bytes() == before


def test_a_missing_file_is_named_with_its_whole_path(filled: Layout):
    Path(filled.root, "datasets/d/labels.txt").unlink()
    with pytest.raises(
        AnnotationError, match=f"{filled.root}/datasets/d/labels.txt: .*no such file"
    ):
        annotate(_dataset(FILES[0]), filled)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"table": "segments"}, "table: found 'segments'; expected: clips for kinetics_csv"),
        ({"exclusions": "out.csv"}, "exclusions: found 'out.csv'"),
    ],
)
def test_a_config_that_contradicts_itself_is_named(filled: Layout, change: dict, says: str):
    with pytest.raises(AnnotationError, match=says):
        annotate(_dataset(FILES[0].model_copy(update=change)), filled)


def test_vocabularies(filled: Layout):
    dataset = _dataset()
    assert labels(dataset, "clips", filled) == labels(dataset, "parts", filled) == ["jump", "run"]
    assert labels(dataset, "segments", filled) == ["hop"]  # no file: the labels of the train split
    assert vocabulary(dataset, "boxes", filled).ids == (4, 9) and labels(
        dataset, "boxes", filled
    ) == ["wave", "sit"]
    annotate(dataset, filled)
    assert read_table(filled.annotation_table("d", "boxes"))["label_id"].to_pylist() == [9, 4]


def test_without_a_vocabulary_file_a_label_of_the_val_split_alone_is_unknown(filled: Layout):
    bare = FILES[0].model_copy(update={"labels": None})
    assert labels(_dataset(bare), "clips", filled) == ["run"]
    annotate(_dataset(bare, allow=("unknown_label",)), filled)
    assert _problems(filled) == [
        ("clips.csv", 3, "label", "no row of the train split has this label")
    ]


def test_vocabularies_that_cannot_be(filled: Layout):
    two = FILES[0].model_copy(update={"labels": "out.csv"})
    for files, table, says in [
        ((FILES[0], two), "clips", "one vocabulary"),
        ((FILES[2].model_copy(update={"labels": None}),), "boxes", "the rows hold ids only"),
        (
            (FILES[1].model_copy(update={"split": "val"}),),
            "segments",
            "no labelled row is in the train split",
        ),
        ((FILES[1],), "clips", "a table that the config has files for"),
    ]:
        with pytest.raises(AnnotationError, match=says):
            labels(_dataset(*files), table, filled)  # type: ignore[arg-type]


def test_a_dataset_with_features_only_is_annotated_without_videos(filled: Layout):
    dataset = _dataset(FILES[1]).model_copy(update={"videos": None})
    report = annotate(dataset, filled)
    assert report.rows > 0 and not report.kinds and not report.notes
    entries = read_table(filled.entries_table("d")).to_pylist()
    assert {entry["video_id"] for entry in entries} == set(
        read_table(filled.annotation_table("d", "segments"))["video_id"].to_pylist()
    )
    with pytest.raises(ConfigError, match="features only"):
        filled.videos_folder(dataset)


@pytest.mark.parametrize("option, value", [("subset", "training"), ("fold", 2)])
def test_an_option_that_a_format_does_not_know_is_named(filled: Layout, option: str, value: object):
    with pytest.raises(
        AnnotationError,
        match=f"{option}: found '?{value}'?; expected: nothing: kinetics_csv has no {option}",
    ):
        annotate(_dataset(FILES[0].model_copy(update={option: value})), filled)
