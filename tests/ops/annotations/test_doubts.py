"""Labels that are odd as a whole: spellings, numbers that begin at 1, classes without a row,
folders that contradict ids.
"""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from configs.schema import AnnotationFile, Dataset
from ops.annotations.check import Examination, examine
from ops.annotations.doubts import alike, check_numbers, folded, visible
from ops.annotations.vocabulary import AnnotationError, parse
from ops.store.layout import Layout


def check(
    layout: Layout,
    rows: str,
    labels: str | None,
    form: str = "video_list",
    allow: tuple = (),
    **facts: Any,
) -> Examination:
    """The check of a dataset with these rows and labels; every video that a list of paths names is
    there.
    """
    root = Path(layout.root, "d")
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for line in rows.splitlines() if form == "video_list" else ():
        video = root / "videos" / line.split(".mp4")[0]
        video.parent.mkdir(parents=True, exist_ok=True)
        video.with_suffix(".mp4").write_bytes(b"x")
    (root / "rows.txt").write_text(rows)
    (root / "labels.txt").write_text(labels or "")
    facts |= {"split": "train"} if form == "video_list" else {"video": "{youtube_id}"}
    file = AnnotationFile(
        table="clips", format=form, path="rows.txt", labels=labels and "labels.txt", **facts
    )  # type: ignore
    return examine(
        Dataset(
            name="d", title="t", licence="l", root="{storage}/d", annotations=(file,), allow=allow
        ),
        layout,
    )


def labels_of(found: Examination) -> list[str]:
    return found.joined.tables["clips"]["label"].to_pylist()


@pytest.mark.parametrize(
    "first, second, same",
    [
        ("Run", "run", True), ("run fast", "run_fast", True), ("run\u00a0fast", "run fast", True), ("run\u200bfast", "run fast", True),  # noqa: E501
        ("caf\u00e9", "cafe\u0301", True), ("\uff32un", "run", True), ("run-fast", "run \u2013 fast", True), ("don't", "don\u2019t", True),  # noqa: E501
        ("stra\u00dfe", "STRASSE", True), ("run", "ran", False), ("C", "C#", False), ("C", "C++", False), ("go -90", "go 90", False),  # noqa: E501
        ("1.5", "15", False), ("caf\u00e9", "cafe", False), ("!!", "??", False), ("\u8dd1", "\u8df3", False),  # noqa: E501
        ("1,23", "12,3", False), ("1-2", "12", False), ("1_2", "12", False), ("take 1 2", "take 12", False),  # noqa: E501
        ("level 1", "level 11", False),
    ],
)  # fmt: skip
def test_labels_that_a_person_takes_for_one(first: str, second: str, same: bool):
    assert (folded(first) == folded(second)) is same and bool(alike([first, second])) is same


def test_what_cannot_be_seen_is_escaped():
    assert visible("run") == "'run'" and visible("laufen ü") == "'laufen ü'"
    assert (
        visible("run\u200b") == "'run\\u200b'"
        and visible("u\u0308") == "'u\\u0308'"
        and visible("a\u00a0b") == "'a\\xa0b'"
    )


@pytest.mark.parametrize(
    "name",
    [
        f"{name}_label_map"
        for name in (
            "sthv1",
            "sthv2",
            "mmit",
            "mit",
            "diving48",
            "activitynet",
            "multisports",
            "ucf101",
        )
    ],
)
def test_no_official_vocabulary_is_in_question(shared: Path, name: str):
    assert (
        alike(
            parse(
                (shared / f"annotations/mmaction2/{name}.txt").read_bytes(), name, own_ids=False
            ).names
        )
        == []
    )


def test_two_spellings_of_a_label_are_one_question(layout: Layout):
    rows = "label,youtube_id,time_start,time_end,split\nrun,a,0,1,train\nRun,b,0,1,train\njump,c,0,1,train\n"  # noqa: E501
    found = check(layout, rows, None, "kinetics_csv")
    assert found.error is not None and "1 question about all rows:" in str(found.error)
    assert "'Run', 'run'" in str(found.error) and "allow: [similar_labels]" in str(found.error)
    assert found.joined.report.kinds == {} and found.joined.report.notes["similar_labels"] == 1
    allowed = check(layout, rows, None, "kinetics_csv", allow=("similar_labels",))
    assert allowed.error is None and sorted(labels_of(allowed)) == ["Run", "jump", "run"]


def test_an_unknown_label_is_shown_beside_the_known_one(layout: Layout):
    rows = "label,youtube_id,time_start,time_end,split\ncafe\u0301,a,0,1,train\nfly,b,0,1,train\nrun,c,0,1,train\n"  # noqa: E501
    found = check(layout, rows, "caf\u00e9\nrun\n", "kinetics_csv")
    reasons = [
        problem.reason for problem in found.joined.problems if problem.kind == "unknown_label"
    ]
    assert reasons == [
        "unknown label; 'cafe\\u0301', 'caf\\xe9' differ in their spelling alone",
        "unknown label",
    ]


def test_ids_that_begin_at_1(layout: Layout):
    rows, words = "v/a.mp4 1\nv/b.mp4 2\nv/c.mp4 3\n", "run\njump\nfly\nswim\n"
    found = check(layout, rows, words)
    assert "numbers 1 to 3, none is 0, for 4 labels" in str(found.error) and "first_id: 1" in str(
        found.error
    )
    assert labels_of(check(layout, rows, words, first_id=1)) == ["run", "jump", "fly"]
    assert labels_of(check(layout, rows, words, first_id=0)) == ["jump", "fly", "swim"]
    # A vocabulary with numbers of its own says it, and so does a row with a 0.
    numbered = check(layout, rows, "1 run\n2 jump\n3 fly\n")
    assert (
        numbered.good
        and labels_of(numbered) == ["run", "jump", "fly"]
        and numbered.joined.report.notes == {"vocabulary": 1}
    )
    assert labels_of(check(layout, "v/z.mp4 0\n" + rows, words)) == words.split()
    beyond = check(layout, rows, "run\njump\nfly\n")
    assert "write first_id: 1" in str(beyond.error) and "ids are 0 to 2" in str(beyond.error)
    assert "none is 0" in str(check(layout, rows, None).error)
    assert check(layout, rows, None, first_id=1).joined.tables["clips"]["label_id"].to_pylist() == [
        0,
        1,
        2,
    ]


def test_first_id_is_one_for_all_files_of_a_table():
    words, table = (
        parse(b"run\njump\n", "l", own_ids=False),
        pa.table({"label_id": pa.array([0, 1])}),
    )
    files = [
        AnnotationFile(table="clips", format="video_list", path=path, first_id=first)
        for path, first in (("a", 1), ("b", None))
    ]
    with pytest.raises(
        AnnotationError, match="a: first_id: found '1, None'; expected: the same for all files"
    ):
        check_numbers(table, words, files, by_number=True)
    check_numbers(table, words, files, by_number=False)


def test_first_id_where_rows_have_no_numbers_is_refused(layout: Layout):
    rows = "label,youtube_id,time_start,time_end,split\nrun,a,0,1,train\n"
    assert "kinetics_csv has no first_id" in str(
        check(layout, rows, "run\n", "kinetics_csv", first_id=1).error
    )


def test_a_class_without_a_row_keeps_the_check_from_saying_good(layout: Layout):
    rows, words = "v/a.mp4 0\nv/b.mp4 1\n", "run\njump\nfly\nswim\n"
    found = check(layout, rows, words)
    assert (
        found.usable
        and not found.good
        and [problem.kind for problem in found.doubts] == ["empty_class"]
    )
    assert (
        found.doubts[0].found == "2 of 4: 'fly', 'swim'"
        and "the last ones" in found.doubts[0].reason
    )
    assert check(layout, rows, words, allow=("empty_class",)).good
    assert check(layout, rows, "run\njump\n").good


def test_a_vocabulary_in_another_order_than_the_ids_is_refused(layout: Layout):
    rows = "run/a.mp4 0\nrun/b.mp4 0\njump/c.mp4 1\nfly/d.mp4 2\n"
    found = check(layout, rows, "fly\njump\nrun\n")
    assert "the id of 'fly' for a video in the folder 'run' (3 of 4 rows disagree so)" in str(
        found.error
    )
    assert check(layout, rows, "run\njump\nfly\n").good
    # a folder that is named as a label by chance
    assert check(layout, "train/a.mp4 0\ntrain/b.mp4 1\n", "car\ntrain\n").good
