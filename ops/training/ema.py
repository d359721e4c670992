"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages parameters and floating buffers after every optimizer step; other buffers follow the
    model.

    With `warmup` the decay grows as (1 + n) / (10 + n) up to its full value, so that the first
    steps do not weigh on short trainings.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: bool = True) -> None:
        self.decay, self.warmup = decay, warmup
        self.steps = 0
        self.weights: dict[str, Tensor] = {
            name: tensor.detach().clone() for name, tensor in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.warmup else self.decay
        state = model.state_dict()
        floating = [name for name, tensor in state.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [self.weights[name] for name in floating], [state[name] for name in floating], 1 - decay
        )
        for name in state.keys() - set(floating):
            self.weights[name].copy_(state[name])

    def state_dict(self) -> dict[str, object]:
        """Weights and number of updates."""
        return {"steps": self.steps, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take back what `state_dict` gave."""
        self.steps = int(state["steps"])  # type: ignore[call-overload]
        weights: Mapping[str, Tensor] = state["weights"]  # type: ignore[assignment]
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])
