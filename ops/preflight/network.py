"""The network, the optimizer and the starting weights of a recipe, without a step: on `meta`
tensors, which have shapes and no numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import models
from configs.schema import ConfigError
from ops.preflight.about import About
from ops.training.cases import of_recipe
from ops.training.task import wing

if TYPE_CHECKING:
    from torch import nn

MANY = 2**40  # samples, where their number is not known yet


def built(about: About) -> Iterator[ConfigError]:
    """The network can be built."""
    on_meta(about)
    yield from ()


def shapes(about: About) -> Iterator[ConfigError]:
    """The network takes what the recipe's views give it."""
    case, model = of_recipe(about.recipe), on_meta(about)
    try:
        model(*(one.to("meta") for one in case.inputs))
    # an operation without a form for meta tensors: the first step will tell
    except NotImplementedError:
        return
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        first = " ".join(str(error).split())[:300]
        shape = "x".join(map(str, case.inputs[0].shape[1:]))
        found = f"an input of {shape}, as the recipe's frames and sizes make it: {first}"
        yield about.wrong("model", found, "settings that fit each other")


def optimizer(about: About) -> Iterator[ConfigError]:
    """Its options go together and name what the network has."""
    import torch

    from ops.training.model_setup import freeze_batch_norms, recomputing
    from ops.training.optim import build_optimizer, parameter_groups

    recipe = about.recipe
    model = on_meta(about)
    freeze_batch_norms(model, recipe)
    if not parameter_groups(model, recipe.optimizer):
        yield about.wrong(
            "training.batch_norm",
            recipe.training.batch_norm,
            "a value that leaves something to train",
        )
    recomputing(model, recipe)
    alone: dict[str, Any] = {
        "lr_multipliers": {},
        "no_decay": (),
        "decay_only": (),
        "layer_decay": None,
    }
    build_optimizer(torch.nn.Conv1d(1, 1, 1), recipe.optimizer.model_copy(update=alone))


def scale(about: About) -> Iterator[ConfigError]:
    """Workers, precision and devices that this machine or the cluster has."""
    import torch

    from ops.training.batch_sampler import BatchPlan
    from ops.training.inference import check_precision, training_precision, wanted_device
    from ops.training.model_setup import check_compiler, synchronised

    recipe, own = about.recipe, about.recipe.scale
    device = wanted_device(own)
    check_precision(recipe, "training.amp", training_precision(recipe), device)
    check_precision(recipe, "gate.precision", recipe.gate.precision, device)
    check_compiler(recipe, own)
    BatchPlan(recipe, MANY, 0, own.num_workers)
    synchronised(torch.nn.Identity(), recipe, own.num_workers, device)
    if (
        own.use_gpu
        and not about.settings.ray_address
        and torch.cuda.device_count() < own.num_workers
    ):
        found = f"true, for {own.num_workers} workers"
        yield about.wrong(
            "scale.use_gpu",
            found,
            f"false, or a machine with as many GPUs: this one has {torch.cuda.device_count()}",
        )


def on_meta(about: About) -> nn.Module:
    """The network without numbers. Raises ModelConfigError."""
    import torch

    with torch.device("meta"):
        return models.build(about.recipe).to("meta")  # tables that numpy made too


def start(about: About) -> Iterator[ConfigError]:
    """The weights to start from are there and fit; they are loaded as the training will load
    them.
    """
    training = about.recipe.training
    if training.init_from is None:
        if training.init_head is not None:
            yield about.wrong(
                "training.init_head",
                "a section",
                "nothing without init_from: there is no checkpoint to take a head from",
            )
        return
    try:
        wing(about.recipe.task, "preflight").start(about)
    except FileNotFoundError as error:
        yield about.wrong(
            "training.init_from",
            training.init_from,
            f"an existing checkpoint ({error.strerror or error})",
        )
    except ConfigError:
        raise
    except (ValueError, OSError) as error:
        yield about.wrong(
            "training.init_from",
            training.init_from,
            f"weights that fit: {' '.join(str(error).split())[:500]}",
        )
    if training.head_scale is not None:
        from ops.training.init_weights import scale_head

        scale_head(on_meta(about), training.head_scale, about.recipe)
