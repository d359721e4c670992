"""Annotation files as spreadsheets, other systems and other people leave them: read rightly, or a
clear no.
"""

from pathlib import Path
from typing import Any

import pytest

from configs.schema import AnnotationFile, Dataset
from ops.annotations.check import Examination, examine
from ops.store.layout import Layout

HEADER = "label,youtube_id,time_start,time_end,split\n"
ROWS = "run,a,0,1,train\njump,b,0,1,val\n"
FILES = ("a", "b", "-abc", "00012")
BOX = "a,0001,0.1,0.2,0.5,0.6,1,0\nb,0001,0.1,0.2,0.5,0.6,2,0\n"


def check(
    layout: Layout,
    rows: str | bytes,
    form: str = "kinetics_csv",
    labels: str = "run\njump\n",
    **facts: Any,
) -> Examination:
    root = Path(layout.root, "d")
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (root / "videos" / f"{name}.mp4").write_bytes(b"x")
    (root / "rows.csv").write_bytes(rows.encode() if isinstance(rows, str) else rows)
    (root / "labels.txt").write_text(labels)
    facts = {
        "table": "clips",
        "video": "{youtube_id}" if form == "kinetics_csv" else "{video}",
        **facts,
    }
    file = AnnotationFile(format=form, path="rows.csv", labels="labels.txt", **facts)  # type: ignore[arg-type]
    return examine(
        Dataset(name="d", title="t", licence="l", root="{storage}/d", annotations=(file,)), layout
    )


@pytest.mark.parametrize(
    "rows, notes",
    [
        ((HEADER + ROWS).encode("utf-8-sig"), {}),
        ((HEADER + ROWS).replace("\n", "\r\n"), {}),
        ((HEADER + ROWS).replace("\n", "\r"), {}),
        # a delimiter at the end of every line, the header's too
        (HEADER.replace("\n", ",\n") + ROWS.replace("\n", ",\n"), {}),
        (
            HEADER.replace("split", "split,note")
            + 'run,a,0,1,train,"two\nlines"\njump,b,0,1,val,\n',
            {},
        ),
        (HEADER + ROWS + "run,-abc,0,1,train\n", {}),
        (HEADER + ROWS.replace(",a,", ",a.mp4,").replace(",b,", ",B,"), {"matched_name": 2}),
        (HEADER + ROWS.replace(",a,", ", a,"), {"matched_name": 1}),
    ],
)
def test_read_rightly(layout: Layout, rows: str | bytes, notes: dict[str, int]):
    found = check(layout, rows)
    told = {
        kind: count
        for kind, count in found.joined.report.notes.items()
        if kind != "unannotated_video"
    }
    assert (
        found.good
        and told == notes
        and set(found.joined.tables["clips"]["video_id"].to_pylist()) >= {"a", "b"}
    )


@pytest.mark.parametrize(
    "rows, says",
    [
        ((HEADER + ROWS).encode("utf-16"), "UTF-16"),
        ((HEADER + ROWS).replace(",", ";"), "header: found 'label;youtube_id"),
        ((HEADER + ROWS).replace(",", "\t"), "header: found 'label\\tyoutube_id"),
        (HEADER + 'run,a,"0,5","1,5",train\n' + ROWS, "'0,5': not a finite number"),
        (HEADER + "run,a,0,5,1,5,train\n" + ROWS, "wrong number of columns"),
        (HEADER + 'run,a,"1,000","2,000",train\n' + ROWS, "'1,000': not a finite number"),
        (HEADER + "run,a,0:05,0:09,train\n" + ROWS, "'0:05': not a finite number"),
        (HEADER + ROWS.replace("\n", ",\n"), "wrong number of columns"),
        (HEADER + "# mine\n" + ROWS, "# mine"),
        ("# mine\n" + HEADER + ROWS, "header: found '# mine'"),
        (HEADER + ROWS + HEADER, "'time_start': not a finite number"),
        (HEADER.replace("split", "label") + ROWS, "header"),
        (ROWS, "header"),
        (HEADER + "run,a,5,1,train\n" + ROWS, "end is not after start"),
        (HEADER + ROWS + ROWS, "duplicate row"),
        (HEADER + ROWS + "run,a,0,1,val\n", "contradicts another row in its split"),
        (HEADER + ROWS + "jump,a,0,1,train\n", "contradicts another row in its label"),
        (HEADER + ROWS.replace("val", "dev"), "unknown split"),
        (
            HEADER + ROWS.replace("run", "run\u00a0"),
            "'run\\xa0', 'run' differ in their spelling alone",
        ),
        (HEADER + ROWS + "run,12,0,1,train\n", "zeros in front differ: '12' and '00012'"),
        (HEADER + ROWS + "run,1.2E+01,0,1,train\n", "a spreadsheet has rewritten '1.2E+01'"),
        (HEADER + ROWS + "run,#NAME?,0,1,train\n", "a spreadsheet has rewritten '#NAME?'"),
        (HEADER + ROWS + "run,'-abc,0,1,train\n", "a spreadsheet has rewritten"),
    ],
)
def test_a_clear_no(layout: Layout, rows: str | bytes, says: str):
    found = check(layout, rows)
    assert not found.usable and says in "\n".join(
        [str(found.error), *(item.hint for item in found.meetings)]
    )


@pytest.mark.parametrize(
    "rows, says, facts",
    [
        (
            "/home/bob/videos/a.mp4 0\n/home/bob/videos/b.mp4 1\n",
            "change what stands before the name",
            {},
        ),
        ("C:\\videos\\a.mp4 0\nC:\\videos\\b.mp4 1\n", "change what stands before the name", {}),
        ("C:\\videos\\a.mp4 0\nC:\\videos\\b.mp4 1\n", None, {"video": "{name}"}),
        ("a.mp4.mp4 0\nb.mp4 1\n", None, {}),
        ("path,label\na.mp4,0\nb.mp4,1\n", "no label in the train split", {}),
        ("a.mp4 0.0\nb.mp4 1.0\n", "not the id of a label", {}),
        ("a.mp4;0\nb.mp4;1\n", "no label in the train split", {}),
        ("0 a.mp4\n1 b.mp4\n", "no label in the train split", {}),
    ],
)
def test_lists_of_paths(layout: Layout, rows: str, says: str | None, facts: dict[str, str]):
    found = check(layout, rows, "video_list", split="train", **facts)
    assert found.good == (says is None)
    assert says is None or says in "\n".join(
        [str(found.error), *(item.hint for item in found.meetings)]
    )


@pytest.mark.parametrize(
    "rows, says",
    [
        (BOX, None),
        (
            "video,timestamp,x1,y1,x2,y2,action_id,person_id\n" + BOX,
            "'timestamp': not a finite number",
        ),
        (BOX.replace("0.", "10"), "box outside [0, 1]"),
        (BOX.replace("0.5,0.6", "0.05,0.06"), "inverted box"),
        (BOX.replace(",2,0", ",0,0"), "unknown label"),
        (BOX.replace("0001", "00:01"), "not a finite number"),
    ],
)
def test_boxes(layout: Layout, rows: str, says: str | None):
    found = check(layout, rows, "ava_csv", "1: run\n2: jump\n", table="boxes", split="train")
    assert found.good == (says is None) and (says is None or says in str(found.error))


CHARADES = "id,actions,length\na,c005 0 2;c010 1 3,10\nb,c005 1 2,10\n"
EPIC = "narration_id,video_id,start_timestamp,stop_timestamp,verb_class,noun_class\n"
EPIC += "a_0,a,0:00:00.0,0:00:02.0,5,0\nb_0,b,0:00:00,0:00:02,10,0\n"


@pytest.mark.parametrize("form, rows, words", [
    ("charades_csv", CHARADES, "c005 run\nc010 jump\n"), ("epic_csv", EPIC, "id,key\n5,run\n10,jump\n"),  # noqa: E501
])  # fmt: skip
@pytest.mark.parametrize("table", ["segments", "clips"])
def test_a_part_of_the_classes_gives_ids_without_gaps(
    layout: Layout, form: str, rows: str, words: str, table: str
):
    target = {"target": "verb"} if form == "epic_csv" else {"multi_label": True}
    found = check(layout, rows, form, words, table=table, split="train", **target)
    table = found.joined.tables[table]
    assert found.good and set(
        zip(table["label"].to_pylist(), table["label_id"].to_pylist(), strict=True)
    ) == {("run", 0), ("jump", 1)}


def test_a_field_of_a_json_given_twice(layout: Layout):
    one = (
        '"annotations": [{"label": "run", "segment": [0, 1]}, {"label": "jump", "segment": [1, 2]}]'
    )
    rows = '{"a": {"subset": "training", %s}, "b": {"subset": "training", "annotations": []}}'
    assert check(layout, rows % one, "activitynet_json", table="segments").good
    for twice in (
        f"{one}, {one}",
        one.replace('"label": "run"', '"label": "jump", "label": "run"'),
    ):
        assert "given twice" in str(
            check(layout, rows % twice, "activitynet_json", table="segments").error
        )


@pytest.mark.parametrize(
    "name, says",
    [("a", None), ("a.mp4", "spelling of this video, 'a'"), ("A", "spelling"), ("other", None)],
)
def test_an_exclusion_list_that_spells_a_video_otherwise(
    layout: Layout, name: str, says: str | None
):
    Path(layout.root, "d").mkdir(parents=True)
    Path(layout.root, "d/out.csv").write_text(f"{name},9\n")
    found = check(
        layout,
        BOX,
        "ava_csv",
        "1: run\n2: jump\n",
        table="boxes",
        split="train",
        exclusions="out.csv",
    )
    assert found.good == (says is None) and (says is None or says in str(found.error))


def test_two_files_of_one_name(layout: Layout):
    rows = HEADER + ROWS
    assert check(layout, rows).good
    Path(layout.root, "d/videos/a.avi").write_bytes(b"x")
    found = check(layout, rows)
    assert (
        not found.good and found.usable and "a.avi is taken, a.mp4 is not" in found.doubts[0].found
    )
    assert check(layout, rows + "run,a.mp4,0,1,train\n").good  # both are named


@pytest.mark.parametrize(
    "words", ['"run",0\n"jump",1\n', "run\u200b,0\njump\u00a0,1\n", "\ufeffrun\n jump\n"]
)
def test_a_list_of_moments_with_quotes_and_what_is_not_seen(layout: Layout, words: str):
    found = check(
        layout,
        "a.mp4,0\nb.mp4,1\n",
        "moments_csv",
        words,
        table="clips",
        split="train",
        multi_label=True,
    )
    assert found.good and found.reading.vocabularies["clips", "label"].names == ("run", "jump")


def test_what_systems_leave_in_a_folder_of_annotations(layout: Layout):
    folder = Path(layout.root, "d/rows")
    folder.mkdir(parents=True)
    for name in (
        ".DS_Store",
        "._trainlist01.txt",
        "Thumbs.db",
        "x/._testlist01.txt",
        "x/Desktop.ini",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7" * 20)
    (folder / "trainlist01.txt").write_text("run/a.avi 1\n")
    (folder / "testlist01.txt").write_text("run/b.avi\n")
    file = AnnotationFile(table="clips", format="ucf101_split", path="rows", fold=1, video="{name}")
    check(layout, HEADER + ROWS)  # makes the videos
    found = examine(
        Dataset(name="d", title="t", licence="l", root="{storage}/d", annotations=(file,)), layout
    )
    assert found.good, str(found.error)
