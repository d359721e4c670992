"""What the end of a recipe's line will read, checked before its first step: settings, words of the
data, other models, places, room.
"""
