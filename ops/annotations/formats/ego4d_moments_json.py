"""Ego4D Moment Queries json: moments of five-minute clips, named by their actions.

Form: `{"videos": [{"video_uid", "split", "clips": [{"clip_uid", "video_start_sec", "video_end_sec",
"video_start_frame", "video_end_frame", "annotations": [{"labels": [{"label", "primary",
"video_start_time", "video_end_time", ...}]}]}]}]}`, one item of `annotations` for each annotator.

The benchmark's unit is the clip: it is the video of our tables (`clip_uid`, which the template
knows beside `video_uid`), times count from its start, its duration and rate become an entry, and a
clip without labels is one too. Labels that are not primary are not scored by the benchmark; they
are counted as excluded. Two annotators may give one label to about the same span: both rows are
kept, as is a moment shorter than 0.25 s. What ActionFormer's conversion does beyond that belongs to
training and features and is not done here: it drops moments below 0.25 s and clips whose rate is
outside 10 to 100 fps, rounds to 0.01 s, and moves times to its features' grid of 16 frames. A start
that is less than 0.01 s before the clip's is the clip's start: the file's times are rounded.

The vocabulary is a text file of one label a line or of `number<TAB>label`, such as ActionFormer's.
Labels stand in it as in the json, where those with commas keep their quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from configs.schema import TableName
from ops.annotations.json_text import load
from ops.annotations.lines import text_lines
from ops.annotations.rows import (
    Context,
    Entry,
    Fault,
    Problem,
    Read,
    Rows,
    interval_fault,
    number,
    shorten,
    split_name,
)
from ops.annotations.vocabulary import AnnotationError, Vocabulary, from_names, is_header
from ops.store.tables import SEGMENTS

TABLE: TableName = "segments"
FOLDER = False
EXPECTED = (
    '{"videos": [{"video_uid", "split", "clips": [{"clip_uid", "video_start_sec", "video_end_sec",'
    ' "annotations": [{"labels": [...]}]}]}]}'
)
ROUNDED_S = 0.01
NUMBERED = re.compile(r"(\d{1,6})\t(.+)", re.ASCII)


def sniff(name: str, data: bytes) -> bool:
    """Whether it speaks of the clips of videos, and of moments in them or of none (the unannotated
    test list).
    """
    return (
        data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")
        and b'"clip_uid"' in data
        and b'"video_uid"' in data
        and b'"clips"' in data
    )


def vocabulary(data: bytes, file: str, target: str) -> Vocabulary:
    """Labels of a text file. Raises AnnotationError, also for numbers that do not count from 0 and
    for a label given twice.
    """
    names, numbers, word = list[str](), list[int](), ""
    for line, text in text_lines(data, file):
        if isinstance(text, Problem):
            raise AnnotationError(f"{file}:{line}", text.field, text.found, text.reason)
        if not names and is_header(text.split("\t")):
            word = f"the first line, '{text.strip()[:80]}', is taken for a header"
            continue
        match = NUMBERED.fullmatch(text.strip())
        names.append(match[2] if match else text.strip())
        numbers.append(int(match[1]) if match else len(numbers))
    if not names or sorted(numbers) != list(range(len(names))) or len(set(names)) != len(names):
        raise AnnotationError(
            file,
            "labels",
            f"{len(set(numbers))} numbers for {len(set(names))} of {len(names)} labels",
            "each label once, from 0",
        )
    return replace(
        from_names([name for _, name in sorted(zip(numbers, names, strict=True))]), word=word
    )


def read(data: bytes, context: Context) -> Read:
    """Segments of one file. Raises AnnotationError when it is not of this form, and when it has
    neither a good moment nor a clip.
    """
    content, repeated = load(data, context.file)
    context.check_template({"video": "text", "clip_uid": "text", "video_uid": "text"})
    videos = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(videos, list):
        found = (
            f"keys {', '.join(list(content)[:5])}"
            if isinstance(content, dict)
            else type(content).__name__
        )
        raise AnnotationError(context.file, "(whole file)", shorten(found), EXPECTED)
    rows, problems, entries = (Rows(SEGMENTS, context.dataset), list[Problem](), dict[str, Entry]())
    if repeated:
        problems.append(
            Fault(
                "(whole file)", ", ".join(sorted(repeated)), "contradiction", "a key given twice"
            ).at(context.file, 0)
        )
    excluded = 0
    for place, video, clip in _clips(videos, context, problems):
        facts = _clip(video, clip, context)
        if isinstance(facts, Fault):
            problems.append(facts.at(context.file, 0, place))
        elif facts[0].video_id in entries:
            problems.append(
                Fault("clip_uid", facts[0].video_id, "duplicate", "the clip stands above").at(
                    context.file, 0, place
                )
            )
        else:
            entries[facts[0].video_id] = facts[0]
            excluded += _moments(rows, *facts, clip, place, context, problems)
    return rows.finish(context, problems, EXPECTED, excluded, entries.values())


def _clips(
    videos: list[Any], context: Context, problems: list[Problem]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(place in the file, video, clip) of each clip."""
    for index, video in enumerate(videos):
        clips = video.get("clips") if isinstance(video, dict) else None
        if not isinstance(clips, list):
            problems.append(
                Fault("clips", video, "structure", "a video is a mapping with a list of clips").at(
                    context.file, 0, f"videos[{index}]"
                )
            )
            continue
        for position, clip in enumerate(clips):
            place = f"videos[{index}].clips[{position}]"
            if isinstance(clip, dict):
                yield place, video, clip
            else:
                problems.append(
                    Fault("clips", clip, "structure", "a clip is a mapping").at(
                        context.file, 0, place
                    )
                )


def _clip(
    video: dict[str, Any], clip: dict[str, Any], context: Context
) -> tuple[Entry, float] | Fault:
    """The clip's entry and its start in the video in s, or what is wrong with it."""
    names = {"clip_uid": clip.get("clip_uid"), "video_uid": video.get("video_uid", "")}
    for name, value in names.items():
        if not isinstance(value, str) or (not value and name == "clip_uid"):
            return Fault(name, value, "value", "not a name")
    begin, end = number(clip.get("video_start_sec")), number(clip.get("video_end_sec"))
    if begin is None or end is None:
        return Fault(
            "video_start_sec",
            f"{clip.get('video_start_sec')}, {clip.get('video_end_sec')}",
            "value",
            "not finite numbers",
        )
    begin = max(begin, 0.0)  # the file has clips that begin some milliseconds before their video
    if end <= begin:
        return Fault(
            "video_end_sec", f"{begin} to {end}", "end_before_start", "end is not after start"
        )
    first, last = number(clip.get("video_start_frame")), number(clip.get("video_end_frame"))
    fps = (
        None
        if first is None or last is None or last <= max(first, 0)
        else (last - max(first, 0)) / (end - begin)
    )
    video_id = context.video.format(video=names["clip_uid"], **names)
    split = context.split or split_name(str(video.get("split")))
    if split is None:
        return Fault(
            "split", video.get("split"), "unknown_split", "unknown split; known: train, val, test"
        )
    return Entry(video_id, split, end - begin, fps), begin


def _moments(
    rows: Rows,
    entry: Entry,
    begin: float,
    clip: dict[str, Any],
    place: str,
    context: Context,
    problems: list[Problem],
) -> int:
    """Adds the good moments of a clip; gives the number of those that are not primary."""
    skipped = 0
    for where, item in _labels(clip, place, context, problems):
        if not isinstance(item, dict) or not isinstance(item.get("primary"), bool):
            problems.append(
                Fault(
                    "labels",
                    item,
                    "structure",
                    "a moment is a mapping with label, primary and times",
                ).at(context.file, 0, where)
            )
            continue
        if not item["primary"]:
            skipped += 1
            continue
        fault = _add(rows, entry, begin, item, context, f"{context.file}:{where}")
        if fault is not None:
            problems.append(fault.at(context.file, 0, where))
    return skipped


def _labels(
    clip: dict[str, Any], place: str, context: Context, problems: list[Problem]
) -> Iterator[tuple[str, Any]]:
    """(place, moment) of every annotator of a clip; none in a list without annotations."""
    annotators = clip.get("annotations", [])
    for index, annotator in enumerate(annotators if isinstance(annotators, list) else [annotators]):
        labels, where = (
            annotator.get("labels") if isinstance(annotator, dict) else None,
            f"{place}.annotations[{index}]",
        )
        if isinstance(labels, list):
            yield from (
                (f"{where}.labels[{position}]", item) for position, item in enumerate(labels)
            )
        else:
            problems.append(
                Fault(
                    "annotations", annotator, "structure", "not a mapping with a list of labels"
                ).at(context.file, 0, where)
            )


def _add(
    rows: Rows, entry: Entry, begin: float, item: dict[str, Any], context: Context, source: str
) -> Fault | None:
    """Adds the moment, or says what is wrong with it."""
    label = item.get("label")
    if not isinstance(label, str) or not label:
        return Fault("label", label, "value", "not a label")
    label_id = context.label_id(label)
    if label_id is None:
        return Fault("label", label, "unknown_label", "unknown label")
    times = [number(item.get(name)) for name in ("video_start_time", "video_end_time")]
    if times[0] is None or times[1] is None:
        found = f"{item.get('video_start_time')} to {item.get('video_end_time')}"
        return Fault("video_start_time", found, "value", "not finite numbers")
    start_s, end_s = (time - begin for time in times if time is not None)
    start_s = 0.0 if -ROUNDED_S < start_s < 0 else start_s
    fault = interval_fault(start_s, end_s, ("video_start_time", "video_end_time"))
    if fault is None:
        rows.add(
            entry.video_id, entry.split, context.target, label, label_id, start_s, end_s, source
        )
    return fault
