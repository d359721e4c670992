"""What a trained model of any task sees in a video: `python -m ops.predict VIDEO --model models:/figures-recognition@champion`."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import configs
from configs.settings import Settings
from ops.evaluation.scoring import read_recipe
from ops.media.decode import DecodeError
from ops.store.files import StorageError, local_copy, sha256_of

CHAMPION = "models:/figures-recognition@champion"
SERVED = {"recognition": "recognizer", "localization": "localizer", "detection": "detector", "parsing": "parser"}


class PredictionError(ValueError):
    """A video or a model that cannot be used: names it and says why."""


class Predictor(Protocol):
    """A trained model with its recipe and vocabulary; `ops.evaluation.<recognizer, localizer, detector, parser>` have one each."""

    def on_video(self, path: Path) -> Any:
        """What it sees in a video file, typed by the task. Raises DecodeError, ValueError."""

    def lines(self, found: Any) -> list[str]:
        """What `on_video` gave, for a terminal: what matters most comes first."""


def predict(video: str, model: str = CHAMPION, *, settings: Settings | None = None) -> Any:
    """What the model sees in a video; for recognition a list of (label, probability), best first.

    `video` is a path or URI, `model` a registry URI (models:/<name>@<alias>, models:/<name>/<version>) or the folder of a
    training run. Raises PredictionError, StorageError, TrackingError.
    """
    return on_video(load(model, settings or configs.settings()), video)


def on_video(predictor: Predictor, video: str) -> Any:
    """As `predict`, with a model that is loaded already."""
    try:
        with local_copy(video) as path:
            if path.is_dir():
                raise IsADirectoryError(video)
            return predictor.on_video(path)
    except FileNotFoundError as error:
        raise PredictionError(f"{video}: no such file") from error
    except IsADirectoryError as error:
        raise PredictionError(f"{video}: a folder; name the video files in it") from error
    except DecodeError as error:
        raise PredictionError(f"{video}: {error}") from error


def load(model: str, settings: Settings) -> Predictor:
    """The model of a registry URI or a run folder, whatever its task. Raises PredictionError when there is none."""
    return _from_registry(model, settings) if model.startswith("models:/") else _from_run(model.rstrip("/"), settings)


def _from_registry(model: str, settings: Settings) -> Predictor:
    from ops.tracking.artifacts import DamagedModelError, MissingModelError, downloaded
    from ops.tracking.connect import shown

    try:
        with downloaded(model, settings) as folder:
            return _from_files(folder, settings)
    except DamagedModelError as error:
        raise PredictionError(f"{model}: {error}; run the line again to mend it from its run folder, or log it again") from error
    except MissingModelError as error:
        raise PredictionError(f"{model}: not in the registry at {shown(settings.tracking_uri)} ({error})") from error


def _from_run(folder: str, settings: Settings) -> Predictor:
    from ops.training.runs import PROVENANCE, RECIPE, VOCABULARY, WEIGHTS, checksums

    wanted = checksums(folder)
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="kinograph-") as scratch:
        for name in (WEIGHTS, RECIPE, VOCABULARY, PROVENANCE):
            try:
                path = stack.enter_context(local_copy(f"{folder}/{name}"))
                Path(scratch, name).symlink_to(path.resolve(strict=True))
            except FileNotFoundError as error:
                if name == PROVENANCE:
                    continue
                raise PredictionError(f"{folder}: not the folder of a finished training run, nor a models:/ URI ({error})") from error
            if name in wanted and sha256_of(path) != wanted[name]:
                raise PredictionError(f"{folder}/{name}: not what the training wrote: its sha256 is another")
        return _from_files(Path(scratch), settings)


def _from_files(folder: Path, settings: Settings) -> Predictor:
    from ops.training.runs import RECIPE, VOCABULARY, WEIGHTS

    module = import_module(f"ops.evaluation.{SERVED[read_recipe(str(folder / RECIPE)).task]}")
    return module.from_files(folder / WEIGHTS, folder / RECIPE, folder / VOCABULARY, settings)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m ops.predict", description="What a trained model sees in videos.")
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="a path or an s3:// URI")
    parser.add_argument("--model", default=CHAMPION, help="models:/<name>@<alias>, models:/<name>/<version> or a run folder (%(default)s)")
    parser.add_argument("--top", type=_count, default=5, help="how many lines at most (%(default)s)")
    asked = parser.parse_args(arguments)
    try:
        predictor = load(asked.model, configs.settings())
    except (ValueError, StorageError) as error:
        print(error, file=sys.stderr)
        return 2
    failed = False
    for video in asked.videos:
        try:
            found = on_video(predictor, video)
        except (ValueError, OSError) as error:  # of this video; the others are looked at all the same
            print(error if video in str(error) else f"{video}: {error}", file=sys.stderr)
            failed = True
            continue
        print(video)
        for line in predictor.lines(found)[: asked.top]:
            print(f"  {line}")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
