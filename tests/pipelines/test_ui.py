"""The UI as a person meets it: `kinograph ui` in a real browser, and the workspace as every Dagster
tool loads it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
import yaml

from pipelines.definitions import defs
from pipelines.home import workspace_yaml

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
START_S = 240  # a busy machine imports Dagster four times over before the page answers
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]
WORKSPACE = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError {
  ... on PythonError { message }
  ... on RepositoryLocation { repositories {
    assetNodes { assetKey { path } } jobs { name isAssetJob } schedules { name } sensors { name } } } } } } } }"""  # noqa: E501


def environment(home: Path) -> dict[str, str]:
    """This process's environment, pointed at a home of its own."""
    ours = (
        "DAGSTER_HOME",
        "KINOGRAPH_STORAGE",
        "KINOGRAPH_CONFIGS",
        "MLFLOW_TRACKING_URI",
        "RAY_ADDRESS",
    )
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "KINOGRAPH_HOME": str(home), "PYTHONWARNINGS": "ignore"}


@dataclass
class Served:
    """A running `kinograph ui`: the process that the user started, and the port it was given."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Origin of the pages."""
        return f"http://127.0.0.1:{self.port}"

    def family(self) -> list[psutil.Process]:
        """The process and all that it has started."""
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def wait(self) -> None:
        """Return when the page answers; AssertionError with the log when it ends or takes too
        long.
        """
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/server_info", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise AssertionError(
            f"no page at {self.url} (exit {self.process.poll()}): {self.log.read_text()[-3000:]}"
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`kinograph ui` with its daemon on a free port and an empty home; Ctrl-C afterwards, and
    nothing may be left.
    """
    home = tmp_path_factory.mktemp("ui")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open(home / "ui.log", "wb") as log:
        command = [str(BIN / "kinograph"), "ui", "--port", str(port)]
        process = subprocess.Popen(
            command,
            env=environment(home),
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    one = Served(process, port, home / "ui.log")
    try:
        one.wait()
        yield one
        family = one.family()
        process.send_signal(signal.SIGINT)
        _, left = psutil.wait_procs(family, timeout=90)
        assert not left, f"Ctrl-C leaves processes behind: {left}"
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # all have ended
        process.wait()


def test_the_workspace_of_the_home_is_that_of_the_checkout_and_looks_for_no_code_in_the_working_folder() -> (  # noqa: E501
    None
):
    home = "/a home/with 'odd' \"signs\": ä"
    of_the_home = yaml.safe_load(workspace_yaml(Path(home)))
    assert of_the_home["load_from"][0]["python_module"].pop("working_directory") == home
    assert of_the_home == yaml.safe_load((REPO / "workspace.yaml").read_text())


@pytest.mark.slow
def test_the_workspace_file_lists_everything(tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"  # the standard output also carries the log of the code server
    command = [
        str(BIN / "dagster-graphql"),
        "-w",
        str(REPO / "workspace.yaml"),
        "--ephemeral-instance",
        "-t",
        WORKSPACE,
        "-o",
        str(answer),
    ]
    told = subprocess.run(
        command,
        env=environment(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    (entry,) = json.loads(answer.read_text())["data"]["workspaceOrError"]["locationEntries"]
    assert (entry["name"], entry["loadStatus"]) == ("kinograph", "LOADED")
    (repository,) = entry["locationOrLoadError"]["repositories"]
    ours = defs.get_repository_def()
    assert {
        "/".join(node["assetKey"]["path"]) for node in repository["assetNodes"]
    } == asset_names()
    jobs = {
        "ingest",
        "end_to_end",
        *(f"train_{task}" for task in ("recognition", "localization", "detection", "parsing")),
    }
    assert {job["name"] for job in repository["jobs"] if not job["name"].startswith("__")} == jobs
    assert {schedule["name"] for schedule in repository["schedules"]} == {
        schedule.name for schedule in ours.schedule_defs
    }
    assert {sensor["name"] for sensor in repository["sensors"]} == {
        sensor.name for sensor in ours.sensor_defs
    }


@pytest.mark.slow
def test_the_dg_command_finds_the_project(tmp_path: Path) -> None:
    if not (BIN / "dg").exists():
        pytest.skip("the dg command is not installed (pip install -e '.[dev]')")
    check = subprocess.run(
        [str(BIN / "dg"), "check", "defs"],
        env=environment(tmp_path),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert check.returncode == 0, check.stdout[-2000:] + check.stderr[-2000:]
    command = [str(BIN / "dg"), "list", "defs", "--json"]
    listed = subprocess.run(
        command, env=environment(tmp_path), cwd=REPO, capture_output=True, text=True, timeout=240
    )
    assert listed.returncode == 0, listed.stdout[-2000:] + listed.stderr[-2000:]
    assert {asset["asset_key"] for asset in json.loads(listed.stdout)["assets"]} == asset_names()


@pytest.mark.slow
def test_it_listens_on_loopback_only(served: Served) -> None:
    listening = [
        connection.laddr
        for process in served.family()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert served.port in {address.port for address in listening}
    assert {address.ip for address in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.slow
def test_a_browser_shows_the_whole_graph(served: Served) -> None:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')"
    )
    browser = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser: none of {', '.join(CHROMIUM)} is on the path")
    groups = sorted({node.group_name for node in defs.get_repository_def().asset_graph.asset_nodes})
    expanded = quote(",".join(f"global@global:{group}" for group in groups), safe="")
    troubles: list[str] = []
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=QUIET)
        page = chromium.new_page(viewport={"width": 1600, "height": 1000})
        page.on("pageerror", lambda error: troubles.append(f"script: {error}"))
        page.on(
            "response",
            lambda answer: (
                troubles.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None
            ),
        )
        page.on(
            "request",
            lambda asked: (
                troubles.append(f"leaves the machine: {asked.url}") if leaves(asked.url) else None
            ),
        )
        page.goto(f"{served.url}/asset-groups?expanded={expanded}", timeout=60_000)
        for name, count in Counter(name.rpartition("/")[2] for name in asset_names()).items():
            # Nodes are HTML inside the drawing; the list beside it is not. They show what follows
            # the task in a name.
            page.locator("foreignObject").filter(has_text=name).nth(count - 1).wait_for(
                state="visible", timeout=60_000
            )
        shown = page.inner_text("body")
        chromium.close()
    assert all(group in shown for group in groups), shown
    assert not troubles, troubles
    for bad in (
        "went wrong",
        "Error loading",
        "error loading",
        "Unexpected",
        "PythonError",
        "not found",
        "Failed to",
    ):
        assert bad not in shown, shown


def leaves(url: str) -> bool:
    """Whether a request goes anywhere but to the server under test."""
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))


def asset_names() -> set[str]:
    """Every asset of the project."""
    return {node.key.to_user_string() for node in defs.get_repository_def().asset_graph.asset_nodes}
