"""What an ActionFormer keeps, on its miniature; and the published configurations on the meta
device.
"""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from pydantic import ValidationError

from configs.schema.localization import Decoding
from models.errors import ModelConfigError, ModelInputError
from models.localization.actionformer import (
    TINY,
    ActionFormer,
    Candidates,
    Config,
    Criterion,
    Pyramid,
    assign_targets,
    build,
    decode,
    fuse_scores,
    in_seconds,
    next_normaliser,
    pad,
    points,
    suppress_candidates,
)  # fmt: skip
from models.weights import export_published, load_published

EPIC = ((0, 4), (2, 8), (4, 16), (8, 32), (16, 64), (32, 10000))
EGO4D = (*EPIC[:5], (32, 128), (64, 256), (128, 10000))
ANET = {
    "num_classes": 1,
    "width": 256,
    "windows": (7, 7, 7, 7, 7, -1),
    "positions": True,
    "max_length": 192,
}
EGO = {
    "num_classes": 110,
    "windows": 9,
    "ranges": EGO4D,
    "positions": True,
    "max_length": 1024,
    "dropout": 0.1,
}
PUBLISHED = {
    "thumos_i3d": (Config(20), 29_251_612),
    "anet_tsp": (Config(input_dims=512, **ANET), 6_943_497),
    "anet_i3d": (Config(input_dims=2048, **ANET), 8_123_145),
    "epic_verb": (Config(97, 2304, windows=9, ranges=EPIC), 29_763_177),
    "epic_noun": (Config(300, 2304, windows=9, ranges=EPIC), 30_075_188),
    "ego4d_s": (
        Config(**EGO | {"input_dims": 2304, "ranges": (*EGO4D[:6], (64, 10000))}),
        32_945_271,
    ),
    "ego4d_o": (Config(input_dims=1536, **EGO), 34_927_736),
    "ego4d_e": (Config(input_dims=256, width=384, **EGO), 18_675_576),
    "ego4d_s_e": (Config(input_dims=2560, width=768, heads=12, **EGO), 78_933_624),
    "ego4d_o_e": (Config(input_dims=1792, width=768, heads=12, **EGO), 77_164_152),
    "ego4d_s_o_e": (
        Config(input_dims=(2304, 1536, 256), width=(256, 384, 384), heads=16, **EGO),
        134_048_888,
    ),
}
FPN = dataclasses.replace(
    TINY,
    neck="fpn",
    neck_width=20,
    head_width=12,
    input_dims=(10, 14),
    width=(6, 10),
    positions=False,
    windows=5,
)


def tiny(config: Config = TINY) -> ActionFormer:
    """A miniature in eval mode in which every branch counts."""
    torch.manual_seed(0)
    model = build(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
            if key.endswith(".scale"):
                parameter.add_(0.5)
    return model.eval()


def videos(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(24, length, generator=generator) for length in lengths]


def flat(pyramid: Pyramid) -> list[torch.Tensor]:
    return [one for part in pyramid for one in part]


def video(pyramid: Pyramid, at: int, like: Pyramid) -> Pyramid:
    """One video of a batch, cut to the lengths that it has alone."""
    parts = zip(pyramid, like, strict=True)
    return Pyramid(
        *(
            [one[at : at + 1, : other.shape[1]] for one, other in zip(part, want, strict=True)]
            for part, want in parts
        )
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    config, parameters = PUBLISHED[name]
    with torch.device("meta"):
        model = build(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("config", [TINY, FPN], ids=["tiny", "fpn"])
class TestMiniature:
    def test_shapes_and_determinism(self, config: Config) -> None:
        model, batch = tiny(config), pad(videos(1, 30, 64))
        before = batch.features.clone()
        with torch.no_grad():
            pyramid, again = model(*batch), model(*batch)
        lengths = [config.max_length // 2**level for level in range(config.levels)]
        for level, length in enumerate(lengths):
            assert pyramid.logits[level].shape == (3, length, 5) and pyramid.offsets[
                level
            ].shape == (3, length, 2)
            assert pyramid.valid[level].sum(1).tolist() == [1, -(-30 // 2**level), 64 // 2**level]
            outside = ~pyramid.valid[level]
            assert (
                not pyramid.logits[level][outside].any()
                and not pyramid.offsets[level][outside].any()
            )
            assert (pyramid.offsets[level] >= 0).all()
        assert all(
            torch.equal(one, other) for one, other in zip(flat(pyramid), flat(again), strict=True)
        )
        assert torch.equal(batch.features, before)

    def test_training_changes_neither_type_nor_shape(self, config: Config) -> None:
        model, batch = tiny(config), pad(videos(20, 40))
        evaluated = model(*batch)
        trained = model.train()(*batch)
        assert [one.shape for one in flat(trained)] == [one.shape for one in flat(evaluated)]

    def test_batched_equals_single(self, config: Config) -> None:
        model = tiny(config)
        # within the usual length and beyond it, some without any padding of their own
        some = videos(1, 2, 63, 64, 65, 72, 100, 131)
        with torch.no_grad():
            whole = model(*pad(some))
            for at, one in enumerate(some):
                alone = model(*pad([one]))
                for mine, want in zip(flat(video(whole, at, alone)), flat(alone), strict=True):
                    torch.testing.assert_close(mine, want, rtol=1e-5, atol=1e-5)

    def test_padding_by_the_caller_makes_no_difference(self, config: Config) -> None:
        model, batch = tiny(config), pad(videos(30))
        longer = torch.nn.functional.pad(batch.features, (0, 34), value=float("nan"))
        with torch.no_grad():
            one, other = model(*batch), model(longer, torch.nn.functional.pad(batch.valid, (0, 34)))
        for mine, want in zip(flat(one), flat(other), strict=True):
            torch.testing.assert_close(mine, want, rtol=1e-5, atol=1e-6)

    def test_gradients_kept_or_not_makes_no_difference(self, config: Config) -> None:
        model, batch = tiny(config), pad(videos(9000))
        kept = model(*batch)
        with torch.no_grad():
            pieces = model(*batch)
        for mine, want in zip(flat(pieces), flat(kept), strict=True):
            torch.testing.assert_close(mine, want.detach(), rtol=1e-4, atol=1e-4)

    def test_every_parameter_gets_a_finite_gradient(self, config: Config) -> None:
        model, criterion = tiny(config).train(), Criterion(5, config.ranges)
        segments = [
            torch.tensor([[2.0, 6.0], [10.0, 40.0]]),
            torch.tensor([[1.0, 4.0], [8.0, 30.0], [5.0, 15.0]]),
        ]
        for repeat in range(4):  # branches are left out at random
            torch.manual_seed(repeat)
            pyramid = model(*pad(videos(50, 33)))
            criterion.total(
                criterion(pyramid, segments, [torch.tensor([0, 1]), torch.tensor([2, 3, 4])]), 10.0
            ).backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().sum() > 0, key

    def test_state_dict_and_published_round_trip(self, config: Config) -> None:
        model, batch = tiny(config), pad(videos(40))
        other, third = build(config).eval(), build(config).eval()
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        published = export_published(model)
        assert load_published(third, published).loaded == len(published) == len(model.state_dict())
        for one in (other, third, copy.deepcopy(model)):
            assert all(
                torch.equal(mine, want)
                for mine, want in zip(flat(one(*batch)), flat(model(*batch)), strict=True)
            )

    def test_bf16_autocast(self, config: Config) -> None:
        model, batch = tiny(config), pad(videos(40, 64))
        with torch.no_grad():
            full = model(*batch)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                half = model(*batch)
        for mine, want in zip(half.logits + half.offsets, full.logits + full.offsets, strict=True):
            assert (mine.float() - want).abs().max() < 0.1 * max(1.0, want.abs().max().item())


def test_what_is_added_to_every_key_has_no_gradient() -> None:
    """The softmax does not feel it. In single precision rounding is all that these parameters get,
    and Adam makes whole steps of that.

    Two runs whose sums are ordered differently (over two ranks, say) then drift apart in these
    alone, without any effect.
    """
    model, criterion = tiny().double().train(), Criterion(5, TINY.ranges)
    pyramid = model(pad(videos(50)).features.double(), torch.ones(1, 50, dtype=torch.bool))
    criterion.total(
        criterion(pyramid, [torch.tensor([[2.0, 6.0], [10.0, 40.0]])], [torch.tensor([0, 1])]), 10.0
    ).backward()
    for key, parameter in model.named_parameters():
        if ".attn." in key and key.endswith("bias") and ".proj." not in key:
            assert parameter.grad is not None
            felt = key.split(".attn.")[1] not in ("key.bias", "key_norm.bias")
            assert (parameter.grad.abs().max() > 1e-9) == felt, key


def test_export() -> None:
    model, batch = tiny(), pad(videos(40, 64))
    dynamic = {0: torch.export.Dim("batch", min=1, max=64)}
    with torch.no_grad():
        program = torch.export.export(model, tuple(batch), dynamic_shapes=(dynamic, dynamic))
        more = pad(videos(64, 3, 20))
        for mine, want in zip(flat(program.module()(*more)), flat(model(*more)), strict=True):
            torch.testing.assert_close(mine, want, rtol=1e-4, atol=1e-5)


def test_fresh_classes_start_at_the_prior() -> None:
    model = build(dataclasses.replace(TINY, prior=0.01, empty_classes=(1, 3)))
    assert model.classify.last.bias is not None
    torch.testing.assert_close(
        model.classify.last.bias.sigmoid(), torch.tensor([0.01, 1e-6, 0.01, 1e-6, 0.01])
    )
    assert not any(
        key.endswith(".scale")
        for key in build(dataclasses.replace(TINY, drop_path=0.0)).state_dict()
    )


def test_bad_config_is_named() -> None:
    with pytest.raises(
        ModelConfigError, match="'heads': found 5; allowed: a divisor of the width, 512"
    ):
        Config(3, heads=5)
    with pytest.raises(
        ModelConfigError, match="'max_length': found 100; allowed: a multiple of 576"
    ):
        Config(3, max_length=100)
    with pytest.raises(
        ModelConfigError, match="'empty_classes': found .7,.; allowed: integers of 0 to 2"
    ):
        Config(3, empty_classes=(7,))


@pytest.mark.parametrize(
    ("features", "valid", "says"),
    [
        (
            torch.zeros(1, 23, 5),
            torch.ones(1, 5, dtype=torch.bool),
            r"features: found float32 \(1, 23, 5\); expected .*\(B, 24, T\)",
        ),
        (
            torch.zeros(1, 24, 0),
            torch.ones(1, 0, dtype=torch.bool),
            r"features: found float32 \(1, 24, 0\); expected",
        ),
        (
            torch.zeros(24, 5),
            torch.ones(1, 5, dtype=torch.bool),
            r"features: found float32 \(24, 5\); expected",
        ),
        (
            torch.zeros(1, 24, 5, dtype=torch.int64),
            torch.ones(1, 5, dtype=torch.bool),
            "features: found int64",
        ),
        (
            torch.zeros(1, 24, 5),
            torch.ones(1, 5),
            r"valid: found float32 \(1, 5\); expected bool \(1, 5\)",
        ),
        (
            torch.zeros(2, 24, 5),
            torch.tensor([[True] * 5, [False] * 5]),
            "valid: found video 1 without a point",
        ),
    ],
)
def test_bad_input_is_named(features: torch.Tensor, valid: torch.Tensor, says: str) -> None:
    with pytest.raises(ModelInputError, match=f"^actionformer: {says}"):
        tiny()(features, valid)


@pytest.mark.parametrize("some", [[], [torch.zeros(3, 0)], [torch.zeros(3, 4), torch.zeros(4, 4)]])
def test_batches_of_nothing_are_refused(some: list[torch.Tensor]) -> None:
    with pytest.raises(ModelInputError, match="^actionformer: features: found"):
        pad(some)


class TestTargets:
    def test_by_hand(self) -> None:
        # One action of 8 around 10, and a shorter one of 3 inside it.
        targets = assign_targets(
            [20, 10],
            torch.tensor([[6.0, 14.0], [9.5, 12.5]]),
            torch.tensor([0, 2]),
            3,
            ((0, 5), (5, 100)),
        )
        assert targets.classes.nonzero().tolist() == [
            [9, 0],
            [10, 2],
            [11, 2],
            [12, 2],
            [24, 0],
            [26, 0],
        ]
        assert targets.offsets[9].tolist() == [3.0, 5.0] and targets.offsets[10].tolist() == [
            0.5,
            2.5,
        ]
        assert targets.offsets[24].tolist() == [1.0, 3.0]  # the point at 8, in strides of 2

    def test_equal_lengths_share_a_point(self) -> None:
        targets = assign_targets(
            [8],
            torch.tensor([[1.0, 5.0], [1.0, 5.0005]]),
            torch.tensor([0, 1]),
            2,
            ((0, 10),),
            radius=None,
        )
        assert targets.classes.nonzero().tolist() == [
            [at, name] for at in (2, 3, 4) for name in (0, 1)
        ] + [[5, 1]]

    def test_no_action(self) -> None:
        targets = assign_targets(
            [4, 2], torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 3, ((0, 4), (4, 9))
        )
        assert targets.classes.shape == (6, 3) and not targets.classes.any()

    def test_points(self) -> None:
        assert [one.tolist() for one in points([4, 2])] == [[0, 1, 2, 3], [0, 2]]


class TestCriterion:
    def test_no_positive_is_no_nan(self) -> None:
        model, criterion = tiny(), Criterion(5, TINY.ranges, regression_weight=0)
        losses = criterion(
            model(*pad(videos(20))), [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.int64)]
        )
        criterion.total(losses, next_normaliser(100.0, 0)).backward()
        assert losses.num_positives == 0 and losses.regression == 0
        assert all(
            torch.isfinite(one.grad).all() for one in model.parameters() if one.grad is not None
        )

    def test_sums_add_up_over_batches(self) -> None:
        model, criterion = tiny(), Criterion(5, TINY.ranges, label_smoothing=0.1)
        some, segments = (
            videos(30, 64),
            [torch.tensor([[3.0, 9.0]]), torch.tensor([[20.0, 50.0], [1.0, 5.0]])],
        )
        labels = [torch.tensor([1]), torch.tensor([0, 4])]
        both = criterion(model(*pad(some)), segments, labels)
        each = [
            criterion(model(*pad([one])), [where], [name])
            for one, where, name in zip(some, segments, labels, strict=True)
        ]
        for whole, first, second in zip(both, *each, strict=True):
            torch.testing.assert_close(whole, first + second, rtol=1e-5, atol=1e-5)

    def test_perfect_offsets_cost_nothing(self) -> None:
        targets = assign_targets(
            [16], torch.tensor([[4.0, 9.0]]), torch.tensor([1]), 2, ((0, 100),)
        )
        logits = (40 * targets.classes - 20)[None]
        pyramid = Pyramid(
            [logits], [targets.offsets.clamp(min=0)[None]], [torch.ones(1, 16, dtype=torch.bool)]
        )
        losses = Criterion(2, ((0, 100),))(
            pyramid, [torch.tensor([[4.0, 9.0]])], [torch.tensor([1])]
        )
        assert (
            losses.num_positives == 2 and losses.regression < 1e-6 and losses.classification < 1e-6
        )

    def test_labels_outside_the_classes_are_named(self) -> None:
        pyramid = tiny()(*pad(videos(20)))
        with pytest.raises(ModelInputError, match="video 0: labels: found 5 to 5; expected 0 to 4"):
            Criterion(5, TINY.ranges)(pyramid, [torch.tensor([[1.0, 2.0]])], [torch.tensor([5])])
        with pytest.raises(
            ModelInputError, match="segments of 0 and labels of 0 videos; expected 1"
        ):
            Criterion(5, TINY.ranges)(pyramid, [], [])


class TestDecoding:
    def test_selection_on_one_level(self) -> None:
        logits = torch.full((1, 4, 2), -20.0)
        logits[0, 1, 0], logits[0, 2, 1], logits[0, 3, 1], logits[0, 0, 0] = 3.0, 2.0, 4.0, 5.0
        offsets = torch.tensor([[[1.0, 1.0], [1.0, 2.0], [0.0, 0.01], [1.0, 1.0]]])
        pyramid = Pyramid([logits], [offsets], [torch.tensor([[True, True, True, False]])])
        (found,) = decode(pyramid, Decoding())
        assert found.labels.tolist() == [0, 0] and found.segments.tolist() == [
            [-1.0, 1.0],
            [0.0, 3.0],
        ]
        assert decode(pyramid, Decoding(max_candidates=1))[0].labels.tolist() == [0]
        assert decode(pyramid, Decoding(min_length=0.0))[0].labels.tolist() == [0, 0, 1]

    def test_seconds(self) -> None:
        grid = Candidates(
            torch.tensor([[-4.0, 2.0], [10.0, 99.0]]),
            torch.ones(2),
            torch.zeros(2, dtype=torch.int64),
        )
        seconds = in_seconds(grid, stride=4, window=16, fps=10, duration_s=20.0).segments
        torch.testing.assert_close(seconds, torch.tensor([[0.0, 1.6], [4.8, 20.0]]))

    @torch.no_grad()
    def test_the_videos_of_a_batch_do_not_see_each_other(self) -> None:
        model, decoding = tiny(), Decoding(max_segments=20)
        some = videos(90, 10, 64, 30)
        together = [
            suppress_candidates(one, decoding) for one in decode(model(*pad(some)), decoding)
        ]
        for one, found in zip(some, together, strict=True):
            alone = suppress_candidates(decode(model(*pad([one])), decoding)[0], decoding)
            torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-5)
            assert (found.scores.diff() <= 0).all() and len(found.scores) <= 20

    def test_fusion(self) -> None:
        proposals = Candidates(
            torch.tensor([[0.0, 1.0], [2.0, 3.0]]),
            torch.tensor([0.25, 0.81]),
            torch.zeros(2, dtype=torch.int64),
        )
        fused = fuse_scores(proposals, torch.tensor([0.0, 1.0, 0.25]), max_proposals=1)
        assert fused.labels.tolist() == [1, 2] and fused.segments.tolist() == [[2.0, 3.0]] * 2
        torch.testing.assert_close(fused.scores, torch.tensor([0.9, 0.45]))

    def test_bad_numbers_are_named(self) -> None:
        for field in Decoding.model_fields:
            with pytest.raises(
                ValidationError, match=f"1 validation error for Decoding\n{field}\n.*'often'"
            ):
                Decoding(**{field: "often"})
