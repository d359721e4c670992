"""The loop in plain torch, the protocol of a task, checkpoints, and Ray Train around it."""
