"""Parsing: what every part of a person's body does."""

from ops.training.task import TaskInfo

INFO = TaskInfo(
    sample_unit="frames",
    headlines=("acc_p", "psc"),
    table="parts",
    pictures="the curve of Acc^p, and persons with parts and states on frames",
    question=("frames", "parts", "states", "action_model", "action_file"),
    names_model="action_model",
)
