"""Part-level parsing: persons, body parts and their states on frames, scored with the action."""
