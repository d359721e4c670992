"""The files of the dataset: exact counts, formats, damage, determinism, and what a second call
does.
"""

import csv
import hashlib
import json
import re
from collections import Counter

import av
import pytest

from configs.schema import ConfigError
from ops.synthetic.actions import LABELS, PAIRS
from ops.synthetic.dataset import FiguresSize, film_of, jobs, make_figures, world_of
from ops.synthetic.films import SCENE_ACTIONS
from ops.synthetic.skeleton import PARTS
from ops.synthetic.states import STATES

SIZE = FiguresSize(
    num_train=20,
    num_val=10,
    num_untrimmed=1,
    num_scenes=3,
    num_parts=3,
    width=64,
    height=48,
    fps=8,
    clip_frames=12,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    seen = []
    report = make_figures(
        folder, SIZE, seed=1, workers=1, progress=lambda done, total: seen.append((done, total))
    )
    assert report.made and seen[-1] == (34, 34) and len(seen) == 34
    return folder


def _digest(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def _num_frames(path):
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def _clips(root):
    with open(root / "annotations" / "clips.csv", newline="") as file:
        return list(csv.DictReader(file))


def _clip_path(root, row):
    return (
        root
        / "videos"
        / "trimmed"
        / f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}.mp4"
    )


def test_any_number_of_workers_gives_the_same_bytes(root, tmp_path):
    make_figures(tmp_path, SIZE, seed=1, workers=2)
    assert _digest(tmp_path) == _digest(root)


def test_every_whole_video_decodes_to_its_number_of_frames(root):
    world = world_of(SIZE, 1)
    for job in jobs(SIZE):
        film = film_of(job, world)
        path = root / "videos" / f"{film.video_id}.mp4"
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (
                stream.codec_context.name,
                stream.width,
                stream.height,
                stream.average_rate,
            ) == ("h264", 64, 48, 8)
            assert stream.frames == len(film.frames)
        assert _num_frames(path) == len(film.frames)


def test_damaged_files_fail_to_decode_whole(root):
    damaged = json.loads((root / "figures.json").read_text())["damaged"]
    assert sorted(damaged.values()) == [
        "audio_only",
        "cut_short",
        "empty",
        "no_index",
        "noise",
        "text",
    ]
    named = {f"trimmed/{_clip_path(root, row).stem}" for row in _clips(root)}
    for video_id, damage in damaged.items():
        path = root / "videos" / f"{video_id}.mp4"
        assert video_id in named and path.exists()
        if damage == "audio_only":
            with av.open(str(path)) as container:
                assert not container.streams.video and container.streams.audio
        elif damage == "cut_short":
            with av.open(str(path)) as container:
                declared = container.streams.video[0].frames
            try:
                assert 0 < _num_frames(path) < declared
            except av.error.InvalidDataError:
                pass
        else:
            with pytest.raises(av.error.FFmpegError):
                av.open(str(path))


def test_clips_csv(root):
    rows = _clips(root)
    assert list(rows[0]) == ["label", "youtube_id", "time_start", "time_end", "split"]
    counts = Counter((row["split"], row["label"]) for row in rows if "900" not in row["youtube_id"])
    assert counts == {("train", label): 2 for label in LABELS} | {
        ("val", label): 1 for label in LABELS
    }
    assert len(rows) == 30 + 6 and all(_clip_path(root, row).exists() for row in rows)
    assert len(list((root / "videos" / "trimmed").iterdir())) == 36
    assert all(
        len(row["youtube_id"]) == 11 and int(row["time_end"]) > int(row["time_start"])
        for row in rows
    )
    assert (root / "annotations" / "labels.txt").read_text().split() == list(LABELS) and len(
        LABELS
    ) == 10
    assert json.loads((root / "annotations" / "time_order_pairs.json").read_text()) == [
        list(pair) for pair in PAIRS
    ]


def test_segments_json(root):
    found = json.loads((root / "annotations" / "segments.json").read_text())
    assert set(found) == {"version", "taxonomy", "database"} and list(found["database"]) == [
        "train_0000"
    ]
    for name, video in found["database"].items():
        assert video["subset"] == "training" and video["fps"] == 8.0
        assert _num_frames(root / "videos" / "untrimmed" / f"{name}.mp4") == video["duration"] * 8
        for segment in video["annotations"]:
            assert (
                segment["label"] in LABELS
                and 0 <= segment["segment"][0] < segment["segment"][1] <= video["duration"] + 0.125
            )


def test_boxes_csv(root):
    folder = root / "annotations"
    excluded = {
        tuple(row) for row in csv.reader((folder / "boxes_excluded.csv").read_text().splitlines())
    }
    for split, videos in (("train", {"train_0000", "train_0001"}), ("val", {"val_0000"})):
        rows = list(csv.reader((folder / f"boxes_{split}.csv").read_text().splitlines()))
        assert rows and {row[0] for row in rows} <= videos
        people = {}
        for video, timestamp, x1, y1, x2, y2, action, person in rows:
            assert re.fullmatch(r"\d{4}", timestamp) and (video, timestamp) not in excluded
            assert (
                0 <= float(x1) < float(x2) <= 1
                and 0 <= float(y1) < float(y2) <= 1
                and 1 <= int(action) <= len(SCENE_ACTIONS)
            )
            people.setdefault((video, timestamp, person), set()).add((x1, y1, x2, y2))
        assert all(len(boxes) == 1 for boxes in people.values())
    text = (folder / "actions.pbtxt").read_text()
    assert re.findall(r'^  name: "(\w+)"$', text, re.M) == list(SCENE_ACTIONS)
    assert re.findall(r"^  label_id: (\d+)$", text, re.M) == [
        str(place + 1) for place in range(len(SCENE_ACTIONS))
    ]


def test_parts_json(root):
    folders = sorted(path for path in (root / "annotations" / "parts").glob("*/*"))
    assert len(folders) == 3
    for folder in folders:
        video = root / "videos" / "trimmed" / f"{folder.name}.mp4"
        names = sorted(path.name for path in folder.iterdir())
        assert names == [f"img_{place + 1:05d}.json" for place in range(_num_frames(video))]
        for name in names:
            for human in json.loads((folder / name).read_text())["humans"]:
                assert human["number"] >= 1 and human["parts"]
                for part, found in human["parts"].items():
                    x1, y1, x2, y2 = found["box"]
                    assert part in PARTS and found["name"] == part and found["verb"] in STATES
                    assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 48
                    bx1, by1, bx2, by2 = human["box"]
                    assert bx1 <= x1 and by1 <= y1 and x2 <= bx2 and y2 <= by2


def test_train_and_val_share_no_look(root):
    looks = json.loads((root / "annotations" / "looks.json").read_text())
    assert len(looks) == 34
    sides = {"train": set(), "val": set()}
    for video_id, people in looks.items():
        sides["train" if video_id.split("/")[1].startswith("train") else "val"] |= set(people)
    assert sides["train"] and sides["val"] and not sides["train"] & sides["val"]


def test_a_second_call_does_nothing_and_other_parameters_replace_all(tmp_path):
    small = FiguresSize(
        num_train=2,
        num_val=1,
        num_untrimmed=0,
        num_scenes=0,
        num_parts=1,
        num_damaged=0,
        width=48,
        height=36,
        fps=8,
        clip_frames=8,
    )
    assert make_figures(tmp_path, small, seed=0, workers=1).made
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = make_figures(tmp_path, small, seed=0, workers=1)
    assert not again.made and again.counts["clips_train"] == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    old = {path.name for path in (tmp_path / "videos" / "trimmed").iterdir()}
    assert make_figures(tmp_path, small, seed=1, workers=1).made
    assert not old & {path.name for path in (tmp_path / "videos" / "trimmed").iterdir()}
    # An interrupted call leaves no figures.json; the next one starts over.
    (tmp_path / "figures.json").rename(tmp_path / ".figures.incomplete")
    assert make_figures(tmp_path, small, seed=1, workers=1).made
    assert not (tmp_path / ".figures.incomplete").exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "mine.mp4").write_bytes(b"mine")
    with pytest.raises(ConfigError, match="root"):
        make_figures(tmp_path, FiguresSize(num_train=1, num_val=0, num_parts=0), workers=1)
    assert (tmp_path / "videos" / "mine.mp4").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "field, value",
    [
        ("num_train", -1),
        ("width", 97),
        ("difficulty", 2.0),
        ("num_damaged", 7),
        ("num_parts", 1000),
    ],
)
def test_a_wrong_size_is_named(field, value):
    with pytest.raises(ConfigError, match=field):
        FiguresSize(**{field: value})
