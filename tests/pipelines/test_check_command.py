"""`kinograph check` on the screen: datasets and files, good and damaged."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipelines.check_report import printable
from pipelines.main import main

NAME = "kinetics400"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """check(*arguments) -> (status, what stood on a screen of 100 columns)."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["check", *arguments])
        return status, capsys.readouterr().out

    return run


def test_a_good_dataset_ends_with_the_next_command(home, small, check) -> None:
    status, said = check(NAME)
    assert status == 0, said
    assert "13 files" in said and "not ingested yet" in said and "Good: 13 rows can be used" in said
    assert f"Next: kinograph run --dataset {NAME}" in said


def test_a_damaged_dataset_says_everything_and_what_would_let_it_pass(
    home, small, check, tmp_path: Path
) -> None:
    rows = [
        "left,nobody,0,0.5,train",
        "sideways,train1,0,0.5,train",
        "left,train2,3,1,train",
        "left,\x1b[31mred,0,nan,train",
    ]
    small.write_rows(*rows, *["left,gone,0,1,train"] * 8)
    small.write_yaml(expected={"clips.train.rows": 9})
    status, said = check(NAME, "--csv", str(tmp_path / "problems.csv"))
    assert status == 1
    for text in (
        "unknown_label: a label that the vocabulary lacks; 1 row, 1 refused",
        "clips.csv:16",
        "sideways",
        "end_before_start",
        "differs",
        "... 3 more",
        "what to do:",
        "allow: [",
    ):
        assert text in said, text
    assert "\x1b" not in said and max(map(len, said.splitlines())) < 250
    with open(tmp_path / "problems.csv", newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) > 8 and {"sideways", "nobody"} <= {row["found"] for row in found}
    assert check(NAME, "--all")[1].count("clips.csv:") > said.count("clips.csv:")
    small.write_yaml(
        allow=["missing_video", "unknown_label", "end_before_start", "value", "duplicate"]
    )
    assert check(NAME)[0] == 0


def test_unusable_files_and_an_empty_folder_are_told_together(
    home, small, check, tmp_path: Path
) -> None:
    small.write_yaml(root=str(tmp_path / "elsewhere"))
    status, said = check(NAME)
    assert status == 1 and "does not exist" in said and "unusable" in said and "no files" in said


def test_every_mistake_of_the_yaml_is_told(home, small, check) -> None:
    small.write_yaml(
        licence=None,
        colour="red",
        expected={"rows": 3},
        annotations=[{"table": "clips", "format": "nothing", "path": "a"}],
    )
    status, said = check(NAME)
    assert status == 1
    for text in (
        "licence",
        "colour",
        "'rows' is not",
        "annotations.0.format: found 'nothing'",
        f"{NAME}.yaml",
    ):
        assert text in said, text
    (home.configs / "datasets" / f"{NAME}.yaml").write_text("a: [")
    status, said = check(NAME)
    assert status == 1 and "valid YAML" in said


def test_a_file_without_a_yaml(home, check, tmp_path: Path) -> None:
    path = tmp_path / "mine_train.csv"
    path.write_text(
        "label,youtube_id,time_start,time_end,split\nrun,a,1,4,train\n[bold],b,2,5,val\nrun,,1,2,train\n"
    )
    status, said = check(str(path))
    assert (
        status == 0
        and "kinetics_csv -> table clips" in said
        and "[bold]" in said
        and "mine_train.csv:4" in said
    )
    assert "format: kinetics_csv" in said and f"root: {tmp_path}" in said
    path.write_bytes(b"\x00\x01")
    status, said = check(str(path))
    assert status == 1 and "no known form" in said and "epic_csv" in said


def test_neither_a_dataset_nor_a_file(home, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("nothing_here", "~nobody_here/videos"):
        assert main(["check", name]) == 1
        assert f"found '{name}'; allowed: a dataset (" in capsys.readouterr().err


def test_control_characters_do_not_reach_the_screen() -> None:
    assert printable("a\x1b[31m\n") == "a\\x1b[31m\\x0a"


def test_a_video_in_two_splits_is_not_called_good(home, small, check) -> None:
    small.write_rows("left,train0,0.4,0.5,val")
    status, said = check(NAME)
    assert status == 0 and "Good" not in said and "Usable, but see the doubts above" in said
    assert (
        "1 videos stand in two splits ('train0'), and a run stops before it trains on them" in said
        and "allow: [no_leak]" in said
    )
    small.write_yaml(allow=["no_leak"])
    assert "Good: 14 rows can be used" in check(NAME)[1]
