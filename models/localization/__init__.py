"""Localizers, one file a family."""
