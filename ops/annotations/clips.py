"""Rows of the clips table from what a format's row says: video name, split, labels and place, each
checked here and nowhere else.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ops.annotations.rows import Context, Fault, Problem, Read, Rows
from ops.annotations.vocabulary import AnnotationError
from ops.store.tables import CLIPS

# Only the last part of a name that is one of these is taken off: names of videos hold dots of their
# own.
EXTENSION = re.compile(
    r"\.(?:3gp|avi|flv|gif|m2ts|m4v|mkv|mov|mp4|mpe?g|mts|ogv|ts|vob|webm|wmv)$", re.IGNORECASE
)
WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")


def path_columns(path: str) -> dict[str, str]:
    """What a video template can say of a path in a list.

    `path` as written; `video` without file extension; `name`, the last part of `video`; `folder`,
    all before it; `parent`, the last folder alone. Lists with absolute paths need `{parent}/{name}`
    or `{name}`.
    """
    video = EXTENSION.sub("", path.removeprefix("./"))
    # lists of Windows
    folder, _, name = (video if "/" in video else video.replace("\\", "/")).rpartition("/")
    return {
        "path": path,
        "video": video,
        "name": name,
        "folder": folder,
        "parent": folder.rpartition("/")[2],
    }


def whole_number(text: str) -> int | None:
    """The number from 0 that the text is in decimal digits; None for any other text (signs, points,
    digits of other scripts).
    """
    return int(text) if WHOLE_NUMBER.fullmatch(text) else None


class Clips:
    """Collects the clips of one file, and a problem for each of its other rows.

    A row stands at a line, or (json) at a `place`.

    Args:
        context: of the file.
        sample: a row's columns with values such as they take, for the video template.

    Raises:
        AnnotationError: the video template does not fit the sample columns.
    """

    def __init__(self, context: Context, sample: Mapping[str, Any]) -> None:
        context.check_template(sample)
        self.context = context
        self.rows, self.problems = Rows(CLIPS, context.dataset), list[Problem]()
        words = () if context.vocabulary is None else context.vocabulary.names
        # The labels of the first pass over a list without a vocabulary file are the ids themselves.
        self.ids_are_names = bool(words) and all(WHOLE_NUMBER.fullmatch(word) for word in words)
        self.known = frozenset[str]() if self.ids_are_names else frozenset(words)
        self.by_number = False
        # (folder that is named as a label, label) of rows that name theirs by number
        self.folders = Counter[tuple[str, str]]()

    def refuse(self, problem: Problem | Fault, line: int = 0, place: str = "") -> None:
        """Notes a bad row."""
        self.problems.append(
            problem if isinstance(problem, Problem) else problem.at(self.context.file, line, place)
        )

    def wrong_columns(self, line: int, text: str, count: int, allowed: str) -> None:
        """Notes a line that has not as many fields as the form says."""
        self.refuse(
            Fault(
                "(line)",
                f"{count} instead of {allowed}: {text}",
                "columns",
                "wrong number of columns",
            ),
            line,
        )

    def add(
        self,
        columns: Mapping[str, Any],
        labels: Sequence[str | int],
        split: str | None,
        line: int = 0,
        place: str = "",
        span_s: tuple[float, float] | None = None,
        mark: str = "",
        file: str | None = None,
    ) -> None:
        """One clip: a row for each of its labels, or its problems.

        Args:
            columns: fill the video template.
            labels: names, or numbers as the vocabulary gives them, else from the context's first
                on; none is good in the test split only.
            split: the file's own word ('train', 'val', 'test'), None when it has none; the config's
                goes before it.
            line: of the row, from 1; 0 where it has none.
            place: of the row inside a json file.
            span_s: (start, end) inside the video file; None where the clip is the whole file.
            mark: tells the clips of one video apart.
            file: of a folder, that the row stands in; None is the context's.
        """
        context = self.context
        split = context.split or split
        found: list[tuple[str, int] | tuple[None, None] | Fault] = [
            self._label(label) for label in labels
        ]
        faults = [item for item in found if isinstance(item, Fault)]
        if split is None or len(labels) != 1:
            faults += self._other_faults(labels, split)
        try:
            video_id = context.video.format(**columns)
        except ValueError as error:  # a format code that one row's value does not take
            faults.append(
                Fault(
                    "video",
                    context.video,
                    "value",
                    f"the template does not take this row's values ({error})",
                )
            )
        if faults:
            for fault in faults:
                self.refuse(fault.at(file or context.file, line, place))
            return
        source = f"{file or context.file}:{place or line}"
        start_s, end_s = span_s or (None, None)
        for item in found or [(None, None)]:
            if not isinstance(item, Fault):
                if self.by_number and columns.get("parent") in self.known and item[0] is not None:
                    self.folders[columns["parent"], item[0]] += 1
                self.rows.add(
                    f"{video_id}{mark}",
                    video_id,
                    split,
                    context.target,
                    item[0],
                    item[1],
                    start_s,
                    end_s,
                    source,
                )

    def _label(self, label: str | int) -> tuple[str, int] | Fault:
        """(name, id) of a label that is given by name or by id."""
        words = self.context.vocabulary
        if isinstance(label, str) or words is None or self.ids_are_names:
            label_id = self.context.label_id(str(label))
            if label_id is None:
                known = "unknown label" if isinstance(label, str) else "unknown label id"
                return Fault("label", label if label != "" else "(empty)", "unknown_label", known)
            self.by_number |= isinstance(label, int)
            return str(label), label_id
        self.by_number = True
        name = words.numbered(label, self.context.first_id)
        if name is None:
            first = self.context.first_id or 0
            ids = (
                words.numbers
                if self.context.first_id is None and words.numbers
                else range(first, first + len(words.names))
            )
            return Fault(
                "label",
                str(label),
                "unknown_label",
                f"the vocabulary's ids are {ids[0]} to {ids[-1]}",
            )
        return name, words.id_of[name]

    def _other_faults(self, labels: Sequence[str | int], split: str | None) -> list[Fault]:
        faults = []
        if split is None:
            faults.append(
                Fault("split", "", "unknown_split", "no split: name one in the dataset's config")
            )
        elif not labels and split != "test":
            faults.append(Fault("label", "", "empty", f"no label in the {split} split"))
        if len(labels) > 1 and not self.context.multi_label:
            reason = "several labels; a config with multi_label: true takes them"
            faults.append(Fault("label", " ".join(map(str, labels)), "columns", reason))
        if len(set(labels)) != len(labels):
            faults.append(
                Fault("label", " ".join(map(str, labels)), "duplicate", "the same label again")
            )
        return faults

    def finish(self, expected: str, excluded: int = 0) -> Read:
        """The reader's answer. Raises AnnotationError when no row is good, and when the rows'
        folders give their ids other labels.
        """
        self._check_folders()
        return replace(
            self.rows.finish(self.context, self.problems, expected, excluded),
            by_number=self.by_number,
        )

    def _check_folders(self) -> None:
        """Most videos lie in folders that are named as labels, but as others than their ids:
        vocabulary and ids have different orders.
        """
        named, wrong = (
            self.folders.total(),
            sum(count for (folder, label), count in self.folders.items() if folder != label),
        )
        if (
            len({folder for folder, _ in self.folders}) < 2
            or named * 2 < self.rows.count
            or wrong * 2 <= named
        ):
            return
        folder, label = next(pair for pair in self.folders if pair[0] != pair[1])
        found = (
            f"the id of '{label}' for a video in the folder '{folder}' ({wrong} of"
            f" {self.rows.count} rows disagree so)"
        )
        raise AnnotationError(
            self.context.file, "labels", found, "a vocabulary in the order of the rows' ids"
        )
