"""What must hold of a dataset and of a model, as pure questions with an answer that a person can
read.

Some answers of a dataset stop what would be built on it (`BLOCKING`): a model that has seen its
validation clips, or that was trained on a tenth of what the dataset's name says, is worse than
none. A dataset's YAML lets a failing check pass by its name: `allow: [no_leak]`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from configs.schema import BUCKETS, CheckName, ConfigError, Dataset, Recipe, TableName
from ops.store.layout import Layout

TOLD = 8  # reasons that an answer names
Tables = Mapping[TableName, Any]  # of Arrow


@dataclass(frozen=True)
class Answer:
    """Whether it holds, in words, with the numbers behind it."""

    passed: bool
    says: str
    numbers: dict[str, Any] = field(default_factory=dict)


class CheckError(ConfigError):
    """A dataset that nothing may be trained on as it is: names the checks that fail, what they
    found, and how to go on.
    """

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; allowed: {self.allowed}"


def quarantine_floor(dataset: Dataset, layout: Layout) -> Answer:
    """No more of the dataset's videos are quarantined than it allows. Over all its buckets: one
    alone is too few to judge.
    """
    from ops.store.manifest import read_manifest

    rows = read_manifest(layout, dataset, columns=["video_id", "status", "reason"]).to_pylist()
    bad = [row for row in rows if row["status"] != "ok"]
    share = len(bad) / max(len(rows), 1)
    says = (
        f"{len(bad)} of {len(rows)} videos are quarantined; {dataset.max_quarantined:.0%} are"
        " allowed"
    )
    if share > dataset.max_quarantined:
        reasons = Counter(row["reason"] for row in bad).most_common()
        says += ": " + ", ".join(f"{count} x {reason}" for reason, count in reasons[:TOLD])
        says += f", and {len(reasons) - TOLD} reasons more" if len(reasons) > TOLD else ""
    return Answer(
        bool(rows) and share <= dataset.max_quarantined,
        says,
        {"videos": len(rows), "quarantined": len(bad), "share": share},
    )


def annotation_tables(dataset: Dataset, layout: Layout) -> Tables:
    """Every annotation table of the dataset, by name. Raises FileNotFoundError where there is none
    yet.
    """
    from ops.store.tables import read_table

    names = sorted({file.table for file in dataset.annotations})
    return {table: read_table(layout.annotation_table(dataset.name, table)) for table in names}


def no_leak(dataset: Dataset, layout: Layout, tables: Tables | None = None) -> Answer:
    """No content of a usable video, by its hash, stands in more than one split. Files that are
    empty all have the same.

    Args:
        dataset: whose annotations name the splits.
        layout: of the store that has them.
        tables: as `annotation_tables` gives them; None reads them now.
    """
    import pyarrow.compute as pc

    from ops.store.tables import VIDEOS, read_tables

    videos = read_tables(
        [layout.video_table(dataset.name, bucket) for bucket in range(BUCKETS)], VIDEOS
    )
    videos = videos.filter(pc.equal(videos["status"], "ok"))
    content = dict(zip(videos["video_id"].to_pylist(), videos["sha256"].to_pylist(), strict=True))
    splits: dict[str, set[str]] = defaultdict(set)
    for video_id, split in _splits(tables or annotation_tables(dataset, layout)):
        if video_id in content:
            splits[content[video_id]].add(split)
    leaks = {sha for sha, found in splits.items() if len(found) > 1}
    names = sorted(video_id for video_id, sha in content.items() if sha in leaks)
    says = f"{len(leaks)} of {len(splits)} contents stand in more than one split" + (
        f": {', '.join(names[:6])}" if names else ""
    )
    return Answer(not leaks, says, {"contents": len(splits), "leaks": len(leaks)})


def _splits(tables: Tables) -> Iterable[tuple[str, str]]:
    """(video_id, split) pairs of all tables, each once."""
    pairs: set[tuple[str, str]] = set()
    for table in tables.values():
        rows = table.group_by(["video_id", "split"]).aggregate([])
        pairs.update(zip(rows["video_id"].to_pylist(), rows["split"].to_pylist(), strict=True))
    return sorted(pairs)


def label_vocabulary(dataset: Dataset, layout: Layout, tables: Tables | None = None) -> Answer:
    """Every label of every table has examples to train on, and no row was refused for an unknown
    one.

    Args:
        dataset: whose annotations are looked at.
        layout: of the store that has them.
        tables: as `annotation_tables` gives them; None reads them now.
    """
    from ops.store.tables import read_table

    seen: dict[str, dict[str, set[str]]] = {}
    for table, rows in (tables or annotation_tables(dataset, layout)).items():
        for name, label, split in _labels(rows, table):
            seen.setdefault(name, defaultdict(set))[split].add(label)
    untrained = {
        f"{table}: {label}"
        for table, by in seen.items()
        for split in by
        for label in by[split] - by.get("train", set())
    }
    kinds = Counter(read_table(layout.problem_table(dataset.name))["kind"].to_pylist())
    unknown = kinds["unknown_label"]
    meant = any(
        "unknown_label" in allow
        for allow in (dataset.allow, *(file.allow for file in dataset.annotations))
    )
    says = (
        f"{len(untrained)} labels lack training examples, {unknown} rows were left out for an"
        " unknown label"
    )
    says += ", as the YAML allows" if unknown and meant else ""
    if untrained:
        says += f": {', '.join(sorted(untrained)[:6])}"
    labels = {f"labels_{table}": len(set().union(*by.values())) for table, by in seen.items() if by}
    return Answer(
        not untrained and (meant or not unknown), says, {**labels, "refused_for_label": unknown}
    )


def _labels(rows: Any, table: str) -> Iterable[tuple[str, str, str]]:
    """(table, with the target where it has several; label; split), each once; rows without a label
    (test lists) give none.
    """
    columns = [name for name in ("target", "label", "split") if name in rows.schema.names]
    for found in rows.group_by(columns).aggregate([]).to_pylist():
        if found["label"] is not None:
            target = found.get("target", "label")
            yield (
                (table if target in ("label", "") else f"{table}_{target}"),
                found["label"],
                found["split"],
            )


def coverage(dataset: Dataset, layout: Layout) -> Answer:
    """Of every annotated split at least the dataset's `min_coverage` of the videos can be used."""
    from ops.annotations.report import last_report

    splits = [part for part in last_report(dataset.name, layout).coverage if part.annotated]
    shares = {f"{part.table}.{part.split}": part.usable / part.annotated for part in splits}
    few = {name: share for name, share in shares.items() if share < dataset.min_coverage}
    says = (
        f"{len(few)} of {len(shares)} splits have less than {dataset.min_coverage:.0%} of their"
        " annotated videos"
    )
    if few:
        says += ": " + ", ".join(f"{name} {share:.1%}" for name, share in sorted(few.items())[:6])
    return Answer(not few, says, {f"coverage_{name}": share for name, share in shares.items()})


def second_decoder(dataset: Dataset, layout: Layout, sample: int = 12) -> Answer:
    """Every frame of a sample of the stored videos is the one that a second decoder finds."""
    from ops.media.audit import audit

    different = audit(dataset, layout, sample)
    says = f"{len(different)} of a sample of {sample} videos differ from a second decoder"
    if different:
        says += ": " + "; ".join(f"{found.video_id}: {found.reason}" for found in different[:4])
    return Answer(not different, says, {"sample": sample, "mismatches": len(different)})


def above_chance(recipe: Recipe, metrics: Mapping[str, float]) -> Answer:
    """The model beats guessing clearly."""  # by more than twice the share of one class
    metric, chance = recipe.gate.metric, 1 / recipe.num_classes
    value = metrics[metric]
    says = f"{metric} {value:.3f} against {chance:.3f} by guessing"
    return Answer(value > 2 * chance, says, {metric: value, "chance": chance})


def above_floor(recipe: Recipe, metrics: Mapping[str, float]) -> Answer:
    """The model is above the floor of its gate."""
    metric, floor = recipe.gate.metric, recipe.gate.floor
    value = metrics[metric]
    return Answer(
        value > floor,
        f"{metric} {value:.3f} against the gate's floor of {floor:.3f}",
        {metric: value, "floor": floor},
    )


BLOCKING: dict[CheckName, Callable[..., Answer]] = {
    "quarantine_floor": quarantine_floor,
    "no_leak": no_leak,
    "label_vocabulary": label_vocabulary,
    "coverage": coverage,
}


def require_sound(dataset: Dataset, layout: Layout, tables: Tables) -> None:
    """Raises CheckError where a blocking check of the annotated dataset fails and its YAML does not
    allow it by name.
    """
    rows = {"no_leak": (tables,), "label_vocabulary": (tables,)}
    asked = {name: check for name, check in BLOCKING.items() if name not in dataset.allow}
    if dataset.videos is None:  # features alone: nothing was decoded
        asked.pop("quarantine_floor", None)
    answers = {name: check(dataset, layout, *rows.get(name, ())) for name, check in asked.items()}
    failed = {name: answer.says for name, answer in answers.items() if not answer.passed}
    if failed:
        found = "; ".join(f"{name}: {says}" for name, says in failed.items())
        allowed = (
            f"data that passes, or in its YAML 'allow: [{', '.join((*dataset.allow, *failed))}]'"
        )
        raise CheckError(f"dataset '{dataset.name}'", "checks", found, allowed)
