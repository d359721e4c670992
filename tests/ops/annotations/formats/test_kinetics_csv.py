"""Kinetics csv: the official lists, the two ways to cut a clip, and every way a row can be
wrong.
"""

import time

import pytest

from ops.annotations.formats.kinetics_csv import EXPECTED, FOLDER, TABLE, read, sniff
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names, parse

HEADER = "label,youtube_id,time_start,time_end,split\n"
CONTEXT = Context(
    "kinetics",
    "train.csv",
    video="{youtube_id}",
    vocabulary=from_names(["dancing", "running, fast"]),
)


def test_good_rows_become_clips():
    text = HEADER + 'dancing,abc,3,13,train\n"running, fast",_x-1,0.5,10,validate\n\n'
    rows = read(text.encode(), CONTEXT).table.to_pylist()
    assert rows[0] == {
        "clip_id": "abc@3-13",
        "video_id": "abc",
        "dataset": "kinetics",
        "split": "train",
        "target": "label",
        "label": "dancing",
        "label_id": 0,
        "start_s": 3.0,
        "end_s": 13.0,
        "source": "train.csv:2",
    }
    assert (rows[1]["label_id"], rows[1]["split"], rows[1]["start_s"], rows[1]["source"]) == (
        1,
        "val",
        0.5,
        "train.csv:3",
    )


def test_a_template_with_times_means_a_file_for_each_clip():
    context = Context(
        "k",
        "f.csv",
        video="trimmed/{youtube_id}_{time_start:06d}_{time_end:06d}",
        vocabulary=CONTEXT.vocabulary,
    )
    answer = read(
        (HEADER + "dancing,abc,3,13.0,train\ndancing,abc,3.5,13,train\n").encode(), context
    )
    row = answer.table.to_pylist()[0]
    assert (row["clip_id"], row["start_s"], row["end_s"]) == (
        "trimmed/abc_000003_000013",
        None,
        None,
    )
    assert [(p.line, p.field, p.kind) for p in answer.problems] == [(3, "video", "value")]
    assert "template does not take this row's values" in answer.problems[0].reason


def test_byte_order_mark_other_newlines_column_order_and_further_columns():
    text = "split,time_end,time_start,youtube_id,is_cc,label\r\ntest,9,2,v,1,dancing\r\n"
    row = read(b"\xef\xbb\xbf" + text.encode(), CONTEXT).table.to_pylist()[0]
    assert (row["video_id"], row["start_s"], row["end_s"], row["split"]) == ("v", 2.0, 9.0, "test")


def test_unlabelled_rows_belong_to_the_test_split_only():
    answer = read(b"youtube_id,time_start,time_end,split\nv,1,2,test\nw,1,2,val\n", CONTEXT)
    assert [(row["label"], row["label_id"]) for row in answer.table.to_pylist()] == [(None, None)]
    assert [(p.line, p.field, p.kind, p.reason) for p in answer.problems] == [
        (3, "label", "empty", "no label in the val split")
    ]


def test_the_configs_split_overrides_the_files():
    context = Context(
        "k", "f.csv", video="{youtube_id}", split="holdout", vocabulary=CONTEXT.vocabulary
    )
    answer = read(b"label,youtube_id,time_start,time_end\ndancing,v,1,2\n", context)
    assert answer.table["split"].to_pylist() == ["holdout"]


@pytest.mark.parametrize(
    "row, field, kind, reason",
    [
        ("dancing,v,1,2", "(line)", "columns", "wrong number of columns"),
        ("dancing,v,1,2,train,extra", "(line)", "columns", "wrong number of columns"),
        ("dancing,v,nan,2,train", "time_start", "value", "not a finite number"),
        ("dancing,v,1,inf,train", "time_end", "value", "not a finite number"),
        ("dancing,v,1_0,20,train", "time_start", "value", "not a finite number"),
        ("dancing,v,,20,train", "time_start", "value", "not a finite number"),
        ("dancing,v,1,1e999,train", "time_end", "value", "not a finite number"),
        ("dancing,v,-1,2,train", "time_start", "negative_time", "negative time"),
        ("dancing,v,5,2,train", "time_end", "end_before_start", "end is not after start"),
        ("dancing,v,5,5,train", "time_end", "end_before_start", "end is not after start"),
        ("dancing,,1,2,train", "youtube_id", "empty", "empty"),
        ("swimming,v,1,2,train", "label", "unknown_label", "unknown label"),
        ("Dancing,v,1,2,train", "label", "unknown_label", "unknown label"),
        (
            "dancing,v,1,2,trian",
            "split",
            "unknown_split",
            "unknown split; known: train, val (validate), test",
        ),
        ('"dancing,v,1,2,train', "(line)", "text", "broken quotes: unexpected end of data"),
    ],
)
def test_a_bad_row_is_a_problem_and_the_next_row_is_read(
    row: str, field: str, kind: str, reason: str
):
    answer = read(f"{HEADER}{row}\ndancing,good,1,2,train\n".encode(), CONTEXT)
    assert [(p.file, p.line, p.field, p.kind, p.reason) for p in answer.problems] == [
        ("train.csv", 2, field, kind, reason)
    ]
    assert answer.table["video_id"].to_pylist() == ["good"]


def test_all_problems_of_a_file_come_together_with_their_lines():
    bad = (
        "swimming,v,1,2,train\ndancing,v,2,1,train\ndancing,v,-1,1,train\nx\ndancing,v,1,2,never\n"
    )
    answer = read((HEADER + "dancing,good,1,2,train\n" + bad).encode(), CONTEXT)
    kinds = [
        (3, "unknown_label"),
        (4, "end_before_start"),
        (5, "negative_time"),
        (6, "columns"),
        (7, "unknown_split"),
    ]
    assert [(p.line, p.kind) for p in answer.problems] == kinds


def test_the_edition_of_2020_writes_times_with_a_point_and_quotes_its_header():
    text = (
        '"label","youtube_id","time_start","time_end","split"\n"running,'
        ' fast",abc,3.0,13.0,"validate"\n'
    )
    context = Context(
        "k",
        "f.csv",
        video="{youtube_id}_{time_start:06d}_{time_end:06d}",
        vocabulary=CONTEXT.vocabulary,
    )
    row = read(text.encode(), context).table.to_pylist()[0]
    assert (row["video_id"], row["label_id"], row["split"], row["start_s"]) == (
        "abc_000003_000013",
        1,
        "val",
        None,
    )


def test_the_target_of_the_config_is_on_every_row():
    context = Context(
        "k", "f.csv", video="{youtube_id}", target="sport", vocabulary=CONTEXT.vocabulary
    )
    assert read((HEADER + "dancing,v,1,2,train\n").encode(), context).table[
        "target"
    ].to_pylist() == ["sport"]


def test_lists_are_recognised_by_their_header():
    assert (TABLE, FOLDER) == ("clips", False) and "youtube_id" in EXPECTED
    assert sniff("val.csv", HEADER.encode()) and sniff(
        "x", b"\xef\xbb\xbf" + b'"youtube_id","time_start","time_end","split"\n'
    )
    assert (
        not sniff("val.csv", b"video,1,2\n")
        and not sniff("val.csv", b"")
        and not sniff("x", b"\xff\x00")
    )


def test_wrong_bytes_and_an_endless_line_do_not_stop_the_reader():
    data = (
        HEADER.encode()
        + b"d\xe9j\xe0,v,1,2,train\n"
        + b"x" * 3_000_000
        + b"\ndancing,good,1,2,train"
    )
    answer = read(data, CONTEXT)
    assert [(p.line, p.kind) for p in answer.problems] == [(2, "text"), (3, "long_line")]
    assert answer.problems[1].found == "3000001 bytes" and answer.problems[0].found.startswith(
        "d\\xe9j"
    )
    assert answer.table["source"].to_pylist() == ["train.csv:4"]


@pytest.mark.parametrize(
    "data, says",
    [
        (b"", "an empty file"),
        (b" \n\n", "an empty file"),
        ((HEADER + "dancing,v,1,2,train\n").encode("utf-16"), "UTF-8 text"),
        (b"\x1f\x8b\x08\x00rest", "UTF-8 text"),
        (b"name,start\nv,1\n", "name,start"),
        (b"dancing,v,1,2,train\n", "dancing,v,1,2,train"),
        (b"y" * 2_000_000, "line longer than"),
        (HEADER.encode(), "no rows"),
        (
            (HEADER + "swimming,v,1,2,train\nx\n").encode(),
            "no good row; first of 2 problems: train.csv:2: label 'swimming': unknown label",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(data: bytes, says: str):
    with pytest.raises(AnnotationError) as caught:
        read(data, CONTEXT)
    assert caught.value.file == "train.csv" and says in str(caught.value)


@pytest.mark.parametrize(
    "template", ["{video}", "fixed", "{youtube_id", "{youtube_id:06d}", "{youtube_id.upper}", "{}"]
)
def test_a_template_that_does_not_fit_the_columns_is_named(template: str):
    with pytest.raises(
        AnnotationError, match="video: found .*template over the columns label, youtube_id"
    ):
        read(
            (HEADER + "dancing,v,1,2,train\n").encode(),
            Context("k", "f.csv", video=template, vocabulary=CONTEXT.vocabulary),
        )


def test_rows_are_read_by_the_hundred_thousand():
    line = "dancing,video{0:07d},{0},{1},train\n".format
    data = (HEADER + "".join(line(index, index + 10) for index in range(100_000))).encode()
    began = time.process_time()
    answer = read(data, CONTEXT)
    assert answer.table.num_rows == 100_000 and not answer.problems
    assert time.process_time() - began < 5  # seconds


@pytest.mark.parametrize(
    "name, rows, classes",
    [
        ("400_val", 19906, 400),
        ("600_val", 30000, 600),
        ("400_test", 38685, 0),
        ("600_test", 72924, 0),
    ],
)
def test_official_lists(shared, name: str, rows: int, classes: int):
    data = (
        shared / f"annotations/activitynet_kinetics/Crawler/Kinetics/data/kinetics-{name}.csv"
    ).read_bytes()
    labels = shared / f"annotations/mmaction2/kinetics_label_map_k{name[:3]}.txt"
    words = parse(labels.read_bytes(), labels.name, own_ids=False)
    answer = read(
        data,
        Context("k", name, video="{youtube_id}_{time_start:06d}_{time_end:06d}", vocabulary=words),
    )
    assert answer.table.num_rows == rows and not answer.problems
    assert len(set(answer.table["label_id"].to_pylist()) - {None}) == classes
    assert len(set(answer.table["clip_id"].to_pylist())) == rows
