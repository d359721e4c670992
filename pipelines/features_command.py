"""`kinograph features`: make or import the features of a dataset's videos, and write them out as files."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import configs


def add_parser(commands: Any) -> None:
    """Give the command to argparse's subparsers."""
    parser = commands.add_parser("features", help="make or import features of untrimmed videos, only what is not done yet")
    parser.add_argument("name", nargs="?", help="name in a features YAML; without it, all are listed")
    parser.add_argument("--export", metavar="FOLDER", help="also write them there, one file per video (a path or an s3:// URI)")
    parser.add_argument("--format", choices=("npy", "npz"), default="npy", help="of the exported files (default: npy)")
    parser.add_argument("--retry-quarantined", action="store_true", help="try again what was refused before")
    parser.add_argument("--ray", action="store_true", help="extract on Ray actors; RAY_ADDRESS does so too, on its cluster")
    parser.set_defaults(command=run_features)


def run_features(arguments: argparse.Namespace, settings: configs.Settings) -> int:
    """Run the asset as a Dagster run of its own, say what came of it, and export."""
    if arguments.name is None:
        for name in configs.features_names():
            features = configs.features(name)
            print(f"features {name:36} {features.dataset}: {features.about}")
        return 0
    chosen = configs.features(arguments.name)
    import dagster as dg

    from pipelines.line import Stage, run_stage

    instance = dg.DagsterInstance.get()
    config = {"features": {"config": {"retry_quarantined": arguments.retry_quarantined, "ray": arguments.ray}}}
    try:
        run_id = run_stage(Stage(f"features {chosen.name}", ("features",), partition=chosen.name), instance, config=config)
    except dg.Failure as failure:
        print(f"kinograph: {failure.description}", file=sys.stderr)
        return 1
    _tell(chosen.name, _metadata(instance, run_id))
    if arguments.export:
        _export(chosen, settings, arguments.export, arguments.format)
    return 0


def _metadata(instance: Any, run_id: str) -> dict[str, Any]:
    """What the run's materialization says of itself."""
    import dagster as dg

    found = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION).records
    event = found[0].event_log_entry.asset_materialization
    return {name: value.value for name, value in event.metadata.items()}


def _tell(name: str, facts: dict[str, Any]) -> None:
    covered = f"{facts['usable']} of {facts['annotated']} videos have features ({facts['coverage']:.1%})"
    now = f"now {facts['done']} made, {facts['reused']} unchanged, {facts['removed']} removed"
    print(f"{name}: {covered}; {now}, {facts['steps']} steps, {facts['bytes'] / 1e6:.1f} MB, {facts['seconds']:.1f} s")
    if facts["quarantined"]:
        print(f"{facts['quarantined']} refused:")
        for line in facts["quarantine"].splitlines()[2:]:
            reason, _, count = line.rpartition(" | ")
            print(f"  {count} x {reason}")


def _export(features: configs.Features, settings: configs.Settings, folder: str, kind: Any) -> None:
    from ops.compute.progress import progress_bar
    from ops.features.export import export_features
    from ops.store.layout import Layout

    with progress_bar("export", "videos") as progress:
        report = export_features(features, Layout(settings.storage), folder, kind, progress=progress)
    print(f"{report.videos} files in {report.folder} ({report.bytes / 1e6:.1f} MB, {report.seconds:.1f} s)")
