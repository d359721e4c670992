"""From a video file to labels, with a model from a run folder or from the registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import configs
import models
from configs import Settings, load
from configs.schema import ConfigError, Frames, Provenance, RecognitionRecipe
from ops.media.sampled import sampled_frames
from ops.serving import predict as module
from ops.serving.predict import PredictionError, on_video, predict
from ops.tasks.recognition.predictor import Recognizer
from ops.tracking.connect import TrackingError
from ops.tracking.mlflow_run import open_run
from ops.tracking.model import log_model
from ops.tracking.registry import register

LABELS = [f"action {index}" for index in range(10)]
NUM_FRAMES, FPS = 40, 10


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty frames, each a little brighter than the one before."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(
                np.full((64, 96, 3), 5 * index, np.uint8), format="rgb24"
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def recipe() -> RecognitionRecipe:
    found = load("tsn_tiny_figures")
    assert isinstance(found, RecognitionRecipe)
    return found.model_copy(update={"model": {"depth": 10, "width": 8}})


@pytest.fixture
def run_folder(recipe: RecognitionRecipe, settings: Settings) -> str:
    folder = Path(settings.storage, "runs", "a")
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_file(models.build(recipe).state_dict(), folder / "model.safetensors")
    (folder / "recipe.json").write_text(recipe.model_dump_json())
    (folder / "vocabulary.json").write_text(json.dumps({"labels": LABELS}))
    return str(folder)


def test_the_frames_of_the_recipes_views_are_taken_from_the_stream(
    video: Path, recipe: RecognitionRecipe
) -> None:
    views = recipe.views.model_copy(update={"num_clips": 2})
    recognizer = Recognizer(
        models.build(recipe).eval(), recipe.model_copy(update={"views": views}), LABELS
    )
    frames = sampled_frames(video, recognizer.indices)
    indices = recognizer.indices(NUM_FRAMES)
    assert frames.shape == (16, 64, 96, 3)
    assert np.abs(frames.mean((1, 2, 3)) - 5 * indices).max() < 4


def test_a_recipe_on_a_clock_takes_the_frames_shown_at_its_ticks(
    video: Path, recipe: RecognitionRecipe
) -> None:
    sampling = recipe.sampling.model_copy(
        update={"fps": FPS / 2, "kind": "dense", "num_segments": 1, "clip_len": 4}
    )
    recognizer = Recognizer(
        models.build(recipe).eval(), recipe.model_copy(update={"sampling": sampling}), LABELS
    )
    first = (NUM_FRAMES // 2 - 4) // 2 * 2  # every second frame: the middle four of these
    assert recognizer.indices(NUM_FRAMES, [t / FPS for t in range(NUM_FRAMES)]).tolist() == [
        first,
        first + 2,
        first + 4,
        first + 6,
    ]
    levels = sampled_frames(video, recognizer.indices, on_clock=recognizer.needs_times).mean(
        (1, 2, 3)
    )
    assert np.abs(levels - 5 * np.array([first, first + 2, first + 4, first + 6])).max() < 4


def test_run_folder_registry_and_command_line_agree(
    video: Path, recipe: RecognitionRecipe, settings: Settings, run_folder: str, command, capsys
) -> None:
    found = predict(str(video), run_folder, settings=settings)
    assert found[0][1] >= found[1][1] >= found[2][1] > 0
    assert sum(share for _, share in found) == pytest.approx(1, abs=1e-5) and {
        label for label, _ in found
    } == set(LABELS)

    run = open_run(recipe, "key", settings)
    weights = f"{run_folder}/model.safetensors"
    logged = log_model(run, recipe, weights, {"labels": LABELS})
    version = register(run, logged, recipe, "key", weights, settings)
    for uri in (logged.uri, version.uri, "models:/figures-recognition@challenger"):
        assert predict(str(video), uri, settings=settings) == found

    assert (
        command(
            "predict", str(video), "--model", "models:/figures-recognition@challenger", "--top", "1"
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert str(video) in printed and found[0][0] in printed and found[1][0] not in printed
    assert command("predict", str(video)) == 1
    assert "models:/figures-recognition@champion: not in the registry" in capsys.readouterr().err


def test_what_cannot_be_used_is_named(
    settings: Settings, run_folder: str, tmp_path: Path, command, capsys
) -> None:
    recognizer = module.load(run_folder, settings)
    (tmp_path / "notes.mp4").write_text("not a video")
    with pytest.raises(PredictionError, match="notes.mp4: .*not a video"):
        on_video(recognizer, str(tmp_path / "notes.mp4"))
    with pytest.raises(PredictionError, match="no such file"):
        on_video(recognizer, str(tmp_path / "none.mp4"))
    with pytest.raises(PredictionError, match="not the folder of a finished training run"):
        predict("any.mp4", str(tmp_path), settings=settings)
    assert command("predict", str(tmp_path / "none.mp4"), "--model", run_folder) == 1
    assert "none.mp4: no such file" in capsys.readouterr().err


def test_a_folder_among_the_files_and_a_name_with_a_dash(
    video: Path, run_folder: str, tmp_path: Path, command, monkeypatch, capsys
) -> None:
    (tmp_path / "-dash.mp4").write_bytes(video.read_bytes())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert command("predict", "--model", run_folder, "--", "folder", "none.mp4", "-dash.mp4") == 1
    said = capsys.readouterr()
    assert (
        "folder: a folder; name the video files in it" in said.err
        and "none.mp4: no such file" in said.err
    )
    assert said.out.startswith("-dash.mp4\n") and "action " in said.out


@pytest.mark.parametrize("top", ["-1", "0", "x"])
def test_a_number_of_lines_that_is_none(top: str, command, capsys) -> None:
    assert command("predict", "a.mp4", f"--top={top}") == 2
    assert "Invalid value for '--top'" in capsys.readouterr().err


def answers_of(home: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file of a folder: what a read may not change."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(home.rglob("*"))
    }


def register_one(recipe: RecognitionRecipe, settings: Settings, folder: str) -> str:
    """A version of a registered model that says for itself how its frames were stored."""
    run, weights = open_run(recipe, "key", settings), f"{folder}/model.safetensors"
    provenance = Provenance(dataset=recipe.dataset, frames=Frames(short_side=32))
    model = log_model(run, recipe, weights, {"labels": LABELS}, provenance)
    return register(run, model, recipe, "key", weights, settings).uri


@pytest.fixture
def registered(recipe: RecognitionRecipe, settings: Settings, run_folder: str) -> str:
    """The version's URI."""
    return register_one(recipe, settings, run_folder)


def test_a_served_model_needs_no_yaml_and_no_file_of_today_changes_its_answer(
    video: Path,
    registered: str,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = predict(str(video), registered, settings=settings)
    served = module.load(registered, settings)
    plain = Recognizer(
        served.model, served.recipe, LABELS, Provenance(dataset="figures", frames=Frames())
    )  # type: ignore[attr-defined]
    # the size at which frames were stored is part of the answer
    assert plain.on_video(video) != before
    path = tmp_path / "configs" / "datasets" / "figures.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("title: other\nlicence: none\nroot: /nowhere\nframes: {short_side: 16}\n")
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(tmp_path / "configs"))
    assert predict(str(video), registered, settings=settings) == before
    monkeypatch.setattr(configs, "dataset", _absent)
    monkeypatch.setattr(configs, "load", _absent)
    assert predict(str(video), registered, settings=settings) == before


def _absent(name: str) -> None:
    raise ConfigError("configs", "name", name, "nothing: no YAML is there")


def test_a_model_of_before_loads_or_says_what_to_do(
    video: Path,
    recipe: RecognitionRecipe,
    settings: Settings,
    run_folder: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, weights = open_run(recipe, "key", settings), f"{run_folder}/model.safetensors"
    uri = log_model(run, recipe, weights, {"labels": LABELS}).uri
    assert predict(str(video), uri, settings=settings)
    monkeypatch.setattr(configs, "dataset", _absent)
    with pytest.raises(
        ConfigError,
        match=(
            "found 'figures'; allowed: a dataset of that name in KINOGRAPH_CONFIGS.*or train it"
            " again"
        ),
    ):
        predict(str(video), uri, settings=settings)


def test_a_read_writes_nothing(video: Path, registered: str, settings: Settings) -> None:
    before = answers_of(settings.home), answers_of(Path(settings.storage))
    assert predict(str(video), registered, settings=settings)
    assert (answers_of(settings.home), answers_of(Path(settings.storage))) == before
    nobody = settings.model_copy(update={"tracking_uri": f"sqlite:///{settings.home}/none.db"})
    with pytest.raises(TrackingError, match="there is no database at .*none.db"):
        predict(str(video), registered, settings=nobody)
    assert not (settings.home / "none.db").exists()


@pytest.fixture
def theirs(empty_database: Path) -> Iterator[Settings]:
    """A home that everybody may read; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory(prefix="kinograph-theirs-") as folder:
        shutil.copy(empty_database, Path(folder, "mlflow.db"))
        yield Settings(
            storage=folder, tracking_uri=f"sqlite:///{folder}/mlflow.db", home=Path(folder)
        )


@pytest.mark.slow  # a process of its own
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_somebody_else_predicts_from_a_home_that_is_not_theirs(
    video: Path, recipe: RecognitionRecipe, run_folder: str, theirs: Settings
) -> None:
    uri, film = (
        register_one(recipe, theirs, run_folder),
        shutil.copy(video, theirs.home / "clip.mp4"),
    )
    for path in (theirs.home, *theirs.home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    command = f"main(['predict', {str(film)!r}, '--model', {uri!r}])"
    # the first time as root, so that everything is imported: its Python may not be the other's to
    # read
    code = (
        f"import os, sys; from pipelines.main import main; {command}; from ops.tracking import"
        " connect; connect._reader.cache_clear(); "
        # a private folder is one user's
        "from ops.compute import environment; environment._folders.clear(); "
        f"os.setgid(65534); os.setuid(65534); print('NOBODY'); sys.exit({command})"
    )
    env = {
        **os.environ,
        "KINOGRAPH_HOME": str(theirs.home),
        "KINOGRAPH_STORAGE": theirs.storage,
        "TMPDIR": "/tmp",
        "HOME": "/tmp",
    }
    env |= {
        "MLFLOW_TRACKING_URI": theirs.tracking_uri,
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    before = answers_of(theirs.home)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=250,
    )
    first, _, second = done.stdout.partition("NOBODY\n")
    assert done.returncode == 0 and "action" in first and second == first, done.stderr[-2000:]
    assert answers_of(theirs.home) == before
