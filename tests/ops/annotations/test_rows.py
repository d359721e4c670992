"""What readers share: numbers, spans, boxes, splits, templates, lines, json, and errors that cross
a process border.
"""

import math
import pickle

import pytest

from ops.annotations.json_text import load
from ops.annotations.lines import LINE_LIMIT, records, text_lines
from ops.annotations.rows import (
    FOUND_LIMIT,
    Context,
    Entry,
    Fault,
    NoGoodRow,
    Problem,
    Rows,
    TemplateError,
    box_fault,
    describe,
    interval_fault,
    number,
    split_name,
)
from ops.annotations.vocabulary import AnnotationError
from ops.store.tables import SEGMENTS

BAD = Problem("f", 3, "label", "x", "unknown_label", "unknown label")


@pytest.mark.parametrize(
    "value, found",
    [("1.5", 1.5), (" 2 ", 2.0), (3, 3.0), ("nan", None), ("inf", None), ("1_0", None), ("٣", None), (True, None), (None, None),  # noqa: E501
     ("9" * 400, None), (10**400, None), (math.nan, None), ("1e3", 1000.0), ([1], None)],
)  # fmt: skip
def test_a_number_is_finite_and_written_plainly(value: object, found: float | None):
    assert number(value) == found


@pytest.mark.parametrize(
    "start, end, kind",
    [(0, 1, None), ("0.5", "2", None), (1, 1, "end_before_start"), (2, 1, "end_before_start"), (-1, 2, "negative_time"), ("x", 1, "value"),  # noqa: E501
     (0, math.nan, "value"), (0, None, "value")],
)  # fmt: skip
def test_a_span(start: object, end: object, kind: str | None):
    fault = interval_fault(start, end, ("start", "end"))
    assert (fault and fault.kind) == kind


@pytest.mark.parametrize(
    "box, limit, kind",
    [([0, 0, 1, 1], 1, None), ([0, 0, 1.01, 1], 1, "box_outside"), ([-0.1, 0, 1, 1], 1, "box_outside"),  # noqa: E501
     ([0.5, 0, 0.4, 1], 1, "box_inverted"), ([0.5, 0, 0.5, 1], 1, "box_empty"), ([0, 0, 1], 1, "value"),  # noqa: E501
     ("0011", 1, "value"), ([0, 0, math.nan, 1], 1, "value"),
     ([3, 3, 3, 3], None, None), ([0, 0, 70_000, 3], None, "box_outside"), (None, None, "value")],
)  # fmt: skip
def test_a_box(box: object, limit: float | None, kind: str | None):
    fault = box_fault(box, limit)
    assert (fault and fault.kind) == kind


def test_splits_of_official_files():
    assert [split_name(text) for text in ("Training", " validate", "TEST", "dev")] == [
        "train",
        "val",
        "test",
        None,
    ]


def test_a_template_that_does_not_fit_names_the_columns():
    for template, why in [
        ("{name}", ""),
        ("fixed", ""),
        ("{video:06d}", "Unknown format code"),
        ("{video[0]}", ""),
        ("{", "Single '{'"),
    ]:
        with pytest.raises(
            TemplateError, match="a template over the columns video, start"
        ) as caught:
            Context("d", "f", video=template).check_template({"video": "text", "start": 1})
        assert why in str(caught.value) and caught.value.columns == ("video", "start")
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    Context("d", "f", video="{video}_{start:06d}").check_template({"video": "text", "start": 1})


def test_rows_end_as_a_table_or_say_why_there_is_none():
    context, rows = Context("d", "f"), Rows(SEGMENTS, "d")
    with pytest.raises(AnnotationError, match="no rows"):
        rows.finish(context, [], "a form")
    with pytest.raises(
        NoGoodRow, match="no good row; first of 2 problems: f:3: label 'x'"
    ) as caught:
        rows.finish(context, [BAD, BAD], "a form")
    assert caught.value.problems == [BAD, BAD] and pickle.loads(
        pickle.dumps(caught.value)
    ).problems == [BAD, BAD]
    listed = rows.finish(context, [], "a form", entries=[Entry("v", "val")])
    assert (
        listed.table.num_rows == 0
        and listed.table.schema.equals(SEGMENTS)
        and listed.entries == (Entry("v", "val"),)
    )
    rows.BATCH = 2
    for index in range(5):
        rows.add("v", "train", "label", "run", 0, float(index), index + 1.0, "f:1")
    read = rows.finish(context, [BAD], "a form", excluded=3, excluded_frames=[("v", "train", 1.0)])
    assert read.table["start_s"].to_pylist() == [0, 1, 2, 3, 4] and set(
        read.table["dataset"].to_pylist()
    ) == {"d"}
    assert (read.problems, read.excluded, read.excluded_frames) == (
        [BAD],
        3,
        (("v", "train", 1.0),),
    )


def test_a_fault_becomes_a_problem_of_bounded_length():
    problem = Fault("f", "x" * 1000, "value", "why").at("file", 0, "a.b[1]")
    assert len(problem.found) == FOUND_LIMIT and problem.found.startswith("a.b[1]: xxx")
    assert describe(BAD) == "f:3: label 'x': unknown label"


def test_lines_tell_each_bad_line_and_go_on():
    data = b"\xef\xbb\xbfa,b\r\n\n\xff,1\n" + b"x" * (LINE_LIMIT + 5) + b'\n"q, r",2\n"open,3\nlast'
    found = list(records(data, "f"))
    assert [(line, item if isinstance(item, list) else item.kind) for line, item in found] == [
        (1, ["a", "b"]),
        (3, "text"),
        (4, "long_line"),
        (5, ["q, r", "2"]),
        (6, "text"),
        (7, ["last"]),
    ]
    assert [item for _, item in text_lines(b"a b\n \t\nc", "f")] == ["a b", "c"]
    assert [item for _, item in records(b"1;x, y\n", "f", ";")] == [["1", "x, y"]]


@pytest.mark.parametrize(
    "data", [b"", b" \n\t", b"\xff\xfea\0", b"\x1f\x8b\x08", b"a\0b", b"\x1f", b"\xc2\xa0\n"]
)
def test_what_is_no_text_is_refused_as_a_whole(data: bytes):
    with pytest.raises(AnnotationError, match="^f: "):
        list(text_lines(data, "f"))


@pytest.mark.parametrize(
    "data, says",
    [(b" ", "an empty file"), (b'{"a": \xff}', "encoding"), (b'{"a": }', "f:1: column 7"), (b'["\\ud800"]', "surrogate"),  # noqa: E501
     (b"[" * 100_000, "deeply"), (b"[" + b"9" * 10_000 + b"]", "digits")],
)  # fmt: skip
def test_json_that_cannot_be_read(data: bytes, says: str):
    with pytest.raises(AnnotationError, match=says):
        load(data, "f")


def test_json_tells_repeated_keys():
    assert load(b'\xef\xbb\xbf{"a": 1, "b": {"c": 1, "c": 2}}', "f") == (
        {"a": 1, "b": {"c": 2}},
        {"c"},
    )
