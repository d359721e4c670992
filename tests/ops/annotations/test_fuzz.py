"""Every reader on what nobody would write by hand: it answers or refuses in words, soon, and never
anything else.

The quick test is a sample; the slow one goes on for KINOGRAPH_FUZZ_SECONDS (120 by default).
"""

from __future__ import annotations

import json
import math
import os
import pickle
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from configs.schema import PROBLEM_KINDS
from ops.annotations.guess import any_id, format_names, guess
from ops.annotations.read import format_module, tables_of
from ops.annotations.rows import FOUND_LIMIT, Context, Problem, Read
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names, parse
from ops.store.tables import BOXES, CLIPS, PARTS, SEGMENTS

SECONDS = float(os.environ.get("KINOGRAPH_FUZZ_SECONDS", "120"))
SLOWEST_S = 5.0  # of one small file; two busy cores
SCHEMAS = {"clips": CLIPS, "segments": SEGMENTS, "boxes": BOXES, "parts": PARTS}
BOX = {"box": [1, 1, 20, 30], "parts": {"head": {"box": [2, 2, 9, 9], "verb": "turn"}}}
EPIC = (
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\nP01_11_0,P01,P01_11,00:00:00.560,00:00:00.00,00:00:01.89,1,113,take"
    " plate,take,0,plate,2,['plate'],[2]\nP01_11_1,P01,P01_11,00:00:01.700,00:00:01.56,00:00:02.45,93,147,put"  # noqa: E501
    " down plate,put-down,1,plate,2,['plate'],[2]\n"
)
CHARADES = (
    'id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n46GP8,HR43,Kitchen,6,7,Yes,"A'
    ' person, cooking.",food;stove,A person cooks.,c092 11.90 21.20;c147 0.00'
    " 12.60,24.83\nN11GT,0KZ7,Stairs,5,7,Yes,A person runs.,shoe,A person runs up.,,18.17\n"
)
EGO4D = {
    "version": "1.0",
    "videos": [
        {
            "video_uid": "v1",
            "split": "train",
            "clips": [
                {
                    "clip_uid": "c1",
                    "video_start_sec": 0.0,
                    "video_end_sec": 480.0,
                    "annotations": [
                        {
                            "annotator_uid": "a",
                            "labels": [
                                {
                                    "primary": True,
                                    "start_time": 1.0,
                                    "end_time": 4.5,
                                    "video_start_time": 1.0,
                                    "video_end_time": 4.5,
                                    "label": "wash",
                                }
                            ],
                        }
                    ],
                }
            ],
        }
    ],
}
TUBES = {
    "labels": ["run", "jump"],
    "nframes": {"run/a": 4},
    "resolution": {"run/a": (240, 320)},
    "train_videos": [["run/a"]],
    "test_videos": [[]],
    "gttubes": {"run/a": {0: [np.array([[1, 1, 1, 50, 60], [2, 1, 1, 50, 60]], np.float32)]}},
}
UCF24 = {
    "Basketball/v_Basketball_g01_c01": {
        "annotations": [
            {
                "label": 0,
                "ef": 2,
                "sf": 0,
                "boxes": np.array([[10, 10, 50, 60], [11, 10, 50, 60]], np.int16),
            }
        ],
        "numf": 40,
        "label": 0,
    }
}
# A good file of every format, small; folders as {path below: content}.
SEEDS: dict[str, bytes | dict[str, bytes]] = {
    "kinetics_csv": (
        b'label,youtube_id,time_start,time_end,split\nrun,a,1,4,train\n"jump, high",b,2,5,val\n'
    ),
    "video_list": b"run/a.mp4 0\njump/b c.avi 1\n",
    "rawframes_list": b"run/a 30 0\njump/b 25 1\n",
    "ucf101_split": {
        "trainlist01.txt": b"run/v_run_g01_c01.avi 1\n",
        "testlist01.txt": b"jump/v_jump_g01_c01.avi\n",
        "x": b"",
    },
    "hmdb51_split": {
        "run_test_split1.txt": b"a.avi 1 \nb.avi 2 \nc.avi 0 \n",
        "jump_test_split1.txt": b"d.avi 1\n",
    },
    "something_json": (
        b'[{"id": "7", "label": "run far", "template": "run [something]", "placeholders": ["far"]}]'
    ),
    "id_label_csv": b"7;run\n8;jump\n",
    "moments_csv": b"run/a.mp4,run,3,1\njump/b.mp4,jump,2,0\n",
    "diving48_json": b'[{"vid_name": "a_00000", "label": 1, "start_frame": 0, "end_frame": 80}]',
    "activitynet_json": (
        json.dumps(
            {
                "database": {
                    "v": {
                        "subset": "training",
                        "duration": 9.5,
                        "annotations": [{"label": "run", "segment": [0.5, 2]}],
                    }
                }
            }
        ).encode()
    ),
    "epic_csv": EPIC.encode(),
    "ego4d_moments_json": json.dumps(EGO4D).encode(),
    "charades_csv": CHARADES.encode(),
    "ava_csv": b"v,0902,0.1,0.2,0.5,0.6,1,0\nv,0903,0.1,0.2,0.5,0.6,0,1\n",
    "tubes_pickle": pickle.dumps(TUBES, 2),
    "ucf101_24_pickle": pickle.dumps(UCF24, 2),
    "kinetics_tps_json": {
        f"run/a/img_{frame:05d}.json": json.dumps({"humans": [BOX]}).encode() for frame in (1, 30)
    },
}
TOKENS = [
    b"",
    b",",
    b";",
    b" ",
    b"\t",
    b"\n",
    b"\r",
    b"\r\n",
    b'"',
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b":",
    b"nan",
    b"NaN",
    b"inf",
    b"-Infinity",
    b"1e999",
    b"-1",
    b"0",
    b"00",
    b"1_0",
    b"0x10",
    b"9" * 30,
    b"9" * 5000,
    b"1e-400",
    b"null",
    b"true",
    b"\\ud800",
    b"\\u0000",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x8f\x83",
    b"\xd9\xa3",
    b"\xe2\x80\xa8",
    b"../../etc",
    b"{0}",
    b"{video}",
    b"%s",
    b"train",
    b"None",
    b"(((((",
    b"[" * 300,
    b"cos\nsystem\n(S'true'\ntR.",
    b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\x80\x04",
    b"a" * 3000,
]
FORMATS = format_names()
VOCABULARIES = [
    b"run\njump\n",
    b"0: run\n1: jump\n",
    b'item { name: "a" id: 3 }\nitem { name: "b" id: 4 }',
    b'{"run": "0"}',
    b"id,key\n0,run\n",
]
QUICK = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
EDIT = st.tuples(
    st.sampled_from(["flip", "cut", "double", "drop", "insert", "number", "swap"]),
    st.integers(0, 2**31),
    st.integers(0, 2**31),
)


def damaged(data: bytes, edits: list[tuple[str, int, int]]) -> bytes:
    """The data after these edits."""
    for kind, place, choice in edits:
        at = place % (len(data) + 1)
        lines = data.split(b"\n")
        line = place % len(lines)
        if kind == "flip" and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << choice % 8)]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:at] + data[at + choice % (len(data) + 1) :]
        elif kind == "double":
            data = b"\n".join([*lines[: line + 1], *lines[line:]])
        elif kind == "drop":
            data = b"\n".join([*lines[:line], *lines[line + 1 :]])
        elif kind == "insert":
            data = data[:at] + TOKENS[choice % len(TOKENS)] + data[at:]
        elif kind == "swap":
            data = b"\n".join(reversed(lines))
        elif kind == "number":  # the next run of digits becomes something else
            begin = next(
                (index for index in range(at, len(data)) if data[index : index + 1].isdigit()), None
            )
            if begin is not None:
                end = next(
                    (
                        index
                        for index in range(begin, len(data))
                        if not data[index : index + 1].isdigit()
                    ),
                    len(data),
                )
                data = data[:begin] + TOKENS[choice % len(TOKENS)] + data[end:]
    return data


def contexts(table: Any) -> Iterator[Context]:
    """The contexts in which a file may be read: with and without a split, a vocabulary and splits
    of other tables.
    """
    words = {
        "named": from_names(["run", "jump", "jump, high", "wash", "take", "plate"]),
        "ids": any_id(),
        "none": None,
    }
    for known in words.values():
        yield Context("d", "f", table=table, split="train", fold=1, vocabulary=known)
        yield Context("d", "f", table=table, split="val", vocabulary=known, fold=1, target="verb")
        yield Context(
            "d",
            "f",
            table=table,
            vocabulary=known,
            fold=2,
            multi_label=True,
            target="noun",
            splits={"a": "val", "v": "val"},
        )


def read_with(
    name: str, data: bytes | dict[str, bytes], context: Context
) -> Read | AnnotationError:
    """What the reader answers, with a template that fits. Anything but an answer or an
    AnnotationError goes on up.
    """
    module = format_module(name)
    source: Any = data
    if module.FOLDER:
        source = iter(sorted(data.items() if isinstance(data, dict) else {"x": data}.items()))
    try:
        return module.read(
            (
                source
                if module.FOLDER
                else (data if isinstance(data, bytes) else b"".join(data.values()))
            ),
            context,
        )
    except AnnotationError as error:
        str(error)
        return error


def templates(name: str) -> list[str]:
    return {"kinetics_csv": ["{youtube_id}", "{youtube_id}_{time_start:06d}"]}.get(
        name, ["{video}"]
    )


def check_answer(answer: Read | AnnotationError, name: str, context: Context) -> None:
    """A table of the right schema with sound rows, and problems with a kind and a place."""
    if isinstance(answer, AnnotationError):
        return
    assert answer.table.schema.equals(SCHEMAS[context.table or "clips"]), name
    for problem in answer.problems:
        assert (
            isinstance(problem, Problem)
            and problem.kind in PROBLEM_KINDS
            and problem.line >= 0
            and problem.file
        )
        assert len(problem.found) <= FOUND_LIMIT and isinstance(problem.found, str)
        # half a surrogate pair cannot be stored
        "".join((problem.found, problem.reason, problem.field)).encode()
    for row in answer.table.to_pylist():
        assert row["video_id"] and row["source"] and row["split"] in ("train", "val", "test"), row
        if row.get("start_s") is not None:
            assert 0 <= row["start_s"] < row["end_s"] < math.inf, row
        if context.table == "boxes":
            assert 0 <= row["x1"] <= row["x2"] <= 1 and 0 <= row["y1"] <= row["y2"] <= 1, row
    for entry in answer.entries:
        assert entry.video_id and entry.split in ("train", "val", "test"), entry


def feed(name: str, data: bytes | dict[str, bytes]) -> None:
    """One file through sniff and read, in every context."""
    module = format_module(name)
    began = time.perf_counter()
    for path, content in (data if isinstance(data, dict) else {"f.csv": data}).items():
        assert module.sniff(path, content[:65_536]) in (True, False)
    for table in tables_of(module):
        for context in contexts(table):
            for template in templates(name):
                here = Context(**{**vars(context), "video": template})
                check_answer(read_with(name, data, here), name, here)
    assert time.perf_counter() - began < SLOWEST_S, f"{name}: {time.perf_counter() - began:.1f} s"


def with_damage(name: str, edits: list[tuple[str, int, int]]) -> bytes | dict[str, bytes]:
    """The format's good file after these edits; of a folder one of its files, and its name now and
    then.
    """
    good = SEEDS[name]
    if isinstance(good, bytes):
        return damaged(good, edits)
    chosen = sorted(good)[(edits[0][1] if edits else 0) % len(good)]
    path = (
        damaged(chosen.encode(), edits[:1]).decode("utf-8", "replace")
        if edits and edits[0][2] % 5 == 0
        else chosen
    )
    return {
        **{key: value for key, value in good.items() if key != chosen},
        path: damaged(good[chosen], edits),
    }


def test_every_format_has_a_good_file_here_that_it_reads_and_knows() -> None:
    assert set(SEEDS) >= set(FORMATS)
    for name in FORMATS:
        module, good = format_module(name), SEEDS[name]
        found = [
            answer
            for table in tables_of(module)
            for context in contexts(table)
            for template in templates(name)
            if isinstance(
                answer := read_with(name, good, Context(**{**vars(context), "video": template})),
                Read,
            )
        ]
        assert any(answer.table.num_rows for answer in found), name
        files = good if isinstance(good, dict) else {"f.csv": good}
        assert any(module.sniff(path, content) for path, content in files.items()), name


@pytest.mark.parametrize("name", FORMATS)
@QUICK
@given(edits=st.lists(EDIT, max_size=6), noise=st.binary(max_size=200))
def test_a_reader_answers_or_refuses(
    name: str, edits: list[tuple[str, int, int]], noise: bytes
) -> None:
    feed(name, with_damage(name, edits))
    feed(name, noise)


LONG = {
    "one line": b"a" * 3_000_000,
    "many fields": b"1," * 600_000,
    "many words": b"a 1 " * 240_000 + b"x",
    "numbers": b"1 " * 480_000 + b"x",
    "dots": b".mp4" * 240_000 + b"x 1",
    "brackets": b"[" * 900_000,
    "mappings": b'{"a":' * 150_000,
    "quotes": b'"' * 900_000,
    "blanks": b" " * 900_000 + b"x",
    "colons": b"00:" * 300_000,
    "slashes": b"a/" * 450_000 + b"b.mp4 1",
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", LONG)
def test_a_line_without_end_costs_no_time(name: str, kind: str) -> None:
    module = format_module(name)
    good = SEEDS[name]
    data: Any = (
        LONG[kind] + b"\n" + good if isinstance(good, bytes) else {next(iter(good)): LONG[kind]}
    )
    context = Context(
        "d",
        "f",
        table=tables_of(module)[0],
        video=templates(name)[0],
        split="train",
        fold=1,
        vocabulary=any_id(),
    )
    began = time.perf_counter()
    module.sniff("f.csv", LONG[kind][:65_536])
    check_answer(read_with(name, data, context), name, context)
    assert time.perf_counter() - began < SLOWEST_S


@QUICK
@given(
    edits=st.lists(EDIT, max_size=6),
    noise=st.binary(max_size=100),
    file=st.sampled_from(["l.txt", "l.pbtxt", "l.csv", "l.json"]),
)
def test_vocabularies_and_exclusions_answer_or_refuse(
    edits: list[tuple[str, int, int]], noise: bytes, file: str
) -> None:
    for data in [noise, *(damaged(text, edits) for text in VOCABULARIES)]:
        for own_ids in (False, True):
            _vocabulary(lambda data=data, own_ids=own_ids: parse(data, file, own_ids))
        for name in FORMATS:
            module = format_module(name)
            if hasattr(module, "vocabulary"):
                for target in ("label", "verb"):
                    _vocabulary(
                        lambda data=data, module=module, target=target: module.vocabulary(
                            data, file, target
                        )
                    )
            if hasattr(module, "exclusions"):
                try:
                    module.exclusions(data, file)
                except AnnotationError:
                    continue


def _vocabulary(make: Any) -> None:
    try:
        words = make()
    except AnnotationError as error:
        str(error)
        return
    assert isinstance(words, Vocabulary) and words.names and len(words.names) == len(words.ids)


@QUICK
@given(edits=st.lists(EDIT, max_size=4), which=st.sampled_from(FORMATS))
def test_guessing_never_fails_otherwise(
    edits: list[tuple[str, int, int]], which: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("guess")
    good = with_damage(which, edits)
    for index, (path, content) in enumerate(
        (good if isinstance(good, dict) else {"train.csv": good}).items()
    ):
        place = folder / (path if path.isprintable() and len(path) < 60 else f"f{index}")
        if folder not in place.parents or ".." in place.parts:
            place = folder / f"f{index}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    guess(str(folder))


@pytest.mark.slow
@pytest.mark.timeout(int(SECONDS * 2 + 600))
@pytest.mark.parametrize("name", FORMATS)
def test_a_reader_answers_or_refuses_for_minutes(name: str) -> None:
    until, number = time.monotonic() + SECONDS / len(FORMATS), 0

    @settings(
        max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(edits=st.lists(EDIT, max_size=20), noise=st.binary(max_size=2000))
    def attempt(edits: list[tuple[str, int, int]], noise: bytes) -> None:
        feed(name, with_damage(name, edits))
        feed(name, noise)

    while time.monotonic() < until:
        number += 1
        seed(number)(attempt)()
