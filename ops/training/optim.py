"""Optimizer, parameter groups and the learning rate of every step."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from configs.schema import ConfigError, Optimizer, Recipe, Schedule

KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": (_ConvNd,),
    "linear": (nn.Linear,),
    "embedding": (nn.Embedding,),
    "norm": (_NormBase, nn.LayerNorm, nn.GroupNorm),
}
BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


def parameter_groups(model: nn.Module, config: Optimizer) -> list[dict[str, object]]:
    """Groups of trainable parameters by learning-rate multiplier (the longest prefix or pattern
    that fits wins) and weight decay.

    SGD decays every parameter, as the originals of the convolutional families do; AdamW spares
    norms and biases (one dimension or none), as those of the transformers do; `decay_all`,
    `decay_only` and `no_decay` say otherwise. With `layer_decay` a block's rate is that share of
    the next one's, and what lies before the first block counts as a block of its own. Raises
    ConfigError for a name that fits no parameter, for kinds of modules that the model has none of,
    and for layer decay on a model without `blocks`.
    """
    names = [name for name, _ in model.named_parameters()]
    _check_names(names, "lr_multipliers", config.lr_multipliers)
    _check_names(names, "no_decay", config.no_decay)
    shares = _layer_shares(names, config.layer_decay)
    decayed = _decayed(model, config)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        fitting = [key for key in config.lr_multipliers if _fits(name, key)]
        multiplier = shares[name] * (
            config.lr_multipliers[max(fitting, key=len)] if fitting else 1.0
        )
        groups.setdefault((multiplier, config.weight_decay if name in decayed else 0.0), []).append(
            parameter
        )
    return [
        {"params": own, "multiplier": scale, "weight_decay": decay}
        for (scale, decay), own in groups.items()
    ]


def _decayed(model: nn.Module, config: Optimizer) -> set[str]:
    """Names of the parameters with weight decay."""
    if config.decay_only:
        if config.decay_all is not None:
            raise ConfigError(
                "recipe", "optimizer.decay_all", config.decay_all, "null with optimizer.decay_only"
            )
        chosen: set[str] = set()
        for kind in config.decay_only:
            found = {
                f"{place}.weight" if place else "weight"
                for place, module in model.named_modules()
                if isinstance(module, KINDS[kind])
            }
            if not found:
                raise ConfigError(
                    "recipe", "optimizer.decay_only", kind, "kinds of modules that the model has"
                )
            chosen |= found
    else:
        decay_all = config.name == "sgd" if config.decay_all is None else config.decay_all
        chosen = {
            name for name, parameter in model.named_parameters() if parameter.ndim > 1 or decay_all
        }
    return {name for name in chosen if not any(_fits(name, key) for key in config.no_decay)}


def _fits(name: str, key: str) -> bool:
    """Whether the parameter is the named one, below the named module, or of the pattern."""
    if any(sign in key for sign in "*?["):
        return fnmatchcase(name, key)
    return name == key or name.startswith(key.rstrip(".") + ".")


def _check_names(names: list[str], field: str, keys: Iterable[str]) -> None:
    for key in keys:
        if not any(_fits(name, key) for name in names):
            tops = sorted({name.split(".")[0] for name in names})
            raise ConfigError(
                "recipe",
                f"optimizer.{field}",
                key,
                "prefixes or patterns of parameter names such as " + ", ".join(tops),
            )


def _layer_shares(names: list[str], decay: float | None) -> dict[str, float]:
    """Each parameter's share of the learning rate: 1 behind the last block, `decay` times less for
    each block before it.
    """
    if decay is None:
        return dict.fromkeys(names, 1.0)
    found = {name: BLOCK.search(name) for name in names}
    layers = {name: int(match[1]) + 1 for name, match in found.items() if match}
    if not layers:
        raise ConfigError("recipe", "optimizer.layer_decay", decay, "null: the model has no blocks")
    first, last = min(names.index(name) for name in layers), max(layers.values()) + 1
    return {
        name: decay ** (last - layers.get(name, 0 if place < first else last))
        for place, name in enumerate(names)
    }


def build_optimizer(model: nn.Module, config: Optimizer) -> torch.optim.Optimizer:
    """SGD or AdamW over `parameter_groups`, in one pass over all tensors; the learning rate is set
    before every step.
    """
    groups = parameter_groups(model, config)
    if config.name == "sgd":
        return torch.optim.SGD(
            groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=True
        )
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


class LearningRate:
    """Learning rate per optimizer step: linear warm-up, then constant, steps down, or half a cosine
    to `min_lr`.

    The forms of the originals: mmengine's warm-up has the full rate at its own last step
    (`warmup_peak: last`), and where its cosine begins with it the rate is the product of both
    (`during_warmup: multiplied`); ActionFormer's is the first of these with a start of 0.
    """

    def __init__(self, recipe: Recipe, steps_per_epoch: int) -> None:
        optimizer, training = recipe.optimizer, recipe.training
        scale = (
            training.batch_size / optimizer.base_batch_size if optimizer.base_batch_size else 1.0
        )
        self.peak = optimizer.lr * scale
        self.schedule: Schedule = recipe.schedule
        self.steps_per_epoch = steps_per_epoch
        self.total = training.epochs * steps_per_epoch
        self.warmup = round(self.schedule.warmup_epochs * steps_per_epoch)

    def at(self, step: int) -> float:
        """Rate of the step, counted from 0 over the whole training, before a group's multiplier."""
        schedule = self.schedule
        # Both in steps: warm-up and curve may move by the step or by the epoch, each in its own
        # way.
        warming = self._moved(step, schedule.warmup_per or schedule.per)
        moved = self._moved(step, schedule.per)
        # Where the curve begins: after the warm-up, or with the training, so that the warm-up hides
        # its start.
        begin = self.warmup if schedule.during_warmup == "waits" else 0
        if warming >= self.warmup:
            return self._curve(moved, begin)
        share = self._warmup_share(warming)
        # From `warmup_start` to 1 along a straight line, as a share of the rate that it is a factor
        # of.
        factor = schedule.warmup_start + (1 - schedule.warmup_start) * share
        if schedule.during_warmup == "multiplied":
            return factor * self._curve(moved, 0)
        if schedule.during_warmup == "met":
            # A straight line from the start's rate to where the curve stands when the warm-up ends.
            start = schedule.warmup_start * self.peak
            return start + (self._curve(self.warmup, 0) - start) * share
        return factor * self.peak

    def _moved(self, step: int, per: str) -> int:
        """The step itself, or the first one of its epoch."""
        return step if per == "step" else step // self.steps_per_epoch * self.steps_per_epoch

    def _warmup_share(self, step: int) -> float:
        """How much of the warm-up's way is behind it at this step of its own."""
        schedule = self.schedule
        unit = 1 if (schedule.warmup_per or schedule.per) == "step" else self.steps_per_epoch
        length = self.warmup - unit if schedule.warmup_peak == "last" else self.warmup
        return min(1.0, step / length) if length > 0 else 0.0

    def _curve(self, step: int, begin: int) -> float:
        schedule = self.schedule
        if schedule.kind == "multistep":
            passed = bisect_right(sorted(schedule.milestones), step / self.steps_per_epoch)
            return max(self.peak * schedule.gamma**passed, schedule.min_lr)
        if schedule.kind == "cosine":
            # Half a cosine from `begin` to the end, or over `cosine_epochs`; before and after it
            # the rate stands still.
            half = (
                self.total - begin
                if schedule.cosine_epochs is None
                else schedule.cosine_epochs * self.steps_per_epoch
            )
            share = min(max((step - begin) / max(1, half), 0.0), 1.0)
            return schedule.min_lr + (self.peak - schedule.min_lr) * 0.5 * (
                1 + math.cos(math.pi * share)
            )
        return self.peak

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the step's rate in every group and return it."""
        rate = self.at(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["multiplier"]
        return rate
