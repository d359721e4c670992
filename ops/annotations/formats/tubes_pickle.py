"""Ground truth tubes of UCF101-24, JHMDB and MultiSports: the pickle that the evaluators of ACT,
MOC and MultiSports read.

Form: `{"labels": [name], "train_videos": [[video]], "test_videos": [[video]], "nframes": {video:
n}, "resolution": {video: (height, width)}, "gttubes": {video: {label index: [tube]}}}`. The lists
of videos are one for each split of the dataset (JHMDB has three; the config's `fold` chooses, the
first without it). A tube is an array of rows `frame, x1, y1, x2, y2`: frames count from 1, boxes
are pixels.

In the table frames count from 0, boxes are shares of the frame's width and height (pixel / size,
without any half or whole pixel added, so that share x size is the evaluators' number again), and
`person_id` is the number of the tube within its video, by label index. Sides lie up to one pixel
outside where a pixel is counted from 1 or a width is added to it; such a side is put on the edge,
and none is dropped for it. Further outside is a problem. The field reports on the test lists: their
videos are the split "val". A video without tubes is an entry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from configs.schema import TableName
from ops.annotations.plain_pickle import load
from ops.annotations.rows import Context, Entry, Fault, Problem, Read, Rows, shorten
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names
from ops.store.tables import BOXES

TABLE: TableName = "boxes"
FOLDER = False
OPTIONS = ("fold",)
EXPECTED = (
    "a pickle of {labels, train_videos, test_videos, nframes, resolution, gttubes: {video: {label"
    " index: [rows of frame,x1,y1,x2,y2]}}}"
)
KEYS = ("labels", "gttubes", "nframes", "resolution")
OUTSIDE = 1.0  # pixels: what the conventions (from 0 or 1, end within or behind) differ by


def sniff(name: str, data: bytes) -> bool:
    """Whether it is a pickle that speaks of tubes."""
    return data[:1] in (b"\x80", b"(") and any(
        key.encode() in data for key in ("gttubes", "nframes", "test_videos", "train_videos")
    )


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """The labels of the pickle itself; ids are the positions, as in its tubes. Raises
    AnnotationError.
    """
    return from_names(_labels(_content(data, file), file))


def _content(data: bytes, file: str) -> dict[str, Any]:
    content = load(data, file)
    missing = (
        [key for key in KEYS if key not in content] if isinstance(content, dict) else list(KEYS)
    )
    if missing:
        raise AnnotationError(file, "(whole file)", f"no {', '.join(missing)}", EXPECTED)
    for key in KEYS[1:]:
        if not isinstance(content[key], dict):
            raise AnnotationError(file, key, type(content[key]).__name__, "a mapping from video")
    return content


def _labels(content: Mapping[str, Any], file: str) -> list[str]:
    labels = content["labels"]
    labels = labels.tolist() if isinstance(labels, np.ndarray) else labels
    if (
        not isinstance(labels, (list, tuple))
        or not labels
        or not all(isinstance(label, str) and label for label in labels)
    ):
        raise AnnotationError(file, "labels", shorten(labels), "a list of label names")
    if len(set(labels)) != len(labels):
        raise AnnotationError(
            file,
            "labels",
            next(label for label in labels if list(labels).count(label) > 1),
            "each label once",
        )
    return list(labels)


def read(data: bytes, context: Context) -> Read:
    """Boxes of all tubes of one split of the dataset. Raises AnnotationError for a pickle of
    another form, or with more than plain data.
    """
    content = _content(data, context.file)
    context.check_template({"video": "Class/text"})
    labels, (splits, problems) = _labels(content, context.file), _splits(content, context)
    rows, entries = Rows(BOXES, context.dataset), list[Entry]()
    tubes = content["gttubes"]
    for name in dict.fromkeys([*splits, *tubes]):
        split = splits.get(name)
        if split is None:
            if name not in {problem.found for problem in problems}:
                problems.append(
                    _problem(
                        context,
                        "gttubes",
                        name,
                        "unknown_split",
                        "in no list of this split of the dataset",
                    )
                )
            continue
        video = _video(name, split, content, context)
        if isinstance(video, Problem):
            problems.append(video)
            continue
        entries.append(Entry(video.video_id, split))
        for place, label, number, tube in _tubes(
            tubes.get(name, {}), labels, context, name, problems
        ):
            problems += add_tube(rows, video, place, label, number, tube, context)
    return rows.finish(context, problems, EXPECTED, entries=entries)


def _problem(context: Context, field: str, found: object, kind: Any, reason: str) -> Problem:
    return Fault(field, found, kind, reason).at(context.file, 0)


def _splits(content: Mapping[str, Any], context: Context) -> tuple[dict[str, str], list[Problem]]:
    """The split of every listed video, and the problems of those in two lists."""
    fold, found, twice = context.fold or 1, dict[str, str](), dict[str, None]()
    for key, split in (("train_videos", "train"), ("test_videos", "val")):
        lists = content.get(key, [])
        if key not in content:
            continue
        if not isinstance(lists, (list, tuple)) or not all(
            isinstance(names, (list, tuple)) for names in lists
        ):
            raise AnnotationError(
                context.file,
                key,
                shorten(repr(type(lists))),
                "a list of videos for each split of the dataset",
            )
        if fold > len(lists):
            raise AnnotationError(
                context.file, "fold", fold, f"at most {len(lists)}, the number of lists in {key}"
            )
        for name in lists[fold - 1]:
            if not isinstance(name, str) or not name:
                raise AnnotationError(
                    context.file, key, shorten(repr(name)[:200]), "names of videos"
                )
            if found.setdefault(name, context.split or split) != (context.split or split):
                twice[name] = None
    if not found:
        raise AnnotationError(context.file, "train_videos, test_videos", "no video", EXPECTED)
    problems = [
        _problem(
            context, "train_videos", name, "contradiction", "in the train and in the test list"
        )
        for name in twice
    ]
    return {name: split for name, split in found.items() if name not in twice}, problems


@dataclass(frozen=True)
class Video:
    """What a tube's checks need: the video's split, its size in pixels, the number of its frames,
    and the way to its part of the file.
    """

    video_id: str
    split: str
    width: int
    height: int
    num_frames: int
    place: str


def _video(name: str, split: str, content: Mapping[str, Any], context: Context) -> Video | Problem:
    frames, size = content["nframes"].get(name), content["resolution"].get(name)
    size = size.tolist() if isinstance(size, np.ndarray) else size
    if not _whole(frames):
        return _problem(
            context,
            "nframes",
            f"{name}: {shorten(repr(frames)[:100])}",
            "structure",
            "not a number of frames",
        )
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(map(_whole, size)):
        return _problem(
            context,
            "resolution",
            f"{name}: {shorten(repr(size)[:100])}",
            "structure",
            "not (height, width)",
        )
    return Video(
        context.video.format(video=name), split, int(size[1]), int(size[0]), int(frames), name
    )


def _whole(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 < value < 2**31
        and float(value).is_integer()
    )


def _tubes(
    tubes: Any, labels: list[str], context: Context, name: str, problems: list[Problem]
) -> Iterator[tuple[str, str, int, Any]]:
    """(place below the video, label, number within the video, tube) of each tube that has a known
    label.
    """
    if not isinstance(tubes, dict):
        problems.append(
            _problem(
                context,
                "gttubes",
                f"{name}: a {type(tubes).__name__}",
                "structure",
                "not a mapping from label index",
            )
        )
        return
    number = 0
    for index in sorted(
        tubes, key=lambda key: (0, key, "") if isinstance(key, int) else (1, 0, repr(key))
    ):
        known, found = isinstance(index, int) and 0 <= index < len(labels), tubes[index]
        if not known or context.label_id(labels[index]) is None:
            found = f"{name}: {labels[index] if known else shorten(repr(index))}"
            problems.append(_problem(context, "label", found, "unknown_label", "unknown label"))
        elif not isinstance(found, (list, tuple)):
            problems.append(
                _problem(
                    context,
                    "gttubes",
                    f"{name}[{index}]: a {type(found).__name__}",
                    "structure",
                    "not a list of tubes",
                )
            )
        else:
            for tube in found:
                yield f"[{index}][{number}]", labels[index], number, tube
                number += 1


def add_tube(
    rows: Rows, video: Video, place: str, label: str, number: int, tube: Any, context: Context
) -> list[Problem]:
    """Adds the good boxes of one tube (rows of frame counted from 1, x1, y1, x2, y2 in pixels);
    gives the problems of the others.
    """
    where = f"{video.place}{place}"
    try:
        table = np.asarray(tube, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        table = np.empty(0)
    if table.ndim != 2 or table.shape[1] != 5:
        found = (
            f"an array of shape {table.shape}"
            if isinstance(tube, np.ndarray)
            else f"a {type(tube).__name__}"
        )
        return [
            Fault("gttubes", found, "structure", "a tube has rows of frame, x1, y1, x2, y2").at(
                context.file, 0, where
            )
        ]
    label_id, size = (
        context.label_id(label),
        np.array([video.width, video.height, video.width, video.height], np.float64),
    )
    boxes, frames = np.clip(table[:, 1:] / size, 0, 1).tolist(), table[:, 0].tolist()
    begin, problems = f"{context.file}:{where}", []
    for row, fault in enumerate(_faults(table, video, size)):
        if fault is None:
            frame = int(frames[row]) - 1
            rows.add(
                video.video_id,
                video.split,
                None,
                frame,
                *boxes[row],
                label,
                label_id,
                number,
                f"{begin}[{row}]",
            )
        else:
            problems.append(fault.at(context.file, 0, f"{where}[{row}]"))
    return problems


def _faults(table: np.ndarray, video: Video, size: np.ndarray) -> list[Fault | None]:
    """What is wrong with each row of a tube; None for a good one."""
    frame, low, high = table[:, 0], table[:, 1:3], table[:, 3:5]
    with np.errstate(invalid="ignore"):
        finite = np.all(np.isfinite(table), axis=1)
        inside = np.all((table[:, 1:] >= -OUTSIDE) & (table[:, 1:] <= size + OUTSIDE), axis=1)
        ordered = np.all(low <= high, axis=1)
        solid = np.all(np.clip(low, 0, size[:2]) < np.clip(high, 0, size[:2]), axis=1)
        whole = finite & (frame == np.floor(frame)) & (frame >= 1) & (frame <= video.num_frames)
    faults: list[Fault | None] = [None] * len(table)
    # almost every tube
    if (whole & inside & ordered & solid).all() and len(np.unique(frame)) == len(frame):
        return faults
    seen = set[float]()
    for row in range(len(table)):
        number, box = float(frame[row]), table[row, 1:].tolist()
        if not finite[row]:
            faults[row] = Fault("gttubes", table[row].tolist(), "value", "not finite numbers")
        elif not number.is_integer():
            faults[row] = Fault("frame", number, "value", "not a whole number")
        elif number < 1:
            faults[row] = Fault("frame", number, "negative_time", "frames count from 1")
        elif number > video.num_frames:
            faults[row] = Fault(
                "frame", number, "past_end", f"the file gives the video {video.num_frames} frames"
            )
        elif number in seen:
            faults[row] = Fault(
                "frame", number, "contradiction", "a second box of the tube on this frame"
            )
        elif not ordered[row]:
            faults[row] = Fault("box", box, "box_inverted", "inverted box")
        elif not inside[row]:
            faults[row] = Fault(
                "box",
                box,
                "box_outside",
                f"outside the image of {video.width}x{video.height} by more than a pixel",
            )
        elif not solid[row]:
            faults[row] = Fault("box", box, "box_empty", "box without area")
        seen.add(number)
    return faults
