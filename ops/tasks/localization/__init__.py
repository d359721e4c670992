"""Temporal localization: segments with labels in an untrimmed video's features."""
