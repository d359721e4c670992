"""Waiting for a store that is away: longer than the retries of a single request, and not
forever.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ops.files.errors import StorageError
from ops.files.storage import exists

PATIENCE_S = 60.0  # a server that restarts is back by then
STORE_TRIES = 5  # of one piece of work, where the store fails again and again while it goes on
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
T = TypeVar("T")


def patient(uri: str, action: Callable[[], T]) -> T:
    """Runs the action; where the store fails for a while, waits until it answers and runs it again.

    Args:
        uri: lies in the store that is waited for.
        action: may run more than once; its value is given back.

    Raises:
        StorageError: the store refuses, is away for PATIENCE_S, or fails STORE_TRIES times.
    """
    for attempt in range(1, STORE_TRIES + 1):
        try:
            return action()
        except StorageError as error:
            if not error.transient or attempt == STORE_TRIES:
                raise
            wait_for(uri, error)
    raise AssertionError("unreachable")


def wait_for(uri: str, error: StorageError) -> None:
    """Returns when the store that holds `uri` answers again. Raises `error` where it does not
    within PATIENCE_S.
    """
    wait, ends = FIRST_WAIT_S, time.monotonic() + PATIENCE_S
    while True:
        time.sleep(wait)
        wait = min(LONGEST_WAIT_S, 2 * wait)
        try:
            exists(uri)
            return
        except StorageError as still:
            if not still.transient or time.monotonic() + wait > ends:
                raise error from still
