"""Kinetics-TPS folders: frames, persons and parts, and every way a frame's file can be wrong."""

import json

import pytest

from ops.annotations.formats.kinetics_tps_json import read, sniff, words
from ops.annotations.rows import Context, Entry
from ops.annotations.vocabulary import AnnotationError, from_names

CONTEXT = Context("tps", "parts", split="train", vocabulary=from_names(["run"]))
HEAD = {"box": [1, 2, 3, 4], "verb": "turn", "name": "head", "number": 1}
HUMAN = {"number": 1, "box": [0, 0, 10.5, 20], "parts": {"head": HEAD}}
GOOD = ("run/good/img_00001.json", json.dumps({"humans": [HUMAN]}).encode())


def _one(humans: object) -> list[tuple[str, bytes | None]]:
    return [("run/v/img_00006.json", json.dumps({"humans": humans}).encode()), GOOD]


def test_frames_become_rows_of_parts():
    context = Context(
        "tps",
        "parts",
        video="trimmed/{video}",
        splits={"trimmed/v": "val"},
        vocabulary=CONTEXT.vocabulary,
    )
    answer = read(_one([{**HUMAN, "parts": {}}, HUMAN]), context)
    bare, part = answer.table.to_pylist()
    assert part == {
        "video_id": "trimmed/v",
        "dataset": "tps",
        "split": "val",
        "label": "run",
        "frame": 5,
        "person": 1,
        "px1": 0.0,
        "py1": 0.0,
        "px2": 10.5,
        "py2": 20.0,
        "part": "head",
        "x1": 1.0,
        "y1": 2.0,
        "x2": 3.0,
        "y2": 4.0,
        "state": "turn",
        "source": "parts/run/v/img_00006.json:humans[1]",
    }
    assert (bare["person"], bare["px2"], bare["part"], bare["x1"], bare["state"]) == (
        0,
        10.5,
        None,
        None,
        None,
    )
    assert [(p.file, p.field) for p in answer.problems] == [
        ("parts/run/good/img_00001.json", "video")
    ]


@pytest.mark.parametrize(
    "path, data, field, kind",
    [
        ("readme.txt", b"{}", "(name)", "structure"),
        ("run/v/00001.json", b"{}", "(name)", "structure"),
        ("run/v/img_00000.json", b"{}", "(name)", "structure"),
        ("run/v/deep/img_00001.json", b"{}", "(name)", "structure"),
        ("run/v/img_00001.json", None, "(whole file)", "long_line"),
        ("run/v/img_00001.json", b"", "(whole file)", "structure"),
        ("run/v/img_00001.json", b'{"humans": [}', "column 13", "structure"),
        ("run/v/img_00001.json", b'{"humans": [{"box": [1', "column 23", "structure"),
        ("run/v/img_00001.json", b"\xff\xfe", "encoding", "text"),
        ("run/v/img_00001.json", b"[]", "humans", "structure"),
        ("run/v/img_00001.json", b'{"humans": [], "humans": []}', "(whole file)", "contradiction"),
        ("fly/v/img_00001.json", b'{"humans": []}', "label", "unknown_label"),
    ],
)
def test_a_bad_frame_is_a_problem_and_the_others_are_read(
    path: str, data: bytes | None, field: str, kind: str
):
    answer = read([(path, data), GOOD], CONTEXT)
    assert [(p.file, p.line, p.field, p.kind) for p in answer.problems] == [
        (f"parts/{path}", 0, field, kind)
    ]
    assert answer.table["video_id"].to_pylist() == ["good"]


@pytest.mark.parametrize(
    "human, field, kind, reason",
    [
        (3, "humans", "structure", "not a mapping with box and parts"),
        ({"parts": {}}, "box", "value", "a box is [x1, y1, x2, y2]"),
        (
            {**HUMAN, "box": [0, 0, float("nan"), 1]},
            "box",
            "value",
            "a coordinate is not a finite number",
        ),
        ({**HUMAN, "box": [5, 0, 1, 1]}, "box", "box_inverted", "inverted box"),
        ({**HUMAN, "box": [-5, 0, 1, 1]}, "box", "box_outside", "box outside the image"),
        ({**HUMAN, "box": [0, 0, 1e300, 1]}, "box", "box_outside", "box outside the image"),
        ({**HUMAN, "parts": []}, "parts", "structure", "not a mapping from part to box and verb"),
        ({**HUMAN, "parts": {"head": 1}}, "part", "structure", "not a mapping with box and verb"),
        (
            {**HUMAN, "parts": {"head": {**HEAD, "box": [1, 2, 3]}}},
            "part",
            "value",
            "a box is [x1, y1, x2, y2]",
        ),
        (
            {**HUMAN, "parts": {"head": {**HEAD, "box": [1, 2, float("inf"), 3]}}},
            "part",
            "value",
            "a coordinate is not a finite number",
        ),
        (
            {**HUMAN, "parts": {"head": {**HEAD, "verb": ["turn"]}}},
            "verb",
            "value",
            "not the name of a state",
        ),
    ],
)
def test_a_bad_person_or_part_is_a_problem(human: object, field: str, kind: str, reason: str):
    answer = read(_one([human]), CONTEXT)
    assert [(p.file, p.field, p.kind, p.reason) for p in answer.problems] == [
        ("parts/run/v/img_00006.json", field, kind, reason)
    ]
    assert answer.problems[0].found.startswith("humans[0]")
    assert answer.table["video_id"].to_pylist() == ["good"]


def test_a_frame_without_a_split_is_a_problem():
    answer = read(
        _one([HUMAN]), Context("tps", "parts", splits={"v": "val"}, vocabulary=CONTEXT.vocabulary)
    )
    assert [(p.file, p.kind) for p in answer.problems] == [
        ("parts/run/good/img_00001.json", "unknown_split")
    ]


def test_videos_are_entries_and_the_words_are_those_of_the_files():
    files = [
        ("run/empty/img_00001.json", b'{"humans": []}'),
        *_one([HUMAN, {**HUMAN, "parts": {"hip": {**HEAD, "verb": "bend"}}}]),
    ]
    answer = read(files, CONTEXT)
    assert answer.entries == (Entry("empty", "train"), Entry("v", "train"), Entry("good", "train"))
    assert words(answer.table) == (("head", "hip"), ("bend", "turn"))


def test_as_clips_every_video_is_one_row_with_its_class():
    context = Context("tps", "parts", table="clips", split="train", video="{label}/{video}")
    files = [
        ("run/v/img_00007.json", None),
        ("run/v/img_00009.json", b"{"),
        ("swim/v/img_00001.json", b"{}"),
        ("readme.txt", b""),
    ]
    answer = read(files, context)
    clips = [
        {
            "clip_id": video,
            "video_id": video,
            "dataset": "tps",
            "split": "train",
            "target": "label",
            "label": label,
            "label_id": -1,
            "start_s": None,
            "end_s": None,
            "source": f"parts/{video}",
        }
        for video, label in (("run/v", "run"), ("swim/v", "swim"))
    ]
    assert answer.table.to_pylist() == clips and not answer.entries
    assert [(p.file, p.field) for p in answer.problems] == [("parts/readme.txt", "(name)")]
    with pytest.raises(AnnotationError, match="no split: the config names none"):
        read(files[:1], Context("tps", "parts", table="clips"))


def test_a_label_that_the_vocabulary_lacks_is_no_clip():
    answer = read(
        [GOOD, ("fly/v/img_00001.json", b"{}")],
        Context("tps", "parts", "clips", split="train", vocabulary=CONTEXT.vocabulary),
    )
    assert answer.table["label_id"].to_pylist() == [0] and [p.kind for p in answer.problems] == [
        "unknown_label"
    ]


def test_sniffing():
    assert (
        sniff("run/v/img_00001.json", b'{"humans"')
        and not sniff("a.json", b"{")
        and not sniff("img_00001.json", b"\xff")
    )


def test_a_bad_part_leaves_the_others_of_its_person():
    answer = read(_one([{**HUMAN, "parts": {"hip": {}, "head": HEAD}}]), CONTEXT)
    assert answer.table["part"].to_pylist() == ["head", "head"] and len(answer.problems) == 1


@pytest.mark.parametrize("files", [[], [("run/v/img_00001.json", b'{"humans": []}')]])
def test_a_folder_without_a_person_is_named(files: list):
    with pytest.raises(AnnotationError, match="^parts: "):
        read(files, CONTEXT)


def test_the_official_evaluators_ground_truth_reads_when_laid_out_as_frames(shared):
    videos = json.loads((shared / "metrics/tps/boundaries/gt_part_result.json").read_text())
    files = [
        (f"run/{video}/{name}", json.dumps(frame).encode())
        for video, frames in videos.items()
        for name, frame in frames.items()
    ]
    answer = read(files, CONTEXT)
    parts = sum(
        len(human["parts"])
        for frames in videos.values()
        for frame in frames.values()
        for human in frame["humans"]
    )
    assert answer.table.num_rows >= parts > 0 and not answer.problems
