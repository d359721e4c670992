"""Optimizer, parameter groups and the learning rate of every step."""

from __future__ import annotations

import math
from bisect import bisect_right

import torch
from torch import nn

from configs.schema import ConfigError, Optimizer, Recipe, Schedule


def parameter_groups(model: nn.Module, config: Optimizer) -> list[dict[str, object]]:
    """Groups of trainable parameters by learning-rate multiplier (longest matching prefix wins) and weight decay.

    SGD decays every parameter, as the originals of the convolutional families do; AdamW spares norms and biases (one
    dimension or none), as those of the transformers do. Raises ConfigError for a prefix that matches no parameter.
    """
    unused = set(config.lr_multipliers)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    names = [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        prefixes = [prefix for prefix in config.lr_multipliers if name == prefix or name.startswith(prefix.rstrip(".") + ".")]
        unused -= set(prefixes)
        multiplier = config.lr_multipliers[max(prefixes, key=len)] if prefixes else 1.0
        decay = 0.0 if config.name == "adamw" and parameter.ndim <= 1 else config.weight_decay
        groups.setdefault((multiplier, decay), []).append(parameter)
    if unused:
        tops = sorted({name.split(".")[0] for name in names})
        raise ConfigError("recipe", "optimizer.lr_multipliers", sorted(unused)[0], "prefixes of parameter names such as " + ", ".join(tops))
    return [{"params": own, "multiplier": scale, "weight_decay": decay} for (scale, decay), own in groups.items()]


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
