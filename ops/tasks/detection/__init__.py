"""Detection: who does what, at one moment."""

from ops.training.task import TaskInfo

INFO = TaskInfo(
    sample_unit="key frames",
    headlines=("frame_map", "person_ap"),
    table="boxes",
    pictures="precision per class and boxes on key frames",
    question=("key_frames", "groups", "scored", "tubes", "detecting.cap"),
)
