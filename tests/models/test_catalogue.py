"""What every family keeps, on its miniature."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from types import SimpleNamespace

import pytest
import torch

import models
from models.errors import ModelConfigError, ModelInputError
from models.weights import export_published, load_published

FAMILIES = [(task, name) for task in ("recognition",) for name in models.families(task)]
PARAMS = [pytest.param(*one, id="-".join(one)) for one in FAMILIES]
BATCH = 2


def tiny(task: str, name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """A miniature in eval mode, without a branch that starts at zero, with normalisation statistics that matter; and an input."""
    torch.manual_seed(0)
    module = models.family(task, name)
    model = module.build(module.TINY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    for key, buffer in model.named_buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5 if key.endswith("var") else 0.1 * torch.randn_like(buffer))
    usual = (3, getattr(module.TINY, "num_segments", 8), 64, 48)
    return model.eval(), torch.randn(BATCH, *getattr(module, "TINY_INPUT", usual))


def every_head(model: torch.nn.Module, clip: torch.Tensor) -> list[torch.Tensor]:
    """Scores of all heads: some are there for the training alone."""
    if "every_head" in inspect.signature(model.forward).parameters:
        return [scores for scores, _ in model(clip, every_head=True)]
    return [model(clip)]


@pytest.mark.parametrize(("task", "name"), PARAMS)
class TestEveryFamily:
    def test_config_is_frozen_and_closed(self, task: str, name: str) -> None:
        module = models.family(task, name)
        assert dataclasses.is_dataclass(module.Config)
        with pytest.raises(dataclasses.FrozenInstanceError):
            module.TINY.num_classes = 7
        with pytest.raises(ModelConfigError, match="num_classes.*found 0"):
            module.Config(num_classes=0)

    def test_shape_and_determinism(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        before = clip.clone()
        logits = model(clip)
        assert logits.shape == (BATCH, model.config.num_classes)
        assert logits.dtype == torch.float32 and torch.isfinite(logits).all()
        assert torch.equal(logits, model(clip))
        assert torch.equal(clip, before)

    def test_seed_decides_fresh_weights(self, task: str, name: str) -> None:
        module = models.family(task, name)
        states = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            states.append(module.build(module.TINY).state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])

    def test_every_parameter_gets_a_finite_gradient(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        model.train()
        for repeat in range(4):  # dropout and drawn relations leave some out at a time
            torch.manual_seed(repeat)
            sum(torch.nn.functional.cross_entropy(scores, torch.tensor([0, 1])) for scores in every_head(model, clip)).backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().sum() > 0 or key.startswith(getattr(model, "idle", ())), key

    def test_batched_equals_single(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        single = torch.cat([model(one[None]) for one in clip])
        torch.testing.assert_close(model(clip), single, rtol=1e-5, atol=1e-6)

    def test_memory_layout_of_the_input_does_not_matter(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        strided = torch.stack([clip, clip], -1)[..., 0]
        torch.testing.assert_close(model(clip.contiguous(memory_format=torch.channels_last_3d)), model(clip), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(model(strided), model(clip), rtol=1e-5, atol=1e-6)

    def test_state_dict_round_trip(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        other = models.family(task, name).build(model.config).eval()
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        assert torch.equal(other(clip), model(clip))
        assert all(tensor.is_contiguous() for tensor in model.state_dict().values())  # safetensors takes no other

    def test_published_round_trip(self, task: str, name: str) -> None:
        model, _ = tiny(task, name)
        published = export_published(model)
        other = models.family(task, name).build(model.config)
        report = load_published(other, published)
        assert report.loaded == len(published) == len(model.state_dict())
        assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in model.state_dict().items())
        assert all(torch.equal(tensor, published[key]) for key, tensor in export_published(other).items())

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
            program = torch.export.export(model, (clip,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
        more = torch.cat([clip, clip.flip(0)])
        torch.testing.assert_close(program.module()(more), model(more), rtol=1e-5, atol=1e-6)

    def test_deep_copy(self, task: str, name: str) -> None:
        model, clip = tiny(task, name)
        assert torch.equal(copy.deepcopy(model)(clip), model(clip))

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

    def test_bad_config_is_named(self, task: str, name: str) -> None:
        module = models.family(task, name)
        for field in dataclasses.fields(module.Config):
            for value in ("fifty", -1, 51.5):
                with pytest.raises(ModelConfigError, match=f"{name}: field '{field.name}': found {value!r}; allowed: "):
                    module.Config(**{"num_classes": 3, field.name: value})


def recipe(**changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{"task": "recognition", "family": "tsm", "num_classes": 4, "model": {"depth": 10, "width": 8}} | changes)


def test_build_follows_the_recipe() -> None:
    model = models.build(recipe())
    assert model.config.num_classes == 4 and model.config.width == 8
    assert model.fc.out_features == 4


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "blocks"}, "field 'task': found 'blocks'; allowed: detection, localization, parsing, recognition"),
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
