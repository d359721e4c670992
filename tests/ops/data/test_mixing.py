"""Mixup and cutmix: shares of pixels and labels, probabilities, and seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from configs.schema import Mixing
from ops.data.mixing import batch_generator, mix, rectangle, soft_labels

LABELS = torch.tensor([0, 1, 2, 3])


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Clip i is all 10 * i."""
    frames = (10.0 * torch.arange(4)).view(4, 1, 1, 1, 1).expand(4, 3, 2, 16, 12).contiguous()
    return frames, soft_labels(LABELS, 4)


def test_soft_labels_are_smoothed_as_cross_entropy_smooths() -> None:
    soft = soft_labels(LABELS, 5, 0.1)
    assert soft[0].tolist() == pytest.approx([0.92, 0.02, 0.02, 0.02, 0.02])
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        cross_entropy(logits, soft), cross_entropy(logits, LABELS, label_smoothing=0.1)
    )


def test_mixup_blends_every_clip_with_the_opposite_one() -> None:
    frames, labels = batch()
    before = frames.clone()
    mixed, soft = mix(frames, labels, Mixing(mixup_alpha=0.8), np.random.default_rng(3))
    share = float(soft[0, 0])
    assert 0 < share < 1
    for clip in range(4):
        torch.testing.assert_close(
            mixed[clip],
            torch.full_like(mixed[clip], 10 * (share * clip + (1 - share) * (3 - clip))),
        )
        assert soft[clip, clip] == pytest.approx(share) and soft[clip, 3 - clip] == pytest.approx(
            1 - share
        )
    assert torch.equal(frames, before)


def test_cutmix_pastes_one_rectangle_and_its_share_is_the_area() -> None:
    frames, labels = batch()
    before = frames.clone()
    for seed in range(50):
        mixed, soft = mix(frames, labels, Mixing(cutmix_alpha=1.0), np.random.default_rng(seed))
        pasted = mixed[0] == 30
        assert ((mixed[0] == 0) | pasted).all() and torch.equal(mixed[1] == 20, pasted)
        assert soft[0, 0] == pytest.approx(1 - pasted.float().mean().item(), abs=1e-6)
        plane = pasted[0, 0]
        assert (pasted == plane).all() and plane.sum() == plane.any(1).sum() * plane.any(0).sum()
        torch.testing.assert_close(soft.sum(1), torch.ones(4))
    assert torch.equal(frames, before)


def test_a_rectangle_has_its_area_and_stays_inside() -> None:
    found = np.array(
        [rectangle(100, 200, 0.75, np.random.default_rng(seed)) for seed in range(300)]
    )
    heights, widths = found[:, 1] - found[:, 0], found[:, 3] - found[:, 2]
    assert (
        heights.max() == 50 and widths.max() == 100 and heights.min() >= 25 and widths.min() >= 50
    )
    assert (
        found[:, 0].min() == 0
        and found[:, 1].max() == 100
        and found[:, 2].min() == 0
        and found[:, 3].max() == 200
    )
    # empty
    assert (
        rectangle(10, 10, 1.0, np.random.default_rng(0))[0::2]
        == rectangle(10, 10, 1.0, np.random.default_rng(0))[1::2]
    )


def kinds(config: Mixing) -> list[str]:
    frames, labels = batch()
    found = []
    rng = np.random.default_rng(1)
    for _ in range(600):
        mixed, soft = mix(frames, labels, config, rng)
        values = set(mixed[0].unique().tolist())
        found.append("none" if soft is labels else "cutmix" if values <= {0.0, 30.0} else "mixup")
    return found


def test_probabilities() -> None:
    found = kinds(
        Mixing(mixup_alpha=0.8, cutmix_alpha=1.0, probability=0.5, switch_probability=0.25)
    )
    shares = {kind: found.count(kind) / len(found) for kind in ("none", "cutmix", "mixup")}
    assert shares == pytest.approx({"none": 0.5, "cutmix": 0.125, "mixup": 0.375}, abs=0.05)
    assert set(kinds(Mixing(mixup_alpha=0.8, switch_probability=1.0))) == {"mixup"}
    assert set(kinds(Mixing(cutmix_alpha=1.0, switch_probability=0.0))) == {"cutmix"}


def test_draws_follow_seed_epoch_and_first_clip() -> None:
    draws = {
        key: batch_generator(*key).random() for key in ((0, 1, 2), (0, 1, 3), (0, 2, 2), (1, 1, 2))
    }
    assert len(set(draws.values())) == 4 and batch_generator(0, 1, 2).random() == draws[0, 1, 2]
    # the clips' own
    assert draws[0, 1, 2] not in {
        np.random.default_rng((0, 1, 2, copy)).random() for copy in range(8)
    }
