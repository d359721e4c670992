"""A recipe on its way, for scripts and notebooks: `from ops.flow import train_recipe`. Nothing
heavy is loaded before it is called for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ops.annotations.sources import annotate_dataset as annotate_dataset
    from ops.flow.recipe import evaluate_recipe as evaluate_recipe
    from ops.flow.recipe import promote_recipe as promote_recipe
    from ops.flow.recipe import register_recipe as register_recipe
    from ops.flow.recipe import train_recipe as train_recipe

PLACES = {
    "annotate_dataset": "ops.annotations.sources",
    **dict.fromkeys(
        ("train_recipe", "evaluate_recipe", "register_recipe", "promote_recipe"), "ops.flow.recipe"
    ),
}
__all__ = list(PLACES)


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)
