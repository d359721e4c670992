"""A wing per task. Its `INFO` says what others need to know of it; its modules are found by name
(`ops.training.task.wing`).

| module | exports |
|---|---|
| `task` | `build(recipe, layout, dataset)`: what a training asks (`ops.training.task.Task`) |
| `report` | `Report(task, split, spoken, common)`: what an evaluation asks
(`ops.evaluation.run.Report`) |
| `predictor` | `build(served, settings)`: a trained model for videos
(`ops.evaluation.predictors.Predictor`) |
| `mlflow_model` | the code that MLflow keeps with a model, and `interface(recipe)` |
| `preflight` | `PARTS`, `metrics(about)`, `start(about)`: what can be known of a recipe before it
is trained |
| `case` | `view_size`, `miniature_size`, `inputs`: what its networks are called with |
"""
