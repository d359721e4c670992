"""Which exceptions are told to a person in words, wherever a person's call ends."""

from __future__ import annotations

import sys

from configs.errors import KinographError


def mistakes() -> tuple[type[Exception], ...]:
    """A person's mistakes, and systems that refuse: `except mistakes() as error`. All others are a
    programmer's and show their stack.

    The networks' errors have a base of their own, since `models` knows no other package of the
    project.
    """
    # it takes torch along: where nobody has loaded it, none of its errors can be under way
    models = sys.modules.get("models.errors")
    return (
        (KinographError, OSError)
        if models is None
        else (KinographError, OSError, models.ModelError)
    )
