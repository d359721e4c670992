"""Names of videos in the rows that are not quite those of the files: matched where exactly one
fits, else shown with their difference.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import TableName
from ops.annotations.clips import EXTENSION
from ops.annotations.doubts import visible
from ops.annotations.join import Videos
from ops.annotations.rows import Entry, Problem

PLAIN = re.compile(r"(?:[\w-]+/)*[\w-]+", re.ASCII)  # nothing but the case can differ
SLASHES = re.compile(r"[\\/]+")


def _one_slash(name: str) -> str:
    return SLASHES.sub("/", name.strip()).removeprefix("./").strip("/")


def _without_ending(name: str) -> str:
    while (shorter := EXTENSION.sub("", name)) not in (name, ""):  # film.mp4.mp4
        name = shorter
    return name


# What systems and programs change in a name on their own.
CHANGES: dict[str, Callable[[str], str]] = {
    "case": str.casefold,
    "Unicode form": lambda name: unicodedata.normalize("NFC", name),
    "blanks or slashes": _one_slash,
    "file ending": _without_ending,
}


def bare(name: str, but: str = "") -> str:
    """The name without what `CHANGES` lists; with one of these as it is."""
    if not but and PLAIN.fullmatch(name):  # almost every name of a million
        return name.lower()
    for word, change in CHANGES.items():
        if word != but and not (word == "Unicode form" and name.isascii()):
            name = change(name)
    return name


def difference(name: str, file: str) -> str:
    """In words, what two names differ in that `bare` takes for the same."""
    return (
        " and ".join(word for word in CHANGES if bare(name, word) != bare(file, word)) or "spelling"
    )


def matches(
    tables: Mapping[TableName, pa.Table], entries: Iterable[tuple[TableName, Entry]], videos: Videos
) -> tuple[dict[str, str], dict[str, str]]:
    """Names of the rows that no file has: (to the file's name, where one and only one fits; to
    words on those that fit but not alone).
    """
    named = {entry.video_id for _, entry in entries}.union(
        *(table["video_id"].unique().to_pylist() for table in tables.values())
    )
    missing, there = dict[str, list[str]](), dict[str, list[str]]()
    for name in named:
        if name not in videos.row_of:
            missing.setdefault(bare(name), []).append(name)
    for file in _candidates(list(videos.row_of), missing):
        key = bare(file)
        if key in missing:
            there.setdefault(key, []).append(file)
    found, words = dict[str, str](), dict[str, str]()
    for key, files in there.items():
        names = missing[key]
        if len(names) == len(files) == 1 and files[0] not in named:
            found[names[0]] = files[0]
            continue
        for name in names:
            others = [other for other in (*files, *names) if other != name]
            shown = ", ".join(map(visible, others[:3]))
            words[name] = (
                f"{visible(name)} is one of several that differ in their"
                f" {difference(name, others[0])} alone: {shown}"
            )
    return found, words


def _candidates(files: list[str], keys: Iterable[str]) -> list[str]:
    """The files whose `bare` name may be one of these: a few of a million, found without a look at
    each.
    """
    wanted = pa.array(list(keys), pa.string())
    if not len(wanted):
        return []
    names = pa.array(files, pa.string())
    special = pc.match_substring_regex(names, r"[^A-Za-z0-9_/-]|^/|/$|//")
    return names.filter(
        pc.or_(special, pc.is_in(pc.utf8_lower(names), value_set=wanted))
    ).to_pylist()


def doubles(tables: Mapping[TableName, pa.Table], videos: Videos) -> list[Problem]:
    """A doubt for each name of the rows that two files have, of another ending each, where the rows
    do not name both.
    """
    names = pa.array(list(videos.row_of), pa.string())
    endings = names.filter(
        pc.match_substring_regex(names, EXTENSION.pattern, ignore_case=True)
    ).to_pylist()
    twins = [
        (stem, file)
        for file in endings
        if (stem := _without_ending(file)) in videos.row_of and stem != file
    ]
    named = (
        set().union(*(table["video_id"].unique().to_pylist() for table in tables.values()))
        if twins
        else set()
    )
    folder, uris = videos.dataset.videos or "", videos.table["source_uri"]
    found = []
    for stem, file in twins:
        if stem in named and file not in named:
            taken, other = (
                str(uris[videos.row_of[name]].as_py()).rpartition("/")[2] for name in (stem, file)
            )
            text = f"{visible(stem)}: {taken} is taken, {other} is not"
            found.append(
                Problem(
                    folder,
                    0,
                    "video",
                    text,
                    "two_files",
                    "two files have this name, but for the ending: which is meant?",
                )
            )
    return found


def told(found: Mapping[str, str], videos: Videos) -> list[Problem]:
    """A note for each name that was matched."""
    folder = videos.dataset.videos or ""
    words = [
        (f"{visible(name)} is {visible(file)}", difference(name, file))
        for name, file in sorted(found.items())
    ]
    return [
        Problem(folder, 0, "video", pair, "matched_name", f"they differ in their {what} alone")
        for pair, what in words
    ]


def renamed(table: pa.Table, found: Mapping[str, str]) -> pa.Table:
    """The table with the files' names for the rows'; clips that are called after their video go
    with it.
    """
    if not found:
        return table
    names = table["video_id"].to_pylist()
    new = [found.get(name, name) for name in names]
    columns = {"video_id": new}
    if "clip_id" in table.schema.names:
        triples = zip(table["clip_id"].to_pylist(), names, new, strict=True)
        columns["clip_id"] = [
            file + clip[len(name) :] if clip.startswith(name) else clip
            for clip, name, file in triples
        ]
    for column, values in columns.items():
        place = table.schema.get_field_index(column)
        table = table.set_column(place, table.schema.field(column), pa.array(values, pa.string()))
    return table
