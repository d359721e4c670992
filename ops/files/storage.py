"""Bytes at any fsspec URI (local, s3://, gs://, az://, http(s):// to read, ...): atomic writes,
retries and one clear error.

A store takes its endpoint, region and credentials from the environment (`AWS_ENDPOINT_URL`,
`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, ...); none of
them is ever part of a message here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fsspec

from ops.files.errors import StorageError, http_status, retry
from ops.files.walk import FileInfo, Walk
from ops.files.web import asked, links_of

TEMPORARY = ".kinograph-tmp"  # suffix of a local file on its way to its name
MAX_SUFFIX = 32  # letters of a file's ending that a local copy keeps
WEB = ("http", "https")
# What tells of another content, as the stores' libraries call it, best first: of S3, Google's and
# Azure's stores, web servers, servers of files (FTP, SFTP, WebDAV), memory
STAMPS = (
    "ETag",
    "etag",
    "md5Hash",
    "Content-MD5",
    "Digest",
    "mtime",
    "last_modified",
    "LastModified",
    "Last-Modified",
    "modified",
    "modify",
    "created",
)
# Stores that create a file only where none is, in one request: what a lease needs. In memory that
# holds within one process.
EXCLUSIVE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory")


def is_local(uri: str) -> bool:
    """Whether the URI lies on this machine's own file system."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Path of a local URI."""
    return Path(uri.removeprefix("file://"))


def endpoint() -> str | None:
    """URL of the S3 service where it is not Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _scheme(uri: str) -> str:
    return "file" if is_local(uri) else uri.partition("://")[0].lower()


def filesystem(uri: str) -> tuple[Any, str]:
    """(fsspec filesystem, path in it) of a local path or any fsspec URI. Raises StorageError for a
    scheme that is not there.
    """
    scheme = _scheme(uri)
    if scheme == "file":
        return fsspec.filesystem("file"), str(local_path(uri))
    if scheme in ("s3", "s3a"):
        system = fsspec.filesystem(
            "s3",
            endpoint_url=endpoint(),
            use_listings_cache=False,
            # the retries are ours, so that the number of tries does not multiply
            config_kwargs={
                "retries": {"max_attempts": 0},
                "connect_timeout": 10,
                "read_timeout": 60,
            },
        )
        system.retries = 1
        return system, uri.partition("://")[2]
    try:
        kind = fsspec.get_filesystem_class(scheme)
    except ImportError as error:
        raise StorageError(uri, f"its library is not installed ({error})") from error
    except ValueError as error:
        raise StorageError(
            uri,
            "unknown scheme; a local path or an fsspec URI is allowed (file, s3, gs, az, http,"
            " https, ...)",
        ) from error
    options: dict[str, Any] = {"use_listings_cache": False} if scheme in (*EXCLUSIVE, *WEB) else {}
    if scheme in WEB:
        from aiohttp import ClientTimeout

        # a film may take its time
        options["client_kwargs"] = {
            "timeout": ClientTimeout(total=None, sock_connect=10, sock_read=60)
        }
    return kind(**kind._get_kwargs_from_urls(uri), **options), str(kind._strip_protocol(uri))


def exists(uri: str) -> bool:
    """Whether a file or a folder lies at the URI."""
    if is_local(uri):
        return local_path(uri).exists()
    system, path = filesystem(uri)
    return bool(retry(uri, lambda: system.exists(path)))


def read_bytes(uri: str) -> bytes:
    """Content of the file. Raises FileNotFoundError, StorageError."""
    if is_local(uri):
        return retry(uri, local_path(uri).read_bytes)
    system, path = filesystem(uri)
    return bytes(retry(uri, lambda: system.cat_file(path)))


def read_json(uri: str) -> Any:
    """Content of a json file. Raises FileNotFoundError, and StorageError, also for a file that is
    cut short or no json.
    """
    try:
        return json.loads(read_bytes(uri))
    except (ValueError, RecursionError) as error:
        raise StorageError(
            uri, f"no whole json ({error}): it was cut short, or something else wrote it"
        ) from error


def _writable(uri: str) -> tuple[Any, str]:
    if _scheme(uri) in WEB:
        raise StorageError(
            uri, "a web server is only read from; name a local path or a bucket to write to"
        )
    return filesystem(uri)


def write_bytes(uri: str, data: bytes) -> None:
    """Writes the file whole or not at all: locally and where a store takes whole objects (S3,
    Google's, Azure's). Raises StorageError.
    """
    if is_local(uri):
        retry(uri, lambda: _replace(local_path(uri), data))
        return
    system, path = _writable(uri)
    retry(uri, lambda: system.pipe_file(path, data))


def create_bytes(uri: str, data: bytes) -> None:
    """Writes a file that must not exist yet, whole or not at all. Raises FileExistsError,
    StorageError.

    On S3 this needs a server that honours `If-None-Match: *` on a put, as Amazon's and most others
    do; a store that cannot do it at all (EXCLUSIVE names those that can) is refused, for two runs
    would write over each other there.
    """
    created = retry(
        uri, lambda: _replace(local_path(uri), data, os.link) if is_local(uri) else _put(uri, data)
    )
    # equal: our own, whose answer was lost and which was tried again
    if not created and read_bytes(uri) != data:
        raise FileExistsError(errno.EEXIST, "it is there already", uri)


def _put(uri: str, data: bytes) -> bool:
    system, path = filesystem(uri)
    if _scheme(uri) not in EXCLUSIVE:
        allowed = "a local path, s3://, gs:// or az://"
        raise StorageError(
            uri,
            "this kind of store cannot keep one of two writers out; allowed where Kinograph"
            f" writes: {allowed}",
        )
    try:
        system.pipe_file(path, data, mode="create")
    except Exception as error:  # every store says in its own words that a file is there
        if any(_is_there(one) for one in (error, error.__cause__, error.__context__)):
            return False
        raise
    return True


def _is_there(error: BaseException | None) -> bool:
    named = ("PreconditionFailed", "pre-condition", "conditionNotMet", "BlobAlreadyExists")
    return (
        isinstance(error, FileExistsError)
        or http_status(error) == 412
        or any(name in str(error) for name in named)
    )


def _replace(path: Path, data: bytes, place: Callable[[Path, Path], None] = os.replace) -> bool:
    """Puts the file whole in its place; False where `place` is os.link and one is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        place(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)
    return True


def sync_folder(folder: Path) -> None:
    """Makes the names in a local folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(uri: str) -> None:
    """Removes the file or the whole folder; a missing one is fine. Raises StorageError."""
    if is_local(uri):
        retry(uri, lambda: _remove_local(local_path(uri)))
        return
    system, path = _writable(uri)
    retry(uri, lambda: _remove_objects(system, path.rstrip("/")))


def _remove_objects(system: Any, path: str) -> None:
    # not system.rm: it takes brackets, stars and question marks of a name for a pattern
    names = [name for name in system.find(path) if name == path or name.startswith(f"{path}/")]
    if "s3" in system.protocol:  # its own request for a thousand at once
        for first in range(0, len(names), 1000):
            fsspec.asyn.sync(system.loop, system._bulk_delete, names[first : first + 1000])
        return
    for name in names:
        system.rm_file(name)


def _remove_local(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return


def list_files(uri: str, aside: list[tuple[str, str]] | None = None) -> list[FileInfo]:
    """All files below the folder, sorted by their path below it; empty where the folder is missing.

    Links to folders are followed, each real folder once: under its own name where it has one below
    the folder, else under the first link's. Our own temporary files are left out, and so are the
    empty objects with a trailing slash by which some tools mark a folder on S3.

    Args:
        uri: of the folder.
        aside: takes (path below, why) of links that give nothing; with it one bad entry does not
            stop the listing: a name that is not UTF-8, a folder or file that cannot be read is an
            entry with its `problem`.

    Raises:
        StorageError: the store fails; without `aside` also for a folder that cannot be read.
    """
    if is_local(uri):
        root = local_path(uri)
        found, links = retry(uri, lambda: Walk(root, uri.rstrip("/"), aside is not None).run())
        if aside is not None:
            aside += links
    elif _scheme(uri) in WEB:
        found = list(_list_web(uri.rstrip("/"), "", set()))
    else:
        system, path = filesystem(uri)
        path = path.rstrip("/")
        try:
            details = retry(uri, lambda: system.find(path, detail=True, withdirs=False))
        except FileNotFoundError:
            return []
        files = {
            name: entry
            for name, entry in details.items()
            if entry["type"] == "file" and name != path and not name.endswith("/")
        }
        found = [
            _info(f"{uri.rstrip('/')}/{name[len(path) + 1 :]}", name[len(path) + 1 :], entry)
            for name, entry in files.items()
        ]
    return sorted(
        (info for info in found if not info.path_below.endswith(TEMPORARY)),
        key=lambda info: info.path_below,
    )


def _list_web(root: str, below: str, seen: set[str]) -> Iterator[FileInfo]:
    """Files by the links of a web server's folder pages, each asked for its size. Raises
    StorageError where it shows no such page.
    """
    folder = f"{root}/{below}".rstrip("/")
    system, _ = filesystem(root)
    try:
        page = bytes(retry(folder, lambda: system.cat_file(f"{folder}/")))
    except FileNotFoundError:
        page = b""
    links = links_of(f"{folder}/", page.decode(errors="replace"))
    if not links and not below:
        what = (
            "turn on the server's folder pages (autoindex), or copy the files to a folder or a"
            " bucket and name that"
        )
        raise StorageError(root, f"the server shows no page that lists this folder: {what}")
    for raw in links:
        # as a person reads it, where it can be asked for so
        name = raw if set(unquote(raw)) & set("%?#") else unquote(raw)
        if f"{below}{name}" in seen:
            continue
        seen.add(f"{below}{name}")
        if name.endswith("/"):
            yield from _list_web(root, f"{below}{name}", seen)
        else:
            uri = f"{folder}/{name}"
            entry = retry(uri, lambda: asked(system, uri))  # noqa: B023
            yield _info(uri, f"{below}{name}", entry)


def _info(uri: str, path_below: str, entry: dict[str, Any]) -> FileInfo:
    stamps = (entry.get(name) for name in STAMPS)
    modified = next((str(stamp).strip('"') for stamp in stamps if stamp is not None), "")
    return FileInfo(uri, path_below, int(entry["size"] or 0), modified)


def folders(uri: str) -> list[str]:
    """Names of the folders right below a folder, sorted; none where it is missing."""
    if is_local(uri):
        path = local_path(uri)
        return (
            sorted(entry.name for entry in path.iterdir() if entry.is_dir())
            if path.is_dir()
            else []
        )
    system, path_of = filesystem(uri)
    try:
        entries = retry(uri, lambda: system.ls(path_of, detail=True))
    except FileNotFoundError:
        return []
    return sorted(
        entry["name"].rstrip("/").rsplit("/", 1)[1]
        for entry in entries
        if entry["type"] == "directory"
    )


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local path with the file's content: itself when it is local, else a temporary copy with the
    same ending.
    """
    if is_local(uri):
        yield local_path(uri)
        return
    system, path = filesystem(uri)
    with tempfile.TemporaryDirectory(prefix="kinograph-") as folder:
        # the key's own name may be '..' or longer than a file's may be
        copy = Path(folder) / f"copy{Path(path).suffix[:MAX_SUFFIX]}"
        retry(uri, lambda: system.get_file(path, str(copy)))
        yield copy


def sha256_of(path: Path) -> str:
    """Sha256 (hex) of a local file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
