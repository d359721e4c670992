"""Spatio-temporal detection: boxes with actions on key frames, and tubes."""
