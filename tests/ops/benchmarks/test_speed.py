"""How well each family uses the machine: what is counted, and the page of the docs."""

from __future__ import annotations

from pathlib import Path

import pytest

import configs
import models
from configs.schema import ConfigError
from ops.benchmarks.measure import Speed
from ops.benchmarks.speed import (
    BOUNDS,
    COLUMNS,
    END,
    FLOOR,
    START,
    Usage,
    line_of,
    recipes_of,
    rows_of,
    updated,
    usable_threads,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "speed.md"


def usage(family: str, eval_s: float) -> Usage:
    return Usage("row", family, "8 x 224²", 60.0, Speed(1, eval_s, 6.0, 120.0, 800.4, 100.0))


def test_one_row_of_every_family_is_measured() -> None:
    assert [recipe.family for recipe in recipes_of()] == models.families("recognition")
    assert [recipe.family for recipe in recipes_of(("x3d", "tsm"))] == ["tsm", "x3d"]
    assert all(configs.load(recipe.name).published for recipe in recipes_of())
    with pytest.raises(ConfigError, match="found 'x4d'.*x3d"):
        recipes_of(("x4d",))


def test_shares_of_the_peak() -> None:
    one = usage("tsm", 1.0)
    assert (one.forward_share, one.step_share) == (pytest.approx(0.6), pytest.approx(0.3))
    assert "0.60 of 100 GFLOP/s" in line_of(one)


def test_threads_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.benchmarks.speed.usable_cpus", lambda: 4)
    for text, threads in (("", 4), ("1", 1), ("2,1", 2), ("16", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert usable_threads() == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "all")
    with pytest.raises(ConfigError, match="OMP_NUM_THREADS.*found 'all'"):
        usable_threads()


def test_page_is_made_in_pieces() -> None:
    text = updated(f"before\n\n{START}\n{END}\n\nafter\n", [usage("x3d", 4.0), usage("tsm", 1.0)])
    text = updated(text, [usage("x3d", 2.0)])
    assert (
        list(rows_of(text)) == ["tsm", "x3d"]
        and rows_of(text)["x3d"][COLUMNS.index("share")] == "0.30"
    )
    assert text.startswith("before\n\n") and text.endswith("\n\nafter\n")
    with pytest.raises(ConfigError, match="allowed: one with the lines"):
        updated("no table", [])


def test_the_page_has_every_family_and_says_what_bounds_it() -> None:
    rows = rows_of(PAGE.read_text(encoding="utf-8"))
    assert list(rows) == models.families("recognition")
    assert [rows[recipe.family][1] for recipe in recipes_of()] == [
        f"`{recipe.name}`" for recipe in recipes_of()
    ]
    for family, row in rows.items():
        bound = BOUNDS.get(family)
        assert float(row[COLUMNS.index("share")]) >= (bound.share if bound else FLOOR)
        assert bound is None or row[-1] == bound.by
