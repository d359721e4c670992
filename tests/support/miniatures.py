"""Every family's miniature, with weights and inputs that a seed decides and in which every branch
counts.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import models
from ops.training.cases import of_miniature

TASKS = ("detection", "localization", "parsing", "recognition")
FAMILIES = [(task, name) for task in TASKS for name in models.families(task)]


def miniature(task: str, name: str, seed: int = 0) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model in eval mode, without a branch that starts at zero and with normalisation
    statistics that matter; its inputs.
    """
    torch.manual_seed(seed)
    case = of_miniature(task, name)
    model = case.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    stored = model.state_dict().keys()  # tables that follow from the Config stay as they are
    for key, buffer in model.named_buffers():
        if key in stored and buffer.is_floating_point():
            buffer.copy_(
                torch.rand_like(buffer) + 0.5
                if key.endswith("var")
                else 0.1 * torch.randn_like(buffer)
            )
    return model.eval(), case.inputs


def answers(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All floating-point tensors that the model answers with, those of heads for the training alone
    among them.
    """
    if "every_head" in inspect.signature(model.forward).parameters:
        return [scores for scores, _ in model(*inputs, every_head=True)]
    return [one for one in tensors(model(*inputs)) if one.is_floating_point()]


def tensors(found: Any) -> Iterator[Tensor]:
    """The tensors in tuples, lists and mappings, in their order."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Mapping):
        for one in found.values():
            yield from tensors(one)
    elif isinstance(found, (tuple, list)):
        for one in found:
            yield from tensors(one)
