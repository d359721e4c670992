"""Ego4D Moment Queries json: clips and their primary moments, and every way an item can be
wrong.
"""

import json

import pytest

from ops.annotations.formats.ego4d_moments_json import read, sniff, vocabulary
from ops.annotations.rows import Context, Entry
from ops.annotations.vocabulary import AnnotationError, from_names

MOMENT = {
    "label": "use_phone",
    "primary": True,
    "video_start_time": 11.0,
    "video_end_time": 12.5,
    "start_time": 1.0,
    "end_time": 2.5,
}
CLIP = {
    "video_start_sec": 10.0,
    "video_end_sec": 20.0,
    "video_start_frame": 300,
    "video_end_frame": 600,
}
CONTEXT = Context("ego4d", "m.json", vocabulary=from_names(["read_a_book", "use_phone"]))


def _file(*moments: object, split: object = "val", **clip: object) -> bytes:
    """A video of two clips: a good one, and one with these moments."""
    good = {"clip_uid": "good", **CLIP, "annotations": [{"annotator_uid": "x", "labels": [MOMENT]}]}
    other = {
        **good,
        "clip_uid": "c",
        "annotations": [{"annotator_uid": "y", "labels": list(moments)}],
        **clip,
    }
    return json.dumps(
        {"version": "v1", "videos": [{"video_uid": "V", "split": split, "clips": [good, other]}]}
    ).encode()


def test_primary_moments_become_segments_of_their_clip():
    answer = read(_file({**MOMENT, "primary": False}, {**MOMENT, "label": "read_a_book"}), CONTEXT)
    assert answer.table.to_pylist()[1] == {
        "video_id": "c",
        "dataset": "ego4d",
        "split": "val",
        "target": "label",
        "label": "read_a_book",
        "label_id": 0,
        "start_s": 1.0,
        "end_s": 2.5,
        "source": "m.json:videos[0].clips[1].annotations[0].labels[1]",
    }
    assert answer.table.num_rows == 2 and answer.excluded == 1 and not answer.problems
    assert answer.entries == (Entry("good", "val", 10.0, 30.0), Entry("c", "val", 10.0, 30.0))


def test_short_moments_and_two_annotators_are_kept_and_rounding_is_not_negative_time():
    moments = [{**MOMENT, "video_start_time": 9.995, "video_end_time": 10.1}]
    answer = read(_file(annotations=[{"labels": moments}, {"labels": moments}]), CONTEXT)
    assert [(row["start_s"], round(row["end_s"], 6)) for row in answer.table.to_pylist()[1:]] == [
        (0.0, 0.1)
    ] * 2


def test_an_unannotated_clip_is_an_entry_and_the_config_may_name_the_split():
    context = Context("ego4d", "m.json", split="test", video="{video_uid}/{clip_uid}")
    data = json.dumps(
        {
            "videos": [
                {
                    "video_uid": "V",
                    "split": "test",
                    "clips": [{"clip_uid": "c", **CLIP, "video_start_sec": -0.02}],
                }
            ]
        }
    ).encode()
    answer = read(data, context)
    assert answer.table.num_rows == 0 and answer.entries == (Entry("V/c", "test", 20.0, 15.0),)


@pytest.mark.parametrize(
    "moment, field, kind",
    [
        (3, "labels", "structure"),
        ({**MOMENT, "primary": "yes"}, "labels", "structure"),
        ({**MOMENT, "label": None}, "label", "value"),
        ({**MOMENT, "label": "swim"}, "label", "unknown_label"),
        ({**MOMENT, "video_start_time": float("nan")}, "video_start_time", "value"),
        ({**MOMENT, "video_end_time": float("inf")}, "video_start_time", "value"),
        ({**MOMENT, "video_end_time": "soon"}, "video_start_time", "value"),
        ({**MOMENT, "video_start_time": 9.5}, "video_start_time", "negative_time"),
        ({**MOMENT, "video_end_time": 10.5}, "video_end_time", "end_before_start"),
        ({**MOMENT, "video_end_time": 11.0}, "video_end_time", "end_before_start"),
    ],
)
def test_a_bad_moment_is_a_problem_and_the_rest_is_read(moment: object, field: str, kind: str):
    answer = read(_file(moment), CONTEXT)
    assert [(p.file, p.line, p.field, p.kind) for p in answer.problems] == [
        ("m.json", 0, field, kind)
    ]
    assert answer.problems[0].found.startswith("videos[0].clips[1].annotations[0].labels[0]: ")
    assert answer.table["video_id"].to_pylist() == ["good"]


@pytest.mark.parametrize(
    "clip, field, kind",
    [
        ({"clip_uid": None}, "clip_uid", "value"),
        ({"clip_uid": ""}, "clip_uid", "value"),
        ({"clip_uid": "good"}, "clip_uid", "duplicate"),
        ({"video_end_sec": None}, "video_start_sec", "value"),
        ({"video_end_sec": 5.0}, "video_end_sec", "end_before_start"),
        ({"annotations": 3}, "annotations", "structure"),
        ({"annotations": [{"labels": 3}]}, "annotations", "structure"),
    ],
)
def test_a_bad_clip_is_a_problem_and_the_rest_is_read(clip: dict, field: str, kind: str):
    answer = read(_file(MOMENT, **clip), CONTEXT)
    assert [(p.field, p.kind) for p in answer.problems] == [(field, kind)] and answer.table[
        "video_id"
    ].to_pylist() == ["good"]


def test_wrong_videos_and_clips_and_splits_are_problems_together():
    content = json.loads(_file(MOMENT))
    content["videos"] += [
        3,
        {"clips": {}},
        {"video_uid": "W", "split": "val", "clips": [7]},
        {"split": "dev", "clips": [{"clip_uid": "d", **CLIP}]},
    ]
    answer = read(json.dumps(content).encode(), CONTEXT)
    assert [(p.kind, p.found.split(": ")[0]) for p in answer.problems] == [
        ("structure", "videos[1]"), ("structure", "videos[2]"), ("structure", "videos[3].clips[0]"),
        ("unknown_split", "videos[4].clips[0]"),
    ]  # fmt: skip
    assert answer.table.num_rows == 2


def test_a_key_given_twice_is_a_problem():
    answer = read(
        _file(MOMENT).replace(b'"clip_uid": "c"', b'"clip_uid": "c", "clip_uid": "c"'), CONTEXT
    )
    assert [(p.found, p.kind) for p in answer.problems] == [("clip_uid", "contradiction")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        _file(MOMENT)[:-9],
        _file(MOMENT).decode().encode("utf-16"),
        b'{"videos": 3}',
        b'{"videos": [3]}',
        b"[" * 100_000,
    ],
)
def test_a_file_that_cannot_be_used_is_named(data: bytes):
    with pytest.raises(AnnotationError) as caught:
        read(data, CONTEXT)
    assert caught.value.file.startswith("m.json")


def test_vocabularies():
    assert vocabulary(b'000\t"cut_/_chop,_a"\n001\tuse_phone\n', "l.txt", "label").names == (
        '"cut_/_chop,_a"',
        "use_phone",
    )
    assert vocabulary(b"b\na\n", "l.txt", "label").names == ("b", "a")
    for wrong in (b"", b"000\ta\n002\tb\n", b"000\ta\n001\ta\n", b"a\n\xff\n"):
        with pytest.raises(AnnotationError, match="^l.txt"):
            vocabulary(wrong, "l.txt", "label")


def test_sniffing():
    assert sniff("m.json", _file(MOMENT)) and not any(
        sniff("m", data) for data in (b"", b"\xff", b"{}", b'{"database": {"annotations": []}}')
    )
