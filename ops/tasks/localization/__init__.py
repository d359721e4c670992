"""Localization: when something is done in a long video."""

from ops.training.task import TaskInfo

INFO = TaskInfo(
    sample_unit="videos",
    headlines=("mean_ap",),
    table="segments",
    pictures="precision and recall, time lines and false positives by kind",
    reads="features",
    question=("tiou", "recall"),
)
