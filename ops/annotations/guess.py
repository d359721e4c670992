"""What form a file or a folder of annotations has, found by trying; and the YAML that reads it."""

from __future__ import annotations

import errno
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import yaml

from configs.schema import TableName
from ops.annotations import formats
from ops.annotations.lines import LINE_LIMIT
from ops.annotations.read import folder, format_module, tables_of
from ops.annotations.rows import Context, NoGoodRow, Read, TemplateError
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names, parse
from ops.files.storage import FileInfo, StorageError, list_files, read_bytes

HEAD = 65_536  # bytes of a file that a format may look at
FILES_TRIED = 40  # of a folder
TRIES = 8
# columns that name a video, the likeliest first
TEMPLATES = ("video", "youtube_id", "video_id", "id", "name", "path")
SPLIT_WORDS = ((re.compile("val", re.I), "val"), (re.compile("test", re.I), "test"))
ANY_ID = 10_000  # ids of a vocabulary that is not known yet


@dataclass(frozen=True)
class Trial:
    """One form that a file may have: what was read so, or why it was not; `context` says what had
    to be assumed.
    """

    format: str
    table: TableName
    context: Context
    read: Read | None = None
    error: AnnotationError | None = None
    needs_labels: bool = False
    names_own: bool = False  # the file serves as its own vocabulary, with the ids that it gives

    @property
    def score(self) -> tuple[bool, float, int]:
        """Larger is better: whether it could be read, the share of good rows, their number."""
        if self.read is None:
            return False, 0.0, 0
        good = self.read.table.num_rows or len(self.read.entries)
        return True, good / max(good + len(self.read.problems), 1), good


@dataclass(frozen=True)
class Piece:
    """A file, or a folder that is one form: its path below the guess's root, the trials, best
    first, and its labels' file if known.
    """

    path: str
    trials: tuple[Trial, ...]
    labels: str | None = None


@dataclass(frozen=True)
class Guess:
    """Pieces that have a form, and the files that have none of those known."""

    root: str
    pieces: tuple[Piece, ...]
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def format_names() -> list[str]:
    """Names of all formats: the modules of their package."""
    return sorted(module.name for module in pkgutil.iter_modules(formats.__path__))


def guess(uri: str, on_file: Callable[[str], None] = lambda path: None) -> Guess:
    """The form of a file, of a folder, or of each file of a folder.

    Args:
        uri: of the file or folder.
        on_file: is told in words which file is tried now, and as what form.

    Raises:
        AnnotationError: nothing is there.
        StorageError: the store fails.
    """
    uri = uri.rstrip("/")
    files = list_files(uri)
    root, _, name = uri.rpartition("/")
    if not files:
        try:
            data = read_bytes(uri)
        except (FileNotFoundError, StorageError) as error:
            if isinstance(error, StorageError) and error.errno != errno.EISDIR:
                raise
            raise AnnotationError(
                uri,
                "(whole file)",
                "no such file, or an empty folder",
                "a file or a folder of annotations",
            ) from error
        return _guess_file(root, name, data, on_file)
    trials = _folder_trials(uri, name, files, on_file)
    if trials:
        return Guess(root, (Piece(name, trials),))
    pieces, unknown = [], []
    for info in files[:FILES_TRIED]:
        trials = _file_trials(info.path_below, read_bytes(info.uri), on_file)
        if trials:
            pieces.append(Piece(info.path_below, trials))
        else:
            unknown.append(info.path_below)
    pieces, unknown = _with_label_files(uri, pieces, unknown)
    notes = (
        (f"only the first {FILES_TRIED} of {len(files)} files were tried",)
        if len(files) > FILES_TRIED
        else ()
    )
    return Guess(uri, tuple(pieces), tuple(unknown), notes)


def _guess_file(root: str, name: str, data: bytes, on_file: Callable[[str], None]) -> Guess:
    above, below = root, name
    # a file may be one of many of a folder that is read as a whole; such forms know their files by
    # name
    for _ in range(3):
        if any(_sniffs(module, below, data) for _, module in _modules(of_folders=True)):
            parent, _, folder_name = above.rpartition("/")
            trials = _folder_trials(above, folder_name, list_files(above), on_file)
            if trials and trials[0].read is not None:
                return Guess(
                    parent,
                    (Piece(folder_name, trials),),
                    notes=(f"{name} is one file of a folder that is read as a whole",),
                )
        above, _, last = above.rpartition("/")
        below = f"{last}/{below}"
    trials = _file_trials(name, data, on_file)
    return Guess(root, (Piece(name, trials),)) if trials else Guess(root, (), (name,))


def _with_label_files(
    uri: str, pieces: list[Piece], unknown: list[str]
) -> tuple[list[Piece], list[str]]:
    """Pieces that lack a vocabulary, with the one file of the others that can be theirs; where
    there are several, a person must say.
    """
    fitting = dict[str, list[str]]()
    for piece in pieces:
        trial = piece.trials[0]
        if not trial.names_own and (trial.needs_labels or _holds_ids(trial)):
            fitting[piece.path] = [path for path in unknown if _is_vocabulary(uri, path, trial)]
    chosen = {path: found[0] for path, found in fitting.items() if len(found) == 1}
    labelled = [replace(piece, labels=chosen.get(piece.path)) for piece in pieces]
    return labelled, [path for path in unknown if path not in chosen.values()]


def _holds_ids(trial: Trial) -> bool:
    """Whether the rows' labels are numbers, whose names another file must give."""
    if trial.read is None:
        return False
    return all(
        label is None or label.isdigit() for label in trial.read.table["label"].unique().to_pylist()
    )


def _is_vocabulary(uri: str, path: str, trial: Trial) -> bool:
    data, own = (
        read_bytes(f"{uri}/{path}"),
        getattr(format_module(trial.format), "vocabulary", None),
    )
    try:
        words = (
            own(data, path, trial.context.target)
            if own
            else parse(data, path, own_ids=trial.table == "boxes")
        )
    except AnnotationError:
        return False
    labels = trial.read.table["label"].unique().to_pylist() if trial.read is not None else []
    return all(
        label is None or (label.isdigit() and int(label) in words.name_of) for label in labels
    )


def _modules(of_folders: bool) -> list[tuple[str, ModuleType]]:
    found = [(name, format_module(name)) for name in format_names()]
    return [(name, module) for name, module in found if module.FOLDER == of_folders]


def _sniffs(module: ModuleType, name: str, data: bytes) -> bool:
    return bool(module.sniff(name, data[:HEAD]))


def _file_trials(name: str, data: bytes, on_file: Callable[[str], None]) -> tuple[Trial, ...]:
    fitting = [
        (form, module) for form, module in _modules(of_folders=False) if _sniffs(module, name, data)
    ]
    trials = []
    for form, module in fitting:
        on_file(f"{name} as {form}")
        trial = _try(form, module, name, lambda: data)
        trials.append(replace(trial, names_own=_names_own(module, trial, data, name)))
    return tuple(sorted(trials, key=lambda trial: trial.score, reverse=True))


def _names_own(module: ModuleType, trial: Trial, data: bytes, name: str) -> bool:
    if trial.read is None or not trial.read.table.num_rows or not hasattr(module, "vocabulary"):
        return False
    try:
        words = module.vocabulary(data, name, trial.context.target)
    except AnnotationError:
        return False
    return all(label in words.id_of for label in trial.read.table["label"].unique().to_pylist())


def _folder_trials(
    uri: str, name: str, files: list[FileInfo], on_file: Callable[[str], None]
) -> tuple[Trial, ...]:
    heads = [
        (info.path_below, read_bytes(info.uri)[:HEAD])
        for info in files[:FILES_TRIED]
        if info.bytes <= LINE_LIMIT
    ]
    trials = []
    for form, module in _modules(of_folders=True):
        if any(_sniffs(module, path, head) for path, head in heads):
            on_file(f"{name}/ as {form}")
            trials.append(_try(form, module, name, lambda: folder(uri)))
    return tuple(sorted(trials, key=lambda trial: trial.score, reverse=True))


def _try(form: str, module: ModuleType, name: str, source: Callable[[], Any]) -> Trial:
    """Reads the file, and each time that the reader asks for something that a config would say,
    tries again with what is likely.
    """
    trial = Trial(form, tables_of(module)[0], Context("own", name, table=tables_of(module)[0]))
    for _ in range(TRIES):
        try:
            read = module.read(source(), trial.context)
            better = _with_split(trial.context, name, read.problems, read.table.num_rows)
            if better is None:
                return replace(trial, read=read, error=None)
        except AnnotationError as error:
            trial = replace(
                trial, error=error, needs_labels=trial.needs_labels or error.field == "labels"
            )
            better = _answer(error, trial.context, module, name)
            if better is None:
                return trial
        trial = replace(trial, context=better)
    return trial


def _answer(
    error: AnnotationError, context: Context, module: ModuleType, name: str
) -> Context | None:
    """A context with what the reader asks for; None where it asks for nothing, or has it
    already.
    """
    if isinstance(error, TemplateError):
        column = next(
            (column for column in (*TEMPLATES, *error.columns) if column in error.columns), None
        )
        template = f"{{{column}}}"
        return replace(context, video=template) if column and template != context.video else None
    if isinstance(error, NoGoodRow):
        return _with_split(context, name, error.problems, 0)
    if error.field == "fold" and context.fold is None:
        return replace(context, fold=1)
    # test lists come without labels
    if error.field == "header" and context.split is None and likely_split(name) == "test":
        return replace(context, split="test")
    if error.field == "split" and context.split is None:
        return replace(context, split=likely_split(name))
    if error.field == "labels" and context.vocabulary is None:
        return replace(context, vocabulary=any_id())
    if error.field == "target" and context.target == "label":
        return replace(context, target=next(iter(getattr(module, "TARGETS", ("label",)))))
    return None


def _with_split(context: Context, name: str, problems: Iterable[Any], good: int) -> Context | None:
    """The context with a split, or with several labels allowed, where the lack of it refuses most
    rows.
    """
    problems = list(problems)
    unsplit = sum(problem.kind == "unknown_split" for problem in problems)
    several = sum("multi_label" in problem.reason for problem in problems)
    if context.split is None and unsplit > good:
        return replace(context, split=likely_split(name))
    if not context.multi_label and several * 5 > good:
        return replace(context, multi_label=True)
    return None


def likely_split(name: str) -> str:
    """The split that a file's name speaks of; train where it names none."""
    return next(
        (split for pattern, split in SPLIT_WORDS if pattern.search(name.rpartition("/")[2])),
        "train",
    )


def any_id() -> Vocabulary:
    """A vocabulary whose names are its ids, for files of ids whose vocabulary is not known yet."""
    return from_names([str(number) for number in range(ANY_ID)])


def entry(piece: Piece, alone: bool, trained: bool) -> dict[str, Any]:
    """The best trial as an entry of a dataset's `annotations`.

    Args:
        piece: with one trial at least.
        alone: no other entry must share its vocabulary.
        trained: some entry has rows in the train split, whose labels can be one.
    """
    trial, context = piece.trials[0], piece.trials[0].context
    said: dict[str, Any] = {"table": trial.table, "format": trial.format, "path": piece.path}
    said |= {
        name: value for name in ("split", "fold") if (value := getattr(context, name)) is not None
    }
    said |= {"video": context.video} if context.video != "{video}" else {}
    said |= {"target": context.target} if context.target != "label" else {}
    said |= {"multi_label": True} if context.multi_label else {}
    said |= {"first_id": 1} if _from_1(trial) else {}
    labels = piece.labels or (
        piece.path
        if trial.names_own and alone
        else "labels.txt"
        if trial.needs_labels or not trained
        else None
    )
    return said | ({"labels": labels} if labels else {})


def _from_1(trial: Trial) -> bool:
    """Whether rows name their labels by numbers, and 1 is the first."""
    if trial.read is None or not trial.read.by_number:
        return False
    numbers = {
        int(label)
        for label in trial.read.table["label"].unique().to_pylist()
        if label is not None and label.isdecimal()
    }
    return min(numbers, default=0) == 1


def _has_train(trial: Trial) -> bool:
    return trial.read is not None and "train" in trial.read.table["split"].unique().to_pylist()


def yaml_text(found: Guess, name: str) -> str:
    """A dataset's YAML that reads these files, with a word on each line that a person must look
    at.
    """
    lines = [
        f"# Save as $KINOGRAPH_CONFIGS/datasets/{name}.yaml",
        f"title: {name}",
        "licence: unknown  # whose files these are, and what they allow",
        f"root: {_scalar(found.root)}  # the videos lie below it, and so do the annotations",
        "videos: videos  # folder of the video files below the root",
        "annotations:",
    ]
    trained = any(_has_train(piece.trials[0]) for piece in found.pieces)
    entries = [entry(piece, len(found.pieces) == 1, trained) for piece in found.pieces]
    for said in entries:
        inner = yaml.safe_dump(
            said, sort_keys=False, default_flow_style=True, width=10_000, allow_unicode=True
        ).strip()
        lines.append(f"  - {inner}")
    if any(said.get("labels") == "labels.txt" for said in entries):
        why = "no row is in the train split" if not trained else "the rows hold ids only"
        lines.append(
            f"# labels: {why}; name the file with the labels, one a line (boxes: 'id: name', or a"
            " .pbtxt)"
        )
    if any(piece.trials[0].context.split for piece in found.pieces):
        lines.append("# split: the rows name none, and this one is a guess by the file's name")
    if any("first_id" in said for said in entries):
        lines.append(
            "# first_id: no row has the number 0, so that 1 seems to be the first label; write 0 if"
            " that one just has no row"
        )
    targets = sorted(
        {
            target
            for piece in found.pieces
            for target in getattr(format_module(piece.trials[0].format), "TARGETS", ())
        }
    )
    if targets:
        lines.append(
            f"# target: {', '.join(targets)}; a table has one entry for each that is wanted, and"
            " each its own labels file"
        )
    return "\n".join(lines) + "\n"


def _scalar(value: str) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
        .removesuffix("\n...\n")
        .strip()
    )
