"""What a family's Config may hold: a mark on each field, checked when a Config is made.

    class Config(Checked):
        num_classes: Count
        depth: Annotated[int, OneOf(BLOCKS)] = 50
        width: Annotated[int, MultipleOf("heads")] = 768

Truth values need no mark. What several fields must agree in stands in `agree`.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, Protocol, get_args, get_type_hints

from models.errors import ModelConfigError


class Mark(Protocol):
    """Says what a field may hold."""

    def allowed(self, value: Any, config: Checked) -> str | None:
        """What is allowed, where the value is not; else None.

        Args:
            value: of the marked field.
            config: the whole Config, for marks that look at other fields.
        """


@dataclass(frozen=True)
class AtLeast:
    """An int from `least`."""

    least: int

    def allowed(self, value: Any, config: Checked) -> str | None:
        return (
            None
            if type(value) is int and value >= self.least
            else f"an integer of at least {self.least}"
        )


@dataclass(frozen=True)
class OneOf:
    """One of these values; a truth value only where they are."""

    values: Collection[object]

    def allowed(self, value: Any, config: Checked) -> str | None:
        fits = any(type(one) is type(value) and one == value for one in self.values)
        return (
            None
            if fits
            else ", ".join(
                str(one).lower() if isinstance(one, bool) else str(one) for one in self.values
            )
        )


@dataclass(frozen=True)
class MultipleOf:
    """A positive multiple of a number, or of that in another field."""

    of: int | str
    most: int = 8192

    def allowed(self, value: Any, config: Checked) -> str | None:
        of = self.of if isinstance(self.of, int) else getattr(config, self.of)
        return (
            None
            if type(value) is int and value in range(of, self.most + 1, of)
            else f"a multiple of {of} up to {self.most}"
        )


@dataclass(frozen=True)
class Within:
    """A number from `least` to `most`, both allowed unless told otherwise."""

    least: float
    most: float
    above: bool = False
    below: bool = False

    def allowed(self, value: Any, config: Checked) -> str | None:
        number = (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and self.least <= value <= self.most
        )
        if (
            number
            and not (self.above and value == self.least)
            and not (self.below and value == self.most)
        ):
            return None
        if self.above:
            return f"a number above {self.least:g} and at most {self.most:g}"
        return (
            f"a number in [{self.least:g}, {self.most:g})"
            if self.below
            else f"a number from {self.least:g} to {self.most:g}"
        )


@dataclass(frozen=True)
class Counts:
    """Integers from 1, `number` of them where that is given."""

    number: int | None = None

    def allowed(self, value: Any, config: Checked) -> str | None:
        fits = isinstance(value, tuple) and len(value) > 0 and self.number in (None, len(value))
        whole = fits and all(type(one) is int and one > 0 for one in value)
        return None if whole else f"{self.number or 'some'} positive integers"


@dataclass(frozen=True)
class Each:
    """An int from `least`, or a tuple of them."""

    least: int

    def allowed(self, value: Any, config: Checked) -> str | None:
        many = value if isinstance(value, tuple) else (value,)
        fits = len(many) > 0 and all(type(one) is int and one >= self.least for one in many)
        return None if fits else f"integers of at least {self.least}"


@dataclass(frozen=True)
class OrNone:
    """None, or what the other mark allows."""

    mark: Mark

    def allowed(self, value: Any, config: Checked) -> str | None:
        return None if value is None else self.mark.allowed(value, config)


Count = Annotated[int, AtLeast(1)]
Rate = Annotated[float, Within(0, 1, below=True)]


class Checked:
    """A Config whose fields are checked when it is made; its lists, as a recipe's file has them,
    become tuples.
    """

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            object.__setattr__(self, field, _frozen(value))
        config: Any = type(self)
        for field, mark in _marks(config):
            if (allowed := mark.allowed(getattr(self, field), self)) is not None:
                self.refuse(field, allowed)
        self.agree()

    def agree(self) -> None:
        """Refuses fields that do not go together."""

    def one_of(self, field: str, values: Collection[object]) -> None:
        """Refuses what is none of these values, which other fields decide on.

        Args:
            field: its name in this Config.
            values: of the same types as the field's: a truth value is no number.

        Raises:
            ModelConfigError: the field holds another value.
        """
        if (allowed := OneOf(values).allowed(getattr(self, field), self)) is not None:
            self.refuse(field, allowed)

    def refuse(self, field: str, allowed: str) -> NoReturn:
        """Raises ModelConfigError with the family, the field and what it holds.

        Args:
            field: its name in this Config.
            allowed: in words, what it may hold.
        """
        raise ModelConfigError(
            type(self).__module__.rpartition(".")[2], field, getattr(self, field), allowed
        )


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, (list, tuple)) else value


@functools.cache
def _marks(config: Any) -> list[tuple[str, Mark]]:
    """Fields with their marks; those that look at other fields come last."""
    found: list[tuple[str, Mark]] = []
    for field, hint in get_type_hints(config, include_extras=True).items():
        marks = (
            [OneOf((True, False))]
            if hint is bool
            else [one for one in get_args(hint)[1:] if hasattr(one, "allowed")]
        )
        found += [(field, mark) for mark in marks]
    return sorted(found, key=lambda one: isinstance(one[1], MultipleOf))
