"""Tube pickles (MultiSports, UCF101-24 of ACT and MOC, JHMDB): official files, and every way a tube
can be wrong.
"""

import os
import pickle
from typing import Any

import numpy as np
import pytest

from ops.annotations.formats.tubes_pickle import read, sniff, vocabulary
from ops.annotations.rows import Context, Entry
from ops.annotations.vocabulary import AnnotationError, from_names

CONTEXT = Context("jhmdb", "GT.pkl", vocabulary=from_names(["wave", "run"]))
TUBE = np.float32([[3, 10, 20, 50, 50], [4, 0, 0, 100, 50]])


def _file(tubes: Any = None, protocol: int = 2, **changes: Any) -> bytes:
    """Two videos of 100x50 pixels and 9 frames; the second has these tubes (by default a good one
    of each label).
    """
    tubes = {1: [TUBE], 0: [TUBE.astype(np.float64)]} if tubes is None else tubes
    content = {
        "labels": ["wave", "run"],
        "train_videos": [["A/a"], ["A/b"]],
        "test_videos": [["A/b", "A/none"], ["A/a"]],
        "nframes": {"A/a": 9, "A/b": 9, "A/none": 9},
        "resolution": dict.fromkeys(["A/a", "A/b", "A/none"], (50, 100)),
        "gttubes": {"A/a": {0: [TUBE[:1]]}, "A/b": tubes},
    }
    return pickle.dumps(
        {key: value for key, value in {**content, **changes}.items() if value is not ...}, protocol
    )


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_tubes_become_boxes(protocol: int):
    answer = read(
        _file(protocol=protocol),
        Context("jhmdb", "GT.pkl", video="v/{video}", vocabulary=CONTEXT.vocabulary),
    )
    rows = answer.table.to_pylist()
    sides = [rows[1].pop(side) for side in ("x1", "y1", "x2", "y2")]
    assert sides == pytest.approx([0.1, 0.4, 0.5, 1.0]) and not answer.problems
    assert rows[1] == {
        "video_id": "v/A/b",
        "dataset": "jhmdb",
        "split": "val",
        "timestamp_s": None,
        "frame": 2,
        "label": "wave",
        "label_id": 0,
        "person_id": 0,
        "source": "GT.pkl:A/b[0][0][0]",
    }
    assert [(row["split"], row["frame"], row["label_id"], row["person_id"]) for row in rows] == [
        ("train", 2, 0, 0), ("val", 2, 0, 0), ("val", 3, 0, 0), ("val", 2, 1, 1), ("val", 3, 1, 1),
    ]  # fmt: skip
    assert answer.entries == (
        Entry("v/A/a", "train"),
        Entry("v/A/b", "val"),
        Entry("v/A/none", "val"),
    )


def test_the_fold_chooses_the_lists():
    answer = read(
        _file(nframes={"A/a": 9, "A/b": 9}),
        Context("jhmdb", "GT.pkl", fold=2, vocabulary=CONTEXT.vocabulary),
    )
    assert answer.entries == (Entry("A/b", "train"), Entry("A/a", "val"))
    with pytest.raises(AnnotationError, match="fold: found 3; expected: at most 2"):
        read(_file(), Context("jhmdb", "GT.pkl", fold=3, vocabulary=CONTEXT.vocabulary))
    assert {
        entry.split for entry in read(_file(), Context("jhmdb", "GT.pkl", split="test")).entries
    } == {"test"}


def test_a_pixel_outside_is_convention_and_goes_to_the_edge():
    answer = read(_file({0: [[[1, -1, -0.5, 101, 51], [2, 0, 0, 101.5, 50]]]}), CONTEXT)
    assert [answer.table[side][1].as_py() for side in ("x1", "y1", "x2", "y2")] == [0, 0, 1, 1]
    assert [(p.kind, p.found) for p in answer.problems] == [
        ("box_outside", "A/b[0][0][1]: [0.0, 0.0, 101.5, 50.0]")
    ]


@pytest.mark.parametrize(
    "row, field, kind",
    [
        ([5, np.nan, 0, 9, 9], "gttubes", "value"),
        ([5, 0, 0, np.inf, 9], "gttubes", "value"),
        ([1.5, 0, 0, 9, 9], "frame", "value"),
        ([0, 0, 0, 9, 9], "frame", "negative_time"),
        ([-2, 0, 0, 9, 9], "frame", "negative_time"),
        ([10, 0, 0, 9, 9], "frame", "past_end"),
        ([1, 0, 0, 9, 9], "frame", "contradiction"),
        ([5, 9, 0, 3, 9], "box", "box_inverted"),
        ([5, 0, 0, 102, 9], "box", "box_outside"),
        ([5, -3, 0, 9, 9], "box", "box_outside"),
        ([5, 9, 0, 9, 9], "box", "box_empty"),
        ([5, 100, 0, 101, 9], "box", "box_empty"),
    ],
)
def test_a_bad_box_is_a_problem_and_the_others_are_read(row: list[float], field: str, kind: str):
    answer = read(_file({1: [np.float64([[1, 0, 0, 9, 9], row, [6, 0, 0, 9, 9]])]}), CONTEXT)
    assert [(p.file, p.line, p.field, p.kind, p.found.split(": ")[0]) for p in answer.problems] == [
        ("GT.pkl", 0, field, kind, "A/b[1][0][1]")
    ]
    assert answer.table["frame"].to_pylist() == [2, 0, 5]


@pytest.mark.parametrize(
    "tubes, field, kind",
    [
        (3, "gttubes", "structure"),
        ([TUBE], "gttubes", "structure"),
        ({1: TUBE}, "gttubes", "structure"),
        ({1: [TUBE[:, :4]]}, "gttubes", "structure"),
        ({1: [TUBE[0]]}, "gttubes", "structure"),
        ({1: ["abc"]}, "gttubes", "structure"),
        ({1: [[[1, 2], [3]]]}, "gttubes", "structure"),
        ({1: [None]}, "gttubes", "structure"),
        ({2: [TUBE]}, "label", "unknown_label"),
        ({-1: [TUBE]}, "label", "unknown_label"),
        ({"run": [TUBE]}, "label", "unknown_label"),
    ],
)
def test_bad_tubes_are_problems_and_the_other_videos_are_read(tubes: Any, field: str, kind: str):
    answer = read(_file(tubes), CONTEXT)
    assert [(p.field, p.kind, p.found[:3]) for p in answer.problems] == [(field, kind, "A/b")]
    assert answer.table["video_id"].to_pylist() == ["A/a"]


def test_a_label_that_the_configs_vocabulary_lacks_is_unknown():
    answer = read(_file(), Context("jhmdb", "GT.pkl", vocabulary=from_names(["run"])))
    assert [(p.kind, p.found) for p in answer.problems] == [
        ("unknown_label", "A/a: wave"),
        ("unknown_label", "A/b: wave"),
    ]
    assert answer.table["label_id"].to_pylist() == [0, 0]


@pytest.mark.parametrize(
    "changes, kinds",
    [
        ({"nframes": {"A/a": 9, "A/none": 9}}, ["structure"]),
        ({"nframes": {"A/a": 9, "A/b": -1, "A/none": 9}}, ["structure"]),
        ({"resolution": {"A/a": (50, 100), "A/b": (50,), "A/none": [50, 100]}}, ["structure"]),
        (
            {"resolution": {"A/a": (50, 100), "A/b": (50, float("nan")), "A/none": (1, 1)}},
            ["structure"],
        ),
        ({"test_videos": [["A/none"]]}, ["unknown_split"]),
        ({"test_videos": [["A/b", "A/a"]]}, ["contradiction"]),
    ],
)
def test_a_bad_video_is_a_problem(changes: dict, kinds: list[str]):
    assert [p.kind for p in read(_file(**changes), CONTEXT).problems] == kinds


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": []}, {"labels": [1]}, {"labels": ["a", "a"]}, {"labels": ...}, {"gttubes": []}, {"gttubes": ...}, {"nframes": 3},  # noqa: E501
        {"train_videos": 3}, {"train_videos": [3]}, {"train_videos": [[3]]}, {"train_videos": ..., "test_videos": ...},  # noqa: E501
    ],
)  # fmt: skip
def test_a_pickle_of_another_form_is_named(changes: dict):
    with pytest.raises(AnnotationError, match="^GT.pkl: "):
        read(_file(**changes), CONTEXT)


class _Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/owned",)


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "an empty file"),
        (b"{}", "byte"),
        (_file()[:-40], "a whole pickle"),
        (pickle.dumps([1]), "no labels"),
        (pickle.dumps({"labels": [_Evil()]}), "system"),
        ("labels".encode("utf-16"), "instruction"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(data: bytes, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, CONTEXT)
    assert caught.value.file == "GT.pkl" and says in str(caught.value)


def test_vocabulary_and_sniffing():
    assert vocabulary(_file(), "GT.pkl", "label") == CONTEXT.vocabulary
    assert sniff("GT.pkl", _file()) and sniff("GT.pkl", _file(protocol=0))
    assert not any(
        sniff("GT.pkl", data) for data in (b"", b"gttubes", pickle.dumps({"db": 1}), b"\xff\xfe")
    )


def test_official_multisports(shared):
    data = (shared / "annotations/mmaction2/tests_eval_multisports/gt.pkl").read_bytes()
    words = vocabulary(data, "gt.pkl", "label")
    answer = read(data, Context("multisports", "gt.pkl", vocabulary=words))
    video = "aerobic_gymnastics/v_crsi07chcV8_c004"
    assert (
        len(words.names) == 66 and answer.entries == (Entry(video, "val"),) and not answer.problems
    )
    tubes = [
        tube
        for by_label in pickle.loads(data, encoding="latin1")["gttubes"].values()
        for found in by_label.values()
        for tube in found
    ]
    assert answer.table.num_rows == sum(len(tube) for tube in tubes) == 224
    assert len(answer.table["person_id"].unique()) == len(tubes) == 8
    share = np.concatenate(tubes)[:, 1:] / [1280, 720, 1280, 720]
    found = np.stack([answer.table[side].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=1)
    np.testing.assert_allclose(np.sort(found, axis=0), np.sort(share, axis=0), atol=1e-6)
