"""What your champion sees in videos, from Python: `python predict.py WORK VIDEO...`, after
`train_own_clips.py DATA WORK`.

The same from a shell: `kinograph predict VIDEO... --model models:/own-recognition@champion`.
"""

import os
import sys
from pathlib import Path

# also models:/own-recognition/1, or the folder of a training
MODEL = "models:/own-recognition@champion"


def main(work: Path, videos: list[str]) -> None:
    """Print the three best labels of each video with their probabilities."""
    os.environ.update({"KINOGRAPH_HOME": str(work), "KINOGRAPH_STORAGE": str(work)})
    import configs
    from ops.serving.predict import load, on_video

    model = load(MODEL, configs.settings())  # once; then video after video
    for video in videos:
        best = on_video(model, video)[:3]
        print(video, *(f"{label} {probability:.3f}" for label, probability in best), sep="\t")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
