"""One module per task; each exports `build(recipe, layout, dataset) -> Task` (see `ops.tasks.protocol`)."""

from ops.tasks.protocol import Task, build

__all__ = ["Task", "build"]
