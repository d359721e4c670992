"""What a recipe's training changes of a network without changing its weights' names: batch norms
that stay, recomputed activations, compiled passes.
"""

from __future__ import annotations

import os
import re
import shutil

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
    checkpoint_wrapper,
)
from torch.nn.modules.batchnorm import _BatchNorm

from configs.schema import ConfigError, Recipe, Scale

# residual and transformer blocks, by their place
RECOMPUTED = re.compile(r"(?:^|\.)(?:blocks|layer\d|stages\.\d)\.\d+$")


def freeze_batch_norms(model: nn.Module, recipe: Recipe) -> None:
    """Batch norms as the recipe wants them; again after every `model.train()`.

    partial: all but the first keep their statistics and weights, as TSN trains; frozen: all do.
    """
    mode = recipe.training.batch_norm
    if mode == "train":
        return
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms[1 if mode == "partial" else 0 :]:
        norm.eval()
        for parameter in norm.parameters():
            parameter.requires_grad_(False)


def synchronised(
    model: nn.Module, recipe: Recipe, world_size: int, device: torch.device
) -> nn.Module:
    """The model with statistics of batch norms over all workers, where the recipe asks for it and
    there are several.

    Raises ConfigError on CPUs, which torch cannot do it on.
    """
    if not recipe.training.sync_batch_norm or world_size == 1:
        return model
    if device.type != "cuda":
        raise ConfigError(
            f"recipe '{recipe.name}'",
            "training.sync_batch_norm",
            True,
            "false for several workers without GPUs",
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def recomputing(model: nn.Module, recipe: Recipe) -> None:
    """Makes the blocks forget their activations and compute them again for the backward pass, where
    the recipe asks for it.

    Statistics of batch norms inside the blocks move twice a step then, as in the originals. Raises
    ConfigError for a network without blocks that this knows.
    """
    if not recipe.training.recompute:
        return
    chosen = {module for name, module in model.named_modules() if RECOMPUTED.search(name)}
    if not chosen:
        raise ConfigError(
            f"recipe '{recipe.name}'",
            "training.recompute",
            True,
            f"false: {recipe.family} has no blocks to recompute",
        )
    apply_activation_checkpointing(
        model, checkpoint_wrapper_fn=checkpoint_wrapper, check_fn=lambda module: module in chosen
    )


def check_compiler(recipe: Recipe, scale: Scale) -> None:
    """Raise ConfigError where the compiled network of a CPU has no C++ compiler to be made by."""
    compiler = os.environ.get("CXX", "g++")
    if scale.compile and not scale.use_gpu and shutil.which(compiler) is None:
        raise ConfigError(
            f"recipe '{recipe.name}'",
            "scale.compile",
            True,
            f"false without a C++ compiler ('{compiler}' is not found)",
        )


def compiling(model: nn.Module, scale: Scale) -> None:
    """Has calls of the model go through torch.compile, where the scale asks for it. They answer the
    same but for rounding; copies of the model, and its other methods, are as they were.
    """
    if scale.compile:
        model.compile()
