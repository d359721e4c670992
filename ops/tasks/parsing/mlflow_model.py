"""The code that MLflow keeps with a parsing model: frames to persons, parts and part states.

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

from configs.schema.parsing import ParsingRecipe

COLUMNS = ("x1", "y1", "x2", "y2", "state", "score")


def interface(recipe: ParsingRecipe) -> tuple[ModelSignature, np.ndarray]:
    """Signature and input example: uint8 RGB frames [N, H, W, 3] to float64 [N, persons, 1 + K, 6]
    of COLUMNS, best persons first.

    Of the 1 + K places the first is the person (its state is -1), the others its parts, with the
    number of the likeliest state in the vocabulary. Boxes are pixels of the frames. Frames with
    fewer persons end in rows of NaN.
    """
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3), name=None)])
    outputs = Schema([TensorSpec(np.dtype(np.float64), (-1, -1, -1, len(COLUMNS)), name=None)])
    return ModelSignature(inputs, outputs), np.zeros((1, 8, 8, 3), np.uint8)


class ParsingModel(PythonModel):
    """Persons, parts and states [N, persons, 1 + K, 6] of frames [N, H, W, 3]; see `interface`."""

    def load_context(self, context: PythonModelContext) -> None:
        from ops.evaluation.predictors import from_files

        artifacts = {name: Path(path) for name, path in context.artifacts.items()}
        self.parser = from_files(artifacts["weights"], artifacts["recipe"], artifacts["vocabulary"])

    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> np.ndarray:
        found = self.parser.arrays(model_input)
        most = max((len(one["scores"]) for one in found), default=0)
        rows = np.full(
            (len(found), most, 1 + len(self.parser.vocabulary["parts"]), len(COLUMNS)), np.nan
        )
        for place, one in enumerate(found):
            own = rows[place, : len(one["scores"])]
            own[:, 0, :4], own[:, 0, 4], own[:, 0, 5] = one["boxes"], -1, one["scores"]
            own[:, 1:, :4], own[:, 1:, 4], own[:, 1:, 5] = (
                one["parts"],
                one["states"][..., 0],
                one["state_scores"][..., 0],
            )
        return rows


set_model(ParsingModel())
