"""What both families of parsing keep, on miniatures, at every step of the ladder."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, NamedTuple

import pytest
import torch

import models
from models.errors import ModelConfigError, ModelInputError
from models.parsing import apct, detr
from models.weights import export_published, load_published

CONFIGS: dict[str, Any] = {
    "detr": detr.TINY,
    "detr-learned": dataclasses.replace(
        detr.TINY, positions="learned", depth=50, width=4, stride=8
    ),
    "detr-pre-norm": dataclasses.replace(detr.TINY, pre_norm=True, stride=32),
    "apct-baseline": dataclasses.replace(apct.TINY, **apct.LADDER["baseline"]),
    "apct-cascade": dataclasses.replace(apct.TINY, **apct.LADDER["cascade"]),
    "apct-refinement": apct.TINY,
    "apct-frozen": dataclasses.replace(apct.TINY, norm="frozen", stride=8),
}
PARAMS = [pytest.param(config, id=name) for name, config in CONFIGS.items()]
NAMES = {"apct": ("persons", "boxes", "parts", "states", "refined"), "detr": ("logits", "boxes")}


def family(config: Any) -> str:
    return type(config).__module__.rpartition(".")[2]


class Scene(NamedTuple):
    model: torch.nn.Module
    images: torch.Tensor
    padding: torch.Tensor
    truth: list[Any]


def scene(config: Any) -> Scene:
    """A model in eval mode without a branch that starts at zero, two images of different sizes, and
    what is in them: one is empty.
    """
    torch.manual_seed(0)
    model = models.family("parsing", family(config)).build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for key, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(
                torch.rand_like(buffer) + 0.5
                if key.endswith("var")
                else 0.1 * torch.randn_like(buffer)
            )
    images, padding = torch.randn(2, 3, 64, 96), torch.zeros(2, 64, 96, dtype=torch.bool)
    padding[1, 48:], padding[1, :, 64:] = True, True
    images[padding[:, None].expand_as(images)] = 0
    boxes = torch.tensor([[0.3, 0.4, 0.2, 0.5], [0.7, 0.5, 0.3, 0.6]])
    if family(config) == "detr":
        empty = detr.Truth(torch.zeros(0, dtype=torch.int64), boxes[:0])
        return Scene(
            model.eval(), images, padding, [detr.Truth(torch.tensor([1, 4]), boxes), empty]
        )
    parts = boxes[:, None] * torch.tensor([1.0, 1.1, 0.9])[None, :, None]
    seen, states = (
        torch.tensor([[True, True, False], [True, False, True]]),
        torch.tensor([[0, -1, -1], [3, 2, 4]]),
    )
    people = apct.People(boxes, parts, seen, states)
    return Scene(
        model.eval(), images, padding, [people, apct.People(*(column[:0] for column in people))]
    )


def losses(config: Any, said: Any, truth: list[Any]) -> Any:
    return models.family("parsing", family(config)).Criterion()(said, truth)


@pytest.mark.parametrize("config", PARAMS)
class TestBothFamilies:
    def test_shapes_and_determinism(self, config: Any) -> None:
        model, images, padding, _ = scene(config)
        before = images.clone()
        said = model(images, padding)
        layers, queries = config.decoder_layers, config.queries
        assert (
            said.boxes.shape == (layers, 2, queries, 4)
            and 0 < said.boxes.min()
            and said.boxes.max() < 1
        )
        if family(config) == "apct":
            kinds = (config.num_parts, config.num_classes)
            assert said.persons.shape == (layers, 2, queries) and said.parts.shape == (
                layers,
                2,
                queries,
                config.num_parts,
                4,
            )
            assert said.states.shape == (layers, 2, queries, *kinds) and said.refined.shape == (
                2,
                queries,
                *kinds,
            )
        assert said._fields == NAMES[family(config)] and all(
            tensor.dtype == torch.float32 for tensor in said
        )
        again = model(images, padding)
        assert all(
            torch.equal(one, other) for one, other in zip(said, again, strict=True)
        ) and torch.equal(images, before)
        model.train()
        assert type(model(images, padding)) is type(said)

    def test_seed_decides_fresh_weights(self, config: Any) -> None:
        states = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            states.append(models.family("parsing", family(config)).build(config).state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])

    def test_every_trained_parameter_gets_a_finite_gradient(self, config: Any) -> None:
        model, images, padding, truth = scene(config)
        model.train()
        losses(config, model(images, padding), truth).total.backward()
        for key, parameter in model.named_parameters():
            if not parameter.requires_grad:
                assert (
                    key.startswith(("scene.trunk.stem", "scene.trunk.layer1"))
                    and parameter.grad is None
                )
                continue
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().sum() > 0 or key.startswith(model.idle), key

    def test_nothing_in_the_images_still_trains(self, config: Any) -> None:
        model, images, padding, truth = scene(config)
        result = losses(config, model(images, padding), [truth[1], truth[1]])
        result.total.backward()
        assert torch.isfinite(result.total) and result.total > 0
        assert all(
            torch.isfinite(parameter.grad).all()
            for parameter in model.parameters()
            if parameter.grad is not None
        )

    def test_more_truths_than_queries(self, config: Any) -> None:
        model, images, padding, truth = scene(config)
        crowd = type(truth[0])(
            *(column.repeat(5, *(1,) * (column.ndim - 1)) for column in truth[0])
        )
        assert torch.isfinite(losses(config, model(images, padding), [crowd, crowd]).total)

    def test_batched_equals_single(self, config: Any) -> None:
        if config == CONFIGS["detr-learned"]:
            pytest.skip("the published learned positions do not know where an image ends")
        model, images, padding, _ = scene(config)
        with torch.no_grad():
            both, first = model(images, padding), model(images[:1])
            cut = model(images[1:], padding[1:])
        for name, tensor in zip(NAMES[family(config)], both, strict=True):
            axis = 0 if name == "refined" else 1
            torch.testing.assert_close(
                tensor.narrow(axis, 0, 1), getattr(first, name), rtol=1e-4, atol=1e-5
            )
            torch.testing.assert_close(
                tensor.narrow(axis, 1, 1), getattr(cut, name), rtol=1e-4, atol=1e-5
            )

    def test_memory_layout_of_the_input_does_not_matter(self, config: Any) -> None:
        model, images, padding, _ = scene(config)
        plain, other = (
            model(images, padding),
            model(images.contiguous(memory_format=torch.channels_last), padding),
        )
        for one, two in zip(plain, other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)

    def test_gradients_change_no_answer(self, config: Any) -> None:
        model, images, padding, _ = scene(config)
        with torch.no_grad():
            without = model(images, padding)
        for one, two in zip(model(images, padding), without, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)

    def test_state_dict_round_trip(self, config: Any) -> None:
        model, images, padding, _ = scene(config)
        other = models.family("parsing", family(config)).build(config).eval()
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        assert all(
            torch.equal(one, two)
            for one, two in zip(model(images, padding), other(images, padding), strict=True)
        )
        assert all(tensor.is_contiguous() for tensor in model.state_dict().values())

    def test_published_round_trip(self, config: Any) -> None:
        model = scene(config).model
        published = export_published(model)
        other = models.family("parsing", family(config)).build(config)
        assert load_published(other, published).loaded == len(published) == len(model.state_dict())
        assert all(
            torch.equal(tensor, other.state_dict()[key])
            for key, tensor in model.state_dict().items()
        )

    def test_bf16_autocast(self, config: Any) -> None:
        model, images, padding, truth = scene(config)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            said = model(images, padding)
        full = model(images, padding)
        assert (said.boxes.float() - full.boxes).abs().max() < 0.05
        result = losses(config, said, truth)
        result.total.backward()
        assert result.total.dtype == torch.float32 and torch.isfinite(result.total)

    def test_deep_copy(self, config: Any) -> None:
        model, images, padding, _ = scene(config)
        assert torch.equal(
            copy.deepcopy(model)(images, padding).boxes, model(images, padding).boxes
        )

    def test_bad_input_is_named(self, config: Any) -> None:
        model, images, padding, _ = scene(config)
        name = family(config)
        for bad, says in (
            (images[:, :1], r"float32 \(2, 1"),
            ((images * 9).to(torch.uint8), "uint8"),
            (images[0], r"float32 \(3,"),
            (images[:0], r"float32 \(0,"),
            (images.numpy(), "ndarray"),
        ):
            with pytest.raises(ModelInputError, match=f"^{name}: images: found {says}.*; expected"):
                model(bad)
        for bad, says in (
            (padding[:1], r"torch.bool \(1,"),
            (padding.float(), "torch.float32"),
            ("none", "str"),
        ):
            with pytest.raises(
                ModelInputError, match=f"^{name}: padding: found {says}.*; expected a bool tensor"
            ):
                model(images, bad)


@pytest.mark.parametrize("name", ["detr", "apct"])
def test_bad_config_is_named(name: str) -> None:
    module = models.family("parsing", name)
    with pytest.raises(
        ModelConfigError, match="'channels': found 30; allowed: a multiple of 4 and of heads, 8"
    ):
        module.Config(num_classes=3, channels=30)
    with pytest.raises(dataclasses.FrozenInstanceError):
        module.TINY.num_classes = 7


def test_more_cells_than_learned_positions_are_refused() -> None:
    model, images, _, _ = scene(CONFIGS["detr-learned"])
    with pytest.raises(ModelInputError, match="found a map of 8 x 60; expected at most 50 a side"):
        model(torch.cat([images] * 5, -1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["detr", "apct-cascade", "apct-refinement"])
def test_export(name: str) -> None:
    """With any number of images; the refinement, which gathers boxes of all images, with a fixed
    one.
    """
    model, images, padding, _ = scene(CONFIGS[name])
    any_number = (
        None if name == "apct-refinement" else ({0: torch.export.Dim("batch", min=2, max=64)},) * 2
    )
    more, outside = (
        (images, padding)
        if any_number is None
        else (torch.cat([images, images]), torch.cat([padding, padding.flip(0)]))
    )
    with torch.no_grad():
        program = torch.export.export(model, (images, padding), dynamic_shapes=any_number)
        for one, two in zip(program.module()(more, outside), model(more, outside), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
