"""Code versions of the stages whose results are kept. Raise one when a change of code changes the stage's output."""

INGEST = "3"
ANNOTATIONS = "2"
FRAMES = "3"
SCALING = "2"  # of frames that are not stored at their own size
TRAINING = "4"
EVALUATION = "3"
FIGURES = "1"
FEATURES = "1"
