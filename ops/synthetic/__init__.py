"""The sample world: people who act in front of moving backgrounds, with exact ground truth."""
