"""An evaluation in the MLflow run of its training: metrics `eval/...`, predictions, pictures and
learning curves.
"""

from __future__ import annotations

from ops.evaluation.cache import Evaluation
from ops.files.storage import read_bytes
from ops.tracking.mlflow_run import RunLogger

EVAL_SET, PRECISION = "kinograph.eval_set", "kinograph.eval_precision"


def log_evaluation(run: RunLogger, evaluation: Evaluation, title: str) -> bool:
    """Write the evaluation into the run; False when the run holds this evaluation set already.
    `title` heads the curves.
    """
    from ops.evaluation.plots import learning_curves

    if run.run().data.tags.get(EVAL_SET) == evaluation.eval_set:
        return False
    run.log_metrics({f"eval/{name}": value for name, value in evaluation.metrics.items()})
    for name, uri in {**evaluation.pictures, **evaluation.files}.items():
        run.log_bytes(read_bytes(uri), f"evaluation/{name}")
    run.log_bytes(read_bytes(evaluation.predictions_uri), "evaluation/predictions.parquet")
    if curves := run.curves():
        run.log_bytes(learning_curves(curves, title), "evaluation/learning_curves.png")
    # last: a record that stopped half-way is written again
    run.set_tags({PRECISION: evaluation.precision, EVAL_SET: evaluation.eval_set})
    return True
