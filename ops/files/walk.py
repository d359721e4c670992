"""One pass over a local folder and what lies below it."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass
from pathlib import Path

from ops.files.errors import TRANSIENT


@dataclass(frozen=True)
class FileInfo:
    """One file below a folder. `modified` changes when the content does: mtime in ns locally, the
    ETag on S3, elsewhere what the store has.

    `problem` says why it cannot be read, where that shows in the listing; it may be a whole folder
    then.
    """

    uri: str
    path_below: str
    bytes: int
    modified: str
    problem: str = ""


class Walk:
    """One pass over a local folder. Folders come before links to folders, and links by name: the
    disk's order has no say.
    """

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
                self.aside.append(
                    (
                        below.rstrip("/"),
                        f"a link to a folder that is listed already: {self.seen[real] or '.'}",
                    )
                )
                continue
            self.seen[real] = below.rstrip("/")
            waiting += self._read(folder, below)
        return [*self.found, *self.bad.values()], self.aside

    def _read(self, folder: str, below: str) -> list[tuple[str, str]]:
        """Takes in the files of one folder; returns the folders in it, as (path, path below with
        its slash).
        """
        try:
            entries = list(os.scandir(folder))
        # missing, or gone since its parent was read
        except (FileNotFoundError, NotADirectoryError):
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
                    self.found.append(
                        FileInfo(
                            f"{self.uri}/{path_below}",
                            path_below,
                            stat.st_size,
                            str(stat.st_mtime_ns),
                        )
                    )
                elif entry.is_symlink() and not os.path.exists(entry.path):
                    self.aside.append((path_below, "a link that leads nowhere"))
                elif os.path.lexists(entry.path):
                    self.aside.append(
                        (path_below, "neither a file nor a folder: a pipe, a socket or a device")
                    )
            except OSError as error:
                if not self.patient or error.errno in TRANSIENT:
                    raise
                self.aside.append((path_below, f"a link that leads nowhere: {error.strerror}"))
        return folders

    def _problem(self, path_below: str, problem: str) -> None:
        shown = os.fsencode(path_below).decode("utf-8", "backslashreplace")
        # a name may be written out like another's bytes are shown
        while shown != path_below and (
            shown in self.bad or os.path.lexists(f"{self.root}/{shown}")
        ):
            shown += "?"
        self.bad[shown] = FileInfo(f"{self.uri}/{shown}", shown, 0, "", problem)


def _is_utf8(name: str) -> bool:
    """Whether a file's name is text; bytes that are none stand as halves of letters in Python's
    strings.
    """
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
