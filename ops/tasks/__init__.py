"""One wing for each task: data set, metric, report, plots, predictor, MLflow model; `task.build` makes a `Task` (`ops.training.task`)."""

from ops.training.task import Task, build

__all__ = ["Task", "build"]
