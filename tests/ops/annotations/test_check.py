"""The check of a dataset: everything at once, before ingest and after it; nothing is written."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from configs.schema import PROBLEM_KINDS, AnnotationFile, Dataset
from ops.annotations.check import ADVICE, examine, hint, nearest
from ops.files.storage import list_files
from ops.store.buckets import bucket_of
from ops.store.layout import Layout
from ops.store.tables import VIDEOS, from_rows, write_table

HEADER = "label,youtube_id,time_start,time_end,split\n"
GOOD = HEADER + "run,a,0,1,train\njump,b,0,1,val\n"
CLIPS = AnnotationFile(
    table="clips",
    format="kinetics_csv",
    path="clips.csv",
    video="{youtube_id}",
    labels="labels.txt",
)


def dataset(*files: AnnotationFile, **facts: Any) -> Dataset:
    return Dataset(
        **{
            "name": "d",
            "title": "t",
            "licence": "none",
            "root": "{storage}/d",
            "annotations": files or (CLIPS,),
            **facts,
        }
    )


@pytest.fixture
def root(layout: Layout) -> Path:
    """A dataset of two videos and two rows."""
    folder = Path(layout.root, "d")
    (folder / "videos").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        (folder / "videos" / name).write_bytes(b"x")
    (folder / "clips.csv").write_text(GOOD)
    (folder / "labels.txt").write_text("jump\nrun\n")
    return folder


def test_a_good_dataset_passes_and_nothing_is_written(root: Path, layout: Layout):
    told = list[str]()
    found = examine(dataset(expected={"clips.train.rows": 1}), layout, told.append)
    assert (
        found.good
        and found.error is None
        and found.num_files == 2
        and not found.ingested
        and found.root_exists
    )
    assert [(item.named, item.met, item.examples) for item in found.meetings] == [(2, 2, ())]
    assert [(item.rows, item.problems) for item in found.reading.files] == [
        (2, 0)
    ] and "clips.csv" in told
    assert found.reading.vocabularies["clips", "label"].names == ("jump", "run")
    assert {info.path_below for info in list_files(layout.root)} == {
        "d/clips.csv",
        "d/labels.txt",
        "d/videos/a.mp4",
        "d/videos/b.mp4",
    }


def test_everything_that_is_wrong_is_told_at_once(root: Path, layout: Layout):
    (root / "clips.csv").write_text(
        GOOD + "fly,a,0,2,train\nrun,c,0,1,train\nrun,a,nan,1,train\nrun,a,5,2,train\n"
    )
    (root / "videos" / "free.mp4").write_bytes(b"x")
    missing = AnnotationFile(table="segments", format="activitynet_json", path="none.json")
    (root / "bad.csv").write_text("1,2,3\n")
    boxes = AnnotationFile(table="boxes", format="ava_csv", path="bad.csv", labels="a.pbtxt")
    found = examine(dataset(CLIPS, missing, boxes, expected={"clips.all.rows": 7}), layout)
    assert not found.good and len(found.joined.errors) == 2
    assert found.joined.report.kinds == {
        "unknown_label": 1,
        "missing_video": 1,
        "value": 1,
        "end_before_start": 1,
    }
    assert found.joined.report.notes == {"unannotated_video": 1, "count": 1}
    said = str(found.error)
    assert (
        "none.json" in said
        and "a.pbtxt" in said
        and "4 bad rows" in said
        and "problems.parquet" not in said
    )
    allowed = dataset(allow=("unknown_label", "missing_video", "value", "end_before_start"))
    assert examine(allowed, layout).good


def test_a_folder_without_videos_is_told_and_the_files_are_judged_by_themselves(
    root: Path, layout: Layout
):
    for path in (root / "videos").iterdir():
        path.unlink()
    (root / "clips.csv").write_text(GOOD + "fly,a,0,2,train\n")
    found = examine(dataset(), layout)
    assert not found.good and found.num_files == 0 and found.meetings == ()
    # no row is held against a folder that is not there yet
    assert found.joined.report.kinds == {"unknown_label": 1}
    nowhere = examine(dataset(root="{storage}/nowhere"), layout)
    assert not nowhere.root_exists and "nowhere/labels.txt" in str(nowhere.error)


def test_names_that_do_not_fit_are_shown_beside_the_files(root: Path, layout: Layout):
    (root / "videos" / "a.mp4").rename(root / "videos" / "a_000000_000001.mp4")
    (root / "videos" / "b.mp4").rename(root / "videos" / "b_000000_000001.mp4")
    found = examine(dataset(), layout)
    assert (
        not found.good
        and found.joined.report.kinds == {}
        and "'video' template" in str(found.error)
    )
    (meeting,) = found.meetings
    assert meeting.met == 0 and meeting.examples == (
        ("a", "a_000000_000001"),
        ("b", "b_000000_000001"),
    )
    assert "go on where the rows' end" in meeting.hint
    assert examine(
        dataset(CLIPS.model_copy(update={"video": "{youtube_id}_{time_start:06d}_{time_end:06d}"})),
        layout,
    ).good


@pytest.mark.parametrize(
    "missing, files, says",
    [
        (["a"], ["trimmed/a", "trimmed/b"], "the files lie in 'trimmed/', the rows say ''"),
        (["x/a"], ["trimmed/a"], "the files lie in 'trimmed/', the rows say 'x/'"),
        (["ABC"], ["abc"], "upper and lower case"),
        (["a.mp4"], ["a"], "keep a file ending"),
        (["a"], ["a_1"], "go on where"),
        (["q"], ["zz"], ""),
    ],
)
def test_hints(missing: list[str], files: list[str], says: str):
    assert says in hint(missing, files) and bool(hint(missing, files)) == bool(says)


def test_the_nearest_name():
    assert nearest("clip_01", ["other", "some/clip_01_x", "clip_0"]) == "some/clip_01_x"
    assert (
        nearest("clip_01", ["zzz", "clip_02"]) == "clip_02"
        and nearest("clip_01", ["zzz"], 0.8) == ""
        and nearest("a", []) == ""
    )


def test_what_ingest_knows_already_is_used(root: Path, layout: Layout):
    empty = {field.name: "" if pa.types.is_string(field.type) else 0 for field in VIDEOS}
    known = {"status": "ok", "duration_s": 0.5, "num_frames_packets": 5}
    row = {**empty, "video_id": "a", "source_uri": f"{layout.root}/d/videos/a.mp4", **known}
    write_table(layout.video_table("d", bucket_of("a")), from_rows([row], VIDEOS))
    (root / "clips.csv").write_text(GOOD.replace("a,0,1", "a,0.75,1"))
    found = examine(dataset(), layout)
    # b is new: nothing is known of its length
    assert found.ingested and found.joined.report.kinds == {"past_end": 1}


def test_braces_and_the_home_folder_in_a_root(
    root: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(root.parent))
    root.rename(root.parent / "d {v2}")
    found = examine(dataset(root="~/d {v2}/"), layout)
    assert found.good and found.root == f"{root.parent}/d {{v2}}"
    assert examine(dataset(root="{storage}/d {v2}"), layout).good


def test_there_is_advice_for_every_kind():
    assert set(ADVICE) == set(PROBLEM_KINDS)
