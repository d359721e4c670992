"""The `kinograph` command: run the whole line, open the UIs, list what there is; the other commands
stand in files of their own.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

import configs
from assets.layout import layout_of
from pipelines.app import app, command, console, names_of
from pipelines.process import signals

if TYPE_CHECKING:
    import dagster as dg

    from pipelines.line import CheckResult

Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port to listen on.")]
Train = Annotated[int | None, typer.Option(metavar="N", help="Training clips of the sample world.")]
Val = Annotated[int | None, typer.Option(metavar="N", help="Validation clips of the sample world.")]
Untrimmed = Annotated[
    int | None,
    typer.Option(metavar="N", help="Long videos of several actions of the sample world."),
]
Scenes = Annotated[
    int | None, typer.Option(metavar="N", help="Scenes of several people of the sample world.")
]
Parts = Annotated[
    int | None,
    typer.Option(metavar="N", help="Clips with annotated body parts of the sample world."),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: runs one command, of `sys.argv` by default, and returns its exit status
    (`kinograph --help` lists them).
    """
    # Here, so that the commands of this file come first in the list.
    from pipelines import (
        benchmark_command,  # noqa: F401
        check_command,  # noqa: F401
        doctor_command,  # noqa: F401
        features_command,  # noqa: F401
        model_commands,  # noqa: F401
        store_command,  # noqa: F401
    )

    try:
        app(arguments, prog_name="kinograph")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@command("run", "kinograph run --dataset figures --recipe tsm_tiny_figures")
def run(
    dataset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="A dataset YAML's; figures is the sample world.",
            autocompletion=names_of(configs.datasets),
        ),
    ] = "figures",
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Recipe to train, may be given again (default: the demo's, of all four tasks).",
            autocompletion=names_of(configs.names),
        ),
    ] = None,
    reset_champion: Annotated[
        bool,
        typer.Option(
            "--reset-champion",
            help=(
                "Let the next model above its floor become champion, without facing the one"
                " there is."
            ),
        ),
    ] = False,
    train: Train = None,
    val: Val = None,
    untrimmed: Untrimmed = None,
    scenes: Scenes = None,
    parts: Parts = None,
) -> int:
    """Raw video -> frames -> training -> evaluation -> promotion, only what is not done yet."""
    from pipelines.jobs import DEMO_RECIPES

    recipes, settings = list(dict.fromkeys(recipe or DEMO_RECIPES)), configs.settings()
    configs.dataset(dataset)
    for name in recipes:
        if (of := configs.load(name).dataset) != dataset:
            raise configs.ConfigError(
                "kinograph run",
                f"--recipe {name}",
                f"trains on dataset {of}",
                f"a recipe of {dataset}",
            )
    asked = {"train": train, "val": val, "untrimmed": untrimmed, "scenes": scenes, "parts": parts}

    size = {name: number for name, number in asked.items() if number is not None}
    if reset_champion:
        from ops.flow.recipe import set_aside

        _require_ready(dataset, recipes, settings, size)  # a line that is refused sets nobody aside
        set_aside(recipes, settings)
    return _line(dataset, recipes, settings, size)


def _require_ready(
    dataset: str, recipes: list[str], settings: configs.Settings, size: dict[str, int]
) -> None:
    from ops.flow.recipe import figures_pending
    from ops.preflight.run import require

    layout = layout_of(settings)
    # where this run makes it, before anything reads it
    world = size if dataset == "figures" and figures_pending(layout, size) else None
    require([configs.load(name) for name in recipes], layout, settings, world=world)


def _line(
    dataset: str, recipes: list[str], settings: configs.Settings, size: dict[str, int]
) -> int:
    """Run what is not done yet, and print what there is then."""
    import dagster as dg

    from ops.flow.recipe import pending
    from pipelines.jobs import end_to_end
    from pipelines.summary import print_summary

    screen, start = console(), time.monotonic()
    instance = dg.DagsterInstance.get()
    work = pending(dataset, recipes, settings, size)
    if not work:
        failed = print_summary(screen, instance, settings, dataset, recipes, parent_run=None)
        screen.print(
            "\n[bold green]Nothing to do[/]: every stage is up to date (checked in"
            f" {time.monotonic() - start:.1f} s)."
        )
        return _status(failed)
    _require_ready(dataset, recipes, settings, size)
    screen.print("To do: " + "; ".join(work))
    line = {"dataset": dataset, "recipes": recipes, "figures": size}
    result = end_to_end.execute_in_process(
        instance=instance,
        run_config={
            "ops": {"bring_in": {"config": line}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        raise_on_error=False,
    )
    if not result.success:
        # else: what its steps say of it is not the cause
        return 1 if signals.came else _tell_failure(instance, result)
    failed = print_summary(screen, instance, settings, dataset, recipes, parent_run=result.run_id)
    screen.print(f"\n[bold green]Done[/] in {time.monotonic() - start:.0f} s.")
    return _status(failed)


def _tell_failure(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> int:
    from pipelines.line import child_runs, run_checks
    from pipelines.summary import print_checks

    print_checks(
        console(),
        [
            check
            for run in child_runs(instance, result.run_id)
            for check in run_checks(instance, *run)
        ],
    )
    print(f"kinograph: {_reason(result)}", file=sys.stderr)
    print(
        f"kinograph: the whole story is in the Dagster UI (`kinograph ui`), run {result.run_id}",
        file=sys.stderr,
    )
    return 1


def _status(failed: list[CheckResult]) -> int:
    """Exit status of a line that came to its end: 1 where a check of the data fails, each told once
    more where errors are looked for.

    Of a model that is no better than guessing the closing table tells, and the gate; that is a
    result, and the command has done its work.
    """
    counted = [check for check in failed if check.of_data]
    for check in counted:
        print(
            f"kinograph: check {check.name} of {check.partition} failed: {check.says}",
            file=sys.stderr,
        )
    return 1 if counted else 0


def _reason(result: dg.ExecuteInProcessResult) -> str:
    """The innermost cause of a failed run, without the stack of the machinery around it; of a
    programmer's mistake with its own.
    """
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.user_failure_data and failure.user_failure_data.description:
                return failure.user_failure_data.description
            error = failure.error
            assert error is not None
            while error.cause:
                error = error.cause
            return error.to_string().strip()
    return "the run failed before its first step"


@command("ui", "kinograph ui --port 3001")
def ui(host: Host = "127.0.0.1", port: Port = 3000) -> int:
    """Dagster UI with its daemon."""
    workspace = os.path.join(os.environ["DAGSTER_HOME"], "workspace.yaml")
    started = ["dagster", "dev", "-w", workspace, "--host", host, "--port", str(port)]
    print(f"Dagster UI: http://{host}:{port}  (storage: {configs.settings().storage})", flush=True)
    return _replace_process([sys.executable, "-W", "ignore", "-m", *started])


@command("mlflow-ui", "kinograph mlflow-ui --host 0.0.0.0")
def mlflow_ui(host: Host = "127.0.0.1", port: Port = 5000) -> int:
    """MLflow UI on the tracking store."""
    settings = configs.settings()
    print(
        f"MLflow UI: http://{host}:{port}  (store: {settings.tracking_uri.split('://')[0]})",
        flush=True,
    )
    where = ["--default-artifact-root", settings.artifacts]
    # it may hold a password, and every user sees arguments
    os.environ["MLFLOW_BACKEND_STORE_URI"] = settings.tracking_uri
    # No usage records to its makers; none of the processes that judge chat traces; its workers'
    # warnings are not the user's.
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PYTHONWARNINGS": "ignore",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    where += ["--workers", "1", "--host", host, "--port", str(port)]
    # it would look for code in the working folder
    where += ["--uvicorn-opts", f"--app-dir {shlex.quote(os.environ['DAGSTER_HOME'])}"]
    return _replace_process([sys.executable, "-m", "mlflow", "server", *where])


def _replace_process(started: list[str]) -> int:
    from ops.compute.environment import prepare_exec

    prepare_exec()
    os.execv(started[0], started)


@command("recipes", "kinograph recipes", reads=True)
def recipes() -> int:
    """List datasets and recipes; what cannot be read does not hide the others."""
    broken: dict[str, None] = {}

    def told(kind: str, name: str, line: Callable[[], str]) -> None:
        try:
            print(f"{kind:8} {name:28} {line()}")
        except configs.ConfigError as error:
            print(f"{kind:8} {name:28} cannot be read: see below")
            broken[str(error)] = None

    for name in configs.datasets():
        told("dataset", name, lambda: configs.dataset(name).title)  # noqa: B023
    for name, found in sorted(configs.every_recipe(), key=lambda pair: pair[0]):
        told("recipe", name, lambda: _line_of(found))  # noqa: B023
    try:
        configs.names()  # a name that two files have
    except configs.ConfigError as twice:
        broken[str(twice)] = None
    for text in broken:
        print(f"kinograph: {text}", file=sys.stderr)
    return 1 if broken else 0


def _line_of(found: configs.Recipe | configs.ConfigError) -> str:
    if isinstance(found, configs.ConfigError):
        raise found
    return f"{found.task}, {found.dataset}: {found.about}"


@command("sample-world", "kinograph sample-world FOLDER --train 5000 --val 500", reads=True)
def sample_world(
    root: Annotated[str, typer.Argument(help="Folder or URI to write into.")],
    train: Train = None,
    val: Val = None,
    untrimmed: Untrimmed = None,
    scenes: Scenes = None,
    parts: Parts = None,
    difficulty: Annotated[
        float | None,
        typer.Option(metavar="D", help="Strength of clutter and camera motion, 0 to 1."),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(min=0, help="Another seed is another world; the same makes the same bytes."),
    ] = 0,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes (default: as many as CPUs).")
    ] = None,
) -> int:
    """Make the sample world of any size anywhere: videos and exact annotations of four tasks. What
    is left open is as in the demo.
    """
    from dataclasses import replace

    from ops.compute.progress import progress_bar
    from ops.store.threads import usable_cpus
    from ops.synthetic.dataset import FiguresSize, make_figures

    asked = {
        "num_train": train,
        "num_val": val,
        "num_untrimmed": untrimmed,
        "num_scenes": scenes,
        "difficulty": difficulty,
    }
    size = FiguresSize(
        num_parts=0,
        **{name: value for name, value in asked.items() if value is not None},  # type: ignore[arg-type]
    )
    clips = size.num_train + size.num_val
    size = replace(size, num_parts=min(FiguresSize.num_parts, clips) if parts is None else parts)
    with progress_bar("figures", "videos") as progress:
        report = make_figures(root, size, seed, workers or usable_cpus(), progress)
    counts = report.counts
    what = (
        f"{counts['videos']} videos, {counts['frames']} frames" if report.made else "nothing to do"
    )
    print(f"{report.root}: {what} ({report.seconds:.1f} s)")
    return 0
