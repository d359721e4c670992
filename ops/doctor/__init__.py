"""Does this machine compute, decode, store and train rightly? A list of small checks, each in a
process that may hang or die.
"""
