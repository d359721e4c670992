"""From stored frames and features to batches: samplers, crops, augmentation, loader processes."""
