"""HMDB51's folder of lists: folds, marks, the official files, and every way a line can be wrong."""

import pytest

from ops.annotations.formats.hmdb51_split import FOLDER, TABLE, read, sniff
from ops.annotations.rows import Context
from ops.annotations.vocabulary import AnnotationError, from_names

WORDS = from_names(["brush_hair", "cartwheel"])
CONTEXT = Context("hmdb", "lists", fold=1, vocabulary=WORDS)
BRUSH = ("brush_hair_test_split1.txt", b"April_0.avi 1 \nB #2_50.5.avi 2 \nC.avi 0 \n")


def test_one_fold_becomes_the_train_and_val_splits():
    answer = read(
        [BRUSH, ("brush_hair_test_split2.txt", b"nonsense"), ("class_list.txt", b"brush_hair")],
        CONTEXT,
    )
    rows = answer.table.to_pylist()
    assert rows[0] == {
        "clip_id": "brush_hair/April_0",
        "video_id": "brush_hair/April_0",
        "dataset": "hmdb",
        "split": "train",
        "target": "label",
        "label": "brush_hair",
        "label_id": 0,
        "start_s": None,
        "end_s": None,
        "source": "lists/brush_hair_test_split1.txt:1",
    }
    assert (rows[1]["video_id"], rows[1]["split"], len(rows), answer.excluded) == (
        "brush_hair/B #2_50.5",
        "val",
        2,
        1,
    )
    assert not answer.problems


def test_the_template_may_leave_the_class_out():
    rows = read([BRUSH], Context("hmdb", "lists", fold=1, video="flat/{label}-{name}")).table
    assert rows["video_id"].to_pylist()[0] == "flat/brush_hair-April_0"


def test_all_bad_lines_of_all_lists_come_together(monkeypatch):
    monkeypatch.setattr("ops.annotations.lines.LINE_LIMIT", 100)
    files = [
        (
            "cartwheel_test_split1.txt",
            b"a.avi 3\na.avi\nb.avi -1\n" + b"y" * 101 + b"\nd\xe9.avi 1\ngood.avi 1\n",
        ),
        ("swim_test_split1.txt", b"a.avi 1\n"),
        ("fly_test_split1.txt", b""),
        ("hit_test_split1.txt", b"\xff\xfea"),
        ("run_test_split1.txt", None),
    ]
    answer = read(files, CONTEXT)
    assert [(p.file[6:-16], p.line, p.field, p.kind) for p in answer.problems] == [
        ("cartwheel", 1, "split", "unknown_split"),
        ("cartwheel", 2, "(line)", "columns"),
        ("cartwheel", 3, "split", "unknown_split"),
        ("cartwheel", 4, "(line)", "long_line"),
        ("cartwheel", 5, "(line)", "text"),
        ("swim", 1, "label", "unknown_label"),
        ("fly", 0, "(whole file)", "empty"),
        ("hit", 0, "encoding", "text"),
        ("run", 0, "(whole file)", "long_line"),
    ]
    assert answer.table["video_id"].to_pylist() == ["cartwheel/good"]


@pytest.mark.parametrize(
    "files, fold, says",
    [
        ([BRUSH], None, "fold: 1, 2 or 3"),
        ([BRUSH], 2, "no *_test_split2.txt"),
        ([], 1, "no *_test_split1"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(files: list, fold: int | None, says: str):
    with pytest.raises(AnnotationError, match="^lists: fold") as caught:
        read(files, Context("hmdb", "lists", fold=fold, vocabulary=WORDS))
    assert says in str(caught.value)


def test_lists_are_recognised():
    assert (TABLE, FOLDER) == ("clips", True)
    assert sniff(*BRUSH) and sniff("x/climb_stairs_test_split3.txt", b"a.avi 0")
    assert (
        not sniff("brush_hair.txt", BRUSH[1])
        and not sniff(BRUSH[0], b"")
        and not sniff(BRUSH[0], b"\xff\x00")
    )


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_official_lists(shared, fold: int):
    folder = shared / "annotations/ucf101_hmdb51_splits/data/hmdb51_splits"
    words = from_names((folder / "class_list.txt").read_text().split())
    files = [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]
    answer = read(files, Context("hmdb", "lists", fold=fold, vocabulary=words))
    splits = answer.table["split"].to_pylist()
    assert (splits.count("train"), splits.count("val")) == (
        70 * 51,
        30 * 51,
    ) and not answer.problems
    assert len(splits) + answer.excluded == 6766 and set(
        answer.table["label_id"].to_pylist()
    ) == set(range(51))
    assert len(set(answer.table["clip_id"].to_pylist())) == len(splits)
