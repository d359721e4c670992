"""The code that MLflow keeps with a detection model: clips of frames to persons and their actions.

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

from configs.schema import DetectionRecipe

COLUMNS = 6  # before the actions: number of the clip, x1, y1, x2, y2, person


def interface(recipe: DetectionRecipe) -> tuple[ModelSignature, np.ndarray]:
    """Signature and input example: uint8 RGB clips [N, T, H, W, 3], the key frame in the middle, to
    float32 [persons, 6 + classes].

    A row has the number of its clip, its box xyxy as shares of the frame, how sure the person is,
    and the score of every action.
    """
    length = recipe.sampling.clip_len
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, length, -1, -1, 3), name=None)])
    outputs = Schema(
        [TensorSpec(np.dtype(np.float32), (-1, COLUMNS + recipe.num_classes), name=None)]
    )
    # Tiny: MLflow stores it twice, as JSON. Real frames are larger; the model resizes whatever
    # comes.
    example = np.broadcast_to(
        np.arange(0, 256, 4, dtype=np.uint8).reshape(1, 1, 8, 8, 1), (1, length, 8, 8, 3)
    )
    return ModelSignature(inputs, outputs), np.ascontiguousarray(example)


class DetectionModel(PythonModel):
    """Persons [P, 6 + classes] of uint8 RGB clips [N, T, H, W, 3]; the model resizes and pads them
    itself.
    """

    def load_context(self, context: PythonModelContext) -> None:
        from ops.evaluation.predictors import from_files

        artifacts = {name: Path(path) for name, path in context.artifacts.items()}
        self.detector = from_files(
            artifacts["weights"], artifacts["recipe"], artifacts["vocabulary"]
        )

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        rows = [np.empty((0, COLUMNS + self.detector.recipe.num_classes), np.float32)]
        for number, found in enumerate(self.detector.persons(list(model_input))):
            boxes, person, scores = found.sorted()
            rows.append(
                np.concatenate(
                    [np.full((len(boxes), 1), number), boxes, person[:, None], scores], axis=1
                ).astype(np.float32)
            )
        return np.concatenate(rows)


set_model(DetectionModel())
