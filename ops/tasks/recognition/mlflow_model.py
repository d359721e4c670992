"""The code that MLflow keeps with a recognition model: clips of frames to class probabilities.

MLflow copies this file into the model's folder and runs it on loading; the rest of this project
must be installed there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import ModelSignature, set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import Schema, TensorSpec

from configs.schema import RecognitionRecipe
from ops.data.test_views import FrozenViews


def interface(recipe: RecognitionRecipe) -> tuple[ModelSignature, np.ndarray]:
    """Signature and input example: uint8 RGB frames [N, num_clips * T, H, W, 3], view by view, to
    float32 [N, classes].
    """
    frames = FrozenViews(recipe.sampling, recipe.transforms, recipe.views).num_frames
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, frames, -1, -1, 3), name=None)])
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, recipe.num_classes), name=None)])
    # Tiny: MLflow stores it twice, as JSON. Real frames are larger; the model resizes whatever
    # comes.
    example = np.broadcast_to(
        np.arange(0, 256, 4, dtype=np.uint8).reshape(1, 1, 8, 8, 1), (1, frames, 8, 8, 3)
    )
    return ModelSignature(inputs, outputs), np.ascontiguousarray(example)


class RecognitionModel(PythonModel):
    """Probabilities [N, classes] of uint8 RGB frames [N, num_clips * T, H, W, 3]; the model resizes
    and crops them itself.
    """

    def load_context(self, context: PythonModelContext) -> None:
        from ops.evaluation.predictors import from_files

        artifacts = {name: Path(path) for name, path in context.artifacts.items()}
        self.recognizer = from_files(
            artifacts["weights"], artifacts["recipe"], artifacts["vocabulary"]
        )

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        return np.stack([self.recognizer.probabilities(frames) for frames in model_input])


set_model(RecognitionModel())
