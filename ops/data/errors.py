"""What data can do wrong, whatever the task."""

from __future__ import annotations

from configs.errors import KinographError


class DataError(KinographError, ValueError):
    """Data that cannot be trained on: names the dataset, the table and what to do."""


class SampleError(KinographError, RuntimeError):
    """A sample that the ledger promises and that cannot be read: names the clip and the URI."""
