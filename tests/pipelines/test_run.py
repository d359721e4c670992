"""`kinograph run` from nothing to a promoted model; again; with a changed video; killed outright;
and on S3.
"""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

import configs
from command import KINOGRAPH
from ops.files.storage import exists, list_files, read_bytes
from ops.store.reader import read_manifest
from ops.tracking.connect import client
from ops.tracking.registry import CHAMPION
from registered import find_version

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
MODEL = "tests-recognition"
RUN = ("run", "--recipe", "line_tsn")


def mlflow_runs(home) -> list[Any]:
    """All MLflow runs of the recognition experiment."""
    store = client(home.settings.tracking_uri)
    found = store.get_experiment_by_name("recognition")
    return list(store.search_runs([found.experiment_id])) if found else []


def versions(home) -> list[Any]:
    return sorted(
        client(home.settings.tracking_uri).search_model_versions(f"name = '{MODEL}'"),
        key=lambda version: int(version.version),
    )


def dagster_runs(home, variables) -> int:
    import dagster as dg

    with (
        variables({"DAGSTER_HOME": str(home.root / "dagster")}),
        dg.DagsterInstance.get() as instance,
    ):
        return instance.get_runs_count()


def ledger(home) -> list[dict[str, Any]]:
    """The manifest without what differs between two homes: seconds, places, and bytes (arrays name
    their source).
    """
    rows = read_manifest(home.layout, configs.dataset("figures")).to_pylist()
    rows.sort(key=lambda row: row["video_id"])
    return [
        {
            name: value
            for name, value in row.items()
            if name not in ("seconds", "array_uri", "bytes")
        }
        for row in rows
    ]


def weights(home) -> dict[str, bytes]:
    """Final weights by the name of the run's folder."""
    found = [
        info
        for info in list_files(f"{home.storage}/runs")
        if info.path_below.endswith("/model.safetensors")
    ]
    return {
        info.path_below.split("/")[0]: read_bytes(info.uri)
        for info in found
        if info.path_below.count("/") == 1
    }


def cpu_s() -> float:
    """CPU seconds of the processes that this one started and that have ended; fair on a busy
    machine, unlike the clock.
    """
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def own_configs(tmp_path_factory: pytest.TempPathFactory, recipe_file) -> Path:
    folder = tmp_path_factory.mktemp("configs")
    recipe_file(folder, "line_tsn", training={"epochs": 8})  # time enough to be killed in
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, own_configs: Path, new_home, size):
    """A home in which the line ran once, undisturbed; what the first run said; its ledger and its
    weights.
    """
    home = new_home(tmp_path_factory.mktemp("home"), own_configs)
    out = good(home.run(*RUN, *size))
    return home, out, ledger(home), weights(home)


def test_one_command_ends_with_a_champion_and_a_table(finished) -> None:
    home, out, rows, trained = finished
    assert "Stages" in out and "Models" in out and "Done in" in out
    assert f"{MODEL} v1 @champion" in out
    champion = find_version(MODEL, CHAMPION, home.settings)
    assert champion is not None and champion.version == 1
    assert "there is no champion yet" in versions(home)[0].tags["gate.reason"]
    assert [run.info.status for run in mlflow_runs(home)] == ["FINISHED"]
    assert len(trained) == 1
    assert (
        sum(row["status"] == "quarantined" for row in rows) == 6
        and sum(row["status"] == "ok" for row in rows) == 32 + 16 + 6 + 8
    )


def test_a_second_run_does_nothing_and_says_so(finished, variables, size) -> None:
    home = finished[0]
    before = (len(mlflow_runs(home)), len(versions(home)), dagster_runs(home, variables))
    start = cpu_s()
    out = good(home.run(*RUN, *size))
    assert "Nothing to do" in out and cpu_s() - start < 30
    assert (len(mlflow_runs(home)), len(versions(home)), dagster_runs(home, variables)) == before


def test_a_changed_video_trains_anew_and_a_model_that_is_no_better_is_refused(
    finished, variables, size
) -> None:
    home, _, rows, trained = finished
    clip = sorted(Path(home.root, "datasets/figures/videos/trimmed").glob("*.mp4"))[0]
    own, *others = [
        row for row in rows if row["status"] == "ok" and row["video_id"].startswith("trimmed/")
    ]
    assert own["video_id"] == f"trimmed/{clip.stem}"
    # its parts are annotated to the last frame
    other = next(row for row in others if row["num_frames"] >= own["num_frames"])
    clip.write_bytes(
        Path(home.root, "datasets/figures/videos", f"{other['video_id']}.mp4").read_bytes()
    )
    out = good(home.run(*RUN, *size))
    assert "ingest 1 new, changed or removed files" in out and "1 videos decoded now" in out
    changed = [
        row["video_id"] for row, before in zip(ledger(home), rows, strict=True) if row != before
    ]
    assert changed == [own["video_id"]]
    assert len(mlflow_runs(home)) == 2 and len(weights(home)) == 2
    first, second = versions(home)
    assert (
        second.tags["gate.decision"] == "refused"
        and "is not above the champion's" in second.tags["gate.reason"]
    )
    assert find_version(MODEL, CHAMPION, home.settings).version == int(first.version) == 1
    assert second.tags["gate.reason"].split(" ")[0] in out  # the reason stands in the closing table
    assert "Nothing to do" in good(home.run(*RUN, *size))


def test_a_line_killed_twice_ends_in_the_same_bytes(
    finished, own_configs: Path, new_home, tmp_path: Path, size
) -> None:
    _, _, rows, trained = finished
    home = new_home(tmp_path / "home", own_configs)
    home.killed_when(lambda: 0 < _ok(home) < 60, *RUN, *size)
    stored = _ok(home)
    assert 0 < stored < 62
    home.killed_when(lambda: _checkpoints(home), *RUN, *size)
    # a worker may have written its weights; they do not count without the record
    assert not _records(home) and _ok(home) == 62
    out = good(home.run(*RUN, *size))
    assert "resuming" in out
    assert ledger(home) == rows
    assert weights(home) == trained
    assert len(mlflow_runs(home)) == 1 and len(versions(home)) == 1


def _ok(home) -> int:
    try:
        return sum(
            row["status"] == "ok"
            for row in read_manifest(home.layout, configs.dataset("figures")).to_pylist()
        )
    except FileNotFoundError:
        return 0


def _records(home) -> list[str]:
    return [
        info.uri
        for info in list_files(f"{home.storage}/runs")
        if info.path_below.endswith("/complete.json")
    ]


def _checkpoints(home) -> bool:
    return any(
        info.path_below.endswith("checkpoint_manager_snapshot.json")
        for info in list_files(f"{home.storage}/runs")
    )


def test_the_line_runs_on_s3_and_keeps_nothing_here(
    s3, own_configs: Path, new_home, tmp_path: Path, size
) -> None:
    home = new_home(tmp_path / "home", own_configs, f"{s3.bucket}/prefix")
    out = good(home.run(*RUN, *size))
    assert f"{MODEL} v1 @champion" in out
    here = {path.relative_to(home.root).parts[0] for path in home.root.rglob("*") if path.is_file()}
    assert here <= {"dagster", "locks", "mlflow.db", "mlflow.db.lock"}, here
    # Ray leaves a marker of the folder
    there = {info.path_below.split("/")[0] for info in list_files(home.storage) if info.bytes}
    assert there == {"datasets", "frames", "mlflow", "runs", "tables"}
    assert [name for name in weights(home)] and exists(f"{home.storage}/mlflow")
    assert "Nothing to do" in good(home.run(*RUN, *size))
    video = next(info.uri for info in list_files(f"{home.storage}/datasets/figures/videos/trimmed"))
    command = [KINOGRAPH, "predict", video, "--model", f"models:/{MODEL}@champion", "--top", "2"]
    told = subprocess.run(
        command,
        env=home.process_environment,
        cwd=home.root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[0] == video and len(told.stdout.splitlines()) == 3
