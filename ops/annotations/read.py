"""From a dataset's official annotation files to its Parquet tables, with every refused row in a problem table."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import AnnotationFile, Dataset, TableName
from ops.annotations import activitynet_json, ava_csv, kinetics_csv, kinetics_tps
from ops.annotations.join import Coverage, coverage, read_videos, with_videos, without_repeats
from ops.annotations.lines import LINE_LIMIT
from ops.annotations.rows import Context, Problem, Read
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names, parse
from ops.store.files import list_files, read_bytes, remove
from ops.store.layout import Layout
from ops.store.tables import PROBLEMS, read_table, write_table

TABLES: tuple[TableName, ...] = ("clips", "segments", "boxes", "parts")
TABLE_OF: dict[str, TableName] = {
    "kinetics_csv": "clips", "activitynet_json": "segments", "ava_csv": "boxes", "kinetics_tps_json": "parts",
}  # fmt: skip
FILE_READERS: dict[str, Callable[[bytes, Context], Read]] = {
    "kinetics_csv": kinetics_csv.read, "activitynet_json": activitynet_json.read, "ava_csv": ava_csv.read,
}  # fmt: skip
READS_AT_ONCE = 16  # of the small files of a folder; a store answers many in the time of one
REPORT = b"kinograph.report"  # key of the report in the problem table's metadata


@dataclass(frozen=True)
class AnnotationReport:
    """What `annotate` found: rows kept, coverage per table and split, refused rows by reason, rows taken out by exclusion lists."""

    dataset: str
    rows: int
    coverage: tuple[Coverage, ...]
    num_problems: int
    reasons: dict[str, int]
    excluded: int
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Flat numbers: `<table>.<split>.rows|annotated|found|usable`, `.coverage` = usable / annotated, and `problems`."""
        numbers = {"problems": float(self.num_problems), "excluded": float(self.excluded)}
        for item in self.coverage:
            prefix = f"{item.table}.{item.split}."
            numbers |= {prefix + name: float(getattr(item, name)) for name in ("rows", "annotated", "found", "usable")}
            numbers[prefix + "coverage"] = item.usable / item.annotated if item.annotated else 0.0
        return numbers


def annotate(dataset: Dataset, layout: Layout) -> AnnotationReport:
    """Reads all annotation files, and writes the tables that they fill and the problem table (last).

    Needs the video tables. Rows of videos that are not there become problems; rows of quarantined videos stay, and coverage tells.
    Raises AnnotationError for files that cannot be used, all of them in one message, and then writes nothing; StorageError.
    """
    began, videos = time.monotonic(), read_videos(dataset, layout)
    read, problems, excluded = _read_all(dataset, layout)
    kept, covered = dict[TableName, pa.Table](), list[Coverage]()
    for kind, table in read.items():
        kept[kind], lost = with_videos(table, kind, videos)
        covered += coverage(table, kept[kind], kind, videos)
        problems += lost
    rows = sum(table.num_rows for table in kept.values())
    reasons = Counter(problem.reason for problem in problems)
    report = AnnotationReport(
        dataset.name, rows, tuple(covered), len(problems), dict(reasons.most_common()), excluded, time.monotonic() - began
    )
    for kind in TABLES:
        if kind in kept:
            write_table(layout.annotation_table(dataset.name, kind), kept[kind])
        else:  # the config named such a file once
            remove(layout.annotation_table(dataset.name, kind))
    write_table(layout.problem_table(dataset.name), _problem_table(problems, report))
    return report


def last_report(dataset: str, layout: Layout) -> AnnotationReport:
    """The report of the last `annotate`. Raises FileNotFoundError when there is none."""
    table = read_table(layout.problem_table(dataset))
    content = json.loads((table.schema.metadata or {})[REPORT])
    return AnnotationReport(**{**content, "coverage": tuple(Coverage(**item) for item in content["coverage"])})


def labels(dataset: Dataset, table: TableName, layout: Layout) -> list[str]:
    """Label names in the order of their ids. For clips, segments and parts label_id is the position in this list; for boxes see
    `vocabulary`, which has the ids too. Raises AnnotationError."""
    return list(vocabulary(dataset, table, layout).names)


def vocabulary(dataset: Dataset, table: TableName, layout: Layout) -> Vocabulary:
    """Vocabulary of a table: the file that its config names, else the sorted labels of the train split.

    Parts without a file of their own share the vocabulary of the clips. For boxes ids are those of the file, usually from 1.
    Raises AnnotationError when there is no file and no row of the train split, or two files disagree.
    """
    files = [file for file in dataset.annotations if file.table == table]
    where = f"dataset '{dataset.name}', {table}"
    if not files:
        raise AnnotationError(f"dataset '{dataset.name}'", "annotations", table, "a table that the config has files for")
    paths = sorted({file.labels for file in files if file.labels})
    if len(paths) > 1:
        raise AnnotationError(where, "labels", ", ".join(paths), "one vocabulary for all files of a table")
    if paths:
        return parse(_bytes(dataset, layout, paths[0]), _uri(dataset, layout, paths[0]), own_ids=table == "boxes")
    if table == "boxes":
        raise AnnotationError(where, "labels", None, "a .pbtxt or a text file with lines of 'id: name': box rows hold ids only")
    if table == "parts" and any(file.table == "clips" for file in dataset.annotations):
        return vocabulary(dataset, "clips", layout)
    splits = {} if table == "clips" else _splits(_read_all(dataset, layout, ("clips",))[0].get("clips"))
    found = set[str | None]()
    for file in files:
        rows = _read_file(file, dataset, layout, None, splits).table
        found.update(rows.filter(pc.equal(rows["split"], "train"))["label"].unique().to_pylist())
    names = sorted(name for name in found if name is not None)
    if not names:
        raise AnnotationError(where, "labels", None, "a vocabulary file in the config, since no row is in the train split")
    return from_names(names)


def _read_all(
    dataset: Dataset, layout: Layout, tables: tuple[TableName, ...] = TABLES
) -> tuple[dict[TableName, pa.Table], list[Problem], int]:
    """Good rows per table, each once; problems; number of excluded rows. Raises one AnnotationError for all unusable files."""
    read, problems, excluded, errors = dict[TableName, pa.Table](), list[Problem](), 0, list[AnnotationError]()
    for kind in tables:
        parts = list[Read]()
        files = [file for file in dataset.annotations if file.table == kind]
        try:
            known = vocabulary(dataset, kind, layout) if files else None
        except AnnotationError as error:
            errors.append(error)
            continue
        for file in files:
            try:
                parts.append(_read_file(file, dataset, layout, known, _splits(read.get("clips"))))
            except AnnotationError as error:
                errors.append(error)
        problems += [problem for part in parts for problem in part.problems]
        excluded += sum(part.excluded for part in parts)
        if parts:
            read[kind], repeats = without_repeats(pa.concat_tables([part.table for part in parts]), kind)
            problems += repeats
    distinct = {str(error): error for error in errors}  # the vocabulary of the parts may fail for the clips' reason
    if len(distinct) > 1:
        raise AnnotationError(f"dataset '{dataset.name}'", "annotations", f"{len(distinct)} unusable files", "\n  " + "\n  ".join(distinct))
    if distinct:
        raise next(iter(distinct.values()))
    return read, list(dict.fromkeys(problems)), excluded  # two files may share an exclusion list and its problems


def _splits(clips: pa.Table | None) -> Mapping[str, str]:
    """video_id -> split, for videos whose clips all lie in one split."""
    if clips is None:
        return {}
    pairs = clips.group_by(["video_id", "split"]).aggregate([]).to_pydict()
    times = Counter(pairs["video_id"])
    return {video: split for video, split in zip(pairs["video_id"], pairs["split"], strict=True) if times[video] == 1}


def _read_file(file: AnnotationFile, dataset: Dataset, layout: Layout, known: Vocabulary | None, splits: Mapping[str, str]) -> Read:
    where = f"dataset '{dataset.name}', {file.path}"
    if TABLE_OF[file.format] != file.table:
        raise AnnotationError(where, "table", file.table, f"{TABLE_OF[file.format]} for {file.format}")
    if file.exclusions and file.format != "ava_csv":
        raise AnnotationError(where, "exclusions", file.exclusions, "nothing: only ava_csv has exclusions")
    excluded, problems = frozenset[tuple[str, float]](), list[Problem]()
    if file.exclusions:
        excluded, problems = ava_csv.exclusions(_bytes(dataset, layout, file.exclusions), file.exclusions)
    context = Context(dataset.name, file.path, file.video, file.split, known, splits, excluded)
    try:
        if file.format == "kinetics_tps_json":
            read = kinetics_tps.read(_folder(_uri(dataset, layout, file.path)), context)
        else:
            read = FILE_READERS[file.format](_bytes(dataset, layout, file.path), context)
    except AnnotationError as error:  # readers know the path below the dataset's root; the person needs the whole one
        whole = error.file.replace(file.path, _uri(dataset, layout, file.path), 1)
        raise AnnotationError(whole, error.field, error.found, error.expected) from error
    return Read(read.table, problems + read.problems, read.excluded)


def _uri(dataset: Dataset, layout: Layout, path: str) -> str:
    return f"{layout.dataset_root(dataset)}/{path}"


def _bytes(dataset: Dataset, layout: Layout, path: str) -> bytes:
    uri = _uri(dataset, layout, path)
    try:
        return read_bytes(uri)
    except FileNotFoundError as error:
        raise AnnotationError(uri, "(whole file)", "no such file", f"the file that the config of dataset '{dataset.name}' names") from error


def _folder(uri: str) -> Iterator[tuple[str, bytes | None]]:
    """(path below the folder, content) of every file, in the order of the paths; None for one over LINE_LIMIT bytes."""
    files = list_files(uri)
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for begin in range(0, len(files), 1024):  # not all at once: the contents wait in memory
            batch = files[begin : begin + 1024]
            contents = pool.map(lambda info: None if info.bytes > LINE_LIMIT else read_bytes(info.uri), batch)
            yield from ((info.path_below, content) for info, content in zip(batch, contents, strict=True))


def _problem_table(problems: list[Problem], report: AnnotationReport) -> pa.Table:
    columns = list(zip(*problems, strict=True)) or [()] * len(Problem._fields)
    values = {"dataset": [report.dataset] * len(problems), **dict(zip(Problem._fields, columns, strict=True))}
    table = pa.table({name: pa.array(values[name], PROBLEMS.field(name).type) for name in PROBLEMS.names}, schema=PROBLEMS)
    return table.replace_schema_metadata({REPORT: json.dumps(asdict(report)).encode()})
