"""Code versions of the stages whose results are kept. Raise one when a change of code changes the stage's output."""

INGEST = "1"
ANNOTATIONS = "1"
FRAMES = "1"
TRAINING = "1"
EVALUATION = "1"
FIGURES = "1"
