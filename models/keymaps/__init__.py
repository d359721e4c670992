"""Key names of the authors' checkpoints, one map for each family."""
