"""UCF101-24 as corrected by Singh et al. (2017): `pyannot_with_class_names.pkl` or `pyannot.pkl`.

Form: `{video: {"annotations": [{"label": class index, "sf": first, "ef": end, "boxes": rows of x,
y, w, h}], "label": .., "numf": n}}`, and with class names `{"db": the same, "trainvideos": [video],
"classes": [name]}`. A video is `Class/v_Class_g01_c01`.

Frames: every tube of the official file has exactly ef - sf boxes, the least sf is 0 and no ef is
beyond the number of frames; so sf counts from 0, ef is not included, and box i stands on frame sf +
i. Boxes: x and y are at least 1 there and x + w, y + h reach but never pass 320 and 240, the size
of every UCF101 video, which the file does not repeat. The table has x / 320, y / 240, (x + w) /
320, (y + h) / 240, as the published loaders take them: all of the official file lies within the
image. `person_id` is the number of the tube in its video.

With class names the split is the file's own: `trainvideos`, and all others "val" (the field reports
on them; they are the official testlist01). Without, the class is the video's folder and the split
comes from the config or from other files of the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from configs.schema import TableName
from ops.annotations.formats.tubes_pickle import Video, add_tube
from ops.annotations.plain_pickle import load
from ops.annotations.rows import Context, Entry, Fault, Problem, Read, Rows, shorten
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names
from ops.store.tables import BOXES

TABLE: TableName = "boxes"
FOLDER = False
EXPECTED = (
    "a pickle of {video: {annotations: [{label, sf, ef, boxes: rows of x,y,w,h}], numf}}, with or"
    " without class names"
)
WIDTH, HEIGHT = 320, 240


def sniff(name: str, data: bytes) -> bool:
    """Whether it is a pickle that speaks of `numf` and `sf`."""
    return data[:1] in (b"\x80", b"(") and b"numf" in data and b"sf" in data


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """The class names of the pickle, or the folders of its videos by their class index. Raises
    AnnotationError.
    """
    return from_names(_classes(*_content(data, file), file))


def _content(data: bytes, file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what goes with the videos, the videos)."""
    content = load(data, file)
    if isinstance(content, dict) and isinstance(content.get("db"), dict):
        content, videos = {key: content[key] for key in content if key != "db"}, content["db"]
    else:
        content, videos = {}, content
    if not isinstance(videos, dict) or not any(
        isinstance(video, dict) and "annotations" in video for video in videos.values()
    ):
        raise AnnotationError(file, "(whole file)", f"a {type(videos).__name__}", EXPECTED)
    return content, videos


def _classes(content: Mapping[str, Any], videos: Mapping[str, Any], file: str) -> list[str]:
    if "classes" in content:
        names = content["classes"]
        if (
            not isinstance(names, (list, tuple))
            or not names
            or not all(isinstance(name, str) and name for name in names)
        ):
            raise AnnotationError(
                file, "classes", shorten(repr(names)[:200]), "a list of class names"
            )
        return list(names)
    found = dict[int, str]()
    for name, video in videos.items():
        index = video.get("label") if isinstance(video, dict) else None
        folder = name.partition("/")[0] if isinstance(name, str) else ""
        if (
            isinstance(index, int)
            and "/" in str(name)
            and found.setdefault(index, folder) != folder
        ):
            raise AnnotationError(
                file,
                "label",
                f"{index} for {found[index]} and {folder}",
                "one class index for each folder of videos",
            )
    if (
        sorted(found) != list(range(len(found)))
        or not found
        or len(set(found.values())) != len(found)
    ):
        raise AnnotationError(
            file,
            "label",
            shorten(f"class indices {sorted(found)}"),
            "indices from 0, one for each folder of videos",
        )
    return [found[index] for index in range(len(found))]


def read(data: bytes, context: Context) -> Read:
    """Boxes of all tubes. Raises AnnotationError for a pickle of another form, or with more than
    plain data.
    """
    content, videos = _content(data, context.file)
    context.check_template({"video": "Class/text"})
    classes, train = _classes(content, videos, context.file), content.get("trainvideos")
    if train is not None and not (
        isinstance(train, (list, tuple)) and all(isinstance(name, str) for name in train)
    ):
        raise AnnotationError(context.file, "trainvideos", type(train).__name__, "a list of videos")
    trained = None if train is None else frozenset(train)
    rows, problems, entries = Rows(BOXES, context.dataset), list[Problem](), list[Entry]()
    for name, video in videos.items():
        fault, facts = _video(name, video, trained, context)
        if facts is None:
            problems.append(fault.at(context.file, 0))
            continue
        entries.append(Entry(facts.video_id, facts.split))
        for number, annotation in enumerate(video["annotations"]):
            problems += _tube(rows, facts, number, annotation, classes, context)
    return rows.finish(context, problems, EXPECTED, entries=entries)


def _video(
    name: Any, video: Any, trained: frozenset[str] | None, context: Context
) -> tuple[Fault, Video | None]:
    """The video's facts; None, and what is wrong, when it cannot be used."""
    if (
        not isinstance(name, str)
        or not isinstance(video, dict)
        or not isinstance(video.get("annotations"), (list, tuple))
    ):
        return (
            Fault(
                "annotations",
                f"{name}: a {type(video).__name__}",
                "structure",
                "not a mapping with a list of annotations",
            ),
            None,
        )
    frames = video.get("numf")
    if not isinstance(frames, int) or isinstance(frames, bool) or not 0 < frames < 2**31:
        return (
            Fault(
                "numf", f"{name}: {shorten(repr(frames)[:100])}", "value", "not a number of frames"
            ),
            None,
        )
    video_id = context.video.format(video=name)
    split = context.split or context.splits.get(video_id)
    if trained is not None:
        split = context.split or ("train" if name in trained else "val")
    fault = Fault(
        "video",
        name,
        "unknown_split",
        "no split: neither the pickle nor the config nor another file names one",
    )
    return fault, None if split is None else Video(video_id, split, WIDTH, HEIGHT, frames, name)


def _tube(
    rows: Rows, video: Video, number: int, annotation: Any, classes: list[str], context: Context
) -> list[Problem]:
    """Adds the boxes of one tube; gives the problems of the others."""
    place = f".annotations[{number}]"
    fault, tube = _rows(annotation)
    if tube is None:
        return [fault.at(context.file, 0, f"{video.place}{place}")]
    index = annotation.get("label")
    known = isinstance(index, int) and 0 <= index < len(classes)
    if not known or context.label_id(classes[index]) is None:
        found = classes[index] if known else shorten(repr(index)[:100])
        return [
            Fault("label", found, "unknown_label", "unknown label").at(
                context.file, 0, f"{video.place}{place}"
            )
        ]
    return add_tube(rows, video, place, classes[index], number, tube, context)


def _rows(annotation: Any) -> tuple[Fault, np.ndarray | None]:
    """Rows of frame (from 1), x1, y1, x2, y2 of an annotation; None, and what is wrong, when it has
    none.
    """
    if not isinstance(annotation, dict):
        return (
            Fault(
                "annotations",
                f"a {type(annotation).__name__}",
                "structure",
                "not a mapping with label, sf, ef and boxes",
            ),
            None,
        )
    first: Any = annotation.get("sf")
    end: Any = annotation.get("ef")
    for name, value in (("sf", first), ("ef", end)):
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**31:
            return Fault(name, shorten(repr(value)[:100]), "value", "not a frame number"), None
    if first < 0:
        return Fault("sf", first, "negative_time", "frames count from 0"), None
    if end <= first:
        return Fault("ef", f"{first} to {end}", "end_before_start", "end is not after start"), None
    try:
        boxes = np.asarray(annotation.get("boxes"), dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        boxes = np.empty(0)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or len(boxes) != end - first:
        found = f"shape {boxes.shape} for frames {first} to {end}"
        return Fault("boxes", found, "structure", "not one row of x, y, w, h for each frame"), None
    with np.errstate(invalid="ignore", over="ignore"):
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    return Fault("", "", "value", ""), np.column_stack([np.arange(first, end) + 1, corners])
