"""What every annotation reader takes and gives: a context, good rows, and a problem for each bad
one.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from configs.schema import ProblemKind, TableName
from ops.annotations.vocabulary import AnnotationError, Vocabulary

PIXEL_LIMIT = 65_535  # no video is larger
FOUND_LIMIT = 200  # characters of the offending text that a problem row keeps
SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


class Problem(NamedTuple):
    """One refused row. `line` is 1-based; 0 in json files, where `found` begins with the place
    inside the file.

    `kind` is the name by which a dataset's YAML allows such rows to be left out; `reason` is for
    people.
    """

    file: str
    line: int
    field: str
    found: str
    kind: ProblemKind
    reason: str


class Fault(NamedTuple):
    """What is wrong with one row, before it is known where the row stands."""

    field: str
    found: object
    kind: ProblemKind
    reason: str

    def at(self, file: str, line: int, place: str = "") -> Problem:
        """The fault as a problem; `place` (inside a json file) goes before what was found."""
        return Problem(
            file,
            line,
            self.field,
            shorten(f"{place}: {self.found}" if place else self.found),
            self.kind,
            self.reason,
        )


class Entry(NamedTuple):
    """A video that an annotation file lists, with or without rows of its own. `duration_s` and
    `fps` are the file's words, or None.
    """

    video_id: str
    split: str
    duration_s: float | None = None
    fps: float | None = None


class NoGoodRow(AnnotationError):
    """A file of which not one row is good, with the problems of all its rows."""

    def __init__(
        self, file: str, field: str, found: object, expected: str, problems: list[Problem]
    ) -> None:
        super().__init__(file, field, found, expected)
        self.problems = problems

    def __reduce__(self) -> tuple[type[NoGoodRow], tuple[str, str, object, str, list[Problem]]]:  # type: ignore[override]
        return type(self), (self.file, self.field, self.found, self.expected, self.problems)


class TemplateError(AnnotationError):
    """A video template that does not fit the columns of a file."""

    def __init__(self, file: str, template: str, columns: tuple[str, ...], why: str = "") -> None:
        self.columns, self.why = columns, why
        super().__init__(
            file,
            "video",
            template,
            f"a template over the columns {', '.join(columns)}" + (f" ({why})" if why else ""),
        )

    def __reduce__(self) -> tuple[type[TemplateError], tuple[str, object, tuple[str, ...], str]]:  # type: ignore[override]
        return type(self), (self.file, self.found, self.columns, self.why)


@dataclass(frozen=True)
class Context:
    """What a reader must know beside the bytes of its file.

    `table` is the table to fill, for the formats that fill more than one. `video` is the template
    that turns a row's columns into a video_id. `subset` names the part of a file's videos to read,
    in the file's own word, where it has such parts. `split` overrides the file's own split, `fold`
    chooses one of a file's own splits, `target` one of a row's labels. `splits` maps video_id to
    split for formats that carry none. `first_id` is the number of the first label where rows name
    theirs by number; None: as the vocabulary file numbers them, else 0. `excluded` holds (video as
    the file names it, timestamp in s) of frames to leave out. Without a vocabulary every label is
    taken, and its id is filled in later.
    """

    dataset: str
    file: str
    table: TableName | None = None
    video: str = "{video}"
    subset: str | None = None
    split: str | None = None
    fold: int | None = None
    target: str = "label"
    multi_label: bool = False
    first_id: int | None = None
    vocabulary: Vocabulary | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    excluded: frozenset[tuple[str, float]] = frozenset()

    def check_template(self, sample: Mapping[str, Any]) -> None:
        """Raises TemplateError when the video template does not fit a sample row, or names a column
        that the row lacks.
        """
        try:
            names = [
                name for _, name, _, _ in string.Formatter().parse(self.video) if name is not None
            ]
            known = bool(names) and all(name in sample for name in names)
            if known:
                self.video.format(**sample)
        except (ValueError, LookupError) as error:
            raise TemplateError(self.file, self.video, tuple(sample), str(error)) from error
        if not known:
            raise TemplateError(self.file, self.video, tuple(sample))

    def label_id(self, label: str) -> int | None:
        """Id of a label; None for a label that the vocabulary lacks. Without a vocabulary every
        label has the id -1.
        """
        return -1 if self.vocabulary is None else self.vocabulary.id_of.get(label)


@dataclass(frozen=True)
class Read:
    """A reader's answer: good rows in the table's schema, refused rows, and the number of rows that
    an exclusion list took out.

    `entries` are the videos that the file lists beside its rows; empty where the rows say all.
    `excluded_frames` are the key frames of the exclusion list that this file's videos have, as
    (video_id, split, timestamp_s). `by_number` says that rows name labels by number.
    """

    table: pa.Table
    problems: list[Problem]
    excluded: int = 0
    entries: tuple[Entry, ...] = ()
    excluded_frames: tuple[tuple[str, str, float], ...] = ()
    by_number: bool = False


class Rows:
    """Collects rows (tuples in the order of the schema, without its dataset column) into a table,
    some 65,000 at a time so that memory stays small.
    """

    BATCH = 65_536

    def __init__(self, schema: pa.Schema, dataset: str) -> None:
        self.schema, self.dataset = schema, dataset
        self.columns = [name for name in schema.names if name != "dataset"]
        self.pending: list[tuple[Any, ...]] = []
        self.batches: list[pa.RecordBatch] = []
        self.count = 0

    def add(self, *row: Any) -> None:
        """One row without its dataset column."""
        self.pending.append(row)
        self.count += 1
        if len(self.pending) >= self.BATCH:
            self._flush()

    def _flush(self) -> None:
        values: dict[str, Any] = dict(
            zip(self.columns, zip(*self.pending, strict=True), strict=True)
        )
        values["dataset"] = [self.dataset] * len(self.pending)
        arrays = [pa.array(values[name.name], name.type) for name in self.schema]
        self.batches.append(pa.RecordBatch.from_arrays(arrays, schema=self.schema))
        self.pending = []

    def finish(
        self,
        context: Context,
        problems: list[Problem],
        expected: str,
        excluded: int = 0,
        entries: Iterable[Entry] = (),
        excluded_frames: Iterable[tuple[str, str, float]] = (),
    ) -> Read:
        """The reader's answer.

        Args:
            context: of the file.
            problems: of its other rows.
            expected: what rows the format takes, for the error.
            excluded: how many rows are left out on purpose.
            entries: videos that the file lists.
            excluded_frames: (video_id, split, time in s) of key frames on the exclusion list.

        Raises:
            NoGoodRow: the file has neither a good row nor a listed video.
            AnnotationError: the file has no row at all.
        """
        entries = tuple(entries)
        if not self.count and not entries:
            if not problems:
                raise AnnotationError(context.file, "(rows)", "no rows", expected)
            found = f"no good row; first of {len(problems)} problems: {describe(problems[0])}"
            raise NoGoodRow(context.file, "(rows)", found, expected, problems)
        if self.pending:
            self._flush()
        return Read(
            pa.Table.from_batches(self.batches, schema=self.schema),
            problems,
            excluded,
            entries,
            tuple(excluded_frames),
        )


def describe(problem: Problem) -> str:
    """A problem in one line of text."""
    where = f"{problem.file}:{problem.line}" if problem.line else problem.file
    return f"{where}: {problem.field} {problem.found!r}: {problem.reason}"


def shorten(found: object) -> str:
    """The text of a wrong value, cut to the length that a problem row keeps."""
    text = found if isinstance(found, str) else repr(found)
    return text if len(text) <= FOUND_LIMIT else text[: FOUND_LIMIT - 1] + "…"


def split_name(text: str) -> str | None:
    """'train', 'val' or 'test' for the spellings that official files use; None for any other."""
    return SPLITS.get(text.strip().lower())


def number(value: object) -> float | None:
    """A finite number from a JSON value or a csv field; None for anything else (NaN, infinity,
    '1_0', true).
    """
    if isinstance(value, str):
        if "_" in value or not value.isascii():  # float() takes '1_0' and digits of other scripts
            return None
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def interval_fault(start: object, end: object, names: tuple[str, str]) -> Fault | None:
    """What is wrong with a span of time in s; None for a good one (0 <= start < end)."""
    first, last = number(start), number(end)
    if first is None:
        return Fault(names[0], start, "value", "not a finite number")
    if last is None:
        return Fault(names[1], end, "value", "not a finite number")
    if first < 0:
        return Fault(names[0], start, "negative_time", "negative time")
    if last <= first:
        return Fault(names[1], f"{start} to {end}", "end_before_start", "end is not after start")
    return None


def box_fault(box: object, limit: float | None, field: str = "box") -> Fault | None:
    """What is wrong with an xyxy box; None for a good one.

    Args:
        box: a value as the file has it.
        limit: coordinates lie in [0, limit] (1 for normalised boxes) and the box has an area; None:
            they are inclusive pixels: not negative, and x1 == x2 is a box one pixel wide.
        field: that the fault names.
    """
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return Fault(field, box, "value", "a box is [x1, y1, x2, y2]")
    values = [number(value) for value in box]
    if any(value is None for value in values):
        return Fault(field, box, "value", "a coordinate is not a finite number")
    x1, y1, x2, y2 = (value for value in values if value is not None)
    if min(x1, y1, x2, y2) < 0 or max(x1, y1, x2, y2) > (PIXEL_LIMIT if limit is None else limit):
        return Fault(
            field,
            box,
            "box_outside",
            "box outside the image" if limit is None else f"box outside [0, {limit:g}]",
        )
    if x2 < x1 or y2 < y1:
        return Fault(field, box, "box_inverted", "inverted box")
    if limit is not None and (x1 == x2 or y1 == y2):
        return Fault(field, box, "box_empty", "box without area")
    return None
