"""UCF101-24 as corrected by Singh et al.: the official files, and every way an annotation can be
wrong.
"""

import pickle
from typing import Any

import numpy as np
import pytest

import configs
from ops.annotations.formats.ucf101_24_pickle import read, sniff, vocabulary
from ops.annotations.rows import Context, Entry
from ops.annotations.vocabulary import AnnotationError, from_names

CONTEXT = Context("ucf24", "p.pkl", vocabulary=from_names(["Biking", "Diving"]))
BOXES = np.uint8([[32, 24, 64, 48], [1, 1, 200, 239]])
TUBE = {"label": 1, "sf": 3, "ef": 5, "boxes": BOXES}


def _file(
    *annotations: Any, names: bool = True, extra: dict[str, Any] | None = None, **changes: Any
) -> bytes:
    """A good video and one with these annotations, of ten frames each."""
    good = {"annotations": [{**TUBE, "label": 0}], "label": 0, "numf": np.uint8(10)}
    other = {"annotations": list(annotations or [TUBE]), "label": 1, "numf": 10, **changes}
    videos = {np.str_("Biking/v_a"): good, "Diving/v_b": other}
    content = {
        "db": videos,
        "trainvideos": ["Biking/v_a"],
        "classes": ["Biking", "Diving"],
        **(extra or {}),
    }
    return pickle.dumps(content if names else videos, 2)


def test_tubes_become_boxes():
    answer = read(
        _file(TUBE, {**TUBE, "boxes": BOXES.astype(np.uint16), "sf": 8, "ef": 10}), CONTEXT
    )
    rows = answer.table.to_pylist()
    assert [rows[2].pop(side) for side in ("x1", "y1", "x2", "y2")] == pytest.approx(
        [0.1, 0.1, 0.3, 0.3]
    )
    assert rows[2] == {
        "video_id": "Diving/v_b",
        "dataset": "ucf24",
        "split": "val",
        "timestamp_s": None,
        "frame": 3,
        "label": "Diving",
        "label_id": 1,
        "person_id": 0,
        "source": "p.pkl:Diving/v_b.annotations[0][0]",
    }
    assert [(row["frame"], row["person_id"]) for row in rows] == [
        (3, 0),
        (4, 0),
        (3, 0),
        (4, 0),
        (8, 1),
        (9, 1),
    ]
    assert rows[1]["y2"] == 1 and not answer.problems  # 1 + 239, in sides of eight bits
    assert answer.entries == (Entry("Biking/v_a", "train"), Entry("Diving/v_b", "val"))


def test_without_class_names_the_folders_name_them_and_the_split_comes_from_elsewhere():
    data = _file(names=False)
    assert vocabulary(data, "p.pkl", "label").names == ("Biking", "Diving")
    context = Context("ucf24", "p.pkl", vocabulary=CONTEXT.vocabulary, splits={"Diving/v_b": "val"})
    answer = read(data, context)
    assert answer.table["split"].to_pylist() == ["val"] * 2 and [
        (p.found, p.kind) for p in answer.problems
    ] == [("Biking/v_a", "unknown_split")]
    assert set(read(data, Context("ucf24", "p.pkl", split="train")).table["split"].to_pylist()) == {
        "train"
    }


@pytest.mark.parametrize(
    "change, field, kind",
    [
        ({"label": 2}, "label", "unknown_label"),
        ({"label": -1}, "label", "unknown_label"),
        ({"label": "Diving"}, "label", "unknown_label"),
        ({"sf": None}, "sf", "value"),
        ({"ef": 2.5}, "ef", "value"),
        ({"sf": -1}, "sf", "negative_time"),
        ({"ef": 3}, "ef", "end_before_start"),
        ({"ef": 1}, "ef", "end_before_start"),
        ({"ef": 9}, "boxes", "structure"),
        ({"boxes": BOXES[:, :3]}, "boxes", "structure"),
        ({"boxes": None}, "boxes", "structure"),
        ({"boxes": [["a", 1, 2, 3]] * 2}, "boxes", "structure"),
    ],
)
def test_a_bad_tube_is_a_problem_and_the_others_are_read(change: dict, field: str, kind: str):
    answer = read(_file({**TUBE, **change}), CONTEXT)
    assert [(p.file, p.line, p.field, p.kind) for p in answer.problems] == [
        ("p.pkl", 0, field, kind)
    ]
    assert answer.problems[0].found.startswith("Diving/v_b.annotations[0]: ")
    assert answer.table["video_id"].to_pylist() == ["Biking/v_a"] * 2


@pytest.mark.parametrize(
    "box, kind",
    [
        ([1, 1, np.nan, 5], "value"),
        ([1, 1, np.inf, 5], "value"),
        ([1, 1, -5, 5], "box_inverted"),
        ([1, 1, 0, 5], "box_empty"),
        ([300, 1, 25, 5], "box_outside"),
        ([-4, 1, 25, 5], "box_outside"),
    ],
)
def test_a_bad_box_is_a_problem_and_its_neighbours_are_read(box: list[float], kind: str):
    answer = read(
        _file({**TUBE, "sf": 2, "boxes": np.float64([[1, 1, 5, 5], box, [1, 1, 5, 5]])}), CONTEXT
    )
    assert [(p.kind, p.found.split(": ")[0]) for p in answer.problems] == [
        (kind, "Diving/v_b.annotations[0][1]")
    ]
    assert answer.table["frame"].to_pylist() == [3, 4, 2, 4]


@pytest.mark.parametrize(
    "change, field, kind",
    [
        ({"numf": 4}, "frame", "past_end"),
        ({"numf": 0}, "numf", "value"),
        ({"numf": None}, "numf", "value"),
        ({"annotations": 3}, "annotations", "structure"),
        ({"annotations": [3]}, "annotations", "structure"),
    ],
)
def test_a_bad_video_is_a_problem(change: dict, field: str, kind: str):
    answer = read(_file(**change), CONTEXT)
    assert [(p.field, p.kind) for p in answer.problems] == [(field, kind)]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", _file()[:-30], pickle.dumps([1]), pickle.dumps({}), pickle.dumps({"db": {}}), _file(extra={"classes": [1]}),  # noqa: E501
        _file(extra={"trainvideos": 3}), _file(names=False, label=0), _file(names=False, label=5),
        b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85R.",
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(data: bytes):
    with pytest.raises(AnnotationError, match="^p.pkl: "):
        read(data, CONTEXT)


def test_sniffing():
    assert sniff("p.pkl", _file()) and not any(
        sniff("p.pkl", data) for data in (b"", b"numf sf", pickle.dumps({"gttubes": 1}))
    )


def test_official_files_agree_with_the_official_test_list(shared):
    folder = shared / "annotations/ucf101_24"
    named = (folder / "pyannot_with_class_names.pkl").read_bytes()
    words = vocabulary(named, "pyannot_with_class_names.pkl", "label")
    assert (
        len(words.names) == 24
        and vocabulary((folder / "pyannot.pkl").read_bytes(), "pyannot.pkl", "label") == words
    )
    answer = read(named, Context("ucf24", "pyannot_with_class_names.pkl", vocabulary=words))
    assert len(answer.entries) == 3194 and not answer.problems
    assert {entry.video_id for entry in answer.entries if entry.split == "val"} == set(
        (folder / "testlist01.txt").read_text().split()
    )
    splits = answer.table["split"].to_pylist()
    assert (splits.count("train"), splits.count("val")) == (403_282, 170_580)
    expected = configs.dataset("ucf101_24").expected
    assert expected == {
        "boxes.train.videos": 2284,
        "boxes.val.videos": 910,
        "boxes.all.videos": 3194,
        "boxes.train.rows": 403_282,
        "boxes.val.rows": 170_580,
        "boxes.all.classes": 24,
    }
    assert (
        len(answer.table["label"].unique()) == 24 and len(answer.table["video_id"].unique()) == 3194
    )
    sides = np.stack(
        [answer.table[side].to_numpy() for side in ("x1", "y1", "x2", "y2")], axis=1
    ) * [320, 240, 320, 240]
    # whole pixels, none moved to an edge
    np.testing.assert_allclose(sides, np.round(sides), atol=1e-4)
    assert sides[:, :2].min() >= 0.999 and (sides.max(0) <= [320, 240, 320, 240]).all()
