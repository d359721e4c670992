"""What a trained model of any task sees in a video: `kinograph predict`, and `predict` for a
program.
"""

from __future__ import annotations

from typing import Any

import configs
from configs.settings import Settings
from ops.evaluation.predictors import PredictionError, Predictor, load
from ops.files.storage import local_copy
from ops.media.decode import DecodeError


def predict(video: str, model: str, *, settings: Settings | None = None) -> Any:
    """What the model sees in a video; for recognition a list of (label, probability), best first.

    Args:
        video: a path or URI.
        model: a registry URI (models:/<name>@<alias>, models:/<name>/<version>) or the folder of a
            training run.
        settings: name the registry; None are the process's.

    Raises:
        PredictionError: there is no such model, or the video cannot be read.
        StorageError: a store does not answer.
        TrackingError: MLflow does not answer.
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
