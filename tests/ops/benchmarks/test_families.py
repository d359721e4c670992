"""The families side by side: training and scoring a demo size, measuring it, and the page of the
docs.
"""

from __future__ import annotations

import pytest

import configs
import models
from configs.schema import ConfigError
from ops.benchmarks.cost import Cost, cost_of
from ops.benchmarks.measure import Speed, measure
from ops.benchmarks.page import REPO
from ops.benchmarks.side_by_side import Result, chart, page, terminal
from ops.benchmarks.training import Learnt, demo_recipes, learn
from ops.files.storage import list_files, write_bytes
from ops.store.layout import Layout


def test_every_family_has_a_demo_size() -> None:
    assert [recipe.family for recipe in demo_recipes()] == models.families("recognition")
    assert [recipe.name for recipe in demo_recipes(("x3d", "tsm"))] == [
        "tsm_tiny_figures",
        "x3d_tiny_figures",
    ]
    with pytest.raises(ConfigError, match="found 'x4d'.*x3d"):
        demo_recipes(("x4d",))


def test_learns_once_and_finds_it_again(world, own: Layout) -> None:
    recipe, lines = world.recipe(), list[str]()
    first = learn(recipe, own, 1, lines.append)
    assert len(lines) == recipe.training.epochs == first.epochs and first.recipe == recipe.name
    assert (
        0 <= first.top1 <= first.top5 <= 1
        and first.chance == pytest.approx(1 / 3)
        and first.pair_order is None
    )
    before = [(file.path_below, file.modified) for file in list_files(own.root)]
    assert learn(recipe, own, 1, lines.append) == first
    assert (
        len(lines) == recipe.training.epochs
        and [(file.path_below, file.modified) for file in list_files(own.root)] == before
    )


def test_what_the_pipeline_has_trained_counts(world, own: Layout) -> None:
    """No folder of the zoo's own comes to be where the pipeline's run is finished."""
    from safetensors.torch import save

    from ops.training.run_folder import WEIGHTS, TrainResult, finish, plan_run
    from ops.training.task import build

    recipe = world.recipe()
    plan = plan_run(recipe, own)
    write_bytes(
        f"{plan.run_dir}/{WEIGHTS}",
        save(
            {name: value.contiguous() for name, value in models.build(recipe).state_dict().items()}
        ),
    )
    done = TrainResult(
        plan.run_dir,
        plan.run_key,
        f"{plan.run_dir}/{WEIGHTS}",
        None,
        plan.data_version,
        {"top1": 0.3},
        3,
        12.5,
    )
    finish(done, recipe, build(recipe, own).vocabulary())
    assert learn(recipe, own, 1, print).seconds == 12.5
    assert not list_files(f"{own.root}/zoo")


def test_measured_in_a_process_of_its_own() -> None:
    speed = measure("tsn_tiny_figures", 2, 1)
    assert (
        speed.clips_per_s > 1
        and speed.peak_gflops > 1
        and 0 < speed.eval_s < speed.step_s
        and 0 < speed.eval_mb <= speed.step_mb < 2000
    )
    with pytest.raises(OSError, match="no_such_recipe"):
        measure("no_such_recipe", 2, 1)


def results() -> list[Result]:
    one = Learnt("tsm_tiny_figures", 0.95, 1.0, 1.0, 0.1, 28, 193.2)
    other = Learnt("tsn_tiny_figures", 0.3625, 0.93, 0.5, 0.1, 8, 31.0)
    return [
        Result("tsm", one, Cost(311_000, 0.0363), Speed(16, 16 / 412.3, 0.2, 80.4, 240.0, 90.0), 2),
        Result("tsn", other, Cost(311_000, 0.0363), None, 2),
    ]


def test_page_table_and_picture() -> None:
    text = page(results(), "families.png")
    assert "| tsm | 0.950 | 1.000 | 1.000 | 28 | 193 | 311 | 0.036 | 412 | 80 | 240 |" in text
    assert (
        "| tsn | 0.362 | 0.930 | 0.500 | 8 | 31 | 311 | 0.036 |  |  |  |" in text
        and "(families.png)" in text
    )
    lines = terminal(results()).splitlines()
    assert len(lines) == 3 and len({len(line) for line in lines}) == 1
    assert chart(results()).startswith(b"\x89PNG")


def test_docs_have_every_family_as_its_recipe_is() -> None:
    """Accuracies are of a training, so the page is not made again here; what does not need one must
    be that of the recipes.
    """
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in (REPO / "docs" / "families.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and line[2] not in "f-"
    ]
    assert [row[0] for row in rows] == models.families("recognition")
    for row in rows:
        recipe = configs.load(f"{row[0]}_tiny_figures")
        cost = cost_of(recipe)
        assert (row[4], row[6], row[7]) == (
            str(recipe.training.epochs),
            f"{cost.params / 1e3:.0f}",
            f"{cost.gmacs:.3f}",
        ), row[0]
        assert recipe.gate is not None and float(row[1]) >= recipe.gate.floor >= 0.2, row[0]
