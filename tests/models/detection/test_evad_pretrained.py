"""VideoMAE's checkpoints in all their namings as a start for EVAD's encoder."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from models.blocks.vit import sine_positions
from models.checkpoints import PublishedWeightsError
from models.detection.evad import EVAD, TINY, build
from models.init_weights import init_from
from models.recognition import videomae
from models.weights import export_published

DEPTH, WIDTH = TINY.depth, TINY.width


def blocks(prefix: str = "") -> dict[str, Tensor]:
    """Tensors of the transformer in the official naming."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    state = {
        f"{prefix}patch_embed.proj.weight": draw(WIDTH, 3, 2, 16, 16),
        f"{prefix}patch_embed.proj.bias": draw(WIDTH),
    }
    shapes = {
        "norm1.weight": (WIDTH,),
        "norm1.bias": (WIDTH,),
        "attn.q_bias": (WIDTH,),
        "attn.v_bias": (WIDTH,),
        "attn.qkv.weight": (3 * WIDTH, WIDTH),
        "attn.proj.weight": (WIDTH, WIDTH),
        "attn.proj.bias": (WIDTH,),
        "norm2.weight": (WIDTH,),
        "norm2.bias": (WIDTH,),
        "mlp.fc1.weight": (4 * WIDTH, WIDTH),
        "mlp.fc1.bias": (4 * WIDTH,),
        "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
        "mlp.fc2.bias": (WIDTH,),
    }
    return state | {
        f"{prefix}blocks.{index}.{key}": draw(*shape)
        for index in range(DEPTH)
        for key, shape in shapes.items()
    }


def pretraining() -> dict[str, Tensor]:
    norm = {
        "encoder.norm.weight": torch.full((WIDTH,), 3.0),
        "encoder.norm.bias": torch.ones(WIDTH),
    }
    rest = {
        "mask_token": torch.zeros(1, 1, 8),
        "encoder_to_decoder.weight": torch.zeros(8, WIDTH),
        "decoder.norm.weight": torch.ones(8),
    }
    return blocks("encoder.") | norm | rest


def fine_tuned() -> dict[str, Tensor]:
    return blocks() | {
        "fc_norm.weight": torch.ones(WIDTH),
        "fc_norm.bias": torch.ones(WIDTH),
        "head.weight": torch.ones(9, WIDTH),
    }


def assert_started(model: EVAD, state: dict[str, Tensor], prefix: str = "") -> None:
    assert torch.equal(model.encoder.embed.weight, state[f"{prefix}patch_embed.proj.weight"])
    for index in range(DEPTH):
        for key in ("attn.q_bias", "attn.qkv.weight", "mlp.fc2.bias", "norm2.weight"):
            assert torch.equal(
                model.state_dict()[f"encoder.blocks.{index}.{key}"],
                state[f"{prefix}blocks.{index}.{key}"],
            )


def test_pretraining_checkpoints() -> None:
    model, state = build(TINY), pretraining()
    report = init_from(model, {"model": state, "epoch": 800})
    assert_started(model, state, "encoder.")
    assert torch.equal(model.encoder.norm.weight, state["encoder.norm.weight"])
    assert report.loaded == 2 + 13 * DEPTH + 2 and not any(
        key.startswith("encoder.") for key in report.fresh
    )
    assert report.unused == ("mask_token", "encoder_to_decoder.weight", "decoder.norm.weight")


@pytest.mark.parametrize("wrapper", ["model", "module"])  # VideoMAE's and V2's
def test_fine_tuned_checkpoints(wrapper: str) -> None:
    model, state = build(TINY), fine_tuned()
    report = init_from(model, {wrapper: state})
    assert_started(model, state)
    assert report.unused == ("fc_norm.weight", "fc_norm.bias", "head.weight")
    assert [key for key in report.fresh if key.startswith("encoder.")] == [
        "encoder.norm.weight",
        "encoder.norm.bias",
    ]


@pytest.mark.parametrize("published", [True, False])
def test_the_recognition_family(published: bool) -> None:
    # positions of another size
    config = videomae.Config(
        num_classes=3, width=WIDTH, depth=DEPTH, heads=2, num_frames=4, size=32
    )
    source = videomae.build(config)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    model = build(TINY)
    report = init_from(
        model, {"state_dict": export_published(source)} if published else source.state_dict()
    )
    ours, theirs = model.encoder.state_dict(), source.state_dict()
    assert report.loaded == 2 + 13 * DEPTH + (0 if published else 2)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if not key.startswith("norm."))


def test_position_tables_of_any_size_are_recognised_and_learned_ones_refused() -> None:
    model = build(TINY)
    report = init_from(model, fine_tuned() | {"pos_embed": sine_positions(1568, WIDTH)})
    assert "pos_embed" in report.unused
    with pytest.raises(
        PublishedWeightsError, match=r"pos_embed: found learned positions \(1, 9, 32\)"
    ):
        init_from(model, fine_tuned() | {"pos_embed": torch.randn(1, 9, WIDTH)})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda state: state.pop("blocks.2.mlp.fc1.bias"), "(?s)1 missing:.*blocks.2.mlp.fc1.bias"),
        (
            lambda state: state.update({"blocks.4.norm1.weight": torch.ones(WIDTH)}),
            "(?s)1 unexpected:.*blocks.4.norm1.weight",
        ),
        (
            lambda state: state.update({"blocks.0.attn.proj.bias": torch.ones(5)}),
            r"blocks.0.attn.proj.bias: found shape \(5,\)",
        ),
        (lambda state: state.clear(), "54 missing"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(spoil, says: str) -> None:
    model, state = build(TINY), fine_tuned()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    spoil(state)
    with pytest.raises(PublishedWeightsError, match=says):
        init_from(model, {"model": state})
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_file(tmp_path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": pretraining()}, path)
    model = build(dataclasses.replace(TINY, keep_rate=1.0))
    assert str(path) in str(init_from(model, path))
