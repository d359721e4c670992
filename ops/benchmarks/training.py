"""Training and scoring the demo-size recipe of a family: the pipeline's own task and loop, in this
process and without a tracker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import configs
from configs.schema import ConfigError, Recipe, RecognitionRecipe
from ops.files.storage import write_bytes
from ops.store.layout import Layout
from ops.training.run_folder import WEIGHTS, RunPlan, TrainResult, finish, finished, prepare
from ops.training.task import Task

DEMO = "_tiny_figures"


@dataclass(frozen=True)
class Learnt:
    """What a demo-size recipe reached on the validation split, by its test views; shares in
    0..1.
    """

    recipe: str
    top1: float
    top5: float
    pair_order: float | None  # of labels that are each other played backwards; 0.5 is guessing
    chance: float
    epochs: int
    seconds: float  # of all epochs


def demo_recipes(families: tuple[str, ...] = ()) -> list[RecognitionRecipe]:
    """The demo-size recipes of these families (of all, without any), by family. Raises ConfigError
    for an unknown family.
    """
    found = {
        name.removesuffix(DEMO): configs.load(name)
        for name in configs.names("recognition")
        if name.endswith(DEMO)
    }
    for family in families:
        if family not in found:
            raise ConfigError("kinograph benchmark families", "family", family, ", ".join(found))
    return [
        recipe
        for family, recipe in sorted(found.items())
        if isinstance(recipe, RecognitionRecipe) and family in (families or found)
    ]


def learn(
    recipe: RecognitionRecipe, layout: Layout, threads: int, note: Callable[[str], None]
) -> Learnt:
    """Train the recipe on the data as it is and score it; what is finished is found by its content
    and left alone. A training that the pipeline has finished on this store counts too.

    Args:
        recipe: what is trained.
        layout: of the store that has the data and gets the training.
        threads: of torch and of the decoder of frames.
        note: is told of every epoch, a line each.

    Raises:
        ConfigError: the recipe does not fit the data.
        DataError: the data cannot be trained on.
        TrainingError: the loss is no longer finite.
    """
    from ops.evaluation.run import evaluate

    task, plan, *_ = prepare(recipe, layout)
    result = finished(plan.run_dir) or finished(_own_folder(recipe, layout, plan))
    if result is None:
        result = _train(task, layout, plan, threads, note)
    metrics = evaluate(task, result.weights_uri).metrics
    return Learnt(
        recipe=recipe.name,
        top1=metrics["top1"],
        top5=metrics["top5"],
        pair_order=metrics.get("pair_order"),
        chance=metrics["chance"],
        epochs=result.epochs,
        seconds=result.seconds,
    )


def _own_folder(recipe: Recipe, layout: Layout, plan: RunPlan) -> str:
    """Apart from the pipeline's runs, each of which is an MLflow run."""
    return Layout(f"{layout.root}/zoo").run(recipe.name, plan.run_key)


def _train(
    task: Task, layout: Layout, plan: RunPlan, threads: int, note: Callable[[str], None]
) -> TrainResult:
    import torch
    from safetensors.torch import save

    from ops.store.threads import set_decode_threads
    from ops.training.loop import fit
    from ops.training.progress import epoch_line

    torch.set_num_threads(threads)
    set_decode_threads(threads)
    recipe = task.recipe
    state = fit(
        task, recipe.scale, on_epoch=lambda report, save_to: note(epoch_line(recipe.name, report))
    )
    folder = _own_folder(recipe, layout, plan)
    write_bytes(
        f"{folder}/{WEIGHTS}",
        save({name: tensor.detach().contiguous() for name, tensor in state.weights.items()}),
    )
    last = {
        name: value for name, value in state.history[-1].items() if name not in ("epoch", "seconds")
    }
    seconds = sum(row["seconds"] for row in state.history)
    result = TrainResult(
        run_dir=folder,
        run_key=plan.run_key,
        weights_uri=f"{folder}/{WEIGHTS}",
        run_id=None,
        data_version=plan.data_version,
        metrics=last,
        epochs=state.epoch,
        seconds=seconds,
        history=state.history,
    )
    finish(result, recipe, task.vocabulary(), task.provenance())
    return result
