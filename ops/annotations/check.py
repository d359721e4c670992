"""Everything that is wrong with a dataset's files, at once, before or after ingest; writes
nothing.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from configs.loading import read_yaml
from configs.schema import BUCKETS, ConfigError, Dataset, ProblemKind, TableName
from ops.annotations.join import Videos, named_videos, videos_of
from ops.annotations.lengths import measured
from ops.annotations.names import matches, renamed
from ops.annotations.read import Joined, Reading, join, read_files
from ops.annotations.report import refusal
from ops.annotations.rows import Problem
from ops.annotations.vocabulary import AnnotationError
from ops.files.storage import FileInfo, exists
from ops.media.listing import Listing, list_videos
from ops.store.buckets import stem_of
from ops.store.layout import Layout
from ops.store.tables import VIDEOS, read_tables

SPREADSHEET = re.compile(
    r"\d(?:[.,]\d+)?E[+-]?\d+|#(?:NAME\?|REF!|VALUE!|N/A)|'-.*|\d{1,2}[-."
    r" ][A-Z][a-z]{2}|[A-Z][a-z]{2}[-. ]\d{2}"
)
NAMES_COMPARED = 2_000  # of the files, with each row name that finds none
# What a person can do about each kind of problem.
ADVICE: dict[ProblemKind, str] = {
    "columns": (
        "each line needs the columns of the form; look for a stray separator or a line break inside"
        " a field"
    ),
    "text": "save the file as UTF-8, and close every quote on its line",
    "long_line": "a line end is missing, or the file is of another form",
    "empty": "fill the field or remove the row",
    "value": "write a plain finite number",
    "negative_time": "times and frames begin at 0",
    "end_before_start": "swap or correct the two ends",
    "box_outside": (
        "coordinates are fractions of the image where the form says so, else pixels inside it"
    ),
    "box_inverted": "the order is x1, y1, x2, y2, with the smaller corner first",
    "box_empty": "a box needs a width and a height",
    "unknown_label": "add the label to the vocabulary file, or correct its spelling",
    "unknown_split": "name the split in the config ('split'), or write train, val or test",
    "duplicate": "remove the copies; the first one counts",
    "contradiction": (
        "keep the true one; a clip that may have several labels needs 'multi_label: true'"
    ),
    "missing_video": "put the video in the folder, correct the 'video' template, or remove the row",
    "past_end": "correct the time; a shortened or wrong copy of the video shows like this too",
    "structure": "compare the place with the form of the file",
    "similar_labels": (
        "spell a label in one way everywhere; if these are different classes, allow it by this name"
    ),
    "time_unit": (
        "write seconds of the video file; if the times are right as they are, allow it by this name"
    ),
    "box_form": (
        "write boxes as the form has them; if they are right as they are, allow it by this name"
    ),
    "empty_class": (
        "nothing, if it is meant so, but then allow it by this name; else compare the vocabulary"
        " with the rows"
    ),
    "two_files": (
        "take one of the two files away; or, if the one that is taken is meant, allow it by this"
        " name"
    ),
    "vocabulary": "nothing, if the labels above are right",
    "matched_name": "nothing, if these are the same videos",
    "unannotated_video": "nothing, if these are meant to be without labels",
    "count": "compare your files with the publisher's; a partial copy shows like this",
}


@dataclass(frozen=True)
class Meeting:
    """How many videos that a table's rows name have a file; for those that have none, examples with
    the nearest file names.
    """

    table: TableName
    named: int
    met: int
    examples: tuple[tuple[str, str], ...]
    hint: str


@dataclass(frozen=True)
class Examination:
    """All that `check` can tell of a dataset. `error` is what `annotate` would say; None where it
    would go through.

    `torn` are videos that rows put into two splits, for which a run would stop before it trains
    (the check no_leak).
    """

    dataset: Dataset
    root: str
    root_exists: bool
    videos_folder: str
    num_files: int
    aside: Mapping[str, int]
    ingested: bool
    num_lengths: int
    reading: Reading
    joined: Joined
    meetings: tuple[Meeting, ...]
    torn: tuple[str, ...]
    error: AnnotationError | None

    @property
    def good(self) -> bool:
        """Whether annotations and folders are fit for use, and nothing is in doubt."""
        return self.usable and not self.doubts and not self.torn

    @property
    def usable(self) -> bool:
        """Whether annotations and folders are fit for use."""
        return self.error is None and (self.num_files > 0 or self.dataset.videos is None)

    @property
    def doubts(self) -> list[Problem]:
        """What refuses nothing, but may not be meant; the YAML's `allow` says that it is."""
        return self.joined.leave.doubts(self.joined.problems)


def examine(
    dataset: Dataset, layout: Layout, on_file: Callable[[str], None] = lambda path: None
) -> Examination:
    """Reads every annotation file and lists the videos folder.

    Args:
        dataset: need not have been ingested or annotated.
        layout: where the storage lies.
        on_file: is told what is read now.

    Raises:
        StorageError: a store fails.
    """
    root, folder = (
        layout.dataset_root(dataset),
        "" if dataset.videos is None else layout.videos_folder(dataset),
    )
    on_file(f"{dataset.videos}/")
    listed = list_videos(folder) if folder else Listing()
    listing = listed.files
    reading = read_files(dataset, layout, on_file=on_file)
    on_file("videos and annotations side by side")
    probed = read_tables(
        [layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)], VIDEOS
    )
    if listing:
        videos = listed_videos(dataset, listing, probed)
        found = matches(reading.tables, reading.entries, videos)[0]
        on_file("the lengths of some videos")
        videos = measured(reading.tables, videos, listing, found)
    else:  # no video is there yet: then the files are judged by themselves
        videos = named_videos(dataset, reading.tables, reading.entries)
    lengths = len(videos.row_of) - videos.table["duration_s"].null_count
    joined = join(dataset, reading, videos)
    error = refusal(dataset, joined.errors, joined.problems, joined.leave)
    tables = {kind: renamed(table, joined.matched) for kind, table in reading.tables.items()}
    meetings = (
        tuple(meeting(kind, table, videos) for kind, table in tables.items()) if listing else ()
    )
    torn = () if "no_leak" in dataset.allow else in_two_splits(tables.values())
    counted = (len(listing), listed.counts(), probed.num_rows > 0, lengths)
    return Examination(
        dataset, root, exists(root), folder, *counted, reading, joined, meetings, torn, error
    )


def in_two_splits(tables: Iterable[pa.Table]) -> tuple[str, ...]:
    """Videos that rows of any of the tables put into more than one split, sorted."""
    pairs = [
        table.select(["video_id", "split"]).group_by(["video_id", "split"]).aggregate([])
        for table in tables
    ]
    if not pairs:
        return ()
    both = pa.concat_tables(pairs).group_by("video_id").aggregate([("split", "count_distinct")])
    return tuple(
        sorted(both.filter(pc.greater(both["split_count_distinct"], 1))["video_id"].to_pylist())
    )


def yaml_errors(error: ConfigError, name: str) -> list[str]:
    """All mistakes of the dataset YAML that the error names, one a line; the error itself where
    they cannot be told apart.
    """
    try:
        Dataset.model_validate({**read_yaml(Path(error.where)), "name": name})
    except ValidationError as found:
        return [_mistake(item) for item in found.errors()]
    except ConfigError:
        return [str(error)]
    return [str(error)]


def _mistake(item: Mapping[str, Any]) -> str:
    field = ".".join(map(str, item["loc"])) or "(whole)"
    given = (
        ""
        if item["type"] == "missing" or isinstance(item["input"], dict)
        else f": found {item['input']!r}"
    )
    return f"{field}{given}: {item['msg'].removeprefix('Value error, ')}"


def listed_videos(dataset: Dataset, listing: Iterable[FileInfo], probed: pa.Table) -> Videos:
    """The files of the folder as videos, with what ingest has found out about those that it knows
    already.
    """
    known = {row["source_uri"]: row for row in probed.to_pylist()}
    found = dict[str, str]()
    for info in listing:
        row, stem = known.get(info.uri), stem_of(info.path_below)
        # as ingest names them
        found[row["video_id"] if row else info.path_below if stem in found else stem] = info.uri
    return videos_of(dataset, _rows(found, known))


def _rows(uris: Mapping[str, str], known: Mapping[str, Mapping[str, object]]) -> pa.Table:
    """A video table of these ids; what is not known is null, and every file counts as usable until
    it is probed.
    """
    names = list(uris)
    rows = [known.get(uris[name], {}) for name in names]
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in VIDEOS
    }
    columns["video_id"] = pa.array(names, pa.string())
    columns["source_uri"] = pa.array(list(uris.values()), pa.string())
    columns["status"] = pa.array([row.get("status", "ok") for row in rows], pa.string())
    return pa.table(columns, schema=VIDEOS)


def meeting(kind: TableName, table: pa.Table, videos: Videos) -> Meeting:
    """How a table's rows and the files find each other."""
    names = table["video_id"].unique().to_pylist()
    missing = [name for name in names if name not in videos.row_of]
    files = list(videos.row_of)
    # where others do find theirs, only a near miss is worth a look
    cutoff = 0.0 if len(missing) == len(names) else 0.8
    examples = tuple((name, nearest(name, files, cutoff)) for name in missing[:3])
    return Meeting(
        kind,
        len(names),
        len(names) - len(missing),
        examples,
        hint(missing[:200], files) if missing else "",
    )


def nearest(name: str, files: list[str], cutoff: float = 0.0) -> str:
    """The file name that is most like this one; empty where none is.

    Args:
        name: as a row has it.
        files: names to choose from.
        cutoff: how like it must be at least, 0 to 1; one that holds the name's last part always is.
    """
    last = name.rpartition("/")[2].lower()
    holding = [file for file in files if last in file.lower()]
    if holding:
        return min(holding, key=len)
    close = difflib.get_close_matches(name, files[:NAMES_COMPARED], n=1, cutoff=cutoff)
    return close[0] if close else ""


def hint(missing: list[str], files: list[str]) -> str:
    """What the names have in common that a change of the video template would mend; empty where
    nothing shows.
    """
    missing = [name.replace("\\", "/") for name in missing]
    by_last, lower = (
        {file.rpartition("/")[2]: file for file in files},
        {file.lower(): file for file in files},
    )
    for name in missing:
        last = name.rpartition("/")[2]
        if last in by_last:
            folder, own = by_last[last].removesuffix(last), name.removesuffix(last)
            return (
                f"the files lie in {folder!r}, the rows say {own!r}: change what stands before the"
                " name in the 'video' template"
            )
        if name.lower() in lower:
            return f"upper and lower case differ: {name!r} and {lower[name.lower()]!r}"
        stem = name.rpartition(".")[0]
        if stem and (stem in by_last or stem in lower.values()):
            return f"the rows keep a file ending, video ids have none: {name!r}"
    for name in missing:
        last = name.rpartition("/")[2]
        if SPREADSHEET.fullmatch(last):
            return (
                f"a spreadsheet has rewritten {last!r}: take the names from the original file, as"
                " text"
            )
        zeros = (
            next((file for file in by_last if file.lstrip("0") == last.lstrip("0") != ""), None)
            if last.isdigit()
            else None
        )
        if zeros is not None:
            return f"zeros in front differ: {last!r} and {zeros!r}; a spreadsheet drops them"
    for name in missing[:20]:
        longer = next(
            (
                file
                for file in files[: NAMES_COMPARED * 10]
                if file.startswith(name) and file != name
            ),
            None,
        )
        if longer is not None:
            return (
                f"the files' names go on where the rows' end ({name!r}, {longer!r}): add the rest"
                " to the 'video' template"
            )
    return ""
