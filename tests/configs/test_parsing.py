"""Recipes of parsing: the ladder of the report, and settings that contradict each other."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

import configs
from configs.schema.parsing import Images, ParsingRecipe

LADDER = {
    "apct_r50_tps_baseline": 53.2,
    "apct_r50_tps_cascade": 59.5,
    "apct_r50_tps_refine": 60.5,
    "apct_swinb_tps_refine": 64.5,
    "apct_swinb_tps_refine_2x": 66.4,
}


def recipe(name: str) -> ParsingRecipe:
    found = configs.load(name)
    assert isinstance(found, ParsingRecipe)
    return found


def test_the_ladder_is_the_reports_and_each_step_changes_one_thing() -> None:
    steps = [recipe(name) for name in LADDER]
    assert [step.published.acc_p for step in steps if step.published] == list(LADDER.values())
    assert [step.training.epochs for step in steps] == [12, 12, 12, 12, 24]
    models = [step.model for step in steps]
    assert models == [
        {"depth": 50, "cascade": False, "refine_layers": 0},
        {"depth": 50, "refine_layers": 0},
        {"depth": 50},
        {"trunk": "swin_base"},
        {"trunk": "swin_base"},
    ]
    assert all(
        step.num_classes == 74
        and step.images == steps[0].images
        and step.optimizer == steps[0].optimizer
        for step in steps
    )


def test_the_action_comes_from_a_recipe_on_the_same_videos() -> None:
    csn = configs.load("csn_ir_r152_32x2_tps_ig65m")
    assert {recipe(name).action_model for name in LADDER} == {
        f"models:/{csn.gate.registered_model}@champion"
    }
    assert {recipe(name).dataset for name in LADDER} == {csn.dataset}
    clips, parts = (
        [file.path for file in configs.dataset(csn.dataset).annotations if file.table == table]
        for table in ("clips", "parts")
    )
    assert clips == parts
    assert csn.num_classes == configs.dataset(csn.dataset).expected["clips.all.classes"]


def test_the_tiny_ladder_has_equal_budgets() -> None:
    steps = [recipe(f"apct_tiny_figures{end}") for end in ("_baseline", "_cascade", "_refine")]
    assert all(
        step.training == steps[0].training
        and step.optimizer == steps[0].optimizer
        and step.frames == steps[0].frames
        for step in steps
    )
    # the demo trains the last one, shorter
    assert recipe("apct_tiny_figures").model == steps[-1].model


def changed(**changes: object) -> ParsingRecipe:
    return ParsingRecipe.model_validate({**recipe("apct_tiny_figures").model_dump(), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"action_model": None}, "give one of them"),
        ({"action_file": "x.json"}, "give one of them"),
        ({"states": ("a", "b")}, "states names 2, num_classes says 17"),
        ({"model": {"num_classes": 3}}, "num_classes belongs to the recipe itself"),
        ({"answers": {"persons": 11}}, "less than or equal to 10"),
        ({"answers": {"proposals": 6}}, "less than or equal to 5"),
    ],
)
def test_contradictions_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        changed(**changes)


def test_sizes_that_make_no_picture_are_refused() -> None:
    for values in ({"short_sides": (8,)}, {"crop_sides": (50, 40)}, {"short_sides": ()}):
        with pytest.raises(ValidationError):
            Images.model_validate(
                {"short_sides": (64,), "test_short_side": 64, "long_side": 96, **values}
            )
