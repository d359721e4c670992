"""Optimizer, parameter groups and the learning rate of every step."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable

import torch
from torch import nn

from configs.schema import ConfigError, Optimizer, Recipe, Schedule

BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


def parameter_groups(model: nn.Module, config: Optimizer) -> list[dict[str, object]]:
    """Groups of trainable parameters by learning-rate multiplier (longest matching prefix wins) and weight decay.

    SGD decays every parameter, as the originals of the convolutional families do; AdamW spares norms and biases (one
    dimension or none), as those of the transformers do; `decay_all` and `no_decay` say otherwise. With `layer_decay` a block's
    rate is that share of the next one's, and what lies before the first block counts as a block of its own.
    Raises ConfigError for a prefix that matches no parameter, and for layer decay on a model without `blocks`.
    """
    names = [name for name, _ in model.named_parameters()]
    _check_prefixes(names, "lr_multipliers", config.lr_multipliers)
    _check_prefixes(names, "no_decay", config.no_decay)
    shares = _layer_shares(names, config.layer_decay)
    decay_all = config.name == "sgd" if config.decay_all is None else config.decay_all
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        prefixes = [prefix for prefix in config.lr_multipliers if _below(name, prefix)]
        multiplier = shares[name] * (config.lr_multipliers[max(prefixes, key=len)] if prefixes else 1.0)
        spared = any(_below(name, prefix) for prefix in config.no_decay) or (parameter.ndim <= 1 and not decay_all)
        groups.setdefault((multiplier, 0.0 if spared else config.weight_decay), []).append(parameter)
    return [{"params": own, "multiplier": scale, "weight_decay": decay} for (scale, decay), own in groups.items()]


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")


def _check_prefixes(names: list[str], field: str, prefixes: Iterable[str]) -> None:
    for prefix in prefixes:
        if not any(_below(name, prefix) for name in names):
            tops = sorted({name.split(".")[0] for name in names})
            raise ConfigError("recipe", f"optimizer.{field}", prefix, "prefixes of parameter names such as " + ", ".join(tops))


def _layer_shares(names: list[str], decay: float | None) -> dict[str, float]:
    """Each parameter's share of the learning rate: 1 behind the last block, `decay` times less for each block before it."""
    if decay is None:
        return dict.fromkeys(names, 1.0)
    found = {name: BLOCK.search(name) for name in names}
    layers = {name: int(match[1]) + 1 for name, match in found.items() if match}
    if not layers:
        raise ConfigError("recipe", "optimizer.layer_decay", decay, "null: the model has no blocks")
    first, last = min(names.index(name) for name in layers), max(layers.values()) + 1
    return {name: decay ** (last - layers.get(name, 0 if place < first else last)) for place, name in enumerate(names)}


def build_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """SGD or AdamW over `parameter_groups`; the learning rate is set before every step."""
    groups = parameter_groups(model, config)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas)


class LearningRate:
    """Learning rate per optimizer step: linear warm-up, then constant, steps down, or half a cosine to `min_lr`."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        optimizer, training = recipe.optimizer, recipe.training
        scale = training.batch_size / optimizer.base_batch_size if optimizer.base_batch_size else 1.0
        self.peak = optimizer.lr * scale
        self.schedule: Schedule = recipe.schedule
        self.steps_per_epoch = steps_per_epoch
        self.total = training.epochs * steps_per_epoch
        self.warmup = round(self.schedule.warmup_epochs * steps_per_epoch)

    def at(self, step: int) -> float:
        """Rate of the step, counted from 0 over the whole training, before a group's multiplier."""
        schedule = self.schedule
        if schedule.per == "epoch":
            step = step // self.steps_per_epoch * self.steps_per_epoch
        if step < self.warmup:
            return self.peak * (schedule.warmup_start + (1 - schedule.warmup_start) * step / self.warmup)
        if schedule.kind == "multistep":
            passed = bisect_right(sorted(schedule.milestones), step / self.steps_per_epoch)
            return max(self.peak * schedule.gamma**passed, schedule.min_lr)
        if schedule.kind == "cosine":
            share = (step - self.warmup) / max(1, self.total - self.warmup)
            return schedule.min_lr + (self.peak - schedule.min_lr) * 0.5 * (1 + math.cos(math.pi * share))
        return self.peak

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the step's rate in every group and return it."""
        rate = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["multiplier"]
        return rate
