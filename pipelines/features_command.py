"""`kinograph features`: make or import the features of a dataset's videos, and write them out as
files.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

import typer

import configs
from assets.layout import layout_of
from pipelines.app import command, names_of


@command("features", "kinograph features figures_tsm --export features/ --format npz")
def features(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name in a features YAML; without it, all are listed.",
            autocompletion=names_of(configs.features_names),
        ),
    ] = None,
    export: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write them there, one file per video (a path or an s3:// URI).",
        ),
    ] = None,
    format: Annotated[Literal["npy", "npz"], typer.Option(help="Of the exported files.")] = "npy",
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Try again what was refused before.")
    ] = False,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray", help="Extract on Ray actors; RAY_ADDRESS does so too, on its cluster."
        ),
    ] = False,
) -> int:
    """Make or import features of untrimmed videos, only what is not done yet, as a Dagster run of
    its own.
    """
    if name is None:
        for known in configs.features_names():
            found = configs.features(known)
            print(f"features {known:36} {found.dataset}: {found.about}")
        return 0
    chosen = configs.features(name)
    import dagster as dg

    from pipelines.line import Stage, run_stage

    instance = dg.DagsterInstance.get()
    config = {"features": {"config": {"retry_quarantined": retry_quarantined, "ray": ray}}}
    try:
        run_id = run_stage(
            Stage(f"features {chosen.name}", ("features",), partition=chosen.name),
            instance,
            config=config,
        )
    except dg.Failure as failure:
        print(f"kinograph: {failure.description}", file=sys.stderr)
        return 1
    _tell(chosen.name, _metadata(instance, run_id))
    if export:
        _export(chosen, export, format)
    return 0


def _metadata(instance: Any, run_id: str) -> dict[str, Any]:
    """What the run's materialization says of itself."""
    import dagster as dg

    found = instance.get_records_for_run(
        run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records
    event = found[0].event_log_entry.asset_materialization
    return {name: value.value for name, value in event.metadata.items()}


def _tell(name: str, facts: dict[str, Any]) -> None:
    covered = (
        f"{facts['usable']} of {facts['annotated']} videos have features ({facts['coverage']:.1%})"
    )
    now = f"now {facts['done']} made, {facts['reused']} unchanged, {facts['removed']} removed"
    print(
        f"{name}: {covered}; {now}, {facts['steps']} steps, {facts['bytes'] / 1e6:.1f} MB,"
        f" {facts['seconds']:.1f} s"
    )
    if facts["quarantined"]:
        print(f"{facts['quarantined']} refused:")
        for line in facts["quarantine"].splitlines()[2:]:
            reason, _, count = line.rpartition(" | ")
            print(f"  {count} x {reason}")


def _export(features: configs.Features, folder: str, kind: Literal["npy", "npz"]) -> None:
    from ops.compute.progress import progress_bar
    from ops.features.export import export_features

    with progress_bar("export", "videos") as progress:
        report = export_features(
            features, layout_of(configs.settings()), folder, kind, progress=progress
        )
    print(
        f"{report.videos} files in {report.folder} ({report.bytes / 1e6:.1f} MB,"
        f" {report.seconds:.1f} s)"
    )
