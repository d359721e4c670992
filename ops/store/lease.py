"""One writer at a time: a small file beside what is written names its holder, and a beating counter
shows that the holder lives.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from ops.files.storage import StorageError, create_bytes, read_bytes, remove, write_bytes

BEAT_S = 10.0
STALE_S = 45.0  # a holder on another machine that does not beat for so long is gone
FORGOTTEN_S = 600.0  # so old a beat needs no watching, whatever the clocks say
POLL_S = 1.0
_held: set[Any] = set()  # tokens of this process


class Busy(StorageError):
    """Another living process writes here."""


class Lost(StorageError):
    """Another process has taken over what this one was writing: it was silent for too long."""


class Lease:
    """The right to write, held until `release` or the end of the process; a thread keeps it
    fresh.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._record = {"token": uuid.uuid4().hex, **_me(), "beat": 0, "time": time.time()}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._seen = 0.0

    def take(self) -> Lease:
        """Takes it, from a dead holder too. Raises Busy where a living one has it, StorageError.

        Whether a holder on another machine lives is seen within STALE_S; one on this machine is
        looked up at once.
        """
        while True:
            try:
                create_bytes(self.uri, self._bytes())
                break
            except FileExistsError:
                record = holder(self.uri)
                if record is not None and lives(self.uri, record):
                    who = f"process {record.get('pid')} on {record.get('host')}"
                    raise Busy(
                        self.uri, f"{who} is writing there; wait for it or end it, then run again"
                    ) from None
                remove(self.uri)
        self._seen = time.monotonic()
        _held.add(self._record["token"])
        threading.Thread(target=self._beat, name="lease", daemon=True).start()
        return self

    def check(self, now: bool = False) -> None:
        """Raises Lost where another process has taken over. Looks at the store at most every BEAT_S
        seconds, or `now`.
        """
        if self._ended.is_set():
            raise Lost(self.uri, "this process does not hold it any more")
        if now or time.monotonic() - self._seen >= BEAT_S:
            record = holder(self.uri)
            if record is None or record.get("token") != self._record["token"]:
                self.forget()
                raise Lost(self.uri, f"taken over by {record}" if record else "somebody removed it")
            self._seen = time.monotonic()

    def release(self) -> None:
        """Gives it back; what is no longer ours stays as it is."""
        with self._lock:
            if self._ended.is_set():
                return
            self.forget()
            record = holder(self.uri)
            if record is not None and record.get("token") == self._record["token"]:
                remove(self.uri)

    def forget(self) -> None:
        """Lets go of it without a word to the store, which may be away: the next one to come sees
        that nobody holds it.
        """
        self._ended.set()
        _held.discard(self._record["token"])

    def _bytes(self) -> bytes:
        return json.dumps(self._record).encode()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with self._lock:
                if self._ended.is_set():
                    return
                try:
                    self.check(now=True)
                    self._record |= {"beat": self._record["beat"] + 1, "time": time.time()}
                    write_bytes(self.uri, self._bytes())
                except Lost:
                    return
                except OSError:  # the store is away; the next beat, or the next commit, will tell
                    continue


def holder(uri: str) -> dict[str, Any] | None:
    """What a lease file says, None where there is none; {} where it cannot be read as one."""
    try:
        record = json.loads(read_bytes(uri))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def lives(uri: str, record: dict[str, Any], watch_s: float | None = None) -> bool:
    """Whether the holder of a lease lives.

    Args:
        uri: of the lease's file.
        record: what the file said.
        watch_s: how long a holder on another machine is watched for a beat at most; None is
            STALE_S.
    """
    me = _me()
    if record.get("machine") == me["machine"]:
        if record.get("pid") == me["pid"]:
            return record.get("token") in _held
        return _runs(record.get("pid"), record.get("started"))
    if time.time() - float(record.get("time", 0.0)) > FORGOTTEN_S:
        return False
    watched_until = time.monotonic() + (STALE_S if watch_s is None else watch_s)
    while time.monotonic() < watched_until:
        time.sleep(POLL_S)
        after = holder(uri)
        if after is None:
            return False
        if (after.get("token"), after.get("beat")) != (record.get("token"), record.get("beat")):
            return True
    return False


def _me() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
    }


def _machine() -> str:
    """What tells one space of process numbers from another: host, boot and container."""
    parts = [socket.gethostname()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        lambda: str(os.stat("/proc/self/ns/pid").st_ino),
    ):
        try:
            parts.append(read())
        except OSError:  # not Linux
            parts.append("")
    return "/".join(parts)


def _runs(pid: Any, started: Any) -> bool:
    try:
        process = psutil.Process(int(pid))
        return (
            abs(process.create_time() - float(started)) < 1.0
            and process.status() != psutil.STATUS_ZOMBIE
        )
    except (psutil.NoSuchProcess, TypeError, ValueError):
        return False
