"""Lines and csv records: quoted fields over several lines, line ends of all systems, and stray
quotes.
"""

import time

import pytest

from ops.annotations.lines import records, text_lines
from ops.annotations.rows import Problem
from ops.annotations.vocabulary import AnnotationError


def seen(text: str, delimiter: str = ",") -> list[tuple[int, list[str] | str]]:
    """(line, fields), or (line, kind) of a problem."""
    found = records(text.encode(), "f.csv", delimiter)
    return [
        (line, fields.kind if isinstance(fields, Problem) else fields) for line, fields in found
    ]


def test_a_quoted_field_runs_over_lines_and_the_numbers_stay_right() -> None:
    text = 'id,text,n\na,"one\n\ntwo, ""so""\r\nthree",1\nb,plain,2\n"c\nd","e\nf",3\n'
    assert seen(text) == [
        (1, ["id", "text", "n"]),
        (2, ["a", 'one\n\ntwo, "so"\nthree', "1"]),
        (6, ["b", "plain", "2"]),
        (7, ["c\nd", "e\nf", "3"]),
    ]
    assert seen('"a\nb";1\nc;2', ";") == [(1, ["a\nb", "1"]), (3, ["c", "2"])]


@pytest.mark.parametrize(
    "text, expected",
    [
        ('a,b\n"x,1\ny,2\n', [(1, ["a", "b"]), (2, "text"), (3, ["y", "2"])]),  # never closed
        (
            'a,b\n"x,1\ny,2\n"z, z",3\n',
            [(1, ["a", "b"]), (2, "text"), (3, ["y", "2"]), (4, ["z, z", "3"])],
        ),
        # one field instead of two
        (
            'a,b\n"x,1\ny,2"\nz,3\n',
            [(1, ["a", "b"]), (2, "text"), (3, ["y", '2"']), (4, ["z", "3"])],
        ),
        ('a,b\n5" plate,1\n', [(1, ["a", "b"]), (2, ['5" plate', "1"])]),
        ('a,b\n"x"y,1\n', [(1, ["a", "b"]), (2, "text")]),
    ],
)
def test_a_stray_quote_costs_its_own_line_only(text: str, expected: list) -> None:
    assert seen(text) == expected


def test_an_unreadable_line_within_a_quote_is_still_told() -> None:
    found = [
        line
        for line, fields in records(b'a,b\n"x,1\n\xff,2\ny,3\n', "f.csv")
        if isinstance(fields, Problem)
    ]
    assert found == [2, 3]


def test_line_ends_of_all_systems() -> None:
    for end in ("\n", "\r\n", "\r"):
        assert seen(end.join(["a,b", "c,d", ""])) == [(1, ["a", "b"]), (2, ["c", "d"])]
    assert seen("a,b\rc,d\ne,f\n") == [(1, "text"), (2, ["e", "f"])]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_another_encoding_is_named(encoding: str) -> None:
    with pytest.raises(AnnotationError, match="UTF-8 text .this looks like UTF-16"):
        text_lines("run,a\n".encode(encoding), "f.csv")


def test_stray_quotes_in_every_line_cost_no_time() -> None:
    began = time.perf_counter()
    assert len(seen("a,b\n" + '"x,1\n' * 20_000)) == 20_001
    assert time.perf_counter() - began < 5
