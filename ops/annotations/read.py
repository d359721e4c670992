"""From a dataset's official annotation files to its Parquet tables, with every row left out in a
problem table.

Every format is a module of `ops.annotations.formats` of its name. It exports `TABLE` (or `TABLES`,
where it fills more than one), `FOLDER`, `EXPECTED`, `sniff` and `read`; `OPTIONS`, where it knows
`subset` or `fold`; and, where the format has official files of them, `vocabulary(data, file,
target)` and `exclusions(data, file)`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import ModuleType

import pyarrow as pa

from configs.schema import AnnotationFile, Dataset, TableName
from ops.annotations.boxes import box_questions
from ops.annotations.doubts import check_numbers, empty_classes, similar, with_near_labels
from ops.annotations.join import (
    Videos,
    coverage,
    entries_table,
    named_videos,
    read_videos,
    train_labels,
    unannotated,
    unmet,
    with_ids,
    with_videos,
    without_repeats,
)
from ops.annotations.lines import LINE_LIMIT
from ops.annotations.names import doubles, matches, renamed, told
from ops.annotations.report import (
    ROWLESS,
    AnnotationReport,
    Leave,
    by_kind,
    count_all,
    count_notes,
    refusal,
    write_problems,
)
from ops.annotations.report import last_report as last_report
from ops.annotations.rows import Context, Entry, Fault, NoGoodRow, Problem, Read
from ops.annotations.times import unit_questions, with_said
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_found, parse
from ops.files.storage import list_files, read_bytes, remove
from ops.media.listing import SYSTEM, leftover
from ops.store.layout import Layout
from ops.store.tables import EXCLUDED, write_table

TABLES: tuple[TableName, ...] = ("clips", "segments", "boxes", "parts")
READS_AT_ONCE = 16  # of the small files of a folder; a store answers many in the time of one


@dataclass(frozen=True)
class FileRead:
    """One entry of the config's annotations: how many good rows its file gave (None: it could not
    be read), and how many problems.
    """

    file: AnnotationFile
    rows: int | None
    problems: int


@dataclass
class Reading:
    """What the files hold, before it is known which videos are there. Tables have each row once,
    and no contradictions.

    `problems` are those of single rows, `words` speak of a table's labels as a whole.
    """

    files: list[FileRead] = field(default_factory=list)
    tables: dict[TableName, pa.Table] = field(default_factory=dict)
    vocabularies: dict[tuple[TableName, str], Vocabulary] = field(default_factory=dict)
    entries: list[tuple[TableName, Entry]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    words: list[Problem] = field(default_factory=list)
    errors: list[AnnotationError] = field(default_factory=list)
    excluded: int = 0
    excluded_frames: set[tuple[str, str, float]] = field(default_factory=set)


@dataclass
class Joined:
    """What of a reading can be used with the videos that are there, and all that is wrong with it.

    `matched` gives the files' names for those of the rows that are not quite the same.
    """

    tables: dict[TableName, pa.Table]
    entries: pa.Table
    excluded_frames: set[tuple[str, str, float]]
    matched: dict[str, str]
    problems: list[Problem]
    errors: list[AnnotationError]
    report: AnnotationReport
    leave: Leave


def annotate(dataset: Dataset, layout: Layout) -> AnnotationReport:
    """Reads all annotation files, and writes the tables that they fill and the problem table
    (last).

    Needs the video tables, but for a dataset that has features only. Rows of quarantined videos
    stay, and coverage tells. Raises one AnnotationError for everything that is wrong and not
    allowed by the dataset's YAML, files and rows together; then the problem table is written and
    nothing else. StorageError.
    """
    began = time.monotonic()
    videos = None if dataset.videos is None else read_videos(dataset, layout)
    reading = read_files(dataset, layout)
    videos = videos or named_videos(dataset, reading.tables, reading.entries)
    joined = join(dataset, reading, videos)
    error = refusal(
        dataset, joined.errors, joined.problems, joined.leave, layout.problem_table(dataset.name)
    )
    report = AnnotationReport(
        **{**vars(joined.report), "refused": error is not None, "seconds": time.monotonic() - began}
    )
    if error is not None:
        write_problems(joined.problems, joined.leave, report, layout)
        raise error
    for kind in TABLES:
        if kind in joined.tables:
            write_table(layout.annotation_table(dataset.name, kind), joined.tables[kind])
        else:  # the config named such a file once
            remove(layout.annotation_table(dataset.name, kind))
    write_table(layout.entries_table(dataset.name), joined.entries)
    write_table(
        layout.excluded_table(dataset.name), _excluded_table(dataset.name, joined.excluded_frames)
    )
    write_problems(joined.problems, joined.leave, report, layout)
    return report


def join(dataset: Dataset, reading: Reading, videos: Videos) -> Joined:
    """The reading against the videos that are there: what the tables keep, every problem and note,
    and the report.

    Args:
        dataset: whose files were read.
        reading: of its files.
        videos: of the video tables, or those that the annotations name.
    """
    kept, problems, errors = (
        dict[TableName, pa.Table](),
        [*reading.problems, *reading.words],
        list(reading.errors),
    )
    matched, why_not = matches(reading.tables, reading.entries, videos)
    problems += told(matched, videos)
    tables = {kind: renamed(table, matched) for kind, table in reading.tables.items()}
    problems += doubles(tables, videos)
    entries = [
        (kind, entry._replace(video_id=matched.get(entry.video_id, entry.video_id)))
        for kind, entry in reading.entries
    ]
    videos = with_said(
        videos,
        {entry.video_id: entry.duration_s for _, entry in entries if entry.duration_s is not None},
    )
    for kind, table in tables.items():
        error = unmet(kind, table, videos)
        if error is not None:  # one error, not a problem for each row
            errors.append(error)
        kept[kind], lost = (
            (table.slice(0, 0), [])
            if error is not None
            else with_videos(table, kind, videos, why_not)
        )
        problems += lost
        problems += unit_questions(kind, table, videos) + box_questions(
            kind, table, reading.problems, videos
        )
    counts = count_all(dataset, tables, entries)
    problems += count_notes(counts, dataset)
    problems += unannotated(tables, entries, videos)
    found = by_kind(problems)
    report = AnnotationReport(
        dataset=dataset.name,
        rows=sum(table.num_rows for table in kept.values()),
        coverage=coverage(tables, kept, entries, videos),
        counts=counts,
        kinds={kind: count for kind, count in found.items() if kind not in ROWLESS},
        notes={kind: count for kind, count in found.items() if kind in ROWLESS},
        unusable=tuple(str(error) for error in errors),
        excluded=reading.excluded,
    )
    excluded = {
        (matched.get(video, video), split, time) for video, split, time in reading.excluded_frames
    }
    listed = entries_table(dataset.name, kept, entries, videos)
    return Joined(kept, listed, excluded, matched, problems, errors, report, Leave(dataset))


def labels(dataset: Dataset, table: TableName, layout: Layout, target: str = "label") -> list[str]:
    """Label names in the order of their ids. For clips, segments and parts label_id is the position
    in this list; for boxes see `vocabulary`, which has the ids too.

    Args:
        dataset: whose files give the names.
        table: one that the config has files for.
        layout: where the dataset's files lie.
        target: one that the config has for the table.

    Raises:
        AnnotationError: as `vocabulary` does.
    """
    return list(vocabulary(dataset, table, layout, target).names)


def vocabulary(
    dataset: Dataset, table: TableName, layout: Layout, target: str = "label"
) -> Vocabulary:
    """Vocabulary of a table's target: the file that its config names, else the labels of the train
    split.

    Parts without a file of their own share the vocabulary of the clips. For boxes ids are those of
    the file, usually from 1.

    Args:
        dataset: whose files give the names.
        table: one that the config has files for.
        layout: where the dataset's files lie.
        target: one that the config has for the table.

    Raises:
        AnnotationError: there is no file and no row of the train split, or two files disagree, or
            the config has no such table or target.
    """
    files = [file for file in dataset.annotations if file.table == table]
    if not files:
        raise AnnotationError(
            f"dataset '{dataset.name}'",
            "annotations",
            table,
            "a table that the config has files for",
        )
    targets = sorted({file.target for file in files})
    if target not in targets:
        raise AnnotationError(
            f"dataset '{dataset.name}', {table}", "target", target, ", ".join(targets)
        )
    files = [file for file in files if file.target == target]
    if table == "parts" and _borrows(dataset, files):
        return vocabulary(dataset, "clips", layout, target)
    given = _given_vocabulary(files, dataset, layout)
    if given is not None:
        return given
    reading = read_files(
        dataset, layout, (table,) if table == "clips" else ("clips", table), target
    )
    if (table, target) not in reading.vocabularies:
        raise next(iter(reading.errors))
    return reading.vocabularies[table, target]


def read_files(
    dataset: Dataset,
    layout: Layout,
    tables: tuple[TableName, ...] = TABLES,
    target: str | None = None,
    on_file: Callable[[str], None] = lambda path: None,
) -> Reading:
    """Reads the dataset's annotation files. Raises no AnnotationError: it collects them.

    Args:
        dataset: whose config names the files.
        layout: where the dataset's files lie.
        tables: whose files are read.
        target: whose files are read; None is all.
        on_file: is told the path of each file before it is read.
    """
    reading = Reading()
    for kind in tables:
        chosen = [
            file
            for file in dataset.annotations
            if file.table == kind and target in (None, file.target)
        ]
        parts = []
        for name in dict.fromkeys(file.target for file in chosen):
            part = _read_target(
                kind,
                [file for file in chosen if file.target == name],
                dataset,
                layout,
                reading,
                on_file,
            )
            if part is not None:
                parts.append(part)
        if parts:
            reading.tables[kind] = pa.concat_tables(parts)
    # parts may fail for the clips' reason
    reading.errors = list({str(error): error for error in reading.errors}.values())
    # files may share an exclusion list, or be read once for each target
    reading.problems = list(dict.fromkeys(reading.problems))
    return reading


def _read_target(
    kind: TableName,
    files: list[AnnotationFile],
    dataset: Dataset,
    layout: Layout,
    reading: Reading,
    on_file: Callable[[str], None],
) -> pa.Table | None:
    """Good rows of one table's files for one target; all else goes into the reading."""
    target = files[0].target
    try:
        known = reading.vocabularies.get(("clips", target)) if _borrows(dataset, files) else None
        known = known or _given_vocabulary(files, dataset, layout)
    except AnnotationError as error:
        reading.errors.append(error)
        return None
    parts, splits = list[Read](), dict(_splits(reading.tables.get("clips")))
    for file in files:
        on_file(file.path)
        try:
            parts.append(_read_file(file, dataset, layout, known, splits))
            reading.files.append(FileRead(file, parts[-1].table.num_rows, len(parts[-1].problems)))
            # a list of the videos and their splits may come before the file with their rows
            for entry in parts[-1].entries:
                splits.setdefault(entry.video_id, entry.split)
        except AnnotationError as error:
            reading.errors.append(error)
            lost = error.problems if isinstance(error, NoGoodRow) else []
            reading.files.append(FileRead(file, None, len(lost)))
            reading.problems += lost
    reading.problems += [problem for part in parts for problem in part.problems]
    reading.excluded += sum(part.excluded for part in parts)
    reading.excluded_frames.update(frame for part in parts for frame in part.excluded_frames)
    if not parts:
        return None
    table = pa.concat_tables([part.table for part in parts])
    try:
        if known is None:
            known = from_found(
                train_labels(table), f"dataset '{dataset.name}', {kind}", files[0].first_id or 0
            )
            table, unknown = with_ids(table, known)
            reading.problems += unknown
        reading.problems = with_near_labels(reading.problems, known)
        check_numbers(table, known, files, any(part.by_number for part in parts))
    except AnnotationError as error:
        reading.errors.append(error)
        return None
    reading.words += _about_labels(kind, table, known, files)
    reading.vocabularies[kind, target] = known
    reading.entries += [(kind, entry) for part in parts for entry in part.entries]
    table, repeats = without_repeats(table, kind, any(file.multi_label for file in files))
    reading.problems += repeats
    return table


def _about_labels(
    kind: TableName, table: pa.Table, known: Vocabulary, files: list[AnnotationFile]
) -> list[Problem]:
    """Words on a table's labels as a whole."""
    path, found = (
        next((file.labels for file in files if file.labels), None) or files[0].path,
        list[Problem](),
    )
    if known.word:
        found.append(Fault("labels", path, "vocabulary", known.word).at(files[0].path, 0))
    if kind == "parts":  # their label is their video's
        for column in ("part", "state"):
            found += similar(
                (name for name in table[column].unique().to_pylist() if name is not None),
                files[0].path,
                column,
            )
        return found
    return (
        found
        + similar(known.names, files[0].path)
        + empty_classes(table, known, files[0].path, own_ids=kind == "boxes")
    )


def _borrows(dataset: Dataset, files: list[AnnotationFile]) -> bool:
    """Whether these files take their vocabulary from the clips: parts that name none of their
    own.
    """
    if files[0].table != "parts" or any(file.labels for file in files):
        return False
    return any(
        file.table == "clips" and file.target == files[0].target for file in dataset.annotations
    )


def _given_vocabulary(
    files: list[AnnotationFile], dataset: Dataset, layout: Layout
) -> Vocabulary | None:
    """The vocabulary that the config names for the files of one table and target; None where it
    names none.
    """
    paths = sorted({file.labels for file in files if file.labels})
    if not paths:
        return None
    if len(paths) > 1:
        where = f"dataset '{dataset.name}', {files[0].table}"
        raise AnnotationError(
            where, "labels", ", ".join(paths), "one vocabulary for all files of a table"
        )
    data, uri, file = (
        _bytes(dataset, layout, paths[0]),
        _uri(dataset, layout, paths[0]),
        next(file for file in files if file.labels),
    )
    own = getattr(format_module(file.format), "vocabulary", None)
    return own(data, uri, file.target) if own else parse(data, uri, own_ids=file.table == "boxes")


def _splits(clips: pa.Table | None) -> Mapping[str, str]:
    """video_id -> split, for videos whose clips all lie in one split."""
    if clips is None:
        return {}
    pairs = clips.group_by(["video_id", "split"]).aggregate([]).to_pydict()
    times = Counter(pairs["video_id"])
    return {
        video: split
        for video, split in zip(pairs["video_id"], pairs["split"], strict=True)
        if times[video] == 1
    }


def format_module(name: str) -> ModuleType:
    """The module of a format. Raises AnnotationError for a name that has none."""
    path = f"ops.annotations.formats.{name}"
    try:
        return import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        raise AnnotationError(
            "annotations", "format", name, "a module of ops.annotations.formats"
        ) from error


def tables_of(module: ModuleType) -> tuple[TableName, ...]:
    """The tables that a format can fill, the usual one first."""
    return getattr(module, "TABLES", None) or (module.TABLE,)


def _read_file(
    file: AnnotationFile,
    dataset: Dataset,
    layout: Layout,
    known: Vocabulary | None,
    splits: Mapping[str, str],
) -> Read:
    where, module = f"dataset '{dataset.name}', {file.path}", format_module(file.format)
    if file.table not in tables_of(module):
        raise AnnotationError(
            where, "table", file.table, f"{' or '.join(tables_of(module))} for {file.format}"
        )
    for option in ("subset", "fold", "first_id"):
        if getattr(file, option) is not None and option not in getattr(module, "OPTIONS", ()):
            raise AnnotationError(
                where, option, getattr(file, option), f"nothing: {file.format} has no {option}"
            )
    excluded, problems = frozenset[tuple[str, float]](), list[Problem]()
    if file.exclusions:
        if not hasattr(module, "exclusions"):
            raise AnnotationError(
                where, "exclusions", file.exclusions, f"nothing: {file.format} has no exclusions"
            )
        excluded, problems = module.exclusions(
            _bytes(dataset, layout, file.exclusions), file.exclusions
        )
    context = Context(
        dataset.name,
        file.path,
        table=file.table,
        video=file.video,
        subset=file.subset,
        split=file.split,
        fold=file.fold,
        target=file.target,
        multi_label=file.multi_label,
        first_id=file.first_id,
        vocabulary=known,
        splits=splits,
        excluded=excluded,
    )
    uri = _uri(dataset, layout, file.path)
    try:
        read = module.read(
            folder(uri) if module.FOLDER else _bytes(dataset, layout, file.path), context
        )
    # readers know the path below the dataset's root; the person needs the whole one
    except AnnotationError as error:
        whole = error.file if error.file.startswith(uri) else error.file.replace(file.path, uri, 1)
        if isinstance(error, NoGoodRow):
            raise NoGoodRow(
                whole, error.field, error.found, error.expected, problems + error.problems
            ) from error
        raise AnnotationError(whole, error.field, error.found, error.expected) from error
    return replace(read, problems=problems + read.problems)


def _uri(dataset: Dataset, layout: Layout, path: str) -> str:
    return f"{layout.dataset_root(dataset)}/{path}"


def _bytes(dataset: Dataset, layout: Layout, path: str) -> bytes:
    uri = _uri(dataset, layout, path)
    try:
        return read_bytes(uri)
    except FileNotFoundError as error:
        raise AnnotationError(
            uri,
            "(whole file)",
            "no such file",
            f"the file that the config of dataset '{dataset.name}' names",
        ) from error


def folder(uri: str) -> Iterator[tuple[str, bytes | None]]:
    """(path below the folder, content) of every file, in the order of the paths; None for one over
    LINE_LIMIT bytes.

    What systems leave in folders (`.DS_Store`, `._list.txt`, `Thumbs.db`) is nobody's.
    """
    files = [info for info in list_files(uri) if leftover(info.path_below) != SYSTEM]
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for begin in range(0, len(files), 1024):  # not all at once: the contents wait in memory
            batch = files[begin : begin + 1024]
            contents = pool.map(
                lambda info: None if info.bytes > LINE_LIMIT else read_bytes(info.uri), batch
            )
            yield from (
                (info.path_below, content) for info, content in zip(batch, contents, strict=True)
            )


def _excluded_table(dataset: str, frames: set[tuple[str, str, float]]) -> pa.Table:
    rows = sorted(frames)
    values = {
        "dataset": [dataset] * len(rows),
        "video_id": [row[0] for row in rows],
        "split": [row[1] for row in rows],
        "timestamp_s": [row[2] for row in rows],
    }
    return pa.table(values, schema=EXCLUDED)
