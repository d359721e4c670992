"""Recognizers, one file a family."""
