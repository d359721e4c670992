"""What a trained model of any task sees in a video: `python -m ops.serving.predict VIDEO --model models:/figures-recognition@champion`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import configs
from configs.settings import Settings
from ops.evaluation.predictors import PredictionError, Predictor, load
from ops.files.storage import StorageError, local_copy
from ops.media.decode import DecodeError

CHAMPION = "models:/figures-recognition@champion"


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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number from 1")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m ops.serving.predict", description="What a trained model sees in videos.")
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
