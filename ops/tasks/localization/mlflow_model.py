"""The code that MLflow keeps with a localization model: features of videos to segments.

MLflow copies this file into the model's folder and runs it on loading; the rest of this project
must be installed there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

from configs.schema.localization import LocalizationRecipe

COLUMNS = ("start_s", "end_s", "label", "score")


def interface(recipe: LocalizationRecipe) -> tuple[ModelSignature, np.ndarray]:
    """Signature and input example: float32 features [N, T, C] of N videos to float64 [N, segments,
    4] of COLUMNS, best first.

    The label is a place in the vocabulary; videos with fewer segments end in rows of NaN. The
    parameter `fps` is the frame rate that the features' strides count on; 0 takes the one of the
    features' configuration. `duration_s` 0 is what the features cover.
    """
    width = recipe.model.get("input_dims", 2048)
    channels = sum(width) if isinstance(width, list | tuple) else int(width)
    inputs = Schema([TensorSpec(np.dtype(np.float32), (-1, -1, channels), name=None)])
    outputs = Schema([TensorSpec(np.dtype(np.float64), (-1, -1, len(COLUMNS)), name=None)])
    params = ParamSchema([ParamSpec("fps", "double", 0.0), ParamSpec("duration_s", "double", 0.0)])
    return ModelSignature(inputs, outputs, params), np.zeros((1, 2, channels), np.float32)


class LocalizationModel(PythonModel):
    """Segments [N, segments, 4] of features [N, T, C]; see `interface`."""

    def load_context(self, context: PythonModelContext) -> None:
        from ops.evaluation.predictors import from_files

        artifacts = {name: Path(path) for name, path in context.artifacts.items()}
        self.localizer = from_files(
            artifacts["weights"], artifacts["recipe"], artifacts["vocabulary"]
        )

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        from ops.tasks.localization.predictor import Steps

        given = params or {}
        fps = given.get("fps") or self.localizer.config.fps
        if not fps:
            raise ValueError(
                "params: found no 'fps'; allowed: the videos' frame rate, since these features are"
                " on each video's own"
            )
        duration = given.get("duration_s") or None
        labels = {label: place for place, label in enumerate(self.localizer.vocabulary["labels"])}
        found = self.localizer.on_features(
            [Steps(features, float(fps), duration) for features in model_input]
        )
        rows = np.full(
            (len(found), max((len(one) for one in found), default=0), len(COLUMNS)), np.nan
        )
        for video, segments in enumerate(found):
            for row, one in enumerate(segments):
                rows[video, row] = one.start_s, one.end_s, labels[one.label], one.score
        return rows


set_model(LocalizationModel())
