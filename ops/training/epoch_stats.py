"""What an epoch has added up so far on one rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class Tally:
    """Optimizer steps done, samples seen, sums of the losses over samples, seconds, and seconds of
    these spent waiting for data.
    """

    steps: int = 0
    samples: int = 0
    totals: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0

    @property
    def loss(self) -> float:
        """Mean loss of the samples so far."""
        return float(self.totals["loss"]) / self.samples

    def add(self, samples: int, seconds: float, waited: float) -> None:
        """Note one more step; `seconds` and `waited` are those of the whole epoch so far."""
        self.steps += 1
        self.samples += samples
        self.seconds, self.waited = seconds, waited

    def state_dict(self) -> dict[str, Any]:
        """Plain values; the sums are float32, which a Python float holds exactly."""
        totals = {name: float(value) for name, value in self.totals.items()}
        return {
            "samples": self.samples,
            "totals": totals,
            "seconds": self.seconds,
            "waited": self.waited,
        }

    @classmethod
    def restored(
        cls, steps: int, states: Sequence[Mapping[str, Any]], rank: int, world_size: int
    ) -> Tally:
        """This rank's tally of those that all ranks left.

        Args:
            steps: optimizer steps done of the epoch.
            states: the tallies, by the rank that left them. Of another number of ranks, the first
                one takes the sums of all.
            rank: this process's, 0..world_size-1.
            world_size: number of ranks now.
        """
        if not states:
            return cls()
        own = [states[rank]] if len(states) == world_size else list(states) if rank == 0 else []
        totals = {
            name: torch.tensor(float(sum(state["totals"][name] for state in own)))
            for name in states[0]["totals"]
        }
        seconds, waited = (max(state[name] for state in states) for name in ("seconds", "waited"))
        return cls(steps, sum(state["samples"] for state in own), totals, seconds, waited)
