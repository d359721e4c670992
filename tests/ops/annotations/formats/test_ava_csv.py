"""AVA csv: the official sample, exclusion lists, and every way a row can be wrong."""

import pytest

from ops.annotations.ava_csv import exclusions, read
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, Vocabulary, parse

WORDS = Vocabulary(("stand", "talk to"), (12, 79))
CONTEXT = Context("ava", "val.csv", split="val", vocabulary=WORDS)
GOOD = "good,0902,0.1,0.2,0.3,0.4,79,0"


def test_good_rows_become_boxes_with_the_files_own_ids():
    context = Context("ava", "val.csv", video="scenes/{video}", split="val", vocabulary=WORDS)
    row = read(f"{GOOD}\n".encode(), context).table.to_pylist()[0]
    assert {name: value for name, value in row.items() if name not in ("x1", "y1", "x2", "y2")} == {
        "video_id": "scenes/good", "dataset": "ava", "split": "val", "timestamp_s": 902.0, "label": "talk to", "label_id": 79,
        "person_id": 0, "source": "val.csv:1",
    }  # fmt: skip
    assert [row[name] for name in ("x1", "y1", "x2", "y2")] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    "row, field, reason",
    [
        ("v,0902,0.1,0.2,0.3,0.4,79", "(line)", "wrong number of columns"),
        ("v,0902,0.1,0.2,0.3,0.4,79,0,1", "(line)", "wrong number of columns"),
        ("v,0902,0.1,0.2,0.3,0.4,79,_", "person_id", "not a whole number from 0"),
        ("v,0902,0.1,0.2,0.3,0.4,7_9,0", "action_id", "not a whole number from 0"),
        ("v,0902,0.1,0.2,0.3,0.4,12.5,0", "action_id", "not a whole number from 0"),
        ("v,0902,0.1,0.2,0.3,0.4,12,99999999999", "person_id", "not a whole number from 0"),
        ("v,0902,0.1,0.2,0.3,0.4,80,0", "label", "unknown label"),
        ("v,09_02,0.1,0.2,0.3,0.4,79,0", "timestamp", "not a finite number"),
        ("v,nan,0.1,0.2,0.3,0.4,79,0", "timestamp", "not a finite number"),
        ("v,-1,0.1,0.2,0.3,0.4,79,0", "timestamp", "negative time"),
        ("v,0902,nan,0.2,0.3,0.4,79,0", "box", "a coordinate is not a finite number"),
        ("v,0902,0.1,0.2,1.3,0.4,79,0", "box", "box outside [0, 1]"),
        ("v,0902,-0.1,0.2,0.3,0.4,79,0", "box", "box outside [0, 1]"),
        ("v,0902,0.3,0.2,0.1,0.4,79,0", "box", "inverted box"),
        ("v,0902,0.1,0.2,0.1,0.4,79,0", "box", "box without area"),
        (",0902,0.1,0.2,0.3,0.4,79,0", "video", "empty"),
    ],
)
def test_a_bad_row_is_a_problem_and_the_next_row_is_read(row: str, field: str, reason: str):
    answer = read(f"{row}\n{GOOD}\n".encode(), CONTEXT)
    assert [(p.file, p.line, p.field, p.reason) for p in answer.problems] == [("val.csv", 1, field, reason)]
    assert answer.table["video_id"].to_pylist() == ["good"]


def test_wrong_bytes_and_an_endless_line_do_not_stop_the_reader():
    answer = read(b"\xff\n" * 2 + b"v," * 900_000 + b"\n" + GOOD.encode(), CONTEXT)
    assert [p.line for p in answer.problems] == [1, 2, 3] and answer.table.num_rows == 1


@pytest.mark.parametrize("data", [b"", b"video,timestamp,x1,y1,x2,y2,action_id,person_id\n", b"{}", GOOD.encode("utf-16")])
def test_a_file_that_cannot_be_used_is_named(data: bytes):
    with pytest.raises(AnnotationError, match="^val.csv: "):
        read(data, CONTEXT)


def test_a_vocabulary_is_needed():
    with pytest.raises(AnnotationError, match="labels: found None; expected: a vocabulary"):
        read(GOOD.encode(), Context("ava", "val.csv", split="val"))


def test_without_a_split_of_its_own_a_row_takes_its_clips_split():
    answer = read(f"{GOOD}\nother,1,0,0,1,1,12,1\n".encode(), Context("ava", "f", vocabulary=WORDS, splits={"good": "test"}))
    assert answer.table["split"].to_pylist() == ["test"] and [p.line for p in answer.problems] == [2]


def test_exclusions_take_out_whole_key_frames():
    frames, problems = exclusions(b"good,0902\nv,x\nv\n", "excluded.csv")
    assert frames == {("good", 902.0)} and [(p.file, p.line) for p in problems] == [("excluded.csv", 2), ("excluded.csv", 3)]
    context = Context("ava", "f", split="val", vocabulary=WORDS, excluded=frames)
    answer = read(f"{GOOD}\n{GOOD}\ngood,0903,0,0,1,1,12,1\n".encode(), context)
    assert answer.excluded == 2 and answer.table["timestamp_s"].to_pylist() == [903.0]
    assert exclusions(b"", "none.csv") == (frozenset(), [])


def test_official_sample(shared):
    folder = shared / "annotations/ava_v2.2_sample"
    words = parse((folder / "label_map.txt").read_bytes(), "label_map.txt", own_ids=True)
    answer = read((folder / "ava_val_v2.2_head.csv").read_bytes(), Context("ava", "head.csv", split="val", vocabulary=words))
    assert len(words.names) == 60 and words.ids[-1] == 80 and words.name_of[12] == "stand"
    assert answer.table.num_rows + len(answer.problems) == 26
    assert all("_" in problem.found for problem in answer.problems)


def test_official_miniature_set(shared):
    folder = shared / "annotations/mmaction2/tests_ava_dataset"
    words = parse((folder / "action_list.txt").read_bytes(), "action_list.pbtxt", own_ids=True)
    frames, problems = exclusions((folder / "ava_excluded_timestamps_sample.csv").read_bytes(), "excluded.csv")
    answer = read((folder / "ava_sample.csv").read_bytes(), Context("ava", "ava.csv", split="train", vocabulary=words, excluded=frames))
    assert (answer.table.num_rows, answer.excluded, problems) == (3, 4, [])
    assert [(p.line, p.found, p.reason) for p in answer.problems] == [(7, "74", "unknown label")]
