"""The folders that a run writes to: are they there, can they be written, do locks and links work,
is there room.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from configs.schema import ConfigError
from configs.settings import Settings
from ops.doctor.finding import Finding, good, note, wrong
from ops.files.storage import is_local, local_path, read_bytes, remove, write_bytes

LITTLE_GB = 5.0  # the demo's frames, models and records take about two
SOCKET_CHARS = 107  # sun_path of Linux
PROBE = ".kinograph-doctor"


def storage(settings: Settings) -> Iterator[Finding]:
    """The storage root, where it is a folder: files written whole, hard links (the leases),
    room.
    """
    if not is_local(settings.storage):
        return
    yield from _folder(
        "storage", local_path(settings.storage), "KINOGRAPH_STORAGE", with_links=True
    )


def home(settings: Settings) -> Iterator[Finding]:
    """The local home: files and locks, as Dagster, MLflow and SQLite want them."""
    yield from _folder("home", settings.home, "KINOGRAPH_HOME", with_locks=True)


def _folder(
    name: str, folder: Path, variable: str, with_links: bool = False, with_locks: bool = False
) -> Iterator[Finding]:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    room = shutil.disk_usage(there)
    text = f"{folder}, {room.free / 1e9:.1f} GB free of {room.total / 1e9:.1f}" + (
        "" if there == folder else ", not made yet"
    )
    made = _first_missing(folder)
    probe = folder / f"{PROBE}-{uuid.uuid4().hex[:8]}"
    try:
        write_bytes(str(probe / "file"), PROBE.encode())
        if read_bytes(str(probe / "file")) != PROBE.encode():
            raise OSError("a file that was written reads back otherwise")
        if with_links:
            _links(probe)
        if with_locks:
            _locks(probe)
    except OSError as error:
        yield wrong(
            name,
            f"{text}: {error}",
            f"set {variable} to a folder on a local disk that this user ({_user()}) may write to",
        )
        return
    finally:
        _tidy(probe, folder, made)
    if room.free < LITTLE_GB * 1e9:
        yield wrong(
            name,
            text,
            f"free some space: the demo alone needs {LITTLE_GB:g} GB; or set {variable} to a folder"
            " on a larger disk",
        )
    else:
        yield good(
            name, text + "; written, " + ("linked" if with_links else "locked") + " and read back"
        )


def _first_missing(folder: Path) -> Path | None:
    """The highest folder that writing there would make."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    return missing[-1] if missing else None


def _tidy(probe: Path, folder: Path, made: Path | None) -> None:
    """Leave the disk as it was; a folder that another process has begun to fill stays."""
    with suppress(OSError):  # said already, or nothing was written
        remove(str(probe))
    if made is not None:
        with suppress(OSError):  # not empty
            for parent in (folder, *folder.parents):
                parent.rmdir()
                if parent == made:
                    return


def _links(probe: Path) -> None:
    from ops.files.storage import create_bytes

    create_bytes(str(probe / "lease"), b"one")
    try:
        create_bytes(str(probe / "lease"), b"another")
    except FileExistsError:
        return
    raise OSError(
        "a file that must not exist yet was written over: two runs would not see one another"
    )


def _locks(probe: Path) -> None:
    import fcntl
    import sqlite3

    path = probe / "lock"
    with path.open("w") as one, path.open("w") as other:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            raise OSError("locks do nothing on this file system")
    try:
        with sqlite3.connect(probe / "database") as database:
            database.execute("pragma journal_mode=wal")
            database.execute("create table kept (number integer)")
        database.close()
    except sqlite3.Error as error:
        raise OSError(f"SQLite does not work on this file system: {error}") from error


def _user() -> str:
    uid = os.getuid()
    try:
        import pwd

        return f"{pwd.getpwuid(uid).pw_name}, {uid}"
    except KeyError:
        return f"number {uid}, without a name"


def user(settings: Settings) -> Iterator[Finding]:
    """Who runs this, and the user's own home folder, in which libraries keep caches."""
    value = os.environ.get("HOME", "")
    text = f"{_user()}; HOME={value or 'not set'}"
    if value and os.access(value, os.W_OK) and value != "/":
        yield good("user", text)
    else:
        advice = (
            "libraries keep caches there: set HOME to a folder that can be written to where one of"
            " them complains"
        )
        yield note(
            "user", text + ("" if value in ("", "/") else ", which cannot be written to"), advice
        )


def temporary(settings: Settings) -> Iterator[Finding]:
    """The temporary folder: writable, with room, and short enough for the sockets that are put
    below it.
    """
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        yield wrong(
            "temporary folder", str(error), "set TMPDIR to a folder that this user may write to"
        )
        return
    yield from _folder("temporary folder", folder, "TMPDIR", with_locks=True)


def processes(settings: Settings) -> Iterator[Finding]:
    """What processes of one machine share: locks in memory, and the loopback device."""
    from ops.compute.environment import check_locks, check_loopback

    for name, check in (("shared locks", check_locks), ("loopback", check_loopback)):
        try:
            check()
        except ConfigError as error:
            yield wrong(name, f"{error.field}: {error.found}", error.allowed)
        else:
            yield good(name, "there")


def sockets(settings: Settings) -> Iterator[Finding]:
    """A socket at the path that multiprocessing chooses, as the decode workers speak through."""
    from multiprocessing.connection import Listener

    try:
        with Listener(family="AF_UNIX") as listener:
            path = str(listener.address)
    except OSError as error:
        advice = (
            "set TMPDIR to a short path on a local disk: a socket's whole path may have"
            f" {SOCKET_CHARS} characters (macOS: 103)"
        )
        yield wrong("sockets", f"{error}, below {tempfile.gettempdir()}", advice)
        return
    yield good("sockets", f"{path} is short enough ({len(path)} of {SOCKET_CHARS} characters)")
