"""The evaluation of trained weights on a frozen set, the same for every task: a wing's `Report`
says what is asked and what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from configs.schema import ConfigError, Precision, content_hash
from ops.compute.progress import Progress
from ops.evaluation.cache import Evaluation, EvaluationCache, Results
from ops.evaluation.weights import load_weights
from ops.files.storage import local_copy, sha256_of
from ops.training.inference import alone, check_precision, predict, training_precision
from ops.training.model_setup import compiling
from ops.training.task import Row, Samples, Task, Vocabulary, info, wing


class Report(Protocol):
    """A task's part of an evaluation, made of (task, split, spoken, common).

    Raises ConfigError where recipe, vocabulary and data do not belong together, DataError for a
    split without samples.
    """

    task: Task
    """Whose rows are wanted: the given one, or the same in the words of the model."""
    samples: Samples
    eval_set: str
    """Hash of the samples with their contents and annotations, of the words, and of how they are
    scored.
    """
    depends_on: Sequence[Any]
    """What else the scores hang on, beside recipe, weights and split."""
    batch_size: int | None
    """Samples in the network together, where it is not the recipe's batch."""

    def results(self, rows: list[Row]) -> Results:
        """Metrics, predictions, pictures and files of the rows of all samples."""


class Words(NamedTuple):
    """Labels: those of the model's classes, those of the data today, and those that may be
    answered, in today's order.
    """

    own: list[str]
    today: list[str]
    asked: list[str]

    @property
    def alike(self) -> bool:
        """Whether the model's answers are today's as they are."""
        return self.own == self.today == self.asked

    @property
    def depends_on(self) -> list[Any]:
        """Of an evaluation's identity: nothing where model and data call the classes alike."""
        return [] if self.own == self.today else [self.own]

    def places(self) -> list[int]:
        """For each label that is asked its place among the model's classes. Raises ConfigError for
        one that the model does not know.
        """
        known = {label: place for place, label in enumerate(self.own)}
        if unknown := [label for label in self.asked if label not in known]:
            raise ConfigError(
                "model",
                "labels",
                ", ".join(unknown),
                f"labels that the model was trained on: {', '.join(self.own)}",
            )
        return [known[label] for label in self.asked]


def words_of(
    today: Sequence[str], spoken: Vocabulary | None, common: Sequence[str] | None
) -> Words:
    """Labels of the model, of the data, and those that may be answered.

    Args:
        today: of the data, in the order of its classes.
        spoken: the model's vocabulary; None where it is today's.
        common: labels that both know; None where all may be answered.
    """
    asked = list(today) if common is None else [label for label in today if label in common]
    return Words(list(today if spoken is None else spoken["labels"]), list(today), asked)


def evaluate(
    task: Task,
    weights_uri: str,
    *,
    split: str = "val",
    precision: Precision | None = None,
    progress: Progress | None = None,
    spoken: Vocabulary | None = None,
    common: Sequence[str] | None = None,
) -> Evaluation:
    """Score weights on a split, on the device of the recipe's workers; what lies beside the weights
    of the same question is given back.

    Args:
        task: of the weights' recipe, on the data that is asked about.
        weights_uri: a safetensors file; the evaluation lies in `evaluation/<eval_set>/` beside it.
        split: whose samples are scored.
        precision: that the network computes in; None is the recipe's `gate.precision`.
        progress: is told (done, all) samples.
        spoken: the model's own vocabulary, where it may not be the data's of today: labels are
            matched by name.
        common: leaves only these labels to answer with.

    Raises:
        ConfigError: recipe, weights, labels and precision do not belong together.
        DataError: the split has no samples.
        StorageError: a store does not answer.
    """
    recipe, kind = task.recipe, wing(task.recipe.task, "report").Report
    precision, place = precision or recipe.gate.precision, alone(recipe.scale)
    check_precision(recipe, "gate.precision", precision, place.device)
    report: Report = kind(task, split, spoken, common)
    # Another precision is another way to score: numbers of two are never compared.
    eval_set = (
        report.eval_set if precision == "fp32" else content_hash([report.eval_set, precision])
    )
    with local_copy(weights_uri) as weights:
        identity = content_hash([recipe.key(), sha256_of(weights), split, *report.depends_on])
        unit, unsaid = info(recipe.task).sample_unit, training_precision(recipe)
        cache = EvaluationCache(
            weights_uri.rpartition("/")[0], identity, eval_set, unit, precision, unsaid
        )
        if (found := cache.load()) is not None:
            return found
        model = load_weights(recipe, weights).to(place.device)
    compiling(model, recipe.scale)
    rows = predict(
        report.task,
        model,
        report.samples,
        place=place,
        precision=precision,
        batch_size=report.batch_size,
        workers=recipe.scale.loader_workers,
        progress=progress,
    )
    return cache.save(report.results(rows))
