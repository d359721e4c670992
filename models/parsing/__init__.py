"""Parsers, one file a family."""
