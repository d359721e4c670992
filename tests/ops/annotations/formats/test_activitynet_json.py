"""ActivityNet json: the official files of ActivityNet 1.3 and THUMOS14, and every way an entry can be wrong."""

import json

import pytest

from ops.annotations.activitynet_json import read
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names, parse

CONTEXT = Context("anet", "a.json", vocabulary=from_names(["jump", "run"]))
GOOD = {"label": "run", "segment": [1, 2.5]}


def _file(annotation: object = GOOD, **entry: object) -> bytes:
    """A database of one good video and one with this annotation."""
    good = {"subset": "training", "duration": 9.5, "annotations": [GOOD]}
    return json.dumps({"version": "1", "database": {"good": good, "v": {**good, "annotations": [annotation], **entry}}}).encode()


def test_good_entries_become_segments():
    context = Context("anet", "a.json", video="untrimmed/{video}", vocabulary=CONTEXT.vocabulary)
    rows = read(_file(subset="Validation"), context).table.to_pylist()
    assert rows[1] == {
        "video_id": "untrimmed/v", "dataset": "anet", "split": "val", "label": "run", "label_id": 1, "start_s": 1.0, "end_s": 2.5,
        "source": "a.json:v.annotations[0]",
    }  # fmt: skip


def test_without_subset_the_split_is_the_configs_or_the_clips():
    data = json.dumps({"v": {"duration_second": 9, "annotations": [GOOD]}, "w": {"annotations": [GOOD]}}).encode()
    assert read(data, Context("a", "f", split="train", vocabulary=CONTEXT.vocabulary)).table["split"].to_pylist() == ["train", "train"]
    answer = read(data, Context("a", "f", splits={"v": "val"}, vocabulary=CONTEXT.vocabulary))
    assert answer.table["split"].to_pylist() == ["val"] and [p.field for p in answer.problems] == ["subset"]


@pytest.mark.parametrize(
    "annotation, field, reason",
    [
        (7, "annotation", "an annotation is a mapping with label and segment"),
        ({"segment": [1, 2]}, "label", "not a label"),
        ({"label": 3, "segment": [1, 2]}, "label", "not a label"),
        ({"label": "swim", "segment": [1, 2]}, "label", "unknown label"),
        ({"label": "run"}, "segment", "a segment is [start_s, end_s]"),
        ({"label": "run", "segment": [1]}, "segment", "a segment is [start_s, end_s]"),
        ({"label": "run", "segment": [float("nan"), 2]}, "segment", "not a finite number"),
        ({"label": "run", "segment": [1, float("inf")]}, "segment", "not a finite number"),
        ({"label": "run", "segment": [True, 2]}, "segment", "not a finite number"),
        ({"label": "run", "segment": [None, 2]}, "segment", "not a finite number"),
        ({"label": "run", "segment": [1, 10**400]}, "segment", "not a finite number"),
        ({"label": "run", "segment": [-1, 2]}, "segment", "negative time"),
        ({"label": "run", "segment": [3, 2]}, "segment", "end is not after start"),
        ({"label": "run", "segment": [0, 0]}, "segment", "end is not after start"),
    ],
)
def test_a_bad_annotation_is_a_problem_and_the_rest_is_read(annotation: object, field: str, reason: str):
    answer = read(_file(annotation), CONTEXT)
    assert [(p.file, p.line, p.field, p.reason) for p in answer.problems] == [("a.json", 0, field, reason)]
    assert answer.problems[0].found.startswith("v.annotations[0]: ")
    assert answer.table["video_id"].to_pylist() == ["good"]


@pytest.mark.parametrize(
    "entry, field", [({"annotations": {}}, "annotations"), ({"duration": -3}, "duration"), ({"subset": "trainval"}, "subset")]
)
def test_a_bad_video_is_a_problem(entry: dict, field: str):
    answer = read(_file(**entry), CONTEXT)
    assert [(p.field, p.found[:2]) for p in answer.problems] == [(field, "v:")] and answer.table.num_rows == 1


def test_a_video_given_twice_is_a_problem_not_the_last_of_both():
    one = json.dumps({"subset": "training", "annotations": [GOOD]})
    answer = read(f'{{"database": {{"v": {one}, "w": {one}, "v": {one}}}}}'.encode(), CONTEXT)
    assert answer.table["video_id"].to_pylist() == ["w"]
    assert [(p.found, p.reason) for p in answer.problems] == [("v", "video given twice")]


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "an empty file"),
        (b'{"database": {\n"v": [1,}', "a.json:2: column 9"),
        (b"[1, 2]", "list"),
        (b'{"results": {"v": []}}', "keys results"),
        (b'{"database": {}}', "keys database"),
        (_file({"label": "no", "segment": [1, 2]}, annotations=[]).replace(b"run", b"fly"), "no good row"),
        ('{"é": 1}'.encode("latin1"), "UTF-8 text"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        (b'{"a": ' + b"1" * 5000 + b"}", "valid json"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(data: bytes, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, CONTEXT)
    assert caught.value.file.startswith("a.json") and says in str(caught.value)


def test_official_thumos(shared):
    data = (shared / "annotations/thumos14_bbformer/data/thumos/annotations/thumos14.json").read_bytes()
    answer = read(data, Context("thumos14", "thumos14.json"))
    assert answer.table.num_rows == 6365 and not answer.problems
    assert answer.table.group_by("split").aggregate([("video_id", "count_distinct")]).to_pydict() == {
        "split": ["test", "val"], "video_id_count_distinct": [212, 200],
    }  # fmt: skip
    assert len(set(answer.table["label"].to_pylist())) == 20


def test_official_activitynet(shared):
    folder = shared / "annotations/activitynet1.3_bsn/data/activitynet_annotations"
    labels = shared / "annotations/mmaction2/activitynet_label_map.txt"
    words = parse(labels.read_bytes(), labels.name, own_ids=False)
    data = (folder / "anet_anno_action.json").read_bytes()
    answer = read(data, Context("anet", "anet.json", split="train", vocabulary=words))
    assert len(words.names) == 200
    bad = [p.reason for p in answer.problems if p.field == "segment"]
    assert answer.table.num_rows + len(answer.problems) == 22152 and bad == ["end is not after start"] * 12
