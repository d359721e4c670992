"""AVA csv: the official sample, exclusion lists, and every way a row can be wrong."""

import pyarrow as pa
import pytest

from ops.annotations.formats.ava_csv import exclusions, read, sniff, write
from ops.annotations.rows import Context, Entry
from ops.annotations.vocabulary import AnnotationError, Vocabulary, parse

WORDS = Vocabulary(("stand", "talk to"), (12, 79))
CONTEXT = Context("ava", "val.csv", split="val", vocabulary=WORDS)
GOOD = "good,0902,0.1,0.2,0.3,0.4,79,0"


def test_good_rows_become_boxes_with_the_files_own_ids():
    context = Context("ava", "val.csv", video="scenes/{video}", split="val", vocabulary=WORDS)
    row = read(f"{GOOD}\n".encode(), context).table.to_pylist()[0]
    assert {name: value for name, value in row.items() if name not in ("x1", "y1", "x2", "y2")} == {
        "video_id": "scenes/good",
        "dataset": "ava",
        "split": "val",
        "timestamp_s": 902.0,
        "frame": None,
        "label": "talk to",
        "label_id": 79,
        "person_id": 0,
        "source": "val.csv:1",
    }
    assert [row[name] for name in ("x1", "y1", "x2", "y2")] == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(
    "row, field, kind, reason",
    [
        ("v,0902,0.1,0.2,0.3,0.4", "(line)", "columns", "wrong number of columns"),
        ("v", "(line)", "columns", "wrong number of columns"),
        ("v,0902,0.1,0.2,0.3,0.4,79,0,1", "(line)", "columns", "wrong number of columns"),
        ("v,0902,0.1,0.2,0.3,0.4,79,_", "person_id", "value", "not a whole number from 0"),
        ("v,0902,0.1,0.2,0.3,0.4,79,", "person_id", "value", "not a whole number from 0"),
        ("v,0902,0.1,0.2,0.3,0.4,,0", "action_id", "value", "not a whole number from 0"),
        ("v,0902,,,,,79,0", "box", "value", "a coordinate is not a finite number"),
        ("v,0902,0.1,0.2,0.3,0.4,7_9,0", "action_id", "value", "not a whole number from 0"),
        ("v,0902,0.1,0.2,0.3,0.4,12.5,0", "action_id", "value", "not a whole number from 0"),
        (
            "v,0902,0.1,0.2,0.3,0.4,12,99999999999",
            "person_id",
            "value",
            "not a whole number from 0",
        ),
        ("v,0902,0.1,0.2,0.3,0.4,80,0", "label", "unknown_label", "unknown label"),
        ("v,09_02,0.1,0.2,0.3,0.4,79,0", "timestamp", "value", "not a finite number"),
        ("v,nan,0.1,0.2,0.3,0.4,79,0", "timestamp", "value", "not a finite number"),
        ("v,inf,,,,,,", "timestamp", "value", "not a finite number"),
        ("v,-1,0.1,0.2,0.3,0.4,79,0", "timestamp", "negative_time", "negative time"),
        ("v,-1", "timestamp", "negative_time", "negative time"),
        ("v,0902,nan,0.2,0.3,0.4,79,0", "box", "value", "a coordinate is not a finite number"),
        ("v,0902,0.1,0.2,1.3,0.4,79,0", "box", "box_outside", "box outside [0, 1]"),
        ("v,0902,-0.1,0.2,0.3,0.4,79,0", "box", "box_outside", "box outside [0, 1]"),
        ("v,0902,0.3,0.2,0.1,0.4,79,0", "box", "box_inverted", "inverted box"),
        ("v,0902,0.1,0.2,0.1,0.4,79,0", "box", "box_empty", "box without area"),
        (",0902,0.1,0.2,0.3,0.4,79,0", "video", "empty", "empty"),
    ],
)
def test_a_bad_row_is_a_problem_and_the_next_row_is_read(
    row: str, field: str, kind: str, reason: str
):
    answer = read(f"{row}\n{GOOD}\n".encode(), CONTEXT)
    assert [(p.file, p.line, p.field, p.kind, p.reason) for p in answer.problems] == [
        ("val.csv", 1, field, kind, reason)
    ]
    assert answer.table["video_id"].to_pylist() == ["good"]


def test_rows_without_a_person_id_and_key_frames_without_a_person():
    text = "a,4.5,0.1,0.2,0.3,0.4,79\nb,0903,,,,,,\nc,7.25,,,,,\nd,3\na,5,,,,,,\n"
    answer = read(text.encode(), CONTEXT)
    assert [
        (row["video_id"], row["timestamp_s"], row["person_id"]) for row in answer.table.to_pylist()
    ] == [("a", 4.5, None)]
    assert {entry.video_id for entry in answer.entries} == {
        "a",
        "b",
        "c",
        "d",
    } and not answer.problems
    alone = read(b"d,3\ne,0\n", CONTEXT)
    assert (alone.table.num_rows, alone.entries) == (0, (Entry("d", "val"), Entry("e", "val")))


def test_wrong_bytes_and_an_endless_line_do_not_stop_the_reader():
    answer = read(b"\xff\n" * 2 + b"v," * 900_000 + b"\n" + GOOD.encode(), CONTEXT)
    assert [(p.line, p.kind) for p in answer.problems] == [
        (1, "text"),
        (2, "text"),
        (3, "long_line"),
    ] and answer.table.num_rows == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"video,timestamp,x1,y1,x2,y2,action_id,person_id\n", b"{}", GOOD.encode("utf-16")],
)
def test_a_file_that_cannot_be_used_is_named(data: bytes):
    with pytest.raises(AnnotationError, match="^val.csv: "):
        read(data, CONTEXT)


def test_a_vocabulary_is_needed():
    with pytest.raises(AnnotationError, match="labels: found None; expected: a vocabulary"):
        read(GOOD.encode(), Context("ava", "val.csv", split="val"))


def test_without_a_split_of_its_own_a_row_takes_its_clips_split():
    answer = read(
        f"{GOOD}\nother,1,0,0,1,1,12,1\n".encode(),
        Context("ava", "f", vocabulary=WORDS, splits={"good": "test"}),
    )
    assert answer.table["split"].to_pylist() == ["test"] and [p.line for p in answer.problems] == [
        2
    ]


def test_exclusions_take_out_whole_key_frames_and_are_delivered():
    frames, problems = exclusions(
        b"good,0902\nv,x\nv\nv,-1\nelse,0902\nfull,0001\n", "excluded.csv"
    )
    assert frames == {("good", 902.0), ("else", 902.0), ("full", 1.0)}
    assert [(p.line, p.kind) for p in problems] == [
        (2, "value"),
        (3, "columns"),
        (4, "negative_time"),
    ]
    context = Context("ava", "f", video="x/{video}", split="val", vocabulary=WORDS, excluded=frames)
    answer = read(
        f"{GOOD}\n{GOOD}\ngood,0903,0,0,1,1,12,1\nfull,0001,0,0,1,1,12,1\n".encode(), context
    )
    assert answer.excluded == 3 and answer.table["timestamp_s"].to_pylist() == [903.0]
    assert answer.excluded_frames == (("x/full", "val", 1.0), ("x/good", "val", 902.0))
    # all its rows are excluded; it is annotated all the same
    assert Entry("x/full", "val") in answer.entries
    assert exclusions(b"", "none.csv") == (frozenset(), [])


def test_the_vocabularies_of_2_1_and_2_2():
    later = b'label {\n  name: "stand"\n  label_id: 12\n  label_type: PERSON_MOVEMENT\n}\n'
    earlier = b'item {\n  name: "stand"\n  id: 12\n}\n'
    assert (
        parse(later, "a.pbtxt", own_ids=True)
        == parse(earlier, "a.pbtxt", own_ids=True)
        == parse(b"12: stand\n", "a.txt", own_ids=True)
    )


def test_sniffing():
    assert (
        sniff("a.csv", GOOD.encode())
        and sniff("a.csv", b"v,4.5,,,,,,\n")
        and sniff("ava_test_v2.2.csv", b"v,0902\n")
    )
    assert not any(
        sniff("a.csv", data)
        for data in (b"", b"\xff\xfe\x00", b"v,0902\n", b"label,youtube_id,a,b,c,d,e\n", b"{}")
    )


def test_what_is_written_reads_back():
    table = read(
        f"{GOOD}\nb,4.5,0,0.25,1,0.75,12,3\nb,4.25,0,0.25,1,0.823,12\n".encode(), CONTEXT
    ).table
    text = write(table).decode()
    assert text.splitlines() == [
        "b,4.25,0.0,0.25,1.0,0.823,12",
        "b,4.5,0.0,0.25,1.0,0.75,12,3",
        GOOD,
    ]
    again = read(text.encode(), CONTEXT).table
    assert sorted(map(str, again.drop(["source"]).to_pylist())) == sorted(
        map(str, table.drop(["source"]).to_pylist())
    )
    assert (
        read(write(table, name=lambda video: f"x{video}"), CONTEXT).table["video_id"][0].as_py()
        == "xb"
    )


def test_detections_stand_best_first_with_their_score():
    row = {
        "video_id": "v",
        "timestamp_s": 902.0,
        "x1": 0.1,
        "y1": 0.2,
        "x2": 0.3,
        "y2": 0.4,
        "label_id": 79,
        "score": 0.25,
    }
    text = write(
        pa.Table.from_pylist(
            [row, {**row, "score": 0.5, "label_id": 12}, {**row, "timestamp_s": 3.0}]
        )
    ).decode()
    assert text.splitlines() == [
        "v,0003,0.1,0.2,0.3,0.4,79,0.25",
        "v,0902,0.1,0.2,0.3,0.4,12,0.5",
        "v,0902,0.1,0.2,0.3,0.4,79,0.25",
    ]
    for wrong in (
        {"x2": 0.05},
        {"x1": float("nan")},
        {"score": float("nan")},
        {"timestamp_s": None},
    ):
        with pytest.raises(ValueError, match="^box of v at "):
            write(pa.Table.from_pylist([{**row, **wrong}]))


def test_official_sample(shared):
    folder = shared / "annotations/ava_v2.2_sample"
    words = parse((folder / "label_map.txt").read_bytes(), "label_map.txt", own_ids=True)
    answer = read(
        (folder / "ava_val_v2.2_head.csv").read_bytes(),
        Context("ava", "head.csv", split="val", vocabulary=words),
    )
    assert len(words.names) == 60 and words.ids[-1] == 80 and words.name_of[12] == "stand"
    assert answer.table.num_rows == 26 and not answer.problems
    official = (
        shared
        / "annotations/activitynet_kinetics/Evaluation/ava/ava_action_list_v2.1_for_activitynet_2018.pbtxt.txt"  # noqa: E501
    )
    assert parse(official.read_bytes(), official.name, own_ids=True).ids == words.ids


def test_official_miniature_set(shared):
    folder = shared / "annotations/mmaction2/tests_ava_dataset"
    words = parse((folder / "action_list.txt").read_bytes(), "action_list.pbtxt", own_ids=True)
    frames, problems = exclusions(
        (folder / "ava_excluded_timestamps_sample.csv").read_bytes(), "excluded.csv"
    )
    answer = read(
        (folder / "ava_sample.csv").read_bytes(),
        Context("ava", "ava.csv", split="train", vocabulary=words, excluded=frames),
    )
    assert (answer.table.num_rows, answer.excluded, problems) == (3, 4, [])
    assert [(p.line, p.found, p.kind) for p in answer.problems] == [(7, "74", "unknown_label")]
    assert answer.excluded_frames == (
        ("0f39OWEqJ24", "train", 903.0),
        ("_-Z6wFjXtGQ", "train", 902.0),
    )
