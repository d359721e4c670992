"""What is odd about a table's labels as a whole, though each row may be good: spellings that differ
in nothing, numbers, empty classes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import AnnotationFile
from ops.annotations.rows import Fault, Problem
from ops.annotations.vocabulary import AnnotationError, Vocabulary

SHOWN = 6  # labels that a word on many names
# What stands between digits and a minus before one are a part of a number (1.5; 1,23 and 12,3); #
# and the like tell C# from C.
NUMBER_SIGNS = re.compile(r"(?<=[0-9])[\W_](?=[0-9])|(?<![\w.])[-\u2212](?=[0-9])|[#%&@*]")


def folded(label: str) -> str:
    """The label without case, blanks, punctuation and Unicode's ways to write one letter: equal for
    labels that a person takes for one.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    if text.isalnum():
        return text
    kept = {match.start() for match in NUMBER_SIGNS.finditer(text)}
    letters = (
        sign
        for index, sign in enumerate(text)
        if index in kept or unicodedata.category(sign)[0] in "LMNS"
    )
    return "".join(letters) or label


def visible(label: str) -> str:
    """The label in quotes; escaped where it holds what looks like something else, or like
    nothing.
    """
    plain = label.isprintable() and unicodedata.is_normalized("NFC", label)
    return repr(label) if plain and "  " not in label and label == label.strip() else ascii(label)


def alike(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that differ in their spelling alone."""
    groups = dict[str, list[str]]()
    for label in dict.fromkeys(labels):
        groups.setdefault(folded(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def similar(labels: Iterable[str], file: str, field: str = "label") -> list[Problem]:
    """A question for each group of labels that differ in their spelling alone."""
    reason = (
        "one class or several? they differ in case, blanks, punctuation or their Unicode form alone"
    )
    return [
        Fault(field, _spellings(group), "similar_labels", reason).at(file, 0)
        for group in alike(labels)
    ]


def _spellings(group: list[str]) -> str:
    # Two that look the same on the screen are both escaped.
    looks = {unicodedata.normalize("NFKC", label) for label in group}
    return ", ".join(
        visible(label) if len(looks) == len(group) else ascii(label) for label in group
    )


def with_near_labels(problems: list[Problem], words: Vocabulary) -> list[Problem]:
    """The problems; those of an unknown label with the known one that differs in its spelling
    alone.
    """
    near, told = dict[str, list[str]](), dict[str, str]()
    for name in words.names if any(problem.kind == "unknown_label" for problem in problems) else ():
        near.setdefault(folded(name), []).append(name)
    found = []
    for problem in problems:
        if problem.kind == "unknown_label":
            label = problem.found.rpartition(": ")[2]  # after the place inside a json file
            if label not in told:
                known = [name for name in near.get(folded(label), ()) if name != label]
                told[label] = (
                    f"; {_spellings([label, *known])} differ in their spelling alone"
                    if known
                    else ""
                )
                if label == str(len(words.names)) and problem.reason.endswith(
                    f"ids are 0 to {len(words.names) - 1}"
                ):
                    told[label] = (
                        "; where ids begin at 1, write first_id: 1 in the dataset's config"
                    )
            problem = (
                problem._replace(reason=problem.reason + told[label]) if told[label] else problem
            )
        found.append(problem)
    return found


def check_numbers(
    table: pa.Table, words: Vocabulary, files: list[AnnotationFile], by_number: bool
) -> None:
    """Raises AnnotationError where rows name their labels by numbers that seem to begin at 1, and
    nothing says that they do or do not.

    Also where the config says different things of the files of one table.
    """
    said = {file.first_id for file in files}
    if by_number and len(said) > 1:
        expected = "the same for all files of a table, since they share a vocabulary"
        raise AnnotationError(
            files[0].path, "first_id", ", ".join(map(str, sorted(said, key=str))), expected
        )
    if (
        not by_number
        or any(file.first_id is not None for file in files)
        or words.numbers is not None
    ):
        return
    used = sorted(number for number in table["label_id"].unique().to_pylist() if number is not None)
    # with many empty classes, the first may well be one of them
    if len(used) < 2 or used[0] != 1 or 2 * len(used) < used[-1]:
        return
    found = f"numbers {used[0]} to {used[-1]}, none is 0, for {len(words.names)} labels"
    expected = (
        "in the dataset's config, first_id: 1 where 1 is the first label, first_id: 0 where the"
        " first one has no row"
    )
    raise AnnotationError(files[0].path, "label", found, expected)


def empty_classes(table: pa.Table, words: Vocabulary, file: str, own_ids: bool) -> list[Problem]:
    """A doubt for a vocabulary with labels that no row has.

    Args:
        table: good rows of the table.
        words: the vocabulary.
        file: that the vocabulary stands in.
        own_ids: one name may stand for two ids.
    """
    column = "label_id" if own_ids else "label"
    used = set(pc.unique(table[column]).to_pylist())
    empty = [
        name
        for key, name in zip(words.ids if own_ids else words.names, words.names, strict=True)
        if key not in used
    ]
    # without a single labelled row (a test list) nothing shows
    if not empty or len(empty) == len(words.names):
        return []
    shown = ", ".join(map(visible, empty[:SHOWN])) + (", ..." if len(empty) > SHOWN else "")
    last = empty == list(words.names[-len(empty) :])
    reason = "no row has these labels" + (
        "; they are the last ones: is the vocabulary that of another list?" if last else ""
    )
    return [
        Fault("labels", f"{len(empty)} of {len(words.names)}: {shown}", "empty_class", reason).at(
            file, 0
        )
    ]
