"""Action recognition: one or many labels of a trimmed clip."""
