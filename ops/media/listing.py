"""The files of a dataset's videos folder: those that may be videos, and what is left aside because
nobody meant it as one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ops.files.storage import FileInfo, list_files

# What systems, archives, downloaders and players leave beside films, by name; all in small letters
_SYSTEM_NAMES = {
    ".ds_store",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    ".directory",
    ".localized",
    ".nomedia",
    ".hidden",
    "icon\r",
}
_SYSTEM_FOLDERS = {
    "__macosx",
    ".trashes",
    ".trash",
    ".spotlight-v100",
    ".fseventsd",
    ".temporaryitems",
    ".appledouble",
    "@eadir",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    ".thumbnails",
    ".ipynb_checkpoints",
}
_BY_ENDING = {
    "a download that is not finished": (
        "part",
        "ytdl",
        "crdownload",
        "partial",
        "download",
        "opdownload",
        "aria2",
        "!qb",
        "!ut",
        "filepart",
    ),
    "subtitles": (
        "srt",
        "vtt",
        "ass",
        "ssa",
        "sub",
        "idx",
        "sbv",
        "ttml",
        "lrc",
        "srv1",
        "srv2",
        "srv3",
        "json3",
    ),
    "a thumbnail": ("jpg", "jpeg", "png", "webp", "thm"),
    "a downloader's notes": ("json", "description", "nfo", "url", "webloc", "torrent"),
}
_KIND_OF = {ending: kind for kind, endings in _BY_ENDING.items() for ending in endings}
_FRAGMENT = re.compile(r"\.part-frag\d+(\.part)?$")
SYSTEM = "a leftover of a system"


@dataclass
class Listing:
    """`files` of a folder by their path, and those left aside: (path below the folder, what it
    is).
    """

    files: list[FileInfo] = field(default_factory=list)
    aside: list[tuple[str, str]] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """How many of each kind are left aside."""
        found: dict[str, int] = {}
        for _, kind in self.aside:
            kind = kind.partition(": ")[0]
            found[kind] = found.get(kind, 0) + 1
        return found


def list_videos(folder: str) -> Listing:
    """The files below a dataset's videos folder, on any storage; what cannot be read at all has its
    `problem`. Raises StorageError.
    """
    listing = Listing()
    for info in list_files(folder, listing.aside):
        kind = leftover(info.path_below)
        if kind is None:
            listing.files.append(info)
        else:
            listing.aside.append((info.path_below, kind))
    return listing


def leftover(path_below: str) -> str | None:
    """What a file is, by its name alone, where it is none that somebody wants as a video; else
    None.
    """
    *folders, name = path_below.lower().split("/")
    if (
        name.startswith("._")
        or name in _SYSTEM_NAMES
        or name.endswith(":zone.identifier")
        or not _SYSTEM_FOLDERS.isdisjoint(folders)
    ):
        return SYSTEM
    if _FRAGMENT.search(name):
        return "a download that is not finished"
    stem, _, ending = name.rpartition(".")
    return _KIND_OF.get(ending) if stem else None
