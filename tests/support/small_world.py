"""A dataset of twelve short videos with labels, made in a second; it takes the name of a dataset
that the graph knows already.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import yaml

NAME = "kinetics400"
LABELS = ("left", "right")
SPLITS = {"train": 8, "val": 4}


def write_video(
    path: Path, seed: int, num_frames: int = 6, size: tuple[int, int] = (48, 64)
) -> Path:
    """Stripes that move; every seed gives another content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t, y, x = np.meshgrid(
        np.arange(num_frames), np.arange(size[0]), np.arange(size[1]), indexing="ij"
    )
    plane = (128 + 100 * np.sin((x + 3 * t + y * (seed % 5)) / (4 + seed % 11) + seed)).astype(
        np.uint8
    )
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for image in np.stack([plane] * 3, -1):
            output.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                )
            )
        output.mux(stream.encode())
    return path


class SmallWorld:
    """Videos `<root>/videos/<split><n>.mp4`, their labels in clips.csv, one damaged file, and the
    YAML that names them.
    """

    def __init__(self, root: Path, configs: Path) -> None:
        self.root, self.configs = root, configs
        self.rows: list[str] = []
        for split, number in SPLITS.items():
            for index in range(number):
                write_video(self.video(f"{split}{index}"), seed=index + 100 * (split == "val"))
                self.rows.append(f"{LABELS[index % 2]},{split}{index},0,0.5,{split}")
        self.video("broken").write_bytes(b"no video at all")
        self.rows.append("left,broken,0,0.5,train")
        self.write_rows()
        (root / "labels.txt").write_text("\n".join(LABELS))
        self.write_yaml()

    def video(self, name: str) -> Path:
        """Where a video lies."""
        return self.root / "videos" / f"{name}.mp4"

    def write_rows(self, *more: str) -> None:
        """Write clips.csv: the own rows, and more."""
        (self.root / "clips.csv").write_text(
            "\n".join(["label,youtube_id,time_start,time_end,split", *self.rows, *more]) + "\n"
        )

    def write_yaml(self, **changes: object) -> None:
        """The dataset's YAML, with changes."""
        clips = {
            "table": "clips",
            "format": "kinetics_csv",
            "path": "clips.csv",
            "video": "{youtube_id}",
            "labels": "labels.txt",
        }
        values = {
            "title": "Stripes",
            "licence": "none",
            "root": str(self.root),
            "annotations": [clips],
            **changes,
        }
        path = self.configs / "datasets" / f"{NAME}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(values))
