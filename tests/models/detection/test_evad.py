"""EVAD's contract, on its miniature."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from configs.schema.detection import LossWeights
from float64 import furthest
from models.blocks.drop import DropPath
from models.blocks.pruning import ScoringAttention, num_kept
from models.detection.evad import (
    EVAD,
    TINY,
    TINY_INPUT,
    Config,
    Criterion,
    Detections,
    Target,
    build,
    decode,
)
from models.errors import ModelConfigError, ModelInputError
from models.weights import export_published, load_published

VITL = dict(
    width=1024,
    depth=24,
    heads=16,
    prune_blocks=(6, 12, 18),
    taps=(5, 11, 17, 23),
    decoder_width=512,
    decoder_depth=12,
    decoder_heads=8,
)


def tiny(**changes: object) -> tuple[EVAD, Tensor, Tensor]:
    """A miniature in eval mode, one padded clip among its input."""
    torch.manual_seed(0)
    model = build(dataclasses.replace(TINY, **changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    sizes = torch.tensor([[64, 96], [60, 80]])
    clip = torch.randn(2, *TINY_INPUT)
    clip[1, :, :, 60:] = clip[1, :, :, :, 80:] = 0
    return model.eval(), clip, sizes


def people(classes: int = TINY.num_classes) -> list[Target]:
    actions = torch.zeros(2, classes)
    actions[0, 0] = actions[1, 1] = actions[1, 2] = 1
    return [
        Target(torch.tensor([[4.0, 6, 30, 50], [40, 10, 90, 60]]), actions),
        Target(torch.tensor([[10.0, 5, 60, 58]]), actions[1:]),
    ]


def flat(found: Detections) -> list[Tensor]:
    return [*found.person_logits, *found.boxes, *found.action_logits]


def assert_same(one: Iterable[Tensor], other: Iterable[Tensor], tolerance: float = 2e-5) -> None:
    for first, second in zip(one, other, strict=True):
        torch.testing.assert_close(first, second, rtol=tolerance, atol=tolerance)


def test_shapes_order_and_determinism() -> None:
    model, clip, sizes = tiny()
    before = clip.clone()
    found = model(clip, sizes)
    assert [tuple(one.shape) for one in found.person_logits] == [(2, 6, 2)] * 2
    assert [tuple(one.shape) for one in found.boxes] == [(2, 6, 4)] * 2
    assert [tuple(one.shape) for one in found.action_logits] == [(2, 6, 5)] * 2
    assert found.sizes.tolist() == [[64, 96], [60, 80]]
    # 24 tokens in each of 4 slots; twice 70% of what is there stay, the key frame's 24 always
    assert found.kept.shape == (2, num_kept(68, 24, 0.7)) and num_kept(96, 24, 0.7) == 68 - 24
    assert all(len(set(row)) == len(row) and max(row) < 72 for row in found.kept.tolist())
    assert_same(flat(found), flat(model(clip, sizes)), 0)
    assert torch.equal(before, clip)


@pytest.mark.parametrize("keep_rate", [0.7, 1.0])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_every_parameter_gets_a_finite_gradient(keep_rate: float, checkpointing: bool) -> None:
    model, clip, sizes = tiny(keep_rate=keep_rate, checkpointing=checkpointing)
    model.train()
    Criterion(LossWeights())(model(clip, sizes), people()).total.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        # small images, small boxes
        idle = key.startswith("pyramid.outputs.") or (keep_rate == 1 and key.endswith("mask_token"))
        assert idle or parameter.grad.abs().sum() > 0, key


def test_checkpointing_changes_nothing() -> None:
    gradients = []
    for checkpointing in (False, True):
        model, clip, sizes = tiny(checkpointing=checkpointing)
        model.train()
        torch.manual_seed(1)  # of the dropped branches
        Criterion(LossWeights())(model(clip, sizes), people()).total.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert_same(*gradients, 1e-6)


def test_training_mode_gives_the_same_kind_and_without_drops_the_same_numbers() -> None:
    model, clip, sizes = tiny()
    with torch.no_grad():
        expected = model(clip, sizes)
    model.train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.rate = 0.0
    found = model(clip, sizes)  # with gradients attention goes another way
    assert type(found) is type(expected) and torch.equal(found.kept, expected.kept)
    assert_same(flat(found), flat(expected), 3e-4)


def test_batched_equals_single() -> None:
    """Relative to the largest value of each output: both lie within 1e-5 of float64 on every set of
    kernels (AVX-512, AVX2, none), so that they may lie twice that apart; most is 8e-6.
    """
    model, clip, sizes = tiny()
    found = model(clip, sizes)
    for index in range(2):
        alone = model(clip[index : index + 1], sizes[index : index + 1])
        assert (
            max(furthest(flat(alone), [one[index : index + 1].double() for one in flat(found)]))
            < 2e-5
        )


def test_a_model_made_on_meta_is_whole_once_it_has_weights() -> None:
    model, clip, sizes = tiny()
    with torch.device("meta"):
        empty = build(TINY)
    empty = empty.to_empty(device="cpu").eval()
    load_published(empty, export_published(model))
    assert_same(flat(empty(clip, sizes)), flat(model(clip, sizes)), 0)


def test_bf16_autocast() -> None:
    model, clip, sizes = tiny(keep_rate=1.0)  # which tokens stay may differ
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(clip, sizes)
        losses = Criterion(LossWeights())(found, people())
    expected = model(clip, sizes)
    assert (
        all(boxes.dtype == torch.float32 for boxes in found.boxes)
        and losses.total.dtype == torch.float32
    )
    for one, other in zip(flat(found), flat(expected), strict=True):
        # Of the largest value, by proposal. A box that rounding moves over a level's edge is read
        # from another map: one of twelve may be.
        away = (one.float() - other).abs().amax(-1).flatten().sort().values
        assert away[-2] < 0.1 * max(1.0, other.abs().max().item())
    pruned, clip, sizes = tiny()
    pruned.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = Criterion(LossWeights())(pruned(clip, sizes), people()).total
    total.backward()
    assert all(
        torch.isfinite(parameter.grad).all()
        for parameter in pruned.parameters()
        if parameter.grad is not None
    )


def test_the_scores_are_the_attention_that_tokens_get() -> None:
    torch.manual_seed(0)
    attention, x = ScoringAttention(16, 2, key_weight=4.0), torch.randn(2, 20, 16)
    q, k, v = attention.project(x).unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(2, 3) / 8**0.5).softmax(-1)
    counted = torch.where(torch.arange(20) < 6, 4.0, 1.0)[:, None]
    true = (weights * counted).mean((1, 2))[:, 6:]
    with_gradients, scores = attention(x, 6)
    with torch.no_grad():
        without, again = attention(x, 6)
    assert not scores.requires_grad
    assert_same([scores, again, with_gradients], [true, true, without], 1e-6)


def test_the_key_frame_may_lie_elsewhere() -> None:
    for key_frame, slot in ((None, 2), (0, 0), (3, 1), (7, 3)):
        model, clip, sizes = tiny(key_frame=key_frame, keep_rate=1.0)
        assert model.config.key_slot == slot
        before = model.encoder(clip).key_maps[0]
        other = clip.clone()
        other[:, :, 2 * slot : 2 * slot + 2] = 0
        embedded = model.encoder.embed(other)[:, :, slot]
        assert embedded.shape == before.shape and not torch.allclose(
            before, model.encoder(other).key_maps[0]
        )
        assert torch.isfinite(model(clip, sizes).action_logits[-1]).all()


def test_tokens_return_to_their_places() -> None:
    """With every token in place the restored map holds each kept token where it came from; the
    published order only fills the gaps.
    """
    model, clip, _ = tiny(in_place=True)
    with torch.no_grad():
        encoded = model.encoder(clip)
        branch = model.head.actions
        tokens = branch.encoder_to_decoder(encoded.tokens)
        context, whole = branch._restore(encoded)
    slots, height, width = encoded.grid
    places, key = height * width, model.config.key_slot
    number = encoded.kept + (encoded.kept >= key * places) * places  # among all tokens
    positions = (context - tokens)[:, places:]
    for row in range(2):
        torch.testing.assert_close(
            whole[row].flatten(0, 1)[number[row]] - positions[row], tokens[row, places:]
        )
        torch.testing.assert_close(whole[row, key], context[row, :places])


def test_regions_grow_as_published() -> None:
    branch = tiny(roi_extension=(0.4, 0.2))[0].head.actions
    boxes = torch.tensor([[[20.0, 10, 39, 29], [-30, -5, 400, 300]]])
    grown = branch.extended(boxes, torch.tensor([[60, 80]]))
    torch.testing.assert_close(grown[0], torch.tensor([[16.0, 8, 43, 31], [0, 0, 79, 59]]))


def test_other_image_sizes() -> None:
    model, _, _ = tiny()
    for height, width in ((32, 32), (64, 64), (128, 96)):
        found = model(torch.randn(1, 3, 8, height, width))
        assert (
            found.sizes.tolist() == [[height, width]]
            and torch.isfinite(found.action_logits[-1]).all()
        )


def test_decoding() -> None:
    model, clip, sizes = tiny()
    found = model(clip, sizes)
    scores = torch.tensor([[0.9, 0.2, 0.71, 0.5, 0.69, 0.1], [0.6, 0.2, 0.3, 0.5, 0.1, 0.1]])
    found = found._replace(
        person_logits=[torch.stack([scores.logit(), torch.zeros_like(scores)], -1)]
    )
    some, nobody = decode(found)
    assert some.proposals.tolist() == [0, 2] and nobody.proposals.tolist() == list(range(6))
    torch.testing.assert_close(some.person_scores, torch.tensor([0.9, 0.71]))
    for one in (some, nobody):
        assert (
            one.boxes.min() >= 0
            and one.boxes.max() <= 1
            and (one.boxes[:, 2:] >= one.boxes[:, :2]).all()
        )
        assert (
            one.action_scores.shape == (len(one.boxes), 5)
            and 0 <= one.action_scores.min() <= one.action_scores.max() <= 1
        )
    single = decode(found, multi_label=False)[0].action_scores
    torch.testing.assert_close(single.sum(1), torch.ones(2))
    with pytest.raises(ValueError, match="threshold: found 7; allowed: 0 to 1"):
        decode(found, threshold=7)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda clip, sizes: (clip[:, :1], sizes), r"evad: input: found float32 \(2, 1,"),
        (
            lambda clip, sizes: (clip[:, :, :4], sizes),
            r"evad: input: found .* expected .*\(B, 3, 8, H, W\)",
        ),
        (
            lambda clip, sizes: (clip[..., :80], sizes),
            "found 64x80 pixels; expected multiples of 32: pad at the bottom and right to 64x96",
        ),
        (lambda clip, sizes: (clip, sizes[:1]), r"evad: sizes: found \(1, 2\); expected \(2, 2\)"),
        (lambda clip, sizes: (clip, [[64, 96]] * 2), "evad: sizes: found list"),
        (
            lambda clip, sizes: (clip, sizes.flip(1)),
            r"evad: sizes: found .*; expected heights in 1..64 and widths in 1..96",
        ),
    ],
)
def test_bad_input_is_named(make, says: str) -> None:
    model, clip, sizes = tiny()
    with pytest.raises(ModelInputError, match=says):
        model(*make(clip, sizes))


def test_bad_config_is_named() -> None:
    for changes in (
        {"key_frame": 16},
        {"taps": [2, 5, 8]},
        {"taps": [2, 5, 8, 12]},
        {"prune_blocks": [6, 3]},
        {"prune_blocks": [True]},
        {"prune_blocks": [6.0]},
        {"keep_rate": 0.5},
        {"keep_rate": 0},
        {"roi_extension": [0.4]},
        {"num_frames": 15},
        {"position_size": 100},
    ):
        with pytest.raises(ModelConfigError, match=next(iter(changes))):
            Config(num_classes=3, **changes)
    assert Config(num_classes=3, taps=[0, 1, 2, 3]).taps == (0, 1, 2, 3)  # as YAML has it


def test_parameters_of_the_published_model() -> None:
    with torch.device("meta"):
        assert (
            sum(parameter.numel() for parameter in build(Config(num_classes=80)).parameters())
            == 185_359_636
        )


@pytest.mark.parametrize(
    ("changes", "published"),
    [
        pytest.param({"keep_rate": 1.0}, 425, marks=pytest.mark.slow),
        ({}, 243),
        pytest.param({"keep_rate": 0.6, "key_weight": 4.0}, 209, marks=pytest.mark.slow),
        pytest.param(VITL, 737, marks=pytest.mark.slow),
    ],
    ids=["b-1.0", "b-0.7", "b-0.6", "l-0.7"],
)
def test_published_multiply_adds(changes: dict[str, object], published: float) -> None:
    """The published GFLOPs are multiply-adds of 16 x 288 x 288. Two exact savings are ours: actors
    alone go through the decoder's last block, and the pyramid projects before it enlarges. With
    them added the counts agree.
    """
    config = Config(num_classes=80, **changes)
    with torch.device("meta"):
        model = build(config).eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        found = model(torch.empty(1, 3, 16, 288, 288, device="meta"))
    places, context, width = 18 * 18, 18 * 18 + found.kept.shape[1], config.decoder_width
    # queries, outputs and two layers; two products
    unread = context * (10 * width**2 + 2 * (context + config.proposals) * width)
    enlarged = (16 + 4 + 1 + 0.25 - 3 - 0.25) * places * config.width * config.hidden
    counted = (counter.get_total_flops() / 2 + unread + enlarged) / 1e9
    assert counted == pytest.approx(published, rel=0.01)
