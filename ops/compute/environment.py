"""What a process takes from the system around it: a private folder for sockets, a home, a search
path without the working folder.

Sockets have short names by law: the path of one may have 107 characters (103 on macOS), and
temporary folders of batch systems and of every Mac leave too little of that. They go where there is
room; large temporary data stay in TMPDIR.
"""

from __future__ import annotations

import fcntl
import getpass
import multiprocessing
import os
import secrets
import shutil
import socket
import stat
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver as server
from multiprocessing import util
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from configs.schema import ConfigError
from configs.settings import variable

LIMIT = 103 if sys.platform == "darwin" else 107  # characters of a socket's path
# what Ray puts below the folder that it is given
LONGEST = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
PREFIX = "kino-"  # and the user's number: the folder of all our private ones
HOME = "user"  # where HOME goes in our home, when the user has none
RAY = "r"  # that folder's name in ours
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # where there is room when TMPDIR has none
EMPTY = (
    "KINOGRAPH_",
    "MLFLOW_",
    "RAY_",
    "DAGSTER_",
    "AWS_",
    "XDG_",
    "OMP_",
    "MPLCONFIGDIR",
    "TORCH_HOME",
    "HOME",
    "TMPDIR",
    "TEMP",
    "TMP",
)
SOCKET = "/tmp12345678"  # of a code server of Dagster, below TMPDIR
LONG = "KINOGRAPH_TMPDIR"  # the TMPDIR of those that Dagster's code servers start
WORKERS = "workers.log"  # what worker processes wrote to their standard error
LAST_BYTES, LAST_LINES = 4096, 3
REMEMBERED = 32  # worker processes
# below which folder -> (process, private folder, descriptor that locks it)
_folders: dict[str, tuple[int, Path, int]] = {}
_lock = threading.RLock()


# --------------------------------------------------------------------------------------------------
# variables


def settle_variables() -> None:
    """Forget the variables that are there and empty: for us, and for the libraries that would take
    them for a value.

    PATH has the system's usual value where it is missing: there are libraries that do not load
    without one. Pictures are drawn into files, whatever window or notebook the environment names.
    What is started keeps its docstrings, without which Ray does not start.
    """
    for name in [
        name for name, value in os.environ.items() if name.startswith(EMPTY) and not value.strip()
    ]:
        del os.environ[name]
    os.environ.setdefault("PATH", os.defpath)
    os.environ["MPLBACKEND"] = "agg"
    os.environ.pop("PYTHONOPTIMIZE", None)


def check_temporary() -> str | None:
    """Make TMPDIR a folder that can be written, for this process and those that it starts.

    Returns a sentence where it names another one than the user did. Raises ConfigError where there
    is none at all.
    """
    asked = variable("TMPDIR")
    try:
        found = os.path.abspath(tempfile.gettempdir())
    except OSError as error:
        raise ConfigError(
            "environment",
            "TMPDIR",
            asked,
            "a folder that can be written; /tmp and the like cannot either",
        ) from error
    if asked is None or os.path.realpath(asked) == os.path.realpath(found):
        if asked is not None:
            os.environ["TMPDIR"] = found  # absolute: others have other working folders
        return None
    os.environ["TMPDIR"] = found
    return f"TMPDIR: {asked} is no folder that can be written; temporary files go to {found}"


def check_locks() -> None:
    """Raises ConfigError where processes cannot share locks: Linux keeps them in /dev/shm, which a
    container may lack.
    """
    if sys.platform == "linux" and not os.access("/dev/shm", os.W_OK | os.X_OK):
        found = "not writable" if os.path.isdir("/dev/shm") else "missing"
        raise ConfigError(
            "environment",
            "/dev/shm",
            found,
            "a folder in memory that can be written (`mount -t tmpfs tmpfs /dev/shm`)",
        )


def check_loopback() -> None:
    """Raises ConfigError where this machine cannot talk to itself over 127.0.0.1, as the processes
    of a local Ray do.
    """
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            socket.create_connection(listener.getsockname(), timeout=10).close()
    except OSError as error:
        allowed = "a loopback device that is up (`ip link set lo up`)"
        raise ConfigError(
            "environment", "127.0.0.1", error.strerror or str(error), allowed
        ) from error


def give_home(folder: Path) -> None:
    """Make HOME a folder that can be written: the user's, or else `folder`, made for its owner
    alone.

    Containers run as a number without a name and without a home, where libraries write into `/`, or
    fail when they are imported. What the old home holds of credentials stays in use.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"  # a number without a name
    old = os.path.expanduser("~")
    if (
        old != "/"
        and os.path.isabs(old)
        and os.path.isdir(old)
        and os.access(old, os.W_OK | os.X_OK)
    ):
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        folder = private_folder() / "home"
        folder.mkdir(mode=0o700, exist_ok=True)
    for name, path in (
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        ("AWS_CONFIG_FILE", ".aws/config"),
        ("NETRC", ".netrc"),
    ):
        if os.path.isabs(old) and os.access(os.path.join(old, path), os.R_OK):
            os.environ.setdefault(name, os.path.join(old, path))
    for name in (
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_RUNTIME_DIR",
    ):
        if name in os.environ and not os.access(os.environ[name], os.W_OK | os.X_OK):
            del os.environ[name]
    os.environ["HOME"] = str(folder)


# --------------------------------------------------------------------------------------------------
# private folders


def private_folder() -> Path:
    """This process's own folder for sockets, with a path so short that Ray's longest fits. It goes
    when the process ends.

    It lies below `kino-<user>` in TMPDIR, or else where there is room; that folder is this user's
    alone, mode 0700. Raises ConfigError where it is somebody else's or open to others, or where no
    place is short enough.
    """
    below = len(f"/{PREFIX}{os.getuid()}/123456/{RAY}{LONGEST}")
    for place in _places():
        if len(os.fsencode(place)) + below <= LIMIT:
            return _private(place)
    allowed = (
        f"a folder that can be written, of at most {LIMIT - below} letters: a socket's path may"
        f" have {LIMIT}"
    )
    raise ConfigError("environment", "TMPDIR", tempfile.gettempdir(), allowed)


def roomy_folder() -> Path:
    """This process's own folder for large data, in TMPDIR whatever its length. Raises ConfigError
    as `private_folder` does.
    """
    return _private(next(_places(), tempfile.gettempdir()))


def _places() -> Iterator[str]:
    """Folders for temporary files, TMPDIR first: those that can be written, and where no other user
    can exchange what is ours.
    """
    for place in dict.fromkeys((tempfile.gettempdir(), *SHORT)):
        with suppress(OSError):
            mode = os.stat(place).st_mode
            if (
                stat.S_ISDIR(mode)
                and os.access(place, os.W_OK | os.X_OK)
                and (mode & stat.S_ISVTX or not mode & 0o022)
            ):
                yield place


def _private(place: str) -> Path:
    with _lock:
        pid, folder, _ = _folders.get(place, (0, Path(), 0))
        if pid == os.getpid() and folder.is_dir():
            return folder
        parent = Path(place, f"{PREFIX}{os.getuid()}")
        with suppress(FileExistsError):
            parent.mkdir(mode=0o700)
        _check_owner(parent)
        with _held(parent):
            _clear(parent)
            folder = parent / secrets.token_hex(3)
            folder.mkdir(mode=0o700)
            mine = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: nobody clears there either
                fcntl.flock(mine, fcntl.LOCK_EX)
        _folders[place] = (os.getpid(), folder, mine)
        # After Ray's own end and multiprocessing's: both still use it.
        util.Finalize(
            None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=-200
        )
        return folder


def _check_owner(folder: Path) -> None:
    """Raises ConfigError for a folder that others can reach, or that another user has put there."""
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode):
        found = "no folder"
    elif about.st_uid != os.getuid():
        found = f"a folder of user {about.st_uid}"
    elif about.st_mode & 0o077:
        found = f"mode {stat.S_IMODE(about.st_mode):04o}"
    else:
        return
    allowed = (
        f"a folder of user {os.getuid()} alone, mode 0700: have it removed, or set TMPDIR to"
        " another place"
    )
    raise ConfigError("environment", f"TMPDIR ({folder})", found, allowed)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """One process at a time: nobody clears a folder that another has made and not locked yet."""
    handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _clear(parent: Path) -> None:
    """Remove what processes left that were killed: folders that nobody holds."""
    for folder in parent.iterdir():
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def prepare_exec() -> None:
    """Before another program takes this process's place: it holds our private folders on, and has
    room for its sockets in TMPDIR.

    Where it has too little of that, TMPDIR is the private folder, and `pipelines.definitions` puts
    KINOGRAPH_TMPDIR back in its place.
    """
    own = tempfile.gettempdir()
    if len(os.fsencode(own)) + len(SOCKET) > LIMIT:
        os.environ[LONG], os.environ["TMPDIR"] = own, str(private_folder())
    for _, _, handle in _folders.values():
        os.set_inheritable(handle, True)


# --------------------------------------------------------------------------------------------------
# worker processes


@contextmanager
def safe_path() -> Iterator[None]:
    """Interpreters that are started in the block do not look for modules in the working folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("PYTHONSAFEPATH", None)
        else:
            os.environ["PYTHONSAFEPATH"] = before


class Worker(ForkServerProcess):
    """A process of the fork server, which is started anew where it has died."""

    def start(self) -> None:
        """Start it."""
        _start_server()
        super().start()


class Context(ForkServerContext):
    """The fork server as a source of processes that remembers them, so that how they ended can be
    told.
    """

    def __init__(self, since: int) -> None:
        super().__init__()
        # each holds descriptors
        self._processes: deque[ForkServerProcess] = deque(maxlen=REMEMBERED)
        self._since = since

    # a class in the library
    def Process(self, *args: Any, **kwargs: Any) -> ForkServerProcess:  # type: ignore[override]  # noqa: N802
        """A process that is started by the fork server."""
        process = Worker(*args, **kwargs)
        self._processes.append(process)
        return process

    def endings(self) -> str:
        """How the processes ended that did not end well, and what they wrote last."""
        codes: dict[str, int] = {}
        for process in self._processes:
            with suppress(ValueError):  # closed since
                if code := process.exitcode:
                    how = ended(code)
                    codes[how] = codes.get(how, 0) + 1
        told = "its processes ended with " + ", ".join(
            f"{how}{f' ({times} of them)' if times > 1 else ''}" for how, times in codes.items()
        )
        if not codes:
            told = (
                "its processes ended well"
                if any(process.pid for process in self._processes)
                else "its processes did not start"
            )
        words = self.last_words()
        return told + (f"; the last lines of their standard error: {words}" if words else "")

    def last_words(self) -> str:
        """The last lines that workers wrote to their standard error since this context was made, in
        one line.
        """
        with suppress(OSError), open(_log(), "rb") as file:
            file.seek(max(self._since, _size(_log()) - LAST_BYTES))
            lines = [
                line.strip()
                for line in file.read().decode(errors="replace").splitlines()
                if line.strip()
            ]
            return " | ".join(lines[-LAST_LINES:])
        return ""


def ended(code: int) -> str:
    """A process's exit code in words: 'signal 9 (SIGKILL)', 'exit code 1'."""
    if code >= 0:
        return f"exit code {code}"
    import signal

    with suppress(ValueError):
        return f"signal {-code} ({signal.Signals(-code).name})"
    return f"signal {-code}"


def workers_context(preload: Sequence[str]) -> Context:
    """A multiprocessing context whose fork server runs already, and has `preload` imported where
    this process starts it.

    Its processes find modules where this one does, and never in the working folder; its socket lies
    in the private folder; what they write to their standard error goes to a file there. Raises
    ConfigError as `private_folder` and `check_locks` do.
    """
    multiprocessing.set_forkserver_preload(list(preload))
    check_locks()
    written = _size(_log())
    _start_server()
    return Context(written)


def _start_server() -> None:
    with _lock:
        _short_sockets()
        with safe_path(), _stderr_in(_log()):
            server.ensure_running()


def _short_sockets() -> None:
    """Have multiprocessing put its sockets into the private folder; it removes its part of it by
    itself.
    """
    # no call sets it
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir") is None or not os.path.isdir(config["tempdir"]):
        config["tempdir"] = str(private_folder())


def _log() -> Path:
    return private_folder() / WORKERS


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@contextmanager
def _stderr_in(path: Path) -> Iterator[None]:
    """Processes that are started in the block have this file for their standard error. The block is
    as short as a start.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    kept = os.dup(2)
    try:
        os.dup2(handle, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(handle)
