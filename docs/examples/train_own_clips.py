"""Train on your own clips: `python train_own_clips.py DATA WORK`, where DATA/videos holds one
folder of clips for each label.

Writes the annotations, DATA/clips.csv, and two YAML files below WORK/configs (dataset, recipe), and
runs `kinograph run` on them. Run it again after you have added clips: only what is new is decoded,
and the model is trained anew on all.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import yaml

VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi")
LIST = "clips.csv"
# every fourth clip of a label is validated on; clips of one recording belong in one split, so sort
# yours better
HELD_OUT = 4


def rows(data: Path) -> list[tuple[str, str, str]]:
    """(video, label, split) of every clip; a video's name is its path below `videos`, without
    ending.
    """
    found, clips = [], data / "videos"
    for folder in sorted(path for path in clips.iterdir() if path.is_dir()):
        videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEOS)
        for number, video in enumerate(videos):
            split = "val" if number % HELD_OUT == HELD_OUT - 1 else "train"
            found.append((video.relative_to(clips).with_suffix("").as_posix(), folder.name, split))
    return found


def dataset(data: Path) -> dict:
    """The dataset's YAML. Places are relative to the root; `video` says how a row's columns name
    the file.
    """
    entry = {"table": "clips", "format": "kinetics_csv", "path": LIST, "video": "{youtube_id}"}
    return {
        "title": "My own clips",
        "licence": "mine",
        "root": str(data),
        "annotations": [entry],
        "frames": {"short_side": 128},
    }


def recipe(num_classes: int) -> dict:
    """A tiny TSN: 8 frames of each clip, a ResNet-10 from nothing. Every field stands in
    `configs/schema/recipes.py`.
    """
    return {
        "about": "A first model of my own clips.",
        "dataset": "own",
        "num_classes": num_classes,
        "model": {"depth": 10, "width": 16, "stem": "stride", "dropout": 0.2},
        "sampling": {"kind": "segments", "num_segments": 8},
        "transforms": {"short_side": 72, "crop": 64, "train_crop": "random", "flip": 0.5},
        "views": {"average": "feature"},
        "optimizer": {
            "name": "sgd",
            "lr": 0.05,
            "weight_decay": 1.0e-4,
            "nesterov": True,
            "clip_grad_norm": 20,
        },
        "schedule": {"kind": "cosine", "warmup_epochs": 2},
        "training": {"epochs": 8, "batch_size": 8, "evaluate_every": 4},
        "gate": {"metric": "top1", "floor": 0.0, "registered_model": "own-recognition"},
    }


def write(path: Path, values: dict) -> None:
    """A YAML file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def main(data: Path, work: Path) -> int:
    """Write the files and run the line. Returns the command's exit status."""
    found = rows(data)
    with (data / LIST).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
        writer.writerows((label, video, 0, 10, split) for video, label, split in found)
    write(work / "configs" / "datasets" / "own.yaml", dataset(data))
    write(
        work / "configs" / "recognition" / "tsn.yaml",
        {"tsn_own": recipe(len({label for _, label, _ in found}))},
    )
    environment = {
        **os.environ,
        "KINOGRAPH_HOME": str(work),
        "KINOGRAPH_STORAGE": str(work),
        "KINOGRAPH_CONFIGS": str(work / "configs"),
    }
    kinograph = Path(sys.executable).with_name("kinograph")
    return subprocess.run(
        [kinograph, "run", "--dataset", "own", "--recipe", "tsn_own"], env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).resolve() for argument in sys.argv[1:3])))
