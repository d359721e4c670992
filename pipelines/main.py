"""The `kinograph` command: run the whole line, open the UIs."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import configs
from pipelines import check_command, doctor_command, features_command, store_command
from pipelines.process import guarded

if TYPE_CHECKING:
    from pipelines.line import CheckResult

SAMPLE_WORLD = {
    "train": "training clips",
    "val": "validation clips",
    "untrimmed": "long videos of several actions",
    "scenes": "scenes of several people",
    "parts": "clips with annotated body parts",
}
READS = ("predict", "check", "recipes", "doctor")  # commands that make nothing in the home


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status: 0; 1 with one clear message on stderr; 128 and the number of a signal that stopped it."""
    arguments = _parser().parse_args(argv)
    return guarded(arguments.command, arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kinograph", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="raw video -> frames -> training -> evaluation -> promotion, only what is not done yet")
    run.add_argument("--dataset", default="figures", help="name of a dataset YAML (default: figures, the sample world)")
    which = "recipe to train, may be given again (default: the demo's, of all four tasks)"
    run.add_argument("--recipe", action="append", dest="recipes", metavar="NAME", help=which)
    reset = "let the next model above its floor become champion, without facing the one there is"
    run.add_argument("--reset-champion", action="store_true", help=reset)
    for name, what in SAMPLE_WORLD.items():
        run.add_argument(f"--{name}", type=int, metavar="N", help=f"{what} of the sample world")
    run.set_defaults(command=_run)
    ui = commands.add_parser("ui", help="Dagster UI with its daemon")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", default="3000")
    ui.set_defaults(command=_ui)
    mlflow = commands.add_parser("mlflow-ui", help="MLflow UI on the tracking store")
    mlflow.add_argument("--host", default="127.0.0.1")
    mlflow.add_argument("--port", default="5000")
    mlflow.set_defaults(command=_mlflow_ui)
    predict = commands.add_parser("predict", help="what a promoted model of any task sees in video files")
    predict.add_argument("videos", nargs="+", metavar="VIDEO", help="a path or an s3:// URI")
    predict.add_argument("--model", default="models:/figures-recognition@champion", help="default: %(default)s")
    predict.add_argument("--top", default="5", help="how many lines at most (default: 5)")
    predict.set_defaults(command=_predict)
    check_command.add_parser(commands)
    features_command.add_parser(commands)
    store_command.add_parser(commands)
    doctor_command.add_parser(commands)
    listing = commands.add_parser("recipes", help="list datasets and recipes")
    listing.set_defaults(command=_recipes)
    for name, command in commands.choices.items():
        command.set_defaults(reads=name in READS)
    return parser


def _run(arguments: argparse.Namespace, settings: configs.Settings) -> int:
    import dagster as dg
    from rich.console import Console

    from pipelines.jobs import DEMO_RECIPES, end_to_end
    from pipelines.line import child_runs, run_checks
    from pipelines.summary import print_checks, print_summary

    recipes = list(dict.fromkeys(arguments.recipes or DEMO_RECIPES))
    configs.dataset(arguments.dataset)
    for name in recipes:
        if (of := configs.load(name).dataset) != arguments.dataset:
            raise configs.ConfigError("kinograph run", f"--recipe {name}", f"trains on dataset {of}", f"a recipe of {arguments.dataset}")
    size = {name: value for name in SAMPLE_WORLD if (value := getattr(arguments, name)) is not None}

    from ops.flow import pending, set_aside
    from ops.preflight.run import require
    from ops.store.layout import Layout

    def ready() -> None:
        world = _world(arguments.dataset, settings, size)
        require([configs.load(name) for name in recipes], Layout(settings.storage), settings, world=world)

    if arguments.reset_champion:
        ready()  # a line that is refused sets nobody aside
        set_aside(recipes, settings)
    console = Console(width=None if sys.stdout.isatty() else 150)
    start = time.monotonic()
    instance = dg.DagsterInstance.get()
    work = pending(arguments.dataset, recipes, settings, size)
    if not work:
        failed = print_summary(console, instance, settings, arguments.dataset, recipes, parent_run=None)
        console.print(f"\n[bold green]Nothing to do[/]: every stage is up to date (checked in {time.monotonic() - start:.1f} s).")
        return _status(failed)
    ready()
    console.print("To do: " + "; ".join(work))
    line = {"dataset": arguments.dataset, "recipes": recipes, "figures": size}
    result = end_to_end.execute_in_process(
        instance=instance,
        run_config={"ops": {"bring_in": {"config": line}}, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
    if not result.success and arguments.signals.came:
        return 1  # and no more: what its steps say of it is not the cause
    if not result.success:
        print_checks(console, [check for run in child_runs(instance, result.run_id) for check in run_checks(instance, *run)])
        print(f"kinograph: {_reason(result)}", file=sys.stderr)
        print(f"kinograph: the whole story is in the Dagster UI (`make ui`), run {result.run_id}", file=sys.stderr)
        return 1
    failed = print_summary(console, instance, settings, arguments.dataset, recipes, parent_run=result.run_id)
    console.print(f"\n[bold green]Done[/] in {time.monotonic() - start:.0f} s.")
    return _status(failed)


def _world(dataset: str, settings: configs.Settings, size: dict[str, int]) -> dict[str, int] | None:
    """The size of the sample world where this run makes it, before anything reads it."""
    from ops.flow import figures_pending
    from ops.store.layout import Layout

    return size if dataset == "figures" and figures_pending(Layout(settings.storage), size) else None


def _status(failed: list[CheckResult]) -> int:
    """Exit status of a line that came to its end: 1 where a check of the data fails, each told once more where errors are looked for.

    Of a model that is no better than guessing the closing table tells, and the gate; that is a result, and the command has done its work.
    """
    counted = [check for check in failed if check.of_data]
    for check in counted:
        print(f"kinograph: check {check.name} of {check.partition} failed: {check.says}", file=sys.stderr)
    return 1 if counted else 0


def _reason(result: object) -> str:
    """The innermost cause of a failed run, without the stack of the machinery around it."""
    for event in result.all_events:  # type: ignore[attr-defined]
        if event.is_step_failure:
            failure = event.step_failure_data
            if failure.user_failure_data and failure.user_failure_data.description:
                return failure.user_failure_data.description
            error = failure.error
            while error.cause:
                error = error.cause
            return error.message.strip()
    return "the run failed before its first step"


def _ui(arguments: argparse.Namespace, settings: configs.Settings) -> int:
    workspace = os.path.join(os.environ["DAGSTER_HOME"], "workspace.yaml")
    command = ["dagster", "dev", "-w", workspace, "--host", arguments.host, "--port", arguments.port]
    print(f"Dagster UI: http://{arguments.host}:{arguments.port}  (storage: {settings.storage})", flush=True)
    return _replace_process([sys.executable, "-W", "ignore", "-m", *command])


def _mlflow_ui(arguments: argparse.Namespace, settings: configs.Settings) -> int:
    print(f"MLflow UI: http://{arguments.host}:{arguments.port}  (store: {settings.tracking_uri.split('://')[0]})", flush=True)
    where = ["--default-artifact-root", settings.artifacts]
    os.environ["MLFLOW_BACKEND_STORE_URI"] = settings.tracking_uri  # it may hold a password, and every user sees arguments
    # No usage records to its makers; none of the processes that judge chat traces; its workers' warnings are not the user's.
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    where += ["--workers", "1", "--host", arguments.host, "--port", arguments.port]
    where += ["--uvicorn-opts", f"--app-dir {shlex.quote(os.environ['DAGSTER_HOME'])}"]  # it would look for code in the working folder
    return _replace_process([sys.executable, "-m", "mlflow", "server", *where])


def _replace_process(command: list[str]) -> int:
    from ops.environment import prepare_exec

    prepare_exec()
    os.execv(command[0], command)


def _predict(arguments: argparse.Namespace, settings: configs.Settings) -> int:
    from ops.predict import main as predict

    return predict(["--model", arguments.model, "--top", arguments.top, "--", *arguments.videos])


def _recipes(arguments: argparse.Namespace, settings: configs.Settings) -> int:
    broken = []

    def told(kind: str, name: str, line: Callable[[], str]) -> None:
        try:
            print(f"{kind:8} {name:28} {line()}")
        except configs.ConfigError as error:  # the others are listed all the same
            print(f"{kind:8} {name:28} cannot be read: see below")
            broken.append(error)

    for name in configs.datasets():
        told("dataset", name, lambda: configs.dataset(name).title)  # noqa: B023 - called at once
    for name, found in sorted(configs.every_recipe(), key=lambda pair: pair[0]):
        told("recipe", name, lambda: "{0.task}, {0.dataset}: {0.about}".format(_whole(found)))  # noqa: B023
    try:
        configs.names()  # a name that two files have
    except configs.ConfigError as twice:
        broken += [twice] if str(twice) not in map(str, broken) else []
    for error in broken:
        print(f"kinograph: {error}", file=sys.stderr)
    return 1 if broken else 0


def _whole(found: configs.Recipe | configs.ConfigError) -> configs.Recipe:
    if isinstance(found, configs.ConfigError):
        raise found
    return found


if __name__ == "__main__":
    sys.exit(main())
