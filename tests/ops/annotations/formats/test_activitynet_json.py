"""ActivityNet json: the official files of ActivityNet 1.3 and THUMOS14, and every way an entry can
be wrong.
"""

import json

import pytest

import configs
from ops.annotations.formats.activitynet_json import read, sniff, vocabulary, write_results
from ops.annotations.rows import Context, Entry
from ops.annotations.vocabulary import AnnotationError, from_names

CONTEXT = Context("anet", "a.json", vocabulary=from_names(["jump", "run"]))
GOOD = {"label": "run", "segment": [1, 2.5]}


def _file(annotation: object = GOOD, **entry: object) -> bytes:
    """A database of one good video and one with this annotation."""
    good = {"subset": "training", "duration": 9.5, "annotations": [GOOD]}
    return json.dumps(
        {
            "version": "1",
            "database": {"good": good, "v": {**good, "annotations": [annotation], **entry}},
        }
    ).encode()


def test_good_entries_become_segments():
    context = Context("anet", "a.json", video="untrimmed/{video}", vocabulary=CONTEXT.vocabulary)
    rows = read(_file(subset="Validation"), context).table.to_pylist()
    assert rows[1] == {
        "video_id": "untrimmed/v",
        "dataset": "anet",
        "split": "val",
        "target": "label",
        "label": "run",
        "label_id": 1,
        "start_s": 1.0,
        "end_s": 2.5,
        "source": "a.json:v.annotations[0]",
    }


def test_without_subset_the_split_is_the_configs_or_the_clips():
    data = json.dumps(
        {"v": {"duration_second": 9, "annotations": [GOOD]}, "w": {"annotations": [GOOD]}}
    ).encode()
    assert read(data, Context("a", "f", split="train", vocabulary=CONTEXT.vocabulary)).table[
        "split"
    ].to_pylist() == ["train", "train"]
    answer = read(data, Context("a", "f", splits={"v": "val"}, vocabulary=CONTEXT.vocabulary))
    assert answer.table["split"].to_pylist() == ["val"] and [
        (p.field, p.kind) for p in answer.problems
    ] == [("subset", "unknown_split")]


@pytest.mark.parametrize(
    "annotation, field, kind, reason",
    [
        (7, "annotation", "structure", "an annotation is a mapping with label and segment"),
        ({"segment": [1, 2]}, "label", "value", "not a label"),
        ({"label": 3, "segment": [1, 2]}, "label", "value", "not a label"),
        ({"label": "swim", "segment": [1, 2]}, "label", "unknown_label", "unknown label"),
        ({"label": "run"}, "segment", "structure", "a segment is [start_s, end_s]"),
        ({"label": "run", "segment": [1]}, "segment", "structure", "a segment is [start_s, end_s]"),
        ({"label": "run", "segment": [float("nan"), 2]}, "segment", "value", "not a finite number"),
        ({"label": "run", "segment": [1, float("inf")]}, "segment", "value", "not a finite number"),
        ({"label": "run", "segment": [True, 2]}, "segment", "value", "not a finite number"),
        ({"label": "run", "segment": [None, 2]}, "segment", "value", "not a finite number"),
        ({"label": "run", "segment": [1, 10**400]}, "segment", "value", "not a finite number"),
        ({"label": "run", "segment": [-1, 2]}, "segment", "negative_time", "negative time"),
        (
            {"label": "run", "segment": [3, 2]},
            "segment",
            "end_before_start",
            "end is not after start",
        ),
        (
            {"label": "run", "segment": [0, 0]},
            "segment",
            "end_before_start",
            "end is not after start",
        ),
    ],
)
def test_a_bad_annotation_is_a_problem_and_the_rest_is_read(
    annotation: object, field: str, kind: str, reason: str
):
    answer = read(_file(annotation), CONTEXT)
    assert [(p.file, p.line, p.field, p.kind, p.reason) for p in answer.problems] == [
        ("a.json", 0, field, kind, reason)
    ]
    assert answer.problems[0].found.startswith("v.annotations[0]: ")
    assert answer.table["video_id"].to_pylist() == ["good"]


def test_all_problems_of_a_file_come_together():
    bad = [
        {"label": "run", "segment": [-1, 2]},
        GOOD,
        {"label": "no", "segment": [0, 1]},
        {"label": "run", "segment": [5, 1]},
    ]
    answer = read(_file(annotations=bad), CONTEXT)
    assert [(p.kind, p.found.split(":")[0]) for p in answer.problems] == [
        ("negative_time", "v.annotations[0]"),
        ("unknown_label", "v.annotations[2]"),
        ("end_before_start", "v.annotations[3]"),
    ]
    assert answer.table.num_rows == 2


@pytest.mark.parametrize(
    "entry, field, kind",
    [
        ({"annotations": {}}, "annotations", "structure"),
        ({"duration": -3}, "duration", "value"),
        ({"duration": float("nan")}, "duration", "value"),
        ({"fps": 0}, "fps", "value"),
        ({"subset": "trainval"}, "subset", "unknown_split"),
    ],
)
def test_a_bad_video_is_a_problem(entry: dict, field: str, kind: str):
    answer = read(_file(**entry), CONTEXT)
    assert [(p.field, p.kind, p.found[:2]) for p in answer.problems] == [
        (field, kind, "v:")
    ] and answer.table.num_rows == 1


def test_a_video_given_twice_is_a_problem_not_the_last_of_both():
    one = json.dumps({"subset": "training", "annotations": [GOOD]})
    answer = read(f'{{"database": {{"v": {one}, "w": {one}, "v": {one}}}}}'.encode(), CONTEXT)
    assert answer.table["video_id"].to_pylist() == ["w"]
    assert [(p.found, p.kind, p.reason) for p in answer.problems] == [
        ("v", "contradiction", "video given twice")
    ]


def test_every_listed_video_is_an_entry():
    answer = read(_file(annotations=[], subset="testing", duration=12, fps=25), CONTEXT)
    assert answer.entries == (Entry("good", "train", 9.5, None), Entry("v", "test", 12.0, 25.0))
    assert (
        read(
            json.dumps({"v": {"subset": "testing", "annotations": []}}).encode(), CONTEXT
        ).table.num_rows
        == 0
    )


def test_a_subset_is_read_alone():
    answer = read(
        _file(subset="Test"),
        Context("thumos", "f", subset="test", split="val", vocabulary=CONTEXT.vocabulary),
    )
    assert [(row["video_id"], row["split"]) for row in answer.table.to_pylist()] == [
        ("v", "val")
    ] and len(answer.entries) == 1
    with pytest.raises(
        AnnotationError,
        match="subset: found 'Tset'; expected: a subset of the file: Test, training",
    ):
        read(_file(subset="Test"), Context("thumos", "f", subset="Tset"))


def test_vocabularies():
    numbered = [
        {"label": "run", "segment": [0, 1], "label_id": 0},
        {"label": "jump", "segment": [0, 1], "label_id": 1},
    ]
    assert vocabulary(
        _file(annotations=numbered).replace(b"[1, 2.5]", b'[1, 2.5], "label_id": 0'), "f", "label"
    ).names == ("run", "jump")
    assert vocabulary(_file({"label": "jump", "segment": [0, 1]}), "f", "label").names == (
        "jump",
        "run",
    )
    assert vocabulary(b"action\nrun\njump\n", "f.csv", "label").names == ("run", "jump")
    with pytest.raises(AnnotationError, match="one id for each label"):
        vocabulary(_file({**GOOD, "label_id": 3}), "f", "label")
    with pytest.raises(AnnotationError, match="no label"):
        vocabulary(json.dumps({"v": {"annotations": []}}).encode(), "f", "label")


def test_a_csv_of_subsets_gives_entries():
    text = "video,numFrame,seconds,fps,subset\nv_a,1,9.5,30,training\nv_b,1,0,30,validation\nv_c,1\nv_d,1,2,25,trian\n,1,2,25,testing\n"  # noqa: E501
    answer = read(text.encode(), CONTEXT)
    assert answer.entries == (Entry("v_a", "train", 9.5, 30.0),) and answer.table.num_rows == 0
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [
        (3, "duration", "value"),
        (4, "(line)", "columns"),
        (5, "subset", "unknown_split"),
        (6, "video", "empty"),
    ]


def test_sniffing():
    assert sniff("a.json", _file()) and sniff("i.csv", b"video,seconds,subset\n")
    assert not any(
        sniff("f", data)
        for data in (b"", b"\xff\xfe", b"{}", b'{"results": {"v": []}}', b"video,label\n")
    )


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "an empty file"),
        (b'{"database": {\n"v": [1,}', "a.json:2: column 9"),
        (b"[1, 2]", "list"),
        (b'{"results": {"v": []}}', "keys results"),
        (b'{"database": {}}', "keys database"),
        (b'{"database": {"v": {"annotations": 3}}}', "no good row"),
        (_file()[:-20], "a.json:1: column"),
        (_file().decode().encode("utf-16"), "UTF-8 text"),
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
    data = (
        shared / "annotations/thumos14_bbformer/data/thumos/annotations/thumos14.json"
    ).read_bytes()
    words = vocabulary(data, "thumos14.json", "label")
    assert len(words.names) == 20 and words.id_of["CricketBowling"] == 5
    expected = configs.dataset("thumos14").expected
    for subset, split, videos, rows in (
        ("Validation", "train", 200, 3007),
        ("Test", "val", 212, 3358),
    ):
        answer = read(
            data, Context("thumos14", "thumos14.json", subset=subset, split=split, vocabulary=words)
        )
        assert (len(answer.entries), answer.table.num_rows, answer.problems) == (videos, rows, [])
        assert (expected[f"segments.{split}.videos"], expected[f"segments.{split}.rows"]) == (
            videos,
            rows,
        )
        assert answer.table["video_id"].unique().to_pylist() == [
            entry.video_id for entry in answer.entries
        ]
        assert {entry.fps for entry in answer.entries} <= {24.0, 25.0, 29.97, 30.0} and len(
            answer.table["label"].unique()
        ) == 20


def test_official_activitynet(shared):
    folder = shared / "annotations/activitynet1.3_bsn/data/activitynet_annotations"
    words = vocabulary((folder / "action_name.csv").read_bytes(), "action_name.csv", "label")
    assert len(words.names) == 200 and words.names[0] == "Applying sunscreen"
    videos = read(
        (folder / "video_info_new.csv").read_bytes(), Context("anet", "video_info_new.csv")
    )
    splits = {entry.video_id: entry.split for entry in videos.entries}
    assert [list(splits.values()).count(split) for split in ("train", "val", "test")] == [
        9649,
        4728,
        4851,
    ] and not videos.problems
    answer = read(
        (folder / "anet_anno_action.json").read_bytes(),
        Context("anet", "anet.json", splits=splits, vocabulary=words),
    )
    assert [p.kind for p in answer.problems] == ["end_before_start"] * 12 and len(
        answer.entries
    ) == 19228
    assert answer.table.num_rows == 22140 and len(answer.table["label"].unique()) == 200


def test_results_are_the_challenges_file():
    content = json.loads(
        write_results({"v": [("run", 1.0, 2.0, 0.75), ("jump", 0.0, 2.5, 0.5)], "w": []})
    )
    assert (
        list(content) == ["version", "results", "external_data"] and content["results"]["w"] == []
    )
    assert content["results"]["v"][1] == {"label": "jump", "segment": [0.0, 2.5], "score": 0.5}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results({"v": [("run", 1.0, float("nan"), 0.5)]})
