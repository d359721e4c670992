"""The checks fail for what they are for, and say it."""

from __future__ import annotations

import pytest

import configs
from configs.schema import AnnotationFile, Dataset
from ops.flow.data_checks import above_chance, label_vocabulary, no_leak, quarantine_floor
from ops.store.tables import CLIPS, MANIFEST, PROBLEMS, VIDEOS, from_rows, write_table

CLIPS_FILE = AnnotationFile(table="clips", format="kinetics_csv", path="clips.csv")
DATASET = Dataset(
    name="world",
    title="t",
    licence="none",
    root="/nowhere",
    annotations=(CLIPS_FILE,),
    max_quarantined=0.2,
)


def blank(schema, **values):
    """A row of the schema: empty text and zeros, but for the values."""
    empty = {field.name: "" if str(field.type) == "string" else 0 for field in schema}
    return {**empty, **values}


@pytest.fixture
def write(layout):
    """write(videos={id: sha256}, clips=[(id, split, label)], refused=[kind], broken=n) stores the
    tables.
    """

    def tables(videos, clips=(), refused=(), broken=0, empty=()):
        rows = [
            blank(VIDEOS, video_id=name, sha256=sha, dataset="world", status="ok")
            for name, sha in videos.items()
        ]
        rows += [
            blank(VIDEOS, video_id=name, sha256="e3b0", dataset="world", status="quarantined")
            for name in empty
        ]
        write_table(layout.video_table("world", 0), from_rows(rows, VIDEOS))
        found = [
            blank(CLIPS, clip_id=f"{v}-{s}", video_id=v, split=s, label=label, dataset="world")
            for v, s, label in clips
        ]
        write_table(layout.annotation_table("world", "clips"), from_rows(found, CLIPS))
        write_table(
            layout.problem_table("world"),
            from_rows([blank(PROBLEMS, kind=kind, allowed=True) for kind in refused], PROBLEMS),
        )
        reasons = ["cut short", "text", "cut short"][:broken]
        bad = [
            blank(MANIFEST, video_id=name, status="quarantined", reason=why)
            for name, why in zip(videos, reasons, strict=False)
        ]
        kept = bad + [blank(MANIFEST, video_id=name, status="ok") for name in list(videos)[broken:]]
        write_table(layout.manifest("world", DATASET.frames.key(), 3), from_rows(kept, MANIFEST))
        return layout

    return tables


def test_the_same_content_in_two_splits_is_a_leak(write) -> None:
    clips = [("a", "train", "x"), ("b", "val", "x"), ("c", "train", "x"), ("d", "train", "x")]
    # twice in one split is no leak
    assert no_leak(DATASET, write({"a": "1", "b": "2", "c": "3", "d": "3"}, clips)).passed
    answer = no_leak(DATASET, write({"a": "1", "b": "1", "c": "3", "d": "4"}, clips))
    assert not answer.passed and answer.numbers["leaks"] == 1 and answer.says.endswith(": a, b")


def test_two_empty_files_are_no_leak(write) -> None:
    clips = [("a", "train", "x"), ("b", "val", "x"), ("c", "train", "x"), ("d", "val", "x")]
    assert no_leak(DATASET, write({"a": "1", "b": "2"}, clips, empty=("c", "d"))).passed


def test_a_label_without_training_and_a_refused_one_fail(write) -> None:
    good = [("a", "train", "x"), ("b", "val", "x")]
    assert label_vocabulary(DATASET, write({"a": "1", "b": "2"}, good)).passed
    answer = label_vocabulary(DATASET, write({"a": "1", "b": "2"}, [*good, ("b", "test", "y")]))
    assert not answer.passed and "clips: y" in answer.says
    # test lists come without labels
    assert label_vocabulary(DATASET, write({"a": "1"}, [*good, ("c", "test", None)])).passed
    assert label_vocabulary(DATASET, write({"a": "1"}, good, ["value"])).passed
    refused = label_vocabulary(DATASET, write({"a": "1"}, good, ["unknown_label", "value"]))
    assert not refused.passed and refused.numbers["refused_for_label"] == 1


def test_too_many_quarantined_videos_fail(write, layout) -> None:
    assert not quarantine_floor(DATASET, layout).passed  # nothing is stored
    videos = {str(index): str(index) for index in range(10)}
    assert quarantine_floor(DATASET, write(videos, broken=2)).passed
    answer = quarantine_floor(DATASET, write(videos, broken=3))
    assert (
        not answer.passed
        and answer.says
        == "3 of 10 videos are quarantined; 20% are allowed: 2 x cut short, 1 x text"
    )


def test_a_model_that_guesses_fails() -> None:
    recipe = configs.load("tsn_tiny_figures").model_copy(update={"num_classes": 10})
    for value, clear in ((0.21, True), (0.2, False), (float("nan"), False)):
        assert above_chance(recipe, {"top1": value}).passed == clear
