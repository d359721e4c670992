"""How well each family uses the machine: the arithmetic of its passes over what a large float32
matrix product reaches beside them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import configs
from configs.schema import ConfigError, Recipe
from ops.benchmarks.cost import cost_of, view_of
from ops.benchmarks.measure import Speed, measure
from ops.store.threads import usable_cpus

ROWS = (
    "c2d_r50_8x8_k400_100e",
    "c3d_16x1_ucf101_45e",
    "csn_ir_r50_32x2_k400_58e_ig65m_bnfrozen",
    "i3d_r50_32x2_k400_100e",
    "mvit_s_16x4_k400_200e",
    "omnisource_r50_8x8_k400_256e",
    "pan_lite_r50_sthv1",
    "r2plus1d_r34_8x8_k400_180e",
    "slowfast_r50_4x16_k400_256e",
    "slowonly_r50_4x16_k400_256e",
    "tanet_r50_8f_sthv1_50e",
    "timesformer_divided_8x32_k400_15e",
    "tin_r50_8f_sthv2_40e",
    "tpn_tsm_r50_8f_sthv1_150e",
    "trn_r50_8f_sthv1_50e",
    "tsm_r50_8f_k400_50e",
    "tsn_r50_8f_sthv2_50e",
    "uniformer_s_16x4_k400_110e",
    "uniformerv2_b16_u8_k400_clip",
    "videomae_b_16x4_k400_75e",
    "videoswin_t_32x2_k400_30e",
    "x3d_m_16x5_k400_300e",
)
"""One published row of middle size for each family."""
FLOOR = 0.5
PASSES_OF_A_STEP = 3  # arithmetic of forward and backward over that of forward


@dataclass(frozen=True)
class Bound:
    """What holds a family's forward pass below FLOOR of the peak, and the share that it reaches all
    the same.
    """

    share: float
    by: str


BOUNDS = {
    "csn": Bound(
        0.35, "memory traffic: channel-wise convolutions, and wide maps of 32 frames between them"
    ),
    "mvit": Bound(0.4, "memory traffic: pooled maps, and a position bias for every pair of places"),
    "videoswin": Bound(0.33, "softmax and position biases of windows, with 32 channels a head"),
    "x3d": Bound(0.15, "memory traffic: channel-wise convolutions, and few channels between them"),
}
PRODUCTS = Bound(FLOOR, "matrix products")


@dataclass(frozen=True)
class Usage:
    """One family's figures: arithmetic of one clip of its test in 10^9 operations (a multiply-add
    is two), and its speed.
    """

    recipe: str
    family: str
    view: str
    gflop: float
    speed: Speed

    @property
    def forward_share(self) -> float:
        """Of the peak that the forward pass in evaluation reaches."""
        return self.gflop / self.speed.eval_s / self.speed.peak_gflops

    @property
    def step_share(self) -> float:
        """Of the peak that a training step reaches."""
        return PASSES_OF_A_STEP * self.gflop / self.speed.step_s / self.speed.peak_gflops

    @property
    def bound(self) -> Bound:
        """What the family is bound by."""
        return BOUNDS.get(self.family, PRODUCTS)


def usable_threads() -> int:
    """Threads that a measured pass has: as many as CPUs, or OMP_NUM_THREADS where that is fewer.
    Raises ConfigError.
    """
    text = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0] or str(usable_cpus())
    if not text.isdigit() or int(text) < 1:
        raise ConfigError("environment", "OMP_NUM_THREADS", text, "a number of threads from 1 on")
    return min(int(text), usable_cpus())


def recipes_of(families: tuple[str, ...] = ()) -> list[Recipe]:
    """The measured row of each of these families (of all, without any). Raises ConfigError for an
    unknown family.
    """
    found = {recipe.family: recipe for recipe in map(configs.load, ROWS)}
    for family in families:
        if family not in found:
            raise ConfigError("kinograph benchmark speed", "family", family, ", ".join(found))
    return [recipe for family, recipe in found.items() if family in (families or found)]


def usage_of(recipe: Recipe, threads: int) -> Usage:
    """Measure one clip of the recipe in a process of its own. Raises OSError."""
    return Usage(
        recipe.name,
        recipe.family,
        str(view_of(recipe)),
        2 * cost_of(recipe).gmacs,
        measure(recipe.name, 1, threads),
    )


# --------------------------------------------------------------------------------------------------
# table

COLUMNS = (
    "family",
    "recipe",
    "view",
    "GFLOP",
    "forward s",
    "share",
    "MB",
    "step s",
    "share of step",
    "MB of step",
    "peak GFLOP/s",
    "bound by",
)
START, END = "<!-- made by kinograph benchmark speed -->", "<!-- end of what is made -->"


def cells(usage: Usage) -> list[str]:
    """One row of the table."""
    speed = usage.speed
    return [
        usage.family,
        f"`{usage.recipe}`",
        usage.view,
        f"{usage.gflop:.1f}",
        f"{speed.eval_s:.2f}",
        f"{usage.forward_share:.2f}",
        f"{speed.eval_mb:.0f}",
        f"{speed.step_s:.2f}",
        f"{usage.step_share:.2f}",
        f"{speed.step_mb:.0f}",
        f"{speed.peak_gflops:.0f}",
        usage.bound.by,
    ]


def rows_of(text: str) -> dict[str, list[str]]:
    """The rows of a page's table by family. Raises ConfigError for a page that has no place for
    one.
    """
    _, start, rest = text.partition(START)
    made, end, _ = rest.partition(END)
    if not start or not end:
        raise ConfigError(
            "kinograph benchmark speed",
            "markdown",
            "a page without them",
            f"one with the lines {START} and {END}",
        )
    lines = [line for line in made.splitlines() if line.startswith("| ")][2:]
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return {row[0]: row for row in rows}


def updated(text: str, measured: list[Usage]) -> str:
    """The page with these families' rows in its table; those of other families stay. Raises
    ConfigError.
    """
    rows = rows_of(text) | {usage.family: cells(usage) for usage in measured}
    rows = {family: [*row[:-1], BOUNDS.get(family, PRODUCTS).by] for family, row in rows.items()}
    rule = ["---", "---", "---", *["---:"] * (len(COLUMNS) - 4), "---"]
    table = "\n".join(
        "| " + " | ".join(row) + " |"
        for row in [list(COLUMNS), rule, *(rows[family] for family in sorted(rows))]
    )
    return text.partition(START)[0] + f"{START}\n\n{table}\n\n{END}" + text.partition(END)[2]


def line_of(usage: Usage) -> str:
    """The row for a person at a terminal."""
    speed = usage.speed
    return (
        f"{usage.family:12} {usage.gflop:6.1f} GFLOP  forward {speed.eval_s:6.2f} s,"
        f" {usage.forward_share:.2f} of {speed.peak_gflops:.0f} GFLOP/s, {speed.eval_mb:5.0f} MB "
        f" step {speed.step_s:6.2f} s, {usage.step_share:.2f}, {speed.step_mb:5.0f} MB  bound by"
        f" {usage.bound.by}"
    )
