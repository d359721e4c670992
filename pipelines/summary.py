"""The closing table of `kinograph run`: counts and seconds per stage, checks, metrics and alias per
model, where to look next.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import configs
from assets.layout import layout_of
from assets.partitions import video_key
from configs.schema import BUCKETS
from pipelines.app import new_table
from pipelines.line import PARENT, STAGE, CheckResult, latest_checks, stages


def print_summary(
    console: Console,
    instance: dg.DagsterInstance,
    settings: configs.Settings,
    dataset: str,
    recipes: list[str],
    parent_run: str | None,
) -> list[CheckResult]:
    """Print what the line holds now.

    Args:
        console: is printed to.
        instance: has the stages' runs and checks.
        settings: name store, registry and UIs.
        dataset: of the line.
        recipes: names, in the order in which they are trained.
        parent_run: the seconds that its stages took are shown; None shows none.

    Returns:
        The checks that fail.
    """
    seconds = _seconds(instance, parent_run) if parent_run else {}
    console.print(_stage_table(instance, dataset, recipes, seconds))
    found = latest_checks(instance, dataset, recipes)
    print_checks(console, found)
    console.print(_model_table(recipes, settings))
    _print_places(console, settings, dataset)
    return [check for check in found if check.failed]


def print_checks(console: Console, found: list[CheckResult]) -> None:
    """One line with the count of those that hold; a line for each that does not."""
    if not found:
        return
    failed = [check for check in found if check.failed]
    warned = [check for check in found if check.allowed and not check.passed]
    holds = len(found) - len(failed) - len(warned)
    console.print(
        f"[bold]Checks[/]: {holds} of {len(found)} hold"
        + (f", [bold red]{len(failed)} failed[/]" if failed else "")
    )
    for check in (*failed, *warned):
        style = "red" if check.failed else "yellow"
        console.print(
            f"  [{style}]{check.name}[/] of {check.partition}: {escape(check.says)}", soft_wrap=True
        )


def _seconds(instance: dg.DagsterInstance, parent_run: str) -> dict[str, float]:
    records = instance.get_run_records(dg.RunsFilter(tags={PARENT: parent_run}))
    return {r.dagster_run.tags[STAGE]: (r.end_time or 0) - (r.start_time or 0) for r in records}


def _latest(
    instance: dg.DagsterInstance, asset: str, partition: str | None = None
) -> dict[str, Any]:
    """Metadata of the newest materialization, as plain values."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey.from_user_string(asset),
            asset_partitions=[partition] if partition else None,
        ),
        limit=1,
    ).records
    event = records[0].asset_materialization if records else None
    return {name: value.value for name, value in event.metadata.items()} if event else {}


def _stage_table(
    instance: dg.DagsterInstance, dataset: str, recipes: list[str], seconds: dict[str, float]
) -> Table:
    table = new_table("Stages", "stage", "what it holds", "seconds", right=("seconds",))
    bucket = str(video_key(dataset, BUCKETS - 1))
    for stage in stages(dataset, recipes):
        facts = {
            name: _latest(
                instance, name, bucket if name in ("videos", "frames") else stage.partition
            )
            for name in stage.assets
        }
        took = seconds.get(stage.title)
        table.add_row(stage.title, _counts(facts), f"{took:.1f}" if took is not None else "-")
    return table


def _counts(facts: dict[str, dict[str, Any]]) -> str:
    """One line of counts from the metadata of a stage's assets."""
    parts: list[str] = []
    if made := facts.get("figures"):
        parts.append(f"{made['videos']} videos, {'made' if made['made'] else 'unchanged'}")
    if found := facts.get("videos"):
        parts.append(
            f"{found['found']:.0f} files: {found['ok']:.0f} ok, {found['quarantined']:.0f}"
            " quarantined"
        )
    if stored := facts.get("frames"):
        parts.append(
            f"{stored['done']:.0f} videos decoded now ({stored['frames']:.0f} frames,"
            f" {stored['bytes'] / 1e6:.0f} MB)"
        )
        parts.append(f"{stored['reused']:.0f} unchanged")
    if noted := facts.get("annotations"):
        parts.append(f"{noted['rows']} rows, {noted['refused_rows']} refused")
    if made := facts.get("features"):
        parts.append(
            f"{made['usable']} of {made['annotated']} videos, {made['done']} made now"
            f" ({made['steps']} steps)"
        )
    if trained := next(
        (fact for name, fact in facts.items() if name.endswith("/trained_model")), None
    ):
        parts.append(f"{trained['epochs']} epochs in {trained['seconds']:.0f} s")
    return "; ".join(parts) or "not materialized"


def _model_table(recipes: list[str], settings: configs.Settings) -> Table:
    """By what store and registry hold now, not by what Dagster was told once."""
    from ops.flow.recipe import stands

    table = new_table("Models", "recipe", "metrics on the held-out set", "registry", "decision")
    for name in recipes:
        found = stands(name, layout_of(settings), settings)
        shown = [f"{metric} {value:.3f}" for metric, value in found.metrics.items()]
        table.add_row(name, ", ".join(shown), found.where, escape(found.reason))
    return table


def _print_places(console: Console, settings: configs.Settings, dataset: str) -> None:
    console.print()
    if dataset == "figures":
        console.print(
            f"Sample world  {settings.storage}/datasets/figures/contact_sheet.png", soft_wrap=True
        )
    console.print(
        f"Pictures      {settings.storage}/runs/<recipe>-<key>/evaluation/<set>/", soft_wrap=True
    )
    console.print(f"Dagster UI    kinograph ui         then {settings.dagster_url}", soft_wrap=True)
    console.print(f"MLflow UI     kinograph mlflow-ui  then {settings.mlflow_url}", soft_wrap=True)
