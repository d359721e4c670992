"""What a preflight knows of a recipe, and how it says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from configs.schema import ConfigError, Dataset, Recipe
from configs.settings import Settings
from ops.files.storage import StorageError
from ops.preflight.facts import Facts
from ops.store.layout import Layout
from ops.training.task import build

IN_GENERAL = ("recipe", "")  # how deeper functions call whatever recipe they were given


@dataclass(frozen=True)
class About:
    """One recipe, where it stands, and all that is known before a video is decoded.

    `before` are the recipes whose models are made earlier in the same line.
    """

    recipe: Recipe
    where: str
    dataset: Dataset
    facts: Facts
    layout: Layout
    settings: Settings
    before: tuple[Recipe, ...] = ()

    def task(self) -> Any:
        """The recipe's task, whose tables may not be there yet."""
        return build(self.recipe, self.layout, self.dataset)

    def wrong(self, field: str, found: object, allowed: str) -> ConfigError:
        """A mistake in this recipe."""
        return ConfigError(self.where, field, found, allowed)


Part = Callable[[About], Iterable[ConfigError]]


def gathered(part: Part, about: About) -> Iterator[ConfigError]:
    """What a part yields, and what it raises: errors of the user's, whatever function found
    them.
    """
    try:
        yield from part(about)
    except ConfigError as error:
        here = error.where in IN_GENERAL or error.where == f"recipe '{about.recipe.name}'"
        yield ConfigError(
            about.where if here else error.where, error.field, error.found, error.allowed
        )
    except (ValueError, FileNotFoundError, StorageError) as error:
        yield _told(error, about)


def _told(error: Exception, about: About) -> ConfigError:
    """Another family's error in the form of a ConfigError."""
    field, found, allowed = (getattr(error, name, None) for name in ("field", "found", "allowed"))
    if field is not None and allowed is not None:  # models.errors.ModelConfigError
        return about.wrong(
            f"model.{field}" if field in about.recipe.model or field != "num_classes" else field,
            found,
            str(allowed),
        )
    text = " ".join(str(error).split())
    return about.wrong("(whole)", text, "what the message asks for")
