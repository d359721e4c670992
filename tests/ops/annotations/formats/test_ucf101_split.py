"""UCF101's folder of lists: folds, class ids, the official files, and every way a line can be
wrong.
"""

import pytest

from ops.annotations.formats.ucf101_split import FOLDER, TABLE, read, sniff, vocabulary
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names

WORDS = from_names(["Archery", "BabyCrawling"])
CONTEXT = Context("ucf", "lists", fold=1, vocabulary=WORDS)
TRAIN = ("trainlist01.txt", b"Archery/v_Archery_g08_c01.avi 1\nBabyCrawling/v_B_g01_c01.avi 2\n")
TEST = ("testlist01.txt", b"Archery/v_Archery_g01_c01.avi\n")
OTHERS = [("classInd.txt", b"1 Archery\n"), ("trainlist02.txt", b"nonsense"), ("readme.md", None)]


def test_one_fold_becomes_the_train_and_val_splits():
    rows = read([*OTHERS, TEST, TRAIN], CONTEXT).table.to_pylist()
    assert rows[0] == {
        "clip_id": "Archery/v_Archery_g01_c01",
        "video_id": "Archery/v_Archery_g01_c01",
        "dataset": "ucf",
        "split": "val",
        "target": "label",
        "label": "Archery",
        "label_id": 0,
        "start_s": None,
        "end_s": None,
        "source": "lists/testlist01.txt:1",
    }
    assert [(row["split"], row["label_id"]) for row in rows[1:]] == [("train", 0), ("train", 1)]


def test_without_a_class_list_the_folders_are_the_labels():
    rows = read([TRAIN, TEST], Context("ucf", "lists", fold=1, video="{name}")).table.to_pylist()
    assert [(row["video_id"], row["label"]) for row in rows][:2] == [
        ("v_Archery_g08_c01", "Archery"),
        ("v_B_g01_c01", "BabyCrawling"),
    ]


def test_all_bad_lines_of_both_lists_come_together(monkeypatch):
    monkeypatch.setattr("ops.annotations.lines.LINE_LIMIT", 100)
    train = (
        b"Archery/a.avi 2\nArchery/a.avi one\nArchery/a.avi\nArchery\nSwimming/a.avi"
        b" 3\nArchery/a.avi 0\nA/" + b"y" * 101 + b"\n"
    )
    answer = read(
        [
            ("trainlist01.txt", train),
            ("testlist01.txt", b"Swimming/b.avi\nd\xe9/b.avi\nArchery/good.avi\n"),
        ],
        CONTEXT,
    )
    assert [(p.file[6:], p.line, p.field, p.kind) for p in answer.problems] == [
        ("trainlist01.txt", 1, "label", "contradiction"),
        ("trainlist01.txt", 2, "label", "value"),
        ("trainlist01.txt", 3, "label", "columns"),
        ("trainlist01.txt", 4, "(line)", "columns"),
        ("trainlist01.txt", 5, "label", "unknown_label"),
        ("trainlist01.txt", 6, "label", "value"),
        ("trainlist01.txt", 7, "(line)", "long_line"),
        ("testlist01.txt", 1, "label", "unknown_label"),
        ("testlist01.txt", 2, "(line)", "text"),
    ]
    assert answer.table["video_id"].to_pylist() == ["Archery/good"]


@pytest.mark.parametrize(
    "files, fold, says",
    [
        ([TRAIN, TEST], None, "fold: 1, 2 or 3"),
        ([TRAIN, TEST], 2, "no trainlist02.txt, testlist02.txt"),
        ([TRAIN], 1, "no testlist01.txt"),
        ([], 1, "no trainlist01.txt, testlist01.txt"),
        ([("trainlist01.txt", b""), TEST], 1, "an empty file"),
        ([("trainlist01.txt", b"\x00\x01"), TEST], 1, "UTF-8 text"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(files: list, fold: int | None, says: str):
    with pytest.raises(AnnotationError, match="^lists") as caught:
        read(files, Context("ucf", "lists", fold=fold, vocabulary=WORDS))
    assert says in str(caught.value)


def test_a_list_too_large_is_a_problem():
    answer = read([TRAIN, ("testlist01.txt", None)], CONTEXT)
    assert [(p.file, p.kind) for p in answer.problems] == [("lists/testlist01.txt", "long_line")]


def test_the_class_list():
    assert vocabulary(b"1 Archery\r\n2 Baby Crawling\r\n", "classInd.txt", "label").names == (
        "Archery",
        "Baby Crawling",
    )
    for bad in (
        b"0 Archery\n",
        b"1 Archery\n3 Run\n",
        b"1 Archery\n2 Archery\n",
        b"Archery\n",
        b"1 \n",
        b"1 Archery\n2 R\xe9\n",
    ):
        with pytest.raises(AnnotationError, match=r"classInd.txt:\d: class"):
            vocabulary(bad, "classInd.txt", "label")
    with pytest.raises(AnnotationError, match="an empty file"):
        vocabulary(b"", "classInd.txt", "label")


def test_lists_are_recognised():
    assert (TABLE, FOLDER) == ("clips", True)
    assert sniff(*TRAIN) and sniff("x/testlist03.txt", TEST[1])
    assert (
        not sniff("train.txt", TRAIN[1])
        and not sniff("trainlist01.txt", b"\xff\x00")
        and not sniff("trainlist01.txt", b"")
    )


@pytest.mark.parametrize("fold, train, val", [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_official_lists(shared, fold: int, train: int, val: int):
    folder = shared / "annotations/ucf101_hmdb51_splits/data/ucf101_splits"
    words = vocabulary((folder / "classInd.txt").read_bytes(), "classInd.txt", "label")
    files = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    answer = read(files, Context("ucf", "lists", fold=fold, vocabulary=words))
    splits = answer.table["split"].to_pylist()
    assert (splits.count("train"), splits.count("val"), len(words.names)) == (
        train,
        val,
        101,
    ) and not answer.problems
    assert len(set(answer.table["clip_id"].to_pylist())) == 13320
    assert set(answer.table["label_id"].to_pylist()) == set(range(101))
