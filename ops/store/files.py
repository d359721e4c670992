"""Bytes at URIs: local paths and s3://, with atomic writes, retries and one clear error.

S3 takes its endpoint, region and credentials from the environment (`AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, ...);
none of them is ever part of a message here.
"""

from __future__ import annotations

import errno
import hashlib
import heapq
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fsspec

TEMPORARY = ".kinograph-tmp"  # suffix of a local file on its way to its name
MAX_SUFFIX = 32  # letters of a file's ending that a local copy keeps
TRIES = 3
FIRST_WAIT_S = 0.2
TRANSIENT = {errno.EIO, errno.EAGAIN, errno.EBUSY, errno.ETIMEDOUT, errno.ESTALE, errno.EREMOTEIO, errno.ECONNRESET, errno.EINTR}
# Non-OSError exceptions of botocore and aiohttp, by name: importing them here would load botocore for local runs too.
NETWORK = {"HTTPClientError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ClientPayloadError"}
REFUSED = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError", "UnauthorizedSSOTokenError"}
T = TypeVar("T")


class StorageError(OSError):
    """A store that refuses or fails: names the URI and the cause; `errno` is the cause's where it has one.

    `transient` says that a later try may succeed: the store failed, it did not refuse.
    """

    def __init__(self, uri: str, cause: object, code: int | None = None, transient: bool = False) -> None:
        self.uri, self.cause, self.transient = uri, str(cause), transient
        super().__init__(code, f"{uri}: {cause}")

    def __str__(self) -> str:
        return str(self.args[1])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.uri, self.cause, self.errno, self.transient)


@dataclass(frozen=True)
class FileInfo:
    """One file below a folder. `modified` changes when the content does: mtime in ns locally, the ETag on S3.

    `problem` says why it cannot be read, where that shows in the listing; it may be a whole folder then.
    """

    uri: str
    path_below: str
    bytes: int
    modified: str
    problem: str = ""


def is_local(uri: str) -> bool:
    """Whether the URI lies on this machine's own file system."""
    return "://" not in uri or uri.startswith("file://")


def local_path(uri: str) -> Path:
    """Path of a local URI."""
    return Path(uri.removeprefix("file://"))


def endpoint() -> str | None:
    """URL of the S3 service where it is not Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def filesystem(uri: str) -> tuple[Any, str]:
    """(fsspec filesystem, path in it) of a local path, file:// or s3:// URI. Raises StorageError for another scheme."""
    if is_local(uri):
        return fsspec.filesystem("file"), str(local_path(uri))
    if not uri.startswith("s3://"):
        raise StorageError(uri, "unknown scheme; a local path, file:// or s3:// is allowed")
    system = fsspec.filesystem(
        "s3",
        endpoint_url=endpoint(),
        use_listings_cache=False,
        # the retries are ours, so that the number of tries does not multiply
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 10, "read_timeout": 60},
    )
    system.retries = 1
    return system, uri.removeprefix("s3://")


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
    """Content of a json file. Raises FileNotFoundError, and StorageError, also for a file that is cut short or no json."""
    try:
        return json.loads(read_bytes(uri))
    except (ValueError, RecursionError) as error:
        raise StorageError(uri, f"no whole json ({error}): it was cut short, or something else wrote it") from error


def write_bytes(uri: str, data: bytes) -> None:
    """Writes the file whole or not at all. Raises StorageError."""
    if is_local(uri):
        retry(uri, lambda: _replace(local_path(uri), data))
        return
    system, path = filesystem(uri)
    retry(uri, lambda: system.pipe_file(path, data))


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


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
    system, path = filesystem(uri)
    retry(uri, lambda: _remove_s3(system, path.rstrip("/")))


def _remove_s3(system: Any, path: str) -> None:
    # not system.rm: it takes brackets, stars and question marks of a name for a pattern
    from fsspec.asyn import sync

    names = list(system.find(path))
    for first in range(0, len(names), 1000):
        sync(system.loop, system._bulk_delete, names[first : first + 1000])


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

    Links to folders are followed, each real folder once: under its own name where it has one below the folder, else under the first link's.
    Our own temporary files are left out, and so are the empty objects with a trailing slash by which some tools mark a folder on S3.
    With `aside` one bad entry does not stop the listing: a name that is not UTF-8, a folder or file that cannot be read is an entry with
    its `problem`, and (path below, why) of links that give nothing is appended. Without it such a folder raises StorageError.
    """
    if is_local(uri):
        root = local_path(uri)
        found, links = retry(uri, lambda: _Walk(root, uri.rstrip("/"), aside is not None).run())
        if aside is not None:
            aside += links
    else:
        system, path = filesystem(uri)
        path = path.rstrip("/")
        try:
            details = retry(uri, lambda: system.find(path, detail=True, withdirs=False))
        except FileNotFoundError:
            return []
        files = {name: entry for name, entry in details.items() if entry["type"] == "file" and name != path and not name.endswith("/")}
        found = [_s3_info(name, entry, path) for name, entry in files.items()]
    return sorted((info for info in found if not info.path_below.endswith(TEMPORARY)), key=lambda info: info.path_below)


class _Walk:
    """One pass over a local folder. Folders come before links to folders, and links by name: the disk's order has no say."""

    def __init__(self, root: Path, uri: str, patient: bool) -> None:
        self.root, self.uri, self.patient = str(root), uri, patient
        self.seen: dict[str, str] = {}  # real path of a folder: path below by which it was read
        self.found: list[FileInfo] = []
        self.bad: dict[str, FileInfo] = {}  # by path below
        self.aside: list[tuple[str, str]] = []
        self.links: list[tuple[str, str]] = []  # a heap of (path below with its slash, path)

    def run(self) -> tuple[list[FileInfo], list[tuple[str, str]]]:
        """(files, links that give nothing)."""
        waiting = [(self.root, "")]  # no pathlib from here on: a million files pass
        while waiting or self.links:
            if waiting:
                folder, below = waiting.pop()
            else:
                below, folder = heapq.heappop(self.links)
            real = os.path.realpath(folder)
            if real in self.seen:
                self.aside.append((below.rstrip("/"), f"a link to a folder that is listed already: {self.seen[real] or '.'}"))
                continue
            self.seen[real] = below.rstrip("/")
            waiting += self._read(folder, below)
        return [*self.found, *self.bad.values()], self.aside

    def _read(self, folder: str, below: str) -> list[tuple[str, str]]:
        """Takes in the files of one folder; returns the folders in it, as (path, path below with its slash)."""
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):  # missing, or gone since its parent was read
            return []
        except OSError as error:
            if not self.patient or not below or error.errno in TRANSIENT:
                raise
            self._problem(below.rstrip("/"), f"not readable: {error.strerror} (a folder)")
            return []
        folders = []
        for entry in entries:
            path_below = f"{below}{entry.name}"
            if self.patient and not _is_utf8(entry.name):
                self._problem(path_below, "its name is not UTF-8: rename it")
                continue
            try:
                if entry.is_dir():
                    if entry.is_symlink():
                        heapq.heappush(self.links, (f"{path_below}/", entry.path))
                    else:
                        folders.append((entry.path, f"{path_below}/"))
                elif entry.is_file():
                    stat = entry.stat()
                    self.found.append(FileInfo(f"{self.uri}/{path_below}", path_below, stat.st_size, str(stat.st_mtime_ns)))
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    self.aside.append((path_below, "a link that leads nowhere"))
                elif os.path.lexists(entry.path):
                    self.aside.append((path_below, "neither a file nor a folder: a pipe, a socket or a device"))
            except OSError as error:
                if not self.patient or error.errno in TRANSIENT:
                    raise
                self.aside.append((path_below, f"a link that leads nowhere: {error.strerror}"))
        return folders

    def _problem(self, path_below: str, problem: str) -> None:
        shown = os.fsencode(path_below).decode("utf-8", "backslashreplace")
        # a name may be written out like another's bytes are shown
        while shown != path_below and (shown in self.bad or os.path.lexists(f"{self.root}/{shown}")):
            shown += "?"
        self.bad[shown] = FileInfo(f"{self.uri}/{shown}", shown, 0, "", problem)


def _is_utf8(name: str) -> bool:
    """Whether a file's name is text; bytes that are none stand as halves of letters in Python's strings."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _s3_info(name: str, entry: dict[str, Any], path: str) -> FileInfo:
    etag = str(entry.get("ETag", "")).strip('"')
    return FileInfo(f"s3://{name}", name[len(path) + 1 :], int(entry["size"]), etag)


@contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local path with the file's content: itself when it is local, else a temporary copy with the same ending."""
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


def retry(uri: str, action: Callable[[], T]) -> T:
    """Runs the action, up to three times while the failure may pass. Raises FileNotFoundError as it is, else StorageError."""
    wait = FIRST_WAIT_S
    for attempt in range(1, TRIES + 1):
        try:
            return action()
        except StorageError:
            raise
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "no such file or folder", uri) from error
        except Exception as error:
            reason = _refusal(error)
            if reason is not None:
                raise StorageError(uri, reason, getattr(error, "errno", None)) from error
            if not _transient(error):
                if isinstance(error, OSError):
                    raise StorageError(uri, error.strerror or error, error.errno) from error
                raise
            if attempt == TRIES:
                raise StorageError(uri, f"failed {TRIES} times: {error}", getattr(error, "errno", None), transient=True) from error
            time.sleep(wait)
            wait *= 2
    raise AssertionError("unreachable")


def _refusal(error: Exception) -> str | None:
    if isinstance(error, PermissionError) and error.filename is not None:
        return "permission denied"
    names = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, PermissionError) or names & (REFUSED | {"PermissionDeniedError", "UnauthenticatedError"}):
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return f"access refused ({first}); check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL"
    return None


def _transient(error: Exception) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, OSError):
        return error.errno in TRANSIENT
    return bool({kind.__name__ for kind in type(error).__mro__} & (NETWORK | {"GenericError"}))
