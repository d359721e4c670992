"""What every family keeps, on its miniature."""

from __future__ import annotations

import copy
import dataclasses
import json
from types import SimpleNamespace

import pytest
import torch

import configs
import models
from miniatures import FAMILIES, TASKS, answers, miniature, tensors
from models.errors import ModelConfigError, ModelInputError
from models.weights import export_published, load_published

PARAMS = [pytest.param(*one, id="-".join(one)) for one in FAMILIES]
RECOGNITION = [pytest.param(*one, id="-".join(one)) for one in FAMILIES if one[0] == "recognition"]
IDLE = {"evad": ("pyramid.outputs.",)}  # small images, small boxes: most levels are not read
BATCH = 2


def tiny(task: str, name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """A recognition model's miniature and its clips."""
    model, (clip,) = miniature(task, name)
    return model, clip


@pytest.mark.parametrize(("task", "name"), PARAMS)
class TestEveryFamily:
    """Of every task: what `models` promises of a family."""

    def test_exports(self, task: str, name: str) -> None:
        module = models.family(task, name)
        assert dataclasses.is_dataclass(module.Config) and isinstance(module.TINY, module.Config)
        with pytest.raises(dataclasses.FrozenInstanceError):
            module.TINY.num_classes = 7
        with pytest.raises(ModelConfigError, match=f"{name}: field 'num_classes': found 0"):
            module.Config(num_classes=0)

    def test_bad_config_is_named(self, task: str, name: str) -> None:
        module = models.family(task, name)
        for field in dataclasses.fields(module.Config):
            for value in ("fifty", -1, 51.5):
                if (name, field.name, value) == ("actionformer", "windows", -1):
                    continue  # everything
                with pytest.raises(
                    ModelConfigError,
                    match=f"{name}: field '{field.name}': found {value!r}; allowed: ",
                ):
                    module.Config(**{"num_classes": 3, field.name: value})

    def test_a_model_on_meta_is_the_same_model(self, task: str, name: str) -> None:
        module, (model, _) = models.family(task, name), miniature(task, name)
        with torch.device("meta"):
            other = module.build(module.TINY)
        assert all(parameter.is_meta for parameter in other.parameters())
        shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
        assert {key: tensor.shape for key, tensor in other.state_dict().items()} == shapes

    def test_answers_are_finite_float32_and_the_same_again(self, task: str, name: str) -> None:
        model, inputs = miniature(task, name)
        before = [one.clone() for one in inputs]
        found, again = model(*inputs), model(*inputs)
        for one, other in zip(tensors(found), tensors(again), strict=True):
            assert torch.equal(one, other)
            assert not one.is_floating_point() or (
                one.dtype == torch.float32 and torch.isfinite(one).all()
            )
        assert all(torch.equal(one, other) for one, other in zip(inputs, before, strict=True))
        trained = model.train()(*inputs)
        assert type(trained) is type(found)
        assert [one.shape for one in tensors(trained)] == [one.shape for one in tensors(found)]

    def test_seed_decides_fresh_weights(self, task: str, name: str) -> None:
        module = models.family(task, name)
        states = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            states.append(module.build(module.TINY).state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])

    def test_every_parameter_gets_a_finite_gradient(self, task: str, name: str) -> None:
        model, inputs = miniature(task, name)
        model.train()
        for repeat in range(4):  # dropout and drawn relations leave some out at a time
            torch.manual_seed(repeat)
            said = [one for one in answers(model, inputs) if one.requires_grad]
            sum((one * torch.randn_like(one)).sum() for one in said).backward()  # type: ignore[union-attr]
        for key, parameter in model.named_parameters():
            if parameter.requires_grad:
                idle = (*getattr(model, "idle", ()), *IDLE.get(name, ()))
                assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
                assert parameter.grad.abs().sum() > 0 or key.startswith(idle), key

    def test_state_dict_and_published_round_trips(self, task: str, name: str) -> None:
        model, inputs = miniature(task, name)
        other, third = (models.family(task, name).build(model.config).eval() for _ in range(2))
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        published = export_published(model)
        report = load_published(third, published)
        assert report.loaded == len(published) == len(model.state_dict())
        assert not report.fresh and not report.unused and not report.defaulted
        for copied in (other, third, copy.deepcopy(model)):
            assert all(
                torch.equal(one, two)
                for one, two in zip(tensors(copied(*inputs)), tensors(model(*inputs)), strict=True)
            )
        # safetensors takes no other
        assert all(tensor.is_contiguous() for tensor in model.state_dict().values())


@pytest.mark.parametrize("task", TASKS[:3])  # recognition's rows have tests of their own
def test_recipes_have_as_many_parameters_as_they_say(task: str) -> None:
    """That every recipe's model builds is tested with the recipes."""
    counted: dict[str, int] = {}
    for recipe in (configs.load(name) for name in configs.names(task)):
        facts, sizes = (
            recipe.published,
            json.dumps([recipe.num_classes, recipe.model], sort_keys=True),
        )
        if facts is None or facts.params_m is None:
            continue
        if sizes not in counted:
            with torch.device("meta"):
                counted[sizes] = sum(
                    parameter.numel() for parameter in models.build(recipe).parameters()
                )
        assert counted[sizes] / 1e6 == pytest.approx(facts.params_m, rel=0.006), recipe.name


@pytest.mark.parametrize(("task", "name"), RECOGNITION)
class TestEveryFamilyOfRecognition:
    def test_shape(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        assert model(clip).shape == (BATCH, model.config.num_classes)

    def test_batched_equals_single(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        single = torch.cat([model(one[None]) for one in clip])
        torch.testing.assert_close(model(clip), single, rtol=1e-5, atol=1e-6)

    def test_memory_layout_of_the_input_does_not_matter(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        strided = torch.stack([clip, clip], -1)[..., 0]
        torch.testing.assert_close(
            model(clip.contiguous(memory_format=torch.channels_last_3d)),
            model(clip),
            rtol=1e-5,
            atol=1e-6,
        )
        torch.testing.assert_close(model(strided), model(clip), rtol=1e-5, atol=1e-6)

    def test_bf16_autocast(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(clip)
        full = model(clip)
        assert torch.isfinite(logits).all()
        assert (logits.float() - full).abs().max() < 0.1 * max(1.0, full.abs().max().item())

    def test_export(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        with torch.no_grad():
            program = torch.export.export(
                model, (clip,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)
            )
        more = torch.cat([clip, clip.flip(0)])
        torch.testing.assert_close(program.module()(more), model(more), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("make", "says"),
        [
            (lambda clip: clip[:, :1], r"float32 \(2, 1, .* expected .*\(B, 3,"),
            (lambda clip: clip[0], r"float32 \(3, .* expected"),
            (lambda clip: (clip * 255).to(torch.uint8), "uint8 .*; expected floating-point"),
            (lambda clip: clip[:0], r"float32 \(0, 3, .* expected"),
            (lambda clip: clip.numpy(), "ndarray; expected a tensor"),
        ],
        ids=["channels", "ndim", "integer", "empty", "numpy"],
    )
    def test_bad_input_is_named(self, task: str, name: str, make, says: str) -> None:
        model, clip = tiny(task, name)
        with pytest.raises(ModelInputError, match=f"^{name}: input: found {says}"):
            model(make(clip))


def recipe(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(
        **{
            "task": "recognition",
            "family": "tsm",
            "num_classes": 4,
            "model": {"depth": 10, "width": 8},
        }
        | changes
    )


def test_build_follows_the_recipe() -> None:
    model = models.build(recipe())
    assert model.config.num_classes == 4 and model.config.width == 8
    assert model.fc.out_features == 4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"task": "blocks"},
            "field 'task': found 'blocks'; allowed: detection, localization, parsing, recognition",
        ),
        ({"family": "tms"}, "field 'family': found 'tms'; allowed: .*tsm, tsn"),
        ({"family": "tsm.Config"}, "field 'family'"),
        ({"model": {"dept": 18}}, "tsm: field 'dept': found 18; allowed: one of .*depth"),
        ({"model": {"num_classes": 3}}, "belongs to the recipe"),
        ({"model": {"depth": 19}}, "field 'depth': found 19; allowed: 10, 18, 34"),
    ],
)
def test_build_names_the_mistake(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        models.build(recipe(**changes))
