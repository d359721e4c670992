"""What an asset does about an error: a store that fails is tried again, everything else is told
once.
"""

from __future__ import annotations

import dagster as dg
import pytest

from assets.failures import MAX_RETRIES, reported
from configs.schema import ConfigError
from models.errors import ModelConfigError
from ops.files.storage import StorageError
from ops.training.checkpoint import CheckpointError


class Context:
    """The part of the execution context that is asked."""

    def __init__(self, retry_number: int = 0) -> None:
        self.retry_number = retry_number


def raised(error: Exception, retry_number: int = 0) -> BaseException:
    """What comes out of the block for an error inside it."""
    with pytest.raises(BaseException) as caught:  # noqa: B017  (RetryRequested and Failure have no closer common base)
        with reported(Context(retry_number)):  # type: ignore[arg-type]
            raise error
    return caught.value


def test_a_failing_store_is_tried_again_after_longer_and_longer_waits() -> None:
    error = StorageError("s3://bucket/key", "failed 3 times", transient=True)
    waits = [raised(error, attempt) for attempt in range(MAX_RETRIES)]
    assert [type(wait) for wait in waits] == [dg.RetryRequested] * 3
    assert [wait.seconds_to_wait for wait in waits] == [2, 4, 8]
    last = raised(error, MAX_RETRIES)
    assert (
        isinstance(last, dg.Failure)
        and "s3://bucket/key: failed 3 times" in str(last.description)
        and not last.allow_retries
    )


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (StorageError("s3://bucket", "access refused"), "s3://bucket: access refused"),
        (
            ConfigError("a.yaml", "lr", -1, "more than 0"),
            "ConfigError: a.yaml: field 'lr': found -1; allowed: more than 0",
        ),
        (
            CheckpointError("checkpoint damaged; delete it"),
            "CheckpointError: checkpoint damaged; delete it",
        ),
        (
            ModelConfigError("m", "depth", 3, "18"),
            "ModelConfigError: m: field 'depth': found 3; allowed: 18",
        ),
        (
            OSError(28, "No space left on device", "/disk/a"),
            "OSError: [Errno 28] No space left on device: '/disk/a'",
        ),
    ],
)
def test_a_mistake_is_told_at_once_and_keeps_its_cause(error: Exception, says: str) -> None:
    failure = raised(error)
    assert isinstance(failure, dg.Failure) and failure.description == says
    assert not failure.allow_retries and failure.__cause__ is error


@pytest.mark.parametrize(
    "bug",
    [
        KeyError("name"),
        ValueError("not enough values to unpack"),
        RuntimeError("shapes differ"),
        TypeError(),
    ],
)
def test_a_bug_stays_a_bug(bug: Exception) -> None:
    assert raised(bug) is bug
