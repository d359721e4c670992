"""Layers and operators that more than one family is made of."""
