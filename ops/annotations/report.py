"""What reading a dataset's annotations has found: counts, coverage, and the problem table that
holds every row left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import DOUBTS, NOTES, PROBLEM_KINDS, QUESTIONS, Dataset, ProblemKind, TableName
from ops.annotations.rows import Entry, Problem, describe
from ops.annotations.vocabulary import AnnotationError
from ops.store.layout import Layout
from ops.store.tables import PROBLEMS, read_table, write_table

ROWLESS: tuple[ProblemKind, ...] = (*QUESTIONS, *DOUBTS, *NOTES)  # they leave no row out
TOLD = 20  # problems that a refusal shows in words
REPORT = b"kinograph.report"  # key of the report in the problem table's metadata


@dataclass(frozen=True)
class Coverage:
    """How much of one split's annotations can be used.

    rows: kept in the table. annotated: videos that the files name, with good rows or listed without
    any. found: those in the video tables. usable: those that ingest found readable. expected: rows
    that the publisher counts (None where the config says nothing).
    """

    table: TableName
    split: str
    rows: int
    annotated: int
    found: int
    usable: int
    expected: int | None = None


@dataclass(frozen=True)
class Count:
    """A number that the publisher gives (`key` as in the config: clips.train.rows) and the one that
    the files hold.
    """

    key: str
    expected: int
    found: int

    @property
    def differs(self) -> bool:
        """Whether the files hold another number."""
        return self.found != self.expected


@dataclass(frozen=True)
class AnnotationReport:
    """What `annotate` found: rows kept, coverage per table and split, problems by kind, counts
    against the publisher's.

    kinds: rows left out, by kind of problem; notes: what left no row out (notes, doubts,
    questions), likewise. unusable: files that could not be read at all, in words. excluded: rows
    that exclusion lists took out. refused: the dataset was refused, and only the problem table was
    written.
    """

    dataset: str
    rows: int
    coverage: tuple[Coverage, ...]
    counts: tuple[Count, ...] = ()
    kinds: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    unusable: tuple[str, ...] = ()
    excluded: int = 0
    refused: bool = False
    seconds: float = 0.0

    @property
    def num_problems(self) -> int:
        """Rows left out."""
        return sum(self.kinds.values())

    def metrics(self) -> dict[str, float]:
        """Flat numbers: `<table>.<split>.rows|annotated|found|usable`, `.coverage` = usable /
        annotated, `problems`, `problems.<kind>`.
        """
        numbers = {"problems": float(self.num_problems), "excluded": float(self.excluded)}
        numbers |= {
            f"problems.{kind}": float(count) for kind, count in {**self.kinds, **self.notes}.items()
        }
        for item in self.coverage:
            prefix = f"{item.table}.{item.split}."
            numbers |= {
                prefix + name: float(getattr(item, name))
                for name in ("rows", "annotated", "found", "usable")
            }
            numbers[prefix + "coverage"] = item.usable / item.annotated if item.annotated else 0.0
        return numbers


def last_report(dataset: str, layout: Layout) -> AnnotationReport:
    """The report of the last `annotate`, also of one that refused. Raises FileNotFoundError when
    there is none.
    """
    table = read_table(layout.problem_table(dataset))
    content = json.loads((table.schema.metadata or {})[REPORT])
    content["coverage"] = tuple(Coverage(**item) for item in content["coverage"])
    content["counts"] = tuple(Count(**item) for item in content["counts"])
    return AnnotationReport(**{**content, "unusable": tuple(content["unusable"])})


class Leave:
    """Which problems the dataset's YAML lets pass: notes and doubts always, others where `allow` of
    the dataset or their file has the kind.

    Entries of `annotations` that name the same path count together.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._everywhere = frozenset[str](dataset.allow)
        self._files = dataset.annotations
        self._known = dict[str, frozenset[str]]()

    def _kinds(self, place: str) -> frozenset[str]:
        # a folder's problems name the file inside; those of a place inside a json file, the place
        if place not in self._known:
            ours = [
                file
                for file in self._files
                if (place + "/").replace(":", "/").startswith((file.path + "/").replace(":", "/"))
            ]
            ours = ours or [file for file in self._files if place == file.exclusions]
            self._known[place] = self._everywhere.union(*(file.allow for file in ours))
        return self._known[place]

    def allows(self, problem: Problem) -> bool:
        """Whether the problem may pass."""
        return problem.kind in NOTES or problem.kind in DOUBTS or self.names(problem)

    def names(self, problem: Problem) -> bool:
        """Whether the YAML allows the problem by name."""
        return problem.kind in self._everywhere or problem.kind in self._kinds(problem.file)

    def doubts(self, problems: Iterable[Problem]) -> list[Problem]:
        """What may pass but keeps the dataset from being called good: the YAML does not say that it
        is meant.
        """
        return [
            problem for problem in problems if problem.kind in DOUBTS and not self.names(problem)
        ]


def by_kind(problems: Iterable[Problem]) -> dict[str, int]:
    """Number of problems of each kind, largest first."""
    return dict(Counter(problem.kind for problem in problems).most_common())


def count_all(
    dataset: Dataset,
    tables: Mapping[TableName, pa.Table],
    entries: Iterable[tuple[TableName, Entry]],
) -> tuple[Count, ...]:
    """The counts that the config expects against those of the files' good rows.

    Where rows stand once for each of several targets, rows are those of one target, and classes are
    counted over all of them.

    Args:
        dataset: its `expected` names the counts.
        tables: good rows, each once, whether or not its video is there.
        entries: videos that the files list, with their table.
    """
    found, listed = [], list(entries)
    for key, expected in dataset.expected.items():
        table_name, split, what = key.split(".")
        table = tables.get(table_name)  # type: ignore[call-overload]
        if table is None:
            found.append(Count(key, expected, 0))
            continue
        rows = table if split == "all" else table.filter(pc.equal(table["split"], split))
        if what == "rows":
            found.append(Count(key, expected, _rows_of_a_target(rows, expected)))
        elif what == "classes":
            names = [name for name in ("target", "label") if name in rows.schema.names]
            classes = rows.filter(pc.is_valid(rows["label"])).group_by(names).aggregate([])
            found.append(Count(key, expected, classes.num_rows))
        else:
            also = {
                entry.video_id
                for kind, entry in listed
                if kind == table_name and split in ("all", entry.split)
            }
            found.append(
                Count(key, expected, len(also.union(rows["video_id"].unique().to_pylist())))
            )
    return tuple(found)


def _rows_of_a_target(rows: pa.Table, expected: int) -> int:
    if "target" not in rows.schema.names:
        return rows.num_rows
    numbers = [item["counts"] for item in rows["target"].value_counts().to_pylist()] or [0]
    return next((number for number in numbers if number != expected), expected)


def count_notes(counts: Iterable[Count], dataset: Dataset) -> list[Problem]:
    """A note for each count that differs."""
    notes = []
    for count in counts:
        if count.differs:
            table, split, what = count.key.split(".")
            files = [
                file.path
                for file in dataset.annotations
                if file.table == table and (split == "all" or file.split in (None, split))
            ]
            where = ", ".join(dict.fromkeys(files)) or "(no file)"
            reason = (
                f"the publisher counts {count.expected} {what}, the good rows of the files"
                f" {count.found}"
            )
            notes.append(Problem(where, 0, count.key, str(count.found), "count", reason))
    return notes


def refusal(
    dataset: Dataset,
    errors: list[AnnotationError],
    problems: list[Problem],
    leave: Leave,
    where: str | None = None,
) -> AnnotationError | None:
    """The one error that says all that is wrong and what to do; None where nothing stands in the
    way.

    Args:
        dataset: whose annotations were read.
        errors: of files that cannot be used.
        problems: of rows, also those that are allowed.
        leave: what the dataset's YAML allows.
        where: URI of the problem table, where it has been written; None names none.
    """
    barred = [problem for problem in problems if not leave.allows(problem)]
    if not errors and not barred:
        return None
    lines = [f"dataset '{dataset.name}': its annotations cannot be used as they are"]
    if errors:
        lines.append(f"{len(errors)} unusable file{'s' if len(errors) > 1 else ''}:")
        lines += [f"  {error}" for error in errors]
    if barred:
        kinds = by_kind(barred)
        lines.append(f"{_number_of(barred)}:")
        lines += [f"  {count:>7} x {kind}: {PROBLEM_KINDS[kind]}" for kind, count in kinds.items()]  # type: ignore[index]
        lines.append(f"the first {TOLD} of them:" if len(barred) > TOLD else "they are:")
        lines += [f"  {describe(problem)}" for problem in barred[:TOLD]]
        lines.append(
            "correct the files; or leave such rows out and keep the others, or say that it is meant"
            " so, in the dataset's YAML:"
        )
        lines.append(f"  allow: [{', '.join((*dataset.allow, *kinds))}]")
    if where:
        lines.append(
            f"every problem is a row of {where}; `kinograph check {dataset.name}` shows them"
            " without a run"
        )
    return Refused(dataset.name, "\n".join(lines))


def _number_of(barred: list[Problem]) -> str:
    asked = sum(problem.kind in QUESTIONS for problem in barred)
    rows = len(barred) - asked
    words = [f"{rows} bad row{'s' if rows > 1 else ''}"] if rows else []
    return ", ".join(
        [*words, *([f"{asked} question{'s' if asked > 1 else ''} about all rows"] if asked else [])]
    )


class Refused(AnnotationError):
    """A dataset whose annotations cannot be used as they are; the message says everything at once,
    over many lines.
    """

    def __init__(self, dataset: str, message: str) -> None:
        self.dataset, self.message = dataset, message
        super().__init__(
            f"dataset '{dataset}'",
            "annotations",
            message,
            "files without problems, or an 'allow' in the YAML",
        )

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[type[Refused], tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.dataset, self.message)


def write_problems(
    problems: list[Problem], leave: Leave, report: AnnotationReport, layout: Layout
) -> None:
    """Writes the problem table, with the report in its metadata."""
    columns = list(zip(*problems, strict=True)) or [()] * len(Problem._fields)
    values = dict(zip(Problem._fields, columns, strict=True))
    values |= {
        "dataset": (report.dataset,) * len(problems),
        "allowed": tuple(leave.allows(problem) for problem in problems),
    }
    table = pa.table(
        {name: pa.array(values[name], PROBLEMS.field(name).type) for name in PROBLEMS.names},
        schema=PROBLEMS,
    )
    write_table(
        layout.problem_table(report.dataset),
        table.replace_schema_metadata({REPORT: json.dumps(asdict(report)).encode()}),
    )
