"""The catalogue of published rows: what is counted, and the page of the docs that is made of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import pytest

import configs
from command import KINOGRAPH
from configs.schema import ConfigError, Recipe
from ops.benchmarks.cost import Cost, View, catalogued, cost_of, view_of
from ops.benchmarks.page import COLUMNS, REPO, lines_of, page

PAGE = REPO / "docs" / "zoo.md"


def test_every_published_row_is_there() -> None:
    names = {recipe.name for recipe in catalogued()}
    assert names >= {name for name in configs.names("recognition") if configs.load(name).published}
    assert not [name for name in names if name.endswith("_tiny_figures")]


def test_filters() -> None:
    assert {recipe.family for recipe in catalogued(families=("tsm", "x3d"))} == {"tsm", "x3d"}
    assert {recipe.task for recipe in catalogued(tasks=("recognition",))} == {"recognition"}
    with pytest.raises(ConfigError, match="field 'family': found 'tms'.*tsm"):
        catalogued(families=("tms",))
    with pytest.raises(ConfigError, match="field 'task'.*recognition"):
        catalogued(tasks=("cooking",))


def test_views_are_those_of_the_test() -> None:
    assert view_of(configs.load("tsn_r50_3f_k400_100e")) == View(25, 224)  # trained on 3 frames
    assert view_of(configs.load("i3d_r50_32x2_k400_100e")) == View(32, 256)  # trained at 224
    assert view_of(configs.load("pan_lite_r50_sthv1")) == View(32, 224)


@pytest.mark.parametrize(
    ("name", "gmacs", "params"),
    [("tsn_r50_3f_k400_100e", 102.7, 24_327_632), ("x3d_s_13x6_k400_300e", 2.72, 3_794_322)],
)
def test_counted(name: str, gmacs: float, params: int) -> None:
    cost = cost_of(configs.load(name))
    assert (cost.gmacs, cost.params) == (pytest.approx(gmacs, rel=0.01), params)


def test_command_prints_counted_beside_published() -> None:
    command = [KINOGRAPH, "benchmark", "rows", "--family", "c3d"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert re.search(r"c3d_16x1_ucf101_45e +16 x 112² +38\.55 +38\.50 +78\.41 +78\.40", done.stdout)
    wrong = subprocess.run(
        [*command, "--family", "c4d"], capture_output=True, text=True, timeout=120, check=False
    )
    assert (
        wrong.returncode == 1 and "found 'c4d'" in wrong.stderr and "Traceback" not in wrong.stderr
    )


# --------------------------------------------------------------------------------------------------
# the page


def written_costs() -> Callable[[Recipe], Cost]:
    """What the page says was counted, so that all else on it is checked without counting."""
    gmacs, params = COLUMNS.index("GMACs counted"), COLUMNS.index("counted")
    rows = [
        [cell.strip() for cell in line.split(" | ")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| [")
    ]
    found = {
        row[0].removeprefix("| [").partition("]")[0]: Cost(
            round(float(row[params]) * 1e6), float(row[gmacs])
        )
        for row in rows
    }
    return lambda recipe: found[recipe.name]


def test_page_is_up_to_date() -> None:
    assert page(catalogued(), written_costs()) == PAGE.read_text(encoding="utf-8"), (
        "kinograph benchmark rows --markdown docs/zoo.md"
    )


def test_links_lead_to_the_recipes() -> None:
    for name, line in lines_of(catalogued()).items():
        text = (REPO / line.file).read_text(encoding="utf-8").splitlines()[line.number - 1]
        assert text.startswith(f"{name}:")


@pytest.mark.slow  # every network once, by operator
def test_page_says_what_is_counted() -> None:
    assert page(catalogued()) == PAGE.read_text(encoding="utf-8")
