"""Features of your videos by your own champion: `python extract_features.py WORK FEATURES`, after
`train_own_clips.py DATA WORK`.

Every video becomes one array [T, C]: step i is what the model makes of the 16 frames from 4 * i on,
before its last layer. A second run makes only what is new; a new champion makes all of them anew.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

FEATURES = {
    "own_tsn": {
        "about": "My champion as a sliding window.",
        "dataset": "own",
        "stride": 4,
        "num_frames": 16,
        "extract": [{"model": "models:/own-recognition@champion", "sampled_frames": 8}],
    }
}


def main(work: Path, folder: Path) -> int:
    """Write the features' YAML, extract, export, and say what came of it. Returns the exit
    status.
    """
    path = work / "configs" / "features" / "own.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(FEATURES, sort_keys=False), encoding="utf-8")
    environment = {
        **os.environ,
        "KINOGRAPH_HOME": str(work),
        "KINOGRAPH_STORAGE": str(work),
        "KINOGRAPH_CONFIGS": str(work / "configs"),
    }
    kinograph = Path(sys.executable).with_name("kinograph")
    done = subprocess.run(
        [kinograph, "features", "own_tsn", "--export", str(folder)], env=environment, check=False
    )
    for file in sorted(folder.rglob("*.npy")):
        features = np.load(file)
        print(
            f"{file.relative_to(folder)}: {features.shape[0]} steps of {features.shape[1]}"
            f" channels, {features.dtype}"
        )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).resolve() for argument in sys.argv[1:3])))
