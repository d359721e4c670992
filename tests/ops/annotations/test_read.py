"""Annotation files of a whole dataset: tables, problems and coverage against the video tables."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from configs.schema import BUCKETS, AnnotationFile, Dataset
from ops.annotations.read import annotate, labels, last_report, vocabulary
from ops.annotations.vocabulary import AnnotationError
from ops.media.buckets import bucket_of
from ops.store.layout import Layout
from ops.store.tables import BOXES, CLIPS, PARTS, PROBLEMS, SEGMENTS, VIDEOS, from_rows, read_table, write_table

FILES = (
    AnnotationFile(
        table="clips", format="kinetics_csv", path="clips.csv", video="trimmed/{youtube_id}_{time_start:06d}", labels="labels.txt"
    ),
    AnnotationFile(table="segments", format="activitynet_json", path="segments.json", video="untrimmed/{video}"),
    AnnotationFile(
        table="boxes", format="ava_csv", path="boxes.csv", split="val", video="scenes/{video}", labels="a.pbtxt", exclusions="out.csv"
    ),
    AnnotationFile(table="parts", format="kinetics_tps_json", path="parts", video="trimmed/{video}"),
)
FRAME = {"humans": [{"box": [0, 0, 9, 9], "parts": {"head": {"box": [1, 1, 2, 2], "verb": "turn"}}}]}
CONTENT = {
    "labels.txt": "jump\nrun\n",
    "a.pbtxt": 'item {\n name: "wave"\n id: 4\n}\nitem {\n name: "sit"\n id: 9\n}\n',
    "out.csv": "s,0003\n",
    "clips.csv": "label,youtube_id,time_start,time_end,split\nrun,a,1,4,train\njump,b,2,5,val\nrun,bad,0,3,train\n",
    "segments.json": json.dumps(
        {"u": {"subset": "training", "annotations": [{"label": "hop", "segment": [0, 2]}, {"label": "hop", "segment": [3, 99]}]}}
    ),
    "boxes.csv": "s,0001,0,0,1,1,9,0\ns,0001,0,0,1,1,4,0\ns,0003,0,0,1,1,9,0\n",
    "parts/run/a_000001/img_00001.json": json.dumps(FRAME),
    "parts/run/a_000001/img_00030.json": json.dumps(FRAME),
}
VIDEO_IDS = {"trimmed/a_000001": "ok", "trimmed/b_000002": "ok", "trimmed/bad_000000": "quarantined", "untrimmed/u": "ok", "scenes/s": "ok"}


def _write(layout: Layout, content: dict[str, str] = CONTENT) -> None:
    for name, text in content.items():
        path = Path(layout.root, "datasets/d", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _ingested(layout: Layout, statuses: dict[str, str] = VIDEO_IDS, skip: tuple[int, ...] = ()) -> None:
    """Video tables of 30-frame videos that last 10 s; a quarantined one has no length."""
    empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in VIDEOS}
    for bucket in set(range(BUCKETS)) - set(skip):
        rows = [
            {**empty, "video_id": name, "status": status} | ({"duration_s": 10.0, "num_frames_packets": 30} if status == "ok" else {})
            for name, status in statuses.items()
            if bucket_of(name) == bucket
        ]
        write_table(layout.video_table("d", bucket), from_rows(rows, VIDEOS))


def _dataset(*files: AnnotationFile, **facts: object) -> Dataset:
    return Dataset(name="d", title="t", licence="none", root="{storage}/datasets/d", annotations=files or FILES, **facts)  # type: ignore[arg-type]


@pytest.fixture
def filled(layout: Layout) -> Layout:
    """A storage root with all annotation files and all videos."""
    _write(layout)
    _ingested(layout)
    return layout


def _problems(layout: Layout) -> list[tuple]:
    rows = read_table(layout.problem_table("d")).to_pylist()
    return [(row["file"], row["line"], row["field"], row["reason"]) for row in rows]


def test_four_files_become_four_tables_and_a_report(filled: Layout):
    report = annotate(_dataset(expected={"train": 3, "test": 1}), filled)
    tables = {name: read_table(filled.annotation_table("d", name)) for name in ("clips", "segments", "boxes", "parts")}
    for name, schema in {"clips": CLIPS, "segments": SEGMENTS, "boxes": BOXES, "parts": PARTS}.items():
        assert tables[name].schema.equals(schema), name
    assert {name: table.num_rows for name, table in tables.items()} == {"clips": 3, "segments": 2, "boxes": 2, "parts": 2}
    assert (report.rows, report.num_problems, report.reasons, report.excluded) == (9, 0, {}, 1)
    assert [(c.split, c.rows, c.annotated, c.found, c.usable, c.expected) for c in report.coverage if c.table == "clips"] == [
        ("test", 0, 0, 0, 0, 1),
        ("train", 2, 2, 2, 1, 3),  # the quarantined one is found, and keeps its clip, but cannot be used
        ("val", 1, 1, 1, 1, None),
    ]
    assert tables["parts"]["split"].to_pylist() == ["train", "train"]  # from the clips: the form has none
    assert tables["parts"]["frame"].to_pylist() == [0, 29]
    problems = read_table(filled.problem_table("d"))
    assert problems.num_rows == 0 and problems.schema.equals(PROBLEMS)
    assert last_report("d", filled) == report
    assert report.metrics()["clips.train.coverage"] == 0.5


def test_problems_of_all_files_come_together(filled: Layout):
    _write(filled, {
        "clips.csv": CONTENT["clips.csv"] + "fly,a,1,2,train\nrun,gone,0,3,train\nrun,a,1,4,train\njump,a,1,4,val\n",
        "segments.json": CONTENT["segments.json"].replace("[3, 99]", "[10, 99]"),
        "boxes.csv": CONTENT["boxes.csv"] + "s,0010,0,0,1,1,4,0\ns,0001,0,0,1,1,9,0\n",
        "out.csv": "s,0003\ns\n",
        "parts/run/a_000001/img_00031.json": json.dumps(FRAME),
    })  # fmt: skip
    report = annotate(_dataset(), filled)
    assert sorted(_problems(filled)) == sorted([
        ("clips.csv", 5, "label", "unknown label"),
        ("clips.csv", 6, "video", "no such video"),
        ("clips.csv", 7, "(row)", "duplicate row"),
        ("clips.csv", 8, "(row)", "duplicate row"),
        ("segments.json", 0, "start_s", "not before the end of the video"),
        ("out.csv", 2, "(line)", "not video,timestamp"),
        ("boxes.csv", 4, "timestamp_s", "not before the end of the video"),
        ("boxes.csv", 5, "(row)", "duplicate row"),
        ("parts/run/a_000001/img_00031.json", 0, "frame", "not before the end of the video"),
    ])  # fmt: skip
    found = {row["line"]: row["found"] for row in read_table(filled.problem_table("d")).to_pylist()}
    assert found[7] == "trimmed/a_000001; first at clips.csv:2"
    assert (report.rows, report.num_problems, report.reasons["duplicate row"]) == (8, 9, 3)
    clips = next(c for c in report.coverage if (c.table, c.split) == ("clips", "train"))
    assert (clips.rows, clips.annotated, clips.found, clips.usable) == (2, 3, 2, 1)


def test_the_same_clip_in_two_files_is_one_clip(filled: Layout):
    _write(filled, {"more.csv": CONTENT["clips.csv"].replace("val", "train")})
    more = FILES[0].model_copy(update={"path": "more.csv"})
    assert annotate(_dataset(FILES[0], more), filled).reasons == {"duplicate row": 3}


def test_a_second_call_writes_the_same_bytes(filled: Layout):
    annotate(_dataset(), filled)
    first = Path(filled.annotation_table("d", "clips")).read_bytes()
    annotate(_dataset(), filled)
    assert Path(filled.annotation_table("d", "clips")).read_bytes() == first


def test_a_table_that_the_config_drops_is_removed(filled: Layout):
    annotate(_dataset(), filled)
    annotate(_dataset(FILES[0]), filled)
    assert not Path(filled.annotation_table("d", "boxes")).exists() and Path(filled.annotation_table("d", "clips")).exists()


def test_a_bucket_that_is_not_ingested_is_said(filled: Layout):
    bucket = bucket_of("trimmed/a_000001")
    Path(filled.video_table("d", bucket)).unlink()
    annotate(_dataset(FILES[0]), filled)
    assert ("clips.csv", 2, "video", f"no such video (bucket {bucket} is not ingested yet)") in _problems(filled)


def test_nothing_ingested_is_an_error(layout: Layout):
    _write(layout)
    with pytest.raises(AnnotationError, match="no video table.*ingest of dataset 'd'"):
        annotate(_dataset(), layout)


def test_a_template_that_meets_no_video_is_an_error_with_examples(filled: Layout):
    wrong = FILES[0].model_copy(update={"video": "{youtube_id}"})
    with pytest.raises(AnnotationError, match=r"clips.csv:2: video: found 'a'; .*'trimmed/|'untrimmed/|'scenes/"):
        annotate(_dataset(wrong), filled)


def test_all_unusable_files_are_named_in_one_error_and_nothing_is_written(filled: Layout):
    annotate(_dataset(), filled)
    before = Path(filled.annotation_table("d", "clips")).read_bytes()
    _write(filled, {"segments.json": "[", "boxes.csv": "", "clips.csv": CONTENT["clips.csv"].replace("run", "jump")})
    with pytest.raises(AnnotationError, match=r"2 unusable files(.|\n)*datasets/d/segments.json:1(.|\n)*datasets/d/boxes.csv"):
        annotate(_dataset(), filled)
    assert Path(filled.annotation_table("d", "clips")).read_bytes() == before


def test_a_missing_file_is_named_with_its_whole_path(filled: Layout):
    Path(filled.root, "datasets/d/labels.txt").unlink()
    with pytest.raises(AnnotationError, match=f"^{filled.root}/datasets/d/labels.txt: .*no such file"):
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
    assert vocabulary(dataset, "boxes", filled).ids == (4, 9) and labels(dataset, "boxes", filled) == ["wave", "sit"]
    annotate(dataset, filled)
    assert read_table(filled.annotation_table("d", "boxes"))["label_id"].to_pylist() == [9, 4]


def test_without_a_vocabulary_file_a_label_of_the_val_split_alone_is_unknown(filled: Layout):
    bare = FILES[0].model_copy(update={"labels": None})
    assert labels(_dataset(bare), "clips", filled) == ["run"]
    annotate(_dataset(bare), filled)
    assert _problems(filled) == [("clips.csv", 3, "label", "unknown label")]


def test_vocabularies_that_cannot_be(filled: Layout):
    two = FILES[0].model_copy(update={"labels": "out.csv"})
    for files, table, says in [
        ((FILES[0], two), "clips", "one vocabulary"),
        ((FILES[2].model_copy(update={"labels": None}),), "boxes", "a .pbtxt"),
        ((FILES[1].model_copy(update={"split": "val"}),), "segments", "no row is in the train split"),
        ((FILES[1],), "clips", "a table that the config has files for"),
    ]:
        with pytest.raises(AnnotationError, match=says):
            labels(_dataset(*files), table, filled)  # type: ignore[arg-type]
