"""Official annotation files to typed tables: every good row, and every refused one with its
reason.
"""
