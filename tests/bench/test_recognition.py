"""What a family's network makes of the machine: arithmetic per second, over that of a large float32 matrix product in the same process.

One published configuration of middle size each, one clip as its test sees it, on all CPUs. A training step counts three times the
arithmetic of the forward pass.
"""

from __future__ import annotations

import pytest

import configs
import models
from ops.store.threads import usable_cpus
from ops.zoo.cost import cost_of
from ops.zoo.measure import measure

ROWS = (
    "c2d_r50_8x8_k400_100e", "c3d_16x1_ucf101_45e", "csn_ir_r50_32x2_k400_58e_ig65m_bnfrozen", "i3d_r50_32x2_k400_100e",
    "mvit_s_16x4_k400_200e", "omnisource_r50_8x8_k400_256e", "pan_lite_r50_sthv1", "r2plus1d_r34_8x8_k400_180e",
    "slowfast_r50_4x16_k400_256e", "slowonly_r50_4x16_k400_256e", "tanet_r50_8f_sthv1_50e", "timesformer_divided_8x32_k400_15e",
    "tin_r50_8f_sthv2_40e", "tpn_tsm_r50_8f_sthv1_150e", "trn_r50_8f_sthv1_50e", "tsm_r50_8f_k400_50e", "tsn_r50_8f_sthv2_50e",
    "uniformer_s_16x4_k400_110e", "uniformerv2_b16_u8_k400_clip", "videomae_b_16x4_k400_75e", "videoswin_t_32x2_k400_30e",
    "x3d_m_16x5_k400_300e",
)  # fmt: skip
FLOOR = 0.5
# Families below the floor, what share they reach at least, and what bounds them.
BOUND: dict[str, tuple[float, str]] = {}


def test_every_family_is_measured() -> None:
    assert [configs.load(name).family for name in ROWS] == models.families("recognition")


@pytest.mark.bench
@pytest.mark.parametrize("name", ROWS)
def test_share_of_the_peak(name: str) -> None:
    recipe, speed = configs.load(name), measure(name, 1, usable_cpus())
    gflop = 2 * cost_of(recipe).gmacs
    forward, step = (factor * gflop / seconds / speed.peak_gflops for factor, seconds in ((1, speed.eval_s), (3, speed.step_s)))
    floor, bound = BOUND.get(recipe.family, (FLOOR, "products"))
    print(
        f"\n{recipe.family:12} {gflop:6.1f} GFLOP  forward {speed.eval_s:6.2f} s, {forward:.2f} of {speed.peak_gflops:.0f} GFLOP/s,"
        f" {speed.eval_mb:5.0f} MB  step {speed.step_s:6.2f} s, {step:.2f}, {speed.step_mb:5.0f} MB  bound by {bound}"
    )
    assert forward >= floor
