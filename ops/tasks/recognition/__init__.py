"""Recognition: what is done in a clip."""

from ops.training.task import TaskInfo

INFO = TaskInfo(
    sample_unit="clips",
    headlines=("top1", "top5", "mean_class_accuracy", "pair_order"),
    table="clips",
    pictures="confusion matrix and worst clips",
    fewest_labels=2,  # of one alone every answer is right
    floor_check="above_chance",
    catalogued=True,
)
