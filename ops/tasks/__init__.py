"""One module per task; each exports `build(recipe, layout, dataset) -> Task` (see `ops.training.task`)."""

from ops.training.task import Task, build

__all__ = ["Task", "build"]
