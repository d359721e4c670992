"""What an evaluation of a detection model asks, and what is made of the answers: frame-mAP,
persons, tubes, pictures and a film.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from configs.schema import content_hash
from configs.versions import EVALUATION
from ops.annotations.formats.ava_csv import write
from ops.data.tables import StoredVideo
from ops.evaluation.cache import Results
from ops.evaluation.run import Words, words_of
from ops.store.reader import FrameReader
from ops.tasks.detection import plots as pictures
from ops.tasks.detection.key_frame_clips import KeyFrameClips
from ops.tasks.detection.plots import Person, Shown
from ops.tasks.detection.task import Detection
from ops.tasks.detection.tube_rows import video_maps
from ops.tasks.detection.tubes import Linking
from ops.training.task import Row, Vocabulary

FILM_SECONDS, FILM_FPS = 20, 16
SHOWN_PERSON, SHOWN_ACTION = 0.5, 0.3  # below, pictures would be full of boxes

# One row per found person of a key frame; boxes are shares of the frame, `scores` are in the order
# of the classes.
PREDICTIONS = pa.schema(
    [
        ("video_id", pa.string()),
        ("timestamp_s", pa.float64()),
        ("frame", pa.int32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("x2", pa.float32()),
        ("y2", pa.float32()),
        ("person_score", pa.float32()),
        ("predicted", pa.string()),  # the likeliest action
        ("scores", pa.list_(pa.float32())),
    ]
)


class Report:
    """Every usable key frame of a split, with contents, persons and labels."""

    batch_size = None

    def __init__(
        self,
        task: Detection,
        split: str,
        spoken: Vocabulary | None = None,
        common: Sequence[str] | None = None,
    ) -> None:
        self.task, self.words = task, words_of(task.actions.names, spoken, common)
        if spoken is None:
            task.check_recipe()
        self.words.places()
        self.samples = task.samples(split, "test")
        asked = [
            self.samples.key_frames.digest(),
            task.vocabulary(),
            task.scored_classes(),
            EVALUATION,
        ]
        self.eval_set = content_hash(asked if common is None else [*asked, self.words.asked])
        self.depends_on = self.words.depends_on

    def results(self, rows: list[Row]) -> Results:
        """Metrics, predictions, pictures, a film, and AVA's csv for a dataset of key frames."""
        task, samples = self.task, self.samples
        if not self.words.alike:
            rows = [translated(row, self.words) for row in rows]
        numbers, per_class = numbers_of(rows, task)
        files = (
            {} if samples.key_frames.tubes else {"detections.csv": ava_csv(rows, task.actions.ids)}
        )
        return Results(
            num_samples=len(rows),
            metrics=numbers,
            per_class=per_class,
            predictions=predictions(rows, task.actions.names),
            pictures=drawn(rows, samples, task, per_class, numbers),
            files={**files, "overlay.mp4": overlay(rows, samples, task.actions.names)},
        )


def translated(row: Row, words: Words) -> Row:
    """A prediction row in today's actions from one in the model's own; actions that are not asked
    are neither found nor true.
    """
    scores = np.zeros((len(row["boxes"]), len(words.today)), np.float32)
    kept = [words.today.index(label) for label in words.asked]
    scores[:, kept] = np.asarray(row["scores"], np.float32)[:, words.places()]
    true = np.zeros_like(np.asarray(row["true_labels"], bool))
    true[:, kept] = np.asarray(row["true_labels"], bool)[:, kept]
    return {**row, "scores": scores, "true_labels": true}


def numbers_of(
    rows: Sequence[Mapping[str, Any]], task: Detection
) -> tuple[dict[str, float], dict[str, float]]:
    """(metrics, average precision by label): frame-mAP, persons and groups, and video-mAP for
    datasets of tubes.
    """
    metric, tubes = task.metric("test"), task.recipe.tubes
    metric.update(rows)
    numbers = metric.compute()
    if tubes is not None:
        rules = Linking(tubes.overlap, tubes.per_frame, tubes.patience, tubes.min_length)
        numbers |= video_maps(rows, len(task.actions.names), rules, tubes.nms)[0]
    return numbers, metric.per_class()


def predictions(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> pa.Table:
    """Found persons as a table (schema PREDICTIONS)."""
    found = []
    for row in rows:
        for box, person, scores in zip(
            row["boxes"], row["person_scores"], row["scores"], strict=True
        ):
            sides = dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
            place = {
                "video_id": row["video_id"],
                "timestamp_s": row["timestamp_s"],
                "frame": row["frame"],
            }
            best = {
                "person_score": float(person),
                "predicted": labels[int(np.argmax(scores))],
                "scores": list(map(float, scores)),
            }
            found.append({**place, **sides, **best})
    return pa.Table.from_pylist(found, schema=PREDICTIONS)


def ava_csv(rows: Sequence[Mapping[str, Any]], ids: Sequence[int]) -> bytes:
    """Detections as AVA's evaluators read them; a box without area is no row there."""
    names = ("video_id", "timestamp_s", "x1", "y1", "x2", "y2", "label_id", "score")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for box, scores in zip(row["boxes"], row["scores"], strict=True):
            if not (box[2] > box[0] and box[3] > box[1]):
                continue
            for number, score in zip(ids, scores, strict=True):
                values = (
                    row["video_id"],
                    row["timestamp_s"],
                    *map(float, box),
                    number,
                    round(float(score), 6),
                )
                for name, value in zip(names, values, strict=True):
                    columns[name].append(value)
    return write(pa.table(columns))


# --------------------------------------------------------------------------------------------------
# pictures


def drawn(
    rows: Sequence[Mapping[str, Any]],
    samples: KeyFrameClips,
    task: Detection,
    per_class: Mapping[str, float],
    numbers: Mapping[str, float],
) -> dict[str, bytes]:
    """PNG files by name."""
    labels = task.actions.names
    totals = np.sum(
        [
            np.asarray(row["true_labels"], np.int64).reshape(-1, len(labels)).sum(axis=0)
            for row in rows
        ],
        axis=0,
    )
    groups = {name: [labels[place] for place in members] for name, members in task.groups().items()}
    counts = dict(zip(labels, totals.tolist(), strict=True))
    about = (
        f"{len(rows)} key frames, frame-mAP@0.5 {numbers['frame_map']:.1%}, person AP"
        f" {numbers['person_ap']:.1%}; dashed is true"
    )
    chosen = np.unique(np.linspace(0, len(rows) - 1, pictures.PANELS).round().astype(int)).tolist()
    panels = [_shown(rows[place], _key_picture(samples, place), labels) for place in chosen]
    return {
        "average_precision_per_class.png": pictures.average_precisions(
            per_class, counts, groups, numbers["frame_map"]
        ),
        "key_frames.png": pictures.contact_sheet(panels, about),
    }


def _key_picture(samples: KeyFrameClips, place: int) -> np.ndarray:
    return samples.frames(samples.key_frames[place])[samples.sampling.clip_len // 2]


def _shown(row: Mapping[str, Any], picture: np.ndarray, labels: Sequence[str]) -> Shown:
    place = f"frame {row['frame']}" if row["timestamp_s"] is None else f"{row['timestamp_s']:g} s"
    true = [
        Person(box, [(labels[label], None) for label in np.nonzero(acts)[0].tolist()])
        for box, acts in zip(row["true_boxes"], np.asarray(row["true_labels"], bool), strict=True)
    ]
    found = [
        Person(box, _acts(scores, labels), float(person))
        for box, person, scores in zip(
            row["boxes"], row["person_scores"], row["scores"], strict=True
        )
        if person >= SHOWN_PERSON
    ]
    return Shown(row["video_id"].rpartition("/")[2], picture, true, found, place)


def _acts(scores: np.ndarray, labels: Sequence[str]) -> list[tuple[str, float | None]]:
    best = np.argsort(-np.asarray(scores), kind="stable")
    return [
        (labels[label], float(scores[label]))
        for label in best.tolist()
        if scores[label] >= SHOWN_ACTION
    ]


def overlay(
    rows: Sequence[Mapping[str, Any]], samples: KeyFrameClips, labels: Sequence[str]
) -> bytes:
    """An mp4 of the video with most true persons: every frame has the boxes of the key frame that
    is nearest in time.
    """
    by_video: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_video.setdefault(row["video_id"], []).append(row)
    name = max(
        sorted(by_video), key=lambda video: sum(len(row["true_boxes"]) for row in by_video[video])
    )
    own, video = (
        by_video[name],
        next(video for video in samples.key_frames.videos if video.video_id == name),
    )
    reader = FrameReader(video.array_uri)
    times = _times(reader, video)
    at = np.array(
        [times[row["frame"]] if row["timestamp_s"] is None else row["timestamp_s"] for row in own]
    )
    fps = max(1, min(FILM_FPS, round(video.fps or FILM_FPS)))
    clock = np.arange(times[0], min(times[-1], times[0] + FILM_SECONDS), 1 / fps)
    frames = np.clip(np.searchsorted(times, clock + 1e-6, side="right") - 1, 0, len(times) - 1)
    nearest = np.abs(clock[:, None] - at[None]).argmin(axis=1)
    pieces = (
        _shown(own[key], reader.read([frame])[0], labels)
        for frame, key in zip(frames.tolist(), nearest.tolist(), strict=True)
    )
    return pictures.film(pieces, fps)


def _times(reader: FrameReader, video: StoredVideo) -> np.ndarray:
    stored = reader.attributes.get("timestamps_s")
    return (
        np.asarray(stored, np.float64)
        if stored
        else np.arange(video.num_frames) / (video.fps or FILM_FPS)
    )
