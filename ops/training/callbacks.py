"""What the training reports, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from configs.errors import KinographError


class TrainingError(KinographError, RuntimeError):
    """A training that cannot go on: says why and what to do."""


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch, counted from 1. `metrics` are plain floats, the same on every rank."""

    epoch: int
    epochs: int
    metrics: dict[str, float]

    @property
    def final(self) -> bool:
        """Whether the training is over."""
        return self.epoch == self.epochs


@dataclass(frozen=True)
class StepReport:
    """Where an epoch stands: optimizer steps done and the running loss."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


Save = Callable[[Path], None]  # writes a checkpoint into a folder; a no-op on ranks other than 0
OnEpoch = Callable[[EpochReport, Save], None]
OnStep = Callable[[StepReport], None]
OnCheckpoint = Callable[[StepReport, Save], None]


class EpochLogger(Protocol):
    """The run that rank 0 writes into. Picklable; logging an epoch twice leaves one entry."""

    @property
    def run_id(self) -> str: ...

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def system_metrics(self) -> AbstractContextManager[None]:
        """Sample the machine while the block runs."""
