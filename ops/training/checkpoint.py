"""The state of a training between two optimizer steps, in one file of tensors and plain values."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from configs.errors import KinographError

FILE = "state.pt"
FORMAT = 2
# A damaged zip or pickle stream fails in any of these ways.
DAMAGE = (
    RuntimeError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
)


class CheckpointError(KinographError, RuntimeError):
    """A checkpoint that cannot be used: names the file and what to do."""


@dataclass
class State:
    """Everything that the next step depends on.

    There is no random state: every step seeds all generators from (seed, epoch, rank, step), so
    that it gives the same weights whoever runs it, and however often. The order of the samples
    follows from (seed, epoch) too.
    """

    epoch: int  # finished epochs
    step: int  # finished optimizer steps: the place in the learning-rate schedule
    recipe_key: str
    model: dict[str, Any]
    optimizer: dict[str, Any]
    average: dict[str, Any] | None = None
    scaler: dict[str, Any] = field(default_factory=dict)
    task: dict[str, Any] = field(default_factory=dict)
    best: float | None = None
    run_id: str | None = None
    # metrics of every finished epoch, in order
    history: list[dict[str, float]] = field(default_factory=list)
    step_in_epoch: int = 0  # optimizer steps done of the epoch after `epoch`
    tallies: list[dict[str, Any]] = field(default_factory=list)  # sums over these steps, by rank

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The weights to evaluate and to publish: the average where there is one."""
        return self.average["weights"] if self.average else self.model


def save_state(state: State, folder: Path) -> Path:
    """Write the state into the folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.tmp"
    content = {"format": FORMAT, **{own.name: getattr(state, own.name) for own in fields(State)}}
    with open(temporary, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / FILE)
    return folder / FILE


def load_state(folder: Path, recipe_key: str, shown_as: str | None = None) -> State:
    """Read the state of this recipe back.

    Args:
        folder: on this machine, as `save_state` wrote it.
        recipe_key: of the recipe that goes on.
        shown_as: names the folder in messages when the given one is a copy.

    Raises:
        CheckpointError: the file is missing, damaged or foreign.
    """
    where = f"{shown_as or folder}/{FILE}"
    advice = f"delete the folder {shown_as or folder} to continue from the checkpoint before it"
    try:
        _check_sums(folder / FILE)
        content = torch.load(folder / FILE, map_location="cpu", weights_only=True)
        if content.pop("format") != FORMAT:
            raise CheckpointError(f"{where}: of another version of this program; {advice}")
        state = State(**content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{where}: no such file; {advice}") from error
    except CheckpointError:
        raise
    except DAMAGE as error:
        raise CheckpointError(f"{where}: damaged, {type(error).__name__}; {advice}") from error
    if state.recipe_key != recipe_key:
        raise CheckpointError(
            f"{where}: belongs to another recipe ({state.recipe_key}, expected {recipe_key});"
            f" {advice}"
        )
    return state


def _check_sums(path: Path) -> None:
    """Compare the checksums of the file's parts, which torch writes and does not read."""
    with zipfile.ZipFile(path) as archive:
        part = archive.testzip()
    if part is not None:
        raise zipfile.BadZipFile(f"{part} does not match its checksum")
