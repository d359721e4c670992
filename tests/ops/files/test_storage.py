from __future__ import annotations

import os
import pickle
import re

import pytest

import ops.files.errors as errors
import ops.files.storage as files
from configs.errors import ConfigError
from configs.schema import Dataset
from ops.files.storage import (
    StorageError,
    create_bytes,
    exists,
    list_files,
    local_copy,
    read_bytes,
    read_json,
    remove,
    write_bytes,
)
from ops.media.ingest import DatasetError, ingest
from ops.store.layout import Layout


@pytest.fixture(params=["local", "s3", "memory"])
def root(request, tmp_path):
    if request.param == "memory":
        return f"memory://{tmp_path.name}/root"
    return (
        str(tmp_path / "root")
        if request.param == "local"
        else request.getfixturevalue("s3").bucket + "/root"
    )


def test_bytes_come_back_and_are_replaced(root):
    uri = f"{root}/a/b c/x.bin"
    assert not exists(uri)
    write_bytes(uri, b"one")
    write_bytes(uri, b"two")
    assert read_bytes(uri) == b"two" and exists(uri) and exists(f"{root}/a")


def test_a_missing_file_is_a_FileNotFoundError_that_names_it(root):
    with pytest.raises(FileNotFoundError, match="nothing"):
        read_bytes(f"{root}/nothing")


@pytest.mark.parametrize("data", [b'{"step": 1, "epo', b"", b"\xff", b"[" * 100_000])
def test_json_that_was_cut_short_names_its_file(root, data: bytes):
    write_bytes(f"{root}/run.json", b'{"step": 1}')
    assert read_json(f"{root}/run.json") == {"step": 1}
    write_bytes(f"{root}/run.json", data)
    with pytest.raises(StorageError, match=r"run\.json: no whole json"):
        read_json(f"{root}/run.json")


def test_listing_is_recursive_sorted_and_notices_change(root):
    for name in ("b.txt", "a/z.txt", "a/b/c.txt"):
        write_bytes(f"{root}/{name}", name.encode())
    listed = list_files(root)
    assert [info.path_below for info in listed] == ["a/b/c.txt", "a/z.txt", "b.txt"]
    assert [info.bytes for info in listed] == [9, 7, 5]
    assert read_bytes(listed[0].uri) == b"a/b/c.txt"
    write_bytes(f"{root}/b.txt", b"other")
    assert list_files(root)[2].modified != listed[2].modified
    assert list_files(root)[0] == listed[0]


def test_a_missing_folder_lists_as_empty(root):
    assert list_files(f"{root}/none") == []


def test_remove_takes_files_and_folders_and_missing_ones(root):
    write_bytes(f"{root}/a/1", b"1")
    write_bytes(f"{root}/a/2", b"2")
    write_bytes(f"{root}/b", b"3")
    remove(f"{root}/a")
    remove(f"{root}/b")
    remove(f"{root}/b")
    assert list_files(root) == []


def test_local_copy_has_the_content_and_the_ending(root):
    write_bytes(f"{root}/clip.mp4", b"video")
    with local_copy(f"{root}/clip.mp4") as path:
        assert path.read_bytes() == b"video" and path.suffix == ".mp4"


def test_a_failed_local_write_leaves_the_old_content_and_no_rest(tmp_path, monkeypatch):
    uri = str(tmp_path / "x")
    write_bytes(uri, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left") as caught:
        write_bytes(uri, b"new")
    assert caught.value.errno == 28 and uri in str(caught.value)
    assert read_bytes(uri) == b"old" and os.listdir(tmp_path) == ["x"]


def test_our_temporary_files_are_not_listed(tmp_path):
    (tmp_path / f".x.abc{files.TEMPORARY}").write_bytes(b"half")
    (tmp_path / "x").write_bytes(b"whole")
    assert [info.path_below for info in list_files(str(tmp_path))] == ["x"]


def test_linked_folders_are_followed_once(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_bytes(b"1")
    (tmp_path / "real" / "loop").symlink_to(tmp_path)
    assert [info.path_below for info in list_files(str(tmp_path))] == ["real/x"]


def test_transient_failures_are_retried_then_named(s3, monkeypatch):
    monkeypatch.setattr(errors, "FIRST_WAIT_S", 0.01)
    uri = f"{s3.bucket}/x"
    s3.failures = 2
    write_bytes(uri, b"1")
    s3.failures = 2
    assert read_bytes(uri) == b"1"
    s3.failures = 100
    s3.requests.clear()
    with pytest.raises(StorageError, match=f"{uri}: failed 3 times"):
        read_bytes(uri)
    assert len(s3.requests) == 3


def test_refused_credentials_fail_at_once_and_stay_secret(s3):
    s3.refuse = True
    for action in (
        lambda: read_bytes(f"{s3.bucket}/x"),
        lambda: write_bytes(f"{s3.bucket}/x", b""),
        lambda: list_files(s3.bucket),
    ):
        s3.requests.clear()
        with pytest.raises(StorageError, match="access refused.*AWS_ACCESS_KEY_ID") as caught:
            action()
        assert len(s3.requests) == 1
        assert "test-secret" not in str(caught.value) and "test-key" not in str(caught.value)


def test_a_server_that_is_not_there(s3, monkeypatch):
    monkeypatch.setattr(errors, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match="failed 3 times"):
        read_bytes(f"{s3.bucket}/x")


def test_an_unknown_scheme_is_named():
    with pytest.raises(StorageError, match="gopher://x: unknown scheme"):
        read_bytes("gopher://x")


@pytest.mark.parametrize(
    ("uri", "endpoint", "said"),
    [
        ("s3://Bad Bucket/x", "http://127.0.0.1:9", "Invalid bucket name"),
        ("s3://bucket/x", "garbage", "Invalid endpoint: garbage"),
        ("http://[bad/x", "", "Invalid IPv6 URL"),
    ],
)
def test_an_address_that_is_none_is_told_in_words(
    uri: str, endpoint: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StorageError, match=rf"{re.escape(uri)}: .*{said}") as caught:
        read_bytes(uri)
    assert not caught.value.transient


def test_a_library_that_is_not_there_is_named():
    with pytest.raises(
        StorageError, match=r"dropbox://x: its library is not installed \(.*dropboxdrivefs"
    ):
        read_bytes("dropbox://x")


@pytest.mark.parametrize("root", ["local", "s3", "memory"], indirect=True)
def test_one_of_two_writers_is_kept_out(root):
    create_bytes(f"{root}/lease", b"mine")
    create_bytes(f"{root}/lease", b"mine")  # our own, whose answer was lost
    with pytest.raises(FileExistsError):
        create_bytes(f"{root}/lease", b"another's")
    assert read_bytes(f"{root}/lease") == b"mine"


def test_no_message_has_a_secret():
    error = StorageError(
        "https://me:word@host/x?sig=abc&n=1",
        "403, url='https://me:word@host/x?X-Amz-Signature=abc'",
    )
    assert (
        "word" not in str(error)
        and "abc" not in str(error)
        and "n=1" in str(error)
        and error.uri.startswith("https://me:word@")
    )


def test_no_other_error_for_a_person_has_a_secret():
    """Whoever raises it; a password may hold the letter that ends it."""
    root = "memory://me:wo@rd@host/films?key=abc"
    dataset = Dataset(name="far", title="t", licence="none", root=root)
    with pytest.raises(DatasetError, match="host/films") as caught:
        ingest(dataset, Layout("memory://store"), [0])
    assert not [secret for secret in ("wo", "rd@", "abc") if secret in str(caught.value)]
    told = str(ConfigError("d.yaml", "root", root, "a folder"))
    assert not [secret for secret in ("wo@", "rd@", "abc") if secret in told]


def test_storage_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(StorageError("s3://b/x", "full", 28)))
    assert str(error) == "s3://b/x: full" and error.errno == 28


ODD_NAME = "a [b1] #2 %41 ü & 'q' *x?.bin"


def test_odd_names_are_plain_names(root):
    write_bytes(f"{root}/v/{ODD_NAME}/x", b"1")
    write_bytes(f"{root}/v/a b #2 %41 ü & 'q' x.bin/x", b"2")
    assert read_bytes(f"{root}/v/{ODD_NAME}/x") == b"1" and exists(f"{root}/v/{ODD_NAME}/x")
    remove(f"{root}/v/{ODD_NAME}")
    assert [info.path_below for info in list_files(f"{root}/v")] == ["a b #2 %41 ü & 'q' x.bin/x"]
    write_bytes(f"{root}/w[1]", b"3")
    remove(f"{root}/w[1]")
    assert not exists(f"{root}/w[1]")


def test_the_marks_of_folders_on_s3_are_not_files(s3):
    import boto3

    root = f"{s3.bucket}/marked"
    write_bytes(f"{root}/videos/a.mp4", b"a")
    for key in ("marked/", "marked/videos/", "marked/empty/"):
        boto3.client("s3").put_object(Bucket=s3.bucket.removeprefix("s3://"), Key=key, Body=b"")
    assert [info.path_below for info in list_files(root)] == ["videos/a.mp4"]
