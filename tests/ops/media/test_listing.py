"""Names and places of files as they come from phones, archives, downloaders and disks."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

import ops.media.ingest as ingesting
from configs.schema import BUCKETS, Dataset, Frames
from ops.compute.pool import Outcome
from ops.files.storage import StorageError, list_files
from ops.media.audit import audit
from ops.media.changes import changed_buckets
from ops.media.ingest import DatasetError, ingest
from ops.media.listing import SYSTEM, leftover, list_videos
from ops.media.materialize import materialize
from ops.store.tables import VIDEOS, read_tables


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """Probes without a pool of workers."""
    monkeypatch.setattr(
        ingesting,
        "run_anywhere",
        lambda function, jobs, *rest: (Outcome(job, function(job.payload, "")) for job in jobs),
    )


def rows(dataset, layout) -> dict[str, dict]:
    found = read_tables(
        [layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)], VIDEOS
    ).to_pylist()
    return {row["video_id"]: row for row in found}


@pytest.mark.parametrize(
    "name, kind",
    [
        ("._clip.mp4", SYSTEM), (".DS_Store", SYSTEM), ("a/Thumbs.db", SYSTEM), ("desktop.ini", SYSTEM), ("a.mp4:Zone.Identifier", SYSTEM),  # noqa: E501
        ("__MACOSX/a/clip.mp4", SYSTEM), ("@eaDir/clip.mp4", SYSTEM), ("x.mp4.part", "a download that is not finished"),  # noqa: E501
        ("x.mp4.ytdl", "a download that is not finished"), ("x.f137.mp4.part-Frag12", "a download that is not finished"),  # noqa: E501
        ("x.crdownload", "a download that is not finished"), ("x.en.vtt", "subtitles"), ("x.SRT", "subtitles"), ("x.jpg", "a thumbnail"),  # noqa: E501
        ("x.webp", "a thumbnail"), ("x.info.json", "a downloader's notes"), ("x.mp4", None), (".hidden.mp4", None), ("part", None),  # noqa: E501
        ("UPPER.MP4", None), ("noext", None), ("jpg", None), (".jpg", None), ("part/x.mp4", None), ("x.gif", None), ("notes.txt", None),  # noqa: E501
        ("a.part.mp4", None), ("_._x.mp4", None),
    ],
)  # fmt: skip
def test_leftovers_are_known_by_their_names(name, kind):
    assert leftover(name) == kind


def test_leftovers_are_no_broken_videos_and_no_change(dataset, layout, videos, make_video):
    make_video(videos / "a.mp4", 5)
    (videos / "._a.mp4").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(120))
    (videos / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(200))
    (videos / "b.mp4.part").write_bytes(b"x" * 99)
    report = ingest(dataset, layout)
    assert (report.found, report.ok, report.quarantined) == (1, 1, 0)
    assert report.aside == {SYSTEM: 2, "a download that is not finished": 1}
    assert set(rows(dataset, layout)) == {"a"} and changed_buckets(dataset, layout) == {}
    (videos / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(200))
    assert changed_buckets(dataset, layout) == {}


def test_a_folder_of_leftovers_alone_says_what_it_holds(dataset, layout, videos):
    videos.mkdir(parents=True)
    for name in ("a.mp4.part", "b.mp4.part", ".DS_Store"):
        (videos / name).write_bytes(b"x")
    with pytest.raises(
        DatasetError,
        match=(
            r"has no videos \(1 x a leftover of a system, 2 x a download that is not"
            r" finished\); put"
        ),
    ):
        ingest(dataset, layout)


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 there")
def test_a_name_that_is_no_text_is_told_and_the_others_go_on(dataset, layout, videos, make_video):
    make_video(videos / "good.mp4", 5)
    film = (videos / "good.mp4").read_bytes()
    (videos / "caf\\xe9.mp4").write_bytes(film)  # written out as the other one's bytes are
    for name in (b"caf\xe9.mp4", b"\xc4\xe3\xba\xc3.mp4"):
        Path(os.fsdecode(bytes(videos) + b"/" + name)).write_bytes(film)
    folder = Path(os.fsdecode(bytes(videos) + b"/\xfcber"))
    folder.mkdir()
    (folder / "x.mp4").write_bytes(film)
    report = ingest(dataset, layout)
    found = rows(dataset, layout)
    assert (report.found, report.ok) == (5, 1) and found["good"]["status"] == "ok"
    told = {
        Path(row["source_uri"]).name: row["reason"]
        for row in found.values()
        if row["status"] != "ok"
    }
    assert told.pop("caf\\xe9.mp4").startswith("unsafe name")
    assert told == dict.fromkeys(
        ["caf\\xe9.mp4?", "\\xc4\\xe3\\xba\\xc3.mp4", "\\xfcber"],
        "its name is not UTF-8: rename it",
    )
    assert changed_buckets(dataset, layout) == {} and ingest(dataset, layout).probed == 0


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
def test_an_unreadable_folder_is_told_and_the_others_go_on(tmp_path_factory, make_video):
    import tempfile

    with tempfile.TemporaryDirectory() as place:  # pytest's own folders are closed to other users
        os.chmod(place, 0o755)
        make_video(Path(place) / "open" / "a.mp4", 5)
        make_video(Path(place) / "shut" / "b.mp4", 5)
        (Path(place) / "shut").chmod(0)
        was = os.geteuid()
        try:
            if was == 0:
                os.seteuid(65534)
            with pytest.raises(StorageError, match="permission denied"):
                list_files(place)
            files = list_videos(place).files
        finally:
            os.seteuid(was)
            (Path(place) / "shut").chmod(0o755)
    told = "not readable: Permission denied (a folder)"
    assert [(info.path_below, info.problem) for info in files] == [
        ("open/a.mp4", ""),
        ("shut", told),
    ]
    assert ingesting.probe_file((files[1], None), "") == {"reason": files[1].problem}
    assert files[1].problem.startswith(ingesting.UNREADABLE)  # looked at again in the next run


def test_links_are_followed_once_told_and_never_for_ever(tmp_path):
    """A loop of links, two links to one folder, one that leads nowhere: the same answer whatever
    order the disk gives.
    """
    (tmp_path / "v" / "real").mkdir(parents=True)
    (tmp_path / "v" / "real" / "x.mp4").write_bytes(b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "y.mp4").write_bytes(b"2")
    links = {
        "zz": "zz",
        "one": "two",
        "two": "one",
        "back": ".",
        "a_real": "real",
        "second": "../elsewhere",
        "first": "../elsewhere",
        "gone.mp4": "nothing",
        "film.mp4": "real/x.mp4",
    }
    for name, target in links.items():
        (tmp_path / "v" / name).symlink_to(target)
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "v")
    listing = list_videos(str(tmp_path / "v"))
    assert [info.path_below for info in listing.files] == ["film.mp4", "first/y.mp4", "real/x.mp4"]
    nowhere = {name for name, why in listing.aside if why.startswith("a link that leads nowhere")}
    assert nowhere == {"zz", "one", "two", "gone.mp4"}
    again = {name: why for name, why in listing.aside if name not in nowhere}
    assert again == {
        name: f"a link to a folder that is listed already: {where}"
        for name, where in {
            "a_real": "real",
            "back": ".",
            "second": "first",
            "first/up": ".",
        }.items()
    }
    assert listing.counts() == {
        "a link that leads nowhere": 4,
        "a link to a folder that is listed already": 4,
    }


def test_the_order_of_the_disk_has_no_say(tmp_path, monkeypatch):
    for name in ("b", "a", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mp4").write_bytes(b"1")
    (tmp_path / "0_link").symlink_to("c")
    real, answers = os.scandir, []
    for turn in (
        lambda entries: entries,
        reversed,
        lambda entries: sorted(entries, key=lambda entry: entry.name),
    ):
        monkeypatch.setattr(os, "scandir", lambda folder, turn=turn: list(turn(list(real(folder)))))
        listing = list_videos(str(tmp_path))
        answers.append(([info.path_below for info in listing.files], listing.aside))
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == ["a/x.mp4", "b/x.mp4", "c/x.mp4"]


def test_a_data_set_that_moved_keeps_its_frames_and_its_checks(layout, tmp_path, make_video):
    def at(root: str) -> Dataset:
        return Dataset(
            name="world",
            title="t",
            licence="none",
            root=str(tmp_path / root),
            frames=Frames(frames_per_shard=8),
        )

    make_video(tmp_path / "before" / "videos" / "a.mp4", 10)
    ingest(at("before"), layout)
    assert materialize(at("before"), layout).done == 1
    shutil.move(tmp_path / "before", tmp_path / "after")
    ingest(at("after"), layout)
    report = materialize(at("after"), layout)
    assert (report.planned, report.reused) == (0, 1)
    assert audit(at("after"), layout, None) == []


def test_names_of_dots_are_no_folders(dataset, layout, videos, make_video):
    for name in ("...mp4", "..mp4", "....mp4", "a/...mp4", ".mp4"):
        make_video(videos / name, 4)
    assert ingest(dataset, layout).ok == 5 and set(rows(dataset, layout)) == {
        "...mp4",
        "..mp4",
        "...",
        "a/...mp4",
        ".mp4",
    }
    report = materialize(dataset, layout, workers=1)
    assert report.planned == 5 and audit(dataset, layout, None) == []


def test_pipes_sockets_and_links_to_devices_are_told(dataset, layout, videos, make_video):
    make_video(videos / "a.mp4", 5)
    os.mkfifo(videos / "b.mp4")
    (videos / "c.mp4").symlink_to("b.mp4")
    (videos / "d.mp4").symlink_to("/dev/null")
    (videos / "e.mp4").symlink_to("nowhere.mp4")
    report = ingest(dataset, layout)
    assert (report.found, report.ok) == (1, 1)
    assert report.aside == {"neither a file nor a folder": 3, "a link that leads nowhere": 1}
