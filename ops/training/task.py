"""What a training needs to know of a task, and nothing of clips, segments, boxes or parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import configs
from configs.schema import RECIPES, ConfigError, Dataset, Provenance, Recipe, TableName
from ops.store.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor, nn

Mode = Literal["train", "validate", "test"]
Row = dict[str, Any]
Vocabulary = dict[str, list[str]]
R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class TaskInfo:
    """What others ask of a task before they need any of its code; each wing exports its own as
    `INFO`.

    `question` are the fields of a recipe ("section.field" for one of a section) that say what is
    asked of a model, not how it answers: the gate asks the champion the challenger's.
    """

    sample_unit: str  # what an evaluation counts, in the plural
    headlines: tuple[str, ...]  # metrics that a table shows, the first one above all
    table: TableName  # of the annotations that it learns from
    pictures: str  # what an evaluation draws beside its metrics, in words
    reads: Literal["frames", "features"] = "frames"
    question: tuple[str, ...] = ()
    fewest_labels: int = 1  # in common with a champion that can be compared
    floor_check: Literal["above_floor", "above_chance"] = "above_floor"
    # the field of a recipe that names a recognition model, which the evaluation asks too
    names_model: str | None = None
    # its networks map a clip (3, T, S, S), and their published rows have pages of numbers
    catalogued: bool = False


class Samples(Protocol):
    """Items by index. An item depends on seed, epoch and index alone, never on who loads it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the random augmentation of this epoch."""


class Metric(Protocol):
    """A pure update/compute pair. Rows may arrive in any order."""

    def update(self, rows: Iterable[Mapping[str, Any]]) -> None: ...

    def compute(self) -> dict[str, float]: ...


class Task(Protocol):
    """One task on one recipe's data."""

    @property
    def recipe(self) -> Recipe: ...

    def check(self) -> None:
        """Raise a ValueError subclass when the data cannot train this recipe; called before
        anything is started.
        """

    def data_version(self) -> str:
        """Hash of the frozen sample list: what is in it, with which content, label and split."""

    def coverage(self) -> dict[str, float]:
        """Numbers that say how much of the annotated data is usable, by name."""

    def vocabulary(self) -> Vocabulary:
        """Names of what the model tells apart, "labels" in the order of its classes: with weights
        and recipe all that it needs to speak.
        """

    def provenance(self) -> Provenance:
        """What else an answer depends on: how frames are stored, and the features and models that
        the model builds on.
        """

    def samples(self, split: str, mode: Mode) -> Samples:
        """Samples of a split.

        Args:
            split: whose samples are wanted.
            mode: 'train' is randomly augmented, 'validate' one fixed view, 'test' all the recipe's
                test views.
        """

    def collate(self, items: list[Any]) -> Any:
        """A batch (nested dicts, lists and tensors) of items."""

    def model(self) -> nn.Module:
        """The network as training starts from it, on the CPU; random weights come from torch's
        global generator.
        """

    def losses(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """Scalars averaged over the batch; 'loss' is the one to minimise, the others are reported
        beside it.

        Args:
            model: on the batch's device.
            batch: as `collate` makes it.
        """

    def predict(self, model: nn.Module, batch: Any) -> list[Row]:
        """A row per item, of plain values and numpy arrays.

        Args:
            model: on the batch's device, in eval mode.
            batch: as `collate` makes it.
        """

    def metric(self, split: str) -> Metric:
        """A fresh metric of the split."""

    def state_dict(self) -> dict[str, Any]:
        """What the losses remember between steps (a running normaliser), as tensors and plain
        values.
        """

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class Stateless:
    """A task whose losses remember nothing between steps."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to take back."""


def wing(task: str, part: str) -> Any:
    """The module `part` of the task's wing, `ops.tasks.<task>.<part>`: whoever knows no task asks
    for it by name.
    """
    return import_module(f"ops.tasks.{task}.{part}")


def info(task: str) -> TaskInfo:
    """What the task's wing says of it. Loads nothing heavy."""
    return import_module(f"ops.tasks.{task}").INFO


def build(recipe: Recipe, layout: Layout, dataset: Dataset | None = None, **inputs: Any) -> Task:
    """The recipe's task on the data of this layout.

    Args:
        recipe: its `task` names the wing that builds.
        layout: of the store that has the data.
        dataset: defaults to the one that the recipe names.
        **inputs: a trained model's own, as its wing's `report.own_inputs` gives them, where today's
            are others.
    """
    return wing(recipe.task, "task").build(
        recipe, layout, dataset or configs.dataset(recipe.dataset), **inputs
    )


def family_of(recipe: Recipe, *parts: str) -> ModuleType:
    """The module of the recipe's family, which exports all that its task works with.

    Raises ModelConfigError for an unknown family, ConfigError for one that lacks a part: it is
    there to be built, not to be trained.
    """
    module, missing = _family(recipe.task, recipe.family, parts)
    if missing:
        import models

        fit = [
            name
            for name in models.families(recipe.task)
            if not _family(recipe.task, name, parts)[1]
        ]
        allowed = f"{', '.join(fit)}: this family has no {', '.join(missing)}"
        raise ConfigError(f"recipe '{recipe.name}'", "family", recipe.family, allowed)
    return module


@cache
def _family(task: str, name: str, parts: tuple[str, ...]) -> tuple[ModuleType, list[str]]:
    """The family's module and the parts that it lacks."""
    import models

    module = models.family(task, name)
    return module, [part for part in parts if not hasattr(module, part)]


def of_kind(recipe: Recipe, kind: type[R]) -> R:
    """The recipe, which has to be of this kind. Raises ConfigError for one of another task."""
    if not isinstance(recipe, kind):
        task_of = {known: task for task, known in RECIPES.items()}
        raise ConfigError(
            f"recipe '{recipe.name}'", "task", task_of.get(type(recipe), recipe.task), task_of[kind]
        )
    return recipe
