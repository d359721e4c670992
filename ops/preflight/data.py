"""What all tasks ask of a dataset's words and rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from configs.schema import ConfigError
from ops.annotations.vocabulary import Vocabulary
from ops.media.ingest import _scan
from ops.preflight.about import About
from ops.training.task import info

SPLITS = ("train", "val")
SHOWN = 12


def frames(about: About) -> Iterator[ConfigError]:
    """The dataset has video files, and an annotation file that can be read."""
    if about.dataset.videos is None:
        allowed = f"a dataset with video files: {about.recipe.task} is trained on frames"
        yield about.wrong("dataset", f"{about.recipe.dataset}, which has features only", allowed)
    elif not about.facts.made and not about.facts.world_videos:
        # raises where there is no video
        _scan(about.dataset, about.layout.videos_folder(about.dataset), [])


def words(about: About) -> Vocabulary | None:
    """The labels of the recipe's target in its task's table; None where there are none, which
    `rows` tells.
    """
    return about.facts.words.get((info(about.recipe.task).table, about.recipe.target))


def rows(about: About) -> Iterator[ConfigError]:
    """The dataset has the task's table, for the recipe's target, with rows in both splits."""
    recipe, facts, table = about.recipe, about.facts, info(about.recipe.task).table
    files = [file for file in about.dataset.annotations if file.table == table]
    if not files:
        have = ", ".join(sorted({file.table for file in about.dataset.annotations})) or "none"
        found = f"{recipe.dataset}, whose annotations are of {have}"
        yield about.wrong(
            "dataset", found, f"a dataset with {table}, which {recipe.task} learns from"
        )
        return
    targets = sorted({file.target for file in files})
    if recipe.target not in targets:
        yield about.wrong(
            "target",
            recipe.target,
            f"one of {', '.join(targets)}, the targets of {table} in dataset {recipe.dataset}",
        )
        return
    for error in facts.errors:
        yield ConfigError(
            f"dataset '{recipe.dataset}'",
            "annotations",
            error,
            "files that can be read; kinograph check tells more",
        )
    if facts.errors:
        return
    for split in SPLITS:
        if not facts.rows.get(table, {}).get(split):
            have = (
                ", ".join(
                    f"{name} {count}" for name, count in sorted(facts.rows.get(table, {}).items())
                )
                or "no row"
            )
            allowed = f"rows of {table} in the splits {' and '.join(SPLITS)} ({facts.source})"
            yield about.wrong("dataset", f"{recipe.dataset}: {have}", allowed)


def num_classes(about: About, wanted: int, what: str) -> Iterator[ConfigError]:
    """The network tells as many classes apart as there are."""
    if wanted and about.recipe.num_classes != wanted:
        yield about.wrong(
            "num_classes",
            about.recipe.num_classes,
            f"{wanted}, {what} of {about.recipe.dataset} ({about.facts.source})",
        )


def known_labels(
    about: About, field: str, pairs: Mapping[str, str], names: tuple[str, ...]
) -> Iterator[ConfigError]:
    """Both labels of every pair are among the names."""
    for one, other in pairs.items():
        for label in (one, other):
            if names and label not in names:
                shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
                yield about.wrong(field, label, f"labels of {about.recipe.dataset}: {shown}")
