"""Files of a web server over TCP: read, copied and listed where the server shows folder pages;
never written.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ops.files.errors import StorageError
from ops.files.storage import create_bytes, exists, list_files, local_copy, read_bytes, write_bytes
from ops.media.listing import list_videos
from web_fixtures import Handler


@pytest.fixture
def web(web_folder: tuple[str, Path]) -> str:
    url, folder = web_folder
    for name, data in {
        "videos/a.mp4": b"aa",
        "videos/deep/b [1] é.mp4": b"bbb",
        "videos/deep/.DS_Store": b"",
        "train.csv": b"a,x",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return url


def test_a_dataset_of_a_web_server_is_listed_and_read(web: str) -> None:
    assert [info.path_below for info in list_videos(f"{web}/videos").files] == [
        "a.mp4",
        "deep/b [1] é.mp4",
    ]
    listed = list_files(web)
    assert [(info.path_below, info.bytes) for info in listed if "DS" not in info.path_below] == [
        ("train.csv", 3), ("videos/a.mp4", 2), ("videos/deep/b [1] é.mp4", 3),
    ]  # fmt: skip
    assert [read_bytes(info.uri) for info in listed[1:]] == [b"aa", b"", b"bbb"]
    with local_copy(listed[-1].uri) as path:
        assert path.read_bytes() == b"bbb" and path.suffix == ".mp4"
    assert exists(f"{web}/train.csv") and not exists(f"{web}/val.csv")
    with pytest.raises(FileNotFoundError, match="val.csv"):
        read_bytes(f"{web}/val.csv")


@pytest.mark.parametrize("form", ["/{path}", "./{name}", "http://{host}/{path}"])
def test_links_may_be_written_in_any_way(web: str, web_folder: tuple[str, Path], form: str) -> None:
    """Servers differ: from the root of the server, from the page, or whole."""
    Handler.link = form
    name = "b [1] é.mp4"
    Path(web_folder[1] / "videos" / "my films (ü)").mkdir()
    Path(web_folder[1] / "videos" / "my films (ü)" / name).write_bytes(b"c")
    listed = list_videos(web).files
    assert [info.path_below for info in listed] == [
        "train.csv",
        "videos/a.mp4",
        f"videos/deep/{name}",
        f"videos/my films (ü)/{name}",
    ]
    assert read_bytes(listed[-1].uri) == b"c"


def test_another_file_of_the_same_size_is_noticed(web: str, web_folder: tuple[str, Path]) -> None:
    """By its time, where a server says nothing better."""
    [before] = list_videos(f"{web}/videos/deep").files
    os.utime(web_folder[1] / "videos" / "deep" / "b [1] é.mp4", (0, 0))
    [after] = list_videos(f"{web}/videos/deep").files
    assert before.bytes == after.bytes and "" != before.modified != after.modified != ""


def test_a_server_that_fails_for_a_moment_is_asked_again(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of its list is not missing because it answers 503."""
    monkeypatch.setattr("ops.files.errors.FIRST_WAIT_S", 0.01)
    Handler.failures = [503, 503, 0]  # the page, then twice the file
    assert len(list_videos(f"{web}/videos/deep").files) == 1
    Handler.failures = [503] * 6 + [0]
    with pytest.raises(StorageError, match="failed 3 times") as caught:
        list_videos(f"{web}/videos/deep")
    assert caught.value.transient


def test_a_folder_that_is_not_shown_says_what_to_do(web: str) -> None:
    Handler.pages = False
    with pytest.raises(StorageError, match="autoindex"):
        list_files(f"{web}/videos")


def test_a_web_server_is_only_read_from(web: str) -> None:
    with pytest.raises(StorageError, match="only read from; name a local path or a bucket"):
        write_bytes(f"{web}/x", b"1")
    with pytest.raises(StorageError, match="cannot keep one of two writers out"):
        create_bytes(f"{web}/x", b"1")


def test_a_failure_is_tried_again_a_refusal_is_not(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.files.errors.FIRST_WAIT_S", 0.01)
    Handler.failures = [503, 503]
    assert read_bytes(f"{web}/train.csv") == b"a,x"
    Handler.failures = [503] * 3
    with pytest.raises(StorageError, match="failed 3 times") as caught:
        read_bytes(f"{web}/train.csv")
    assert caught.value.transient
    Handler.failures = [403, 403]
    with pytest.raises(StorageError, match="access refused") as caught:
        read_bytes(web.replace("//", "//me:word@") + "/train.csv?token=abc&x=1")
    assert not caught.value.transient and Handler.failures == [403]
    assert (
        "word" not in str(caught.value)
        and "abc" not in str(caught.value)
        and "x=1" in str(caught.value)
    )
