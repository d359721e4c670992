"""Code versions of the stages whose results are kept. Raise one when a change of code changes the
stage's output.
"""

INGEST = "4"
ANNOTATIONS = "3"
FRAMES = "4"
TRAINING = "4"
EVALUATION = "3"
FIGURES = "1"
FEATURES = "1"
