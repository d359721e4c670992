"""Readers of official annotation files, one file a form."""
