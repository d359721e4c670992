"""float32 outputs and gradients of every family's miniature beside float64, in the layouts and
modes that training uses.

What it holds is as much this machine's kernels as the networks: a kernel of a library that errs in
silence shows here.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import models
from float64 import Outputs, shaken, still, wrong
from models.detection import evad
from models.localization import actionformer
from models.localization.actionformer import pad
from models.parsing import apct, detr

BATCH = 2
PARSING: dict[str, Any] = {
    "detr": detr.TINY,
    "detr-bottleneck": dataclasses.replace(detr.TINY, depth=50, width=4, stride=32),
    "apct": apct.TINY,
    "apct-frozen": dataclasses.replace(apct.TINY, norm="frozen", stride=8),
}
modes = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


@modes
@pytest.mark.parametrize("name", models.families("recognition"))
def test_recognition(name: str, training: bool) -> None:
    module = models.family("recognition", name)
    shape = getattr(module, "TINY_INPUT", (3, getattr(module.TINY, "num_segments", 8), 64, 48))

    def make() -> tuple[nn.Module, Outputs]:
        network = still(shaken(module.build(module.TINY)), training)
        # as decoded frames lie
        clip = torch.randn(BATCH, *shape).contiguous(memory_format=torch.channels_last_3d)
        many = "every_head" in inspect.signature(network.forward).parameters

        def outputs(network: nn.Module, dtype: torch.dtype) -> Iterable[Tensor]:
            return (
                [scores for scores, _ in network(clip.to(dtype), every_head=True)]
                if many
                else [network(clip.to(dtype))]
            )

        return network, outputs

    assert not wrong(make)


@modes
@pytest.mark.parametrize("name", PARSING)
def test_parsing(name: str, training: bool) -> None:
    config = PARSING[name]

    def make() -> tuple[nn.Module, Outputs]:
        network = still(
            shaken(models.family("parsing", name.partition("-")[0]).build(config)), training
        )
        images, padding = (
            torch.randn(BATCH, 3, 64, 96),
            torch.zeros(BATCH, 64, 96, dtype=torch.bool),
        )
        padding[1, 48:] = padding[1, :, 64:] = True
        images = images.masked_fill(padding[:, None], 0).contiguous(
            memory_format=torch.channels_last
        )
        return network, lambda network, dtype: network(images.to(dtype), padding)

    assert not wrong(make)


@modes
def test_detection(training: bool) -> None:
    def make() -> tuple[nn.Module, Outputs]:
        network, sizes = (
            still(shaken(evad.build(evad.TINY), 0.05), training),
            torch.tensor([[64, 96], [60, 80]]),
        )
        clip = torch.randn(BATCH, *evad.TINY_INPUT).contiguous(memory_format=torch.channels_last_3d)

        def outputs(network: nn.Module, dtype: torch.dtype) -> Iterable[Tensor]:
            found = network(clip.to(dtype), sizes)
            return [*found.person_logits, *found.boxes, *found.action_logits]

        return network, outputs

    assert not wrong(make)


@modes
def test_localization(training: bool) -> None:
    def make() -> tuple[nn.Module, Outputs]:
        config = dataclasses.replace(actionformer.TINY, dropout=0.0, drop_path=0.0)
        network = still(shaken(actionformer.build(config), 0.1), training)
        features, valid = pad([torch.randn(24, length) for length in (70, 41)])

        def outputs(network: nn.Module, dtype: torch.dtype) -> Iterable[Tensor]:
            said = network(features.to(dtype), valid)
            return [*said.logits, *said.offsets]

        return network, outputs

    assert not wrong(make)
