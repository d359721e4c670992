"""How errors of the work reach Dagster: a user's mistake fails at once and reads well, a failing
store is tried again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

MAX_RETRIES = 3


@contextmanager
def reported(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Iterator[None]:
    """Turn storage errors into retries after 2, 4 and 8 seconds, and all others that speak for
    themselves into a `Failure` without retry.

    A programmer's mistake stays what it is, with its stack.
    """
    from ops.files.mistakes import mistakes
    from ops.files.storage import StorageError

    try:
        yield
    except StorageError as error:
        if error.transient and context.retry_number < MAX_RETRIES:
            raise dg.RetryRequested(
                max_retries=MAX_RETRIES, seconds_to_wait=2 ** (context.retry_number + 1)
            ) from error
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except mistakes() as error:
        raise dg.Failure(
            description=f"{type(error).__name__}: {error}", allow_retries=False
        ) from error
