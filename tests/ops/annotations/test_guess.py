"""Files without a YAML: their form is found, what it lacks is guessed, and the YAML reads them."""

import json
from pathlib import Path

import pytest
import yaml

from configs.schema import Dataset
from ops.annotations.guess import format_names, guess, likely_split, yaml_text
from ops.annotations.read import format_module, read_files, tables_of
from ops.annotations.vocabulary import AnnotationError
from ops.store.layout import Layout

KINETICS = "label,youtube_id,time_start,time_end,split\nrun,a,1,4,train\nrun,b,2,5,val\n"


def reads(found, folder: Path):
    """What the YAML of a guess reads."""
    config = yaml.safe_load(yaml_text(found, "own"))
    reading = read_files(Dataset(name="own", **config), Layout(str(folder)))
    assert not reading.errors, reading.errors
    return reading


def test_every_format_says_what_it_is():
    for name in format_names():
        module = format_module(name)
        assert (
            module.TABLE in tables_of(module)
            and isinstance(module.FOLDER, bool)
            and isinstance(module.EXPECTED, str)
        )
        assert module.sniff("x", b"") is False and module.__doc__


def test_a_file_is_known_by_its_form_and_read(tmp_path: Path):
    (tmp_path / "mine.csv").write_text(KINETICS)
    found = guess(str(tmp_path / "mine.csv"))
    (piece,) = found.pieces
    assert (
        piece.trials[0].format == "kinetics_csv" and piece.trials[0].context.video == "{youtube_id}"
    )
    assert reads(found, tmp_path).tables["clips"].num_rows == 2


def test_what_the_rows_do_not_say_is_guessed_and_marked(tmp_path: Path):
    (tmp_path / "my_val_list.txt").write_text("run/a.mp4 0\njump/b.mp4 1 2\n")
    found = guess(str(tmp_path / "my_val_list.txt"))
    assert (
        found.pieces[0].trials[0].context.split == "val"
        and found.pieces[0].trials[0].context.multi_label
    )
    text = yaml_text(found, "mine")
    assert "split: val" in text and "this one is a guess" in text and "multi_label: true" in text
    assert "labels: labels.txt" in text and "no row is in the train split" in text
    (tmp_path / "labels.txt").write_text("run\njump\nhigh\n")
    assert reads(found, tmp_path).tables["clips"]["label"].to_pylist() == ["run", "jump", "high"]


def test_a_folder_of_files_is_one_dataset_with_its_vocabulary(tmp_path: Path):
    (tmp_path / "train.csv").write_text("v,0902,0.1,0.2,0.5,0.6,12,0\n")
    (tmp_path / "val.csv").write_text("w,0902,0.1,0.2,0.5,0.6,80,0\n")
    (tmp_path / "names.txt").write_text("12: stand\n80: watch\n")
    (tmp_path / "README.md").write_text("about\n")
    found = guess(str(tmp_path))
    assert [
        (piece.path, piece.labels, piece.trials[0].context.split) for piece in found.pieces
    ] == [("train.csv", "names.txt", "train"), ("val.csv", "names.txt", "val")]
    assert found.unknown == ("README.md",)
    assert reads(found, tmp_path).tables["boxes"]["label"].to_pylist() == ["stand", "watch"]


def test_a_form_that_is_a_folder_is_found_by_the_folder_or_one_file(tmp_path: Path):
    folder = tmp_path / "splits"
    folder.mkdir()
    (folder / "run_test_split1.txt").write_text("a.avi 1\nb.avi 2\n")
    for path in (folder, folder / "run_test_split1.txt"):
        found = guess(str(path))
        assert [(piece.path, piece.trials[0].format) for piece in found.pieces] == [
            ("splits", "hmdb51_split")
        ]
        assert reads(found, tmp_path).tables["clips"].num_rows == 2
    frame = tmp_path / "parts" / "run" / "v" / "img_00001.json"
    frame.parent.mkdir(parents=True)
    frame.write_text(json.dumps({"humans": [{"box": [0, 0, 9, 9], "parts": {}}]}))
    (piece,) = guess(str(frame)).pieces
    assert (piece.path, piece.trials[0].format) == ("parts", "kinetics_tps_json") and piece.trials[
        0
    ].read is not None


def test_damaged_rows_are_told_and_the_form_is_found_all_the_same(tmp_path: Path):
    (tmp_path / "f.csv").write_text(KINETICS + "run,,1,2,train\nrun,a,x,2,train\n")
    (piece,) = guess(str(tmp_path / "f.csv")).pieces
    read = piece.trials[0].read
    assert read is not None and [problem.line for problem in read.problems] == [4, 5]


def test_what_has_no_known_form(tmp_path: Path):
    (tmp_path / "f.bin").write_bytes(bytes(range(256)))
    assert guess(str(tmp_path / "f.bin")).unknown == ("f.bin",)
    with pytest.raises(AnnotationError, match="no such file"):
        guess(str(tmp_path / "none.csv"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match="an empty folder"):
        guess(str(tmp_path / "empty"))


def test_the_split_of_a_name():
    assert [
        likely_split(name) for name in ("a/validate.csv", "TestList.txt", "train.csv", "val/x.csv")
    ] == ["val", "test", "train", "train"]


OFFICIAL = {
    "activitynet_kinetics/Crawler/Kinetics/data/kinetics-600_val.csv": "kinetics_csv",
    "thumos14_bbformer/data/thumos/annotations/thumos14.json": "activitynet_json",
    "activitynet1.3_bsn/data/activitynet_annotations/anet_anno_action.json": "activitynet_json",
    "ava_v2.2_sample/ava_val_v2.2_head.csv": "ava_csv",
    "epic-kitchens-100/EPIC_100_validation.csv": "epic_csv",
    "epic-kitchens-100/EPIC_100_test_timestamps.csv": "epic_csv",
    "mmaction2/tests_eval_multisports/gt.pkl": "tubes_pickle",
    "ucf101_hmdb51_splits/data/ucf101_splits": "ucf101_split",
    "ucf101_hmdb51_splits/data/hmdb51_splits": "hmdb51_split",
}


@pytest.mark.parametrize("path", OFFICIAL)
def test_official_files_are_known(shared: Path, path: str):
    (piece,) = guess(str(shared / "annotations" / path)).pieces
    assert piece.trials[0].format == OFFICIAL[path] and piece.trials[0].read is not None
