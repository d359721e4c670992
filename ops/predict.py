"""What a trained model sees in a video: `python -m ops.predict VIDEO --model models:/figures-recognition@champion`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import configs
from configs.schema import RecognitionRecipe
from configs.settings import Settings
from ops.annotations.read import labels as dataset_labels
from ops.evaluation.recognizer import Recognizer, load_weights
from ops.media.decode import DecodeError, decode, decoders_for
from ops.media.probe import Facts, inspect
from ops.store.files import StorageError, local_copy, read_bytes
from ops.store.layout import Layout

CHAMPION = "models:/figures-recognition@champion"


class PredictionError(ValueError):
    """A video or a model that cannot be used: names it and says why."""


def predict(video: str, model: str = CHAMPION, *, top: int = 5, settings: Settings | None = None) -> list[tuple[str, float]]:
    """The `top` most probable labels of a video and their probabilities, best first.

    `video` is a path or URI, `model` a registry URI (models:/<name>@<alias>, models:/<name>/<version>) or the folder of a
    training run. Raises PredictionError, StorageError, TrackingError.
    """
    return recognize(load(model, settings or configs.settings()), video, top=top)


def recognize(recognizer: Recognizer, video: str, *, top: int = 5) -> list[tuple[str, float]]:
    """As `predict`, with a model that is loaded already."""
    try:
        with local_copy(video) as path:
            shares = recognizer.probabilities(sampled_frames(recognizer, path))
    except FileNotFoundError as error:
        raise PredictionError(f"{video}: no such file") from error
    except DecodeError as error:
        raise PredictionError(f"{video}: {error}") from error
    best = np.argsort(-shares, kind="stable")[:top]
    return [(recognizer.labels[index], float(shares[index])) for index in best]


def sampled_frames(recognizer: Recognizer, path: Path) -> np.ndarray:
    """Frames uint8 [num_clips * T, H, W, 3] of the recipe's test views, decoded in order; only these are kept in memory.

    Where a stream yields another number of frames than its packets promise, the places of the views are worked out anew.
    Raises DecodeError.
    """
    facts = inspect(path)
    if facts.problem is not None:
        raise DecodeError(facts.problem)
    short_side = configs.dataset(recognizer.recipe.dataset).frames.short_side  # what training saw
    last: DecodeError | None = None
    for decoder in decoders_for(facts, short_side):
        try:
            times = _timestamps(path, facts, decoder) if recognizer.needs_times else []
            expected = len(times) or facts.num_frames
            indices = recognizer.indices(expected, times)
            kept, found = _keep(_pieces(path, facts, decoder, short_side), indices)
            if found != expected:
                indices = recognizer.indices(found, times)
                kept, _ = _keep(_pieces(path, facts, decoder, short_side), indices)
            return np.stack([kept[index] for index in indices.tolist()])
        except DecodeError as error:
            last = error
    raise last or DecodeError("no decoder")


def _pieces(path: Path, facts: Facts, decoder: str, short_side: int | None) -> Iterator[np.ndarray]:
    return decode(path, facts, decoder, short_side=short_side).pieces


def _timestamps(path: Path, facts: Facts, decoder: str) -> list[float]:
    """Every frame's time: a pass over the video of its own, since the places on a clock have to be known before frames are kept."""
    decoding = decode(path, facts, decoder)
    for _ in decoding:
        continue
    return decoding.timestamps_s


def _keep(pieces: Iterator[np.ndarray], indices: np.ndarray) -> tuple[dict[int, np.ndarray], int]:
    """The frames with these indices, and how many frames there are."""
    wanted, found = set(indices.tolist()), 0
    kept: dict[int, np.ndarray] = {}
    for piece in pieces:
        kept |= {found + at: frame.copy() for at, frame in enumerate(piece) if found + at in wanted}
        found += len(piece)
    return kept, found


def load(model: str, settings: Settings) -> Recognizer:
    """The model of a registry URI or a run folder. Raises PredictionError when there is none."""
    return _from_registry(model, settings) if model.startswith("models:/") else _from_run(model, settings)


def _from_registry(model: str, settings: Settings) -> Recognizer:
    from ops.tracking.connect import shown
    from ops.tracking.model import LABELS, RECIPE, WEIGHTS, MissingModelError, downloaded

    try:
        with downloaded(model, settings) as folder:
            return Recognizer.from_files(folder / WEIGHTS, folder / RECIPE, folder / LABELS)
    except MissingModelError as error:
        raise PredictionError(f"{model}: not in the registry at {shown(settings.tracking_uri)} ({error})") from error


def _from_run(folder: str, settings: Settings) -> Recognizer:
    folder = folder.rstrip("/")
    try:
        recipe = RecognitionRecipe.model_validate_json(read_bytes(f"{folder}/recipe.json"))
        with local_copy(f"{folder}/model.safetensors") as weights:
            network = load_weights(recipe, weights)
    except FileNotFoundError as error:
        raise PredictionError(f"{folder}: not the folder of a finished training run, nor a models:/ URI ({error})") from error
    labels = dataset_labels(configs.dataset(recipe.dataset), "clips", Layout(settings.storage), recipe.target)
    return Recognizer(network, recipe, labels)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, or 2 for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m ops.predict", description="The most probable labels of videos.")
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="a path or an s3:// URI")
    parser.add_argument("--model", default=CHAMPION, help="models:/<name>@<alias>, models:/<name>/<version> or a run folder (%(default)s)")
    parser.add_argument("--top", type=int, default=5, help="how many labels (%(default)s)")
    asked = parser.parse_args(arguments)
    try:
        recognizer = load(asked.model, configs.settings())
    except (ValueError, StorageError) as error:
        print(error, file=sys.stderr)
        return 2
    failed = False
    for video in asked.videos:
        try:
            found = recognize(recognizer, video, top=asked.top)
        except (PredictionError, StorageError) as error:
            print(error, file=sys.stderr)
            failed = True
            continue
        print(video)
        for label, share in found:
            print(f"  {share:6.1%}  {'█' * round(share * 30):<30}  {label}")
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
