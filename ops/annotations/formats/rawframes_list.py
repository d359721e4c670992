"""Lists of frame folders, without header: `folder num_frames label` (TSN, TSM, PAN, MMAction2), or
with the clip's first frame, `folder offset num_frames label` (MMAction2).

Only video files are ingested: the dataset's video template must turn the folder of a row into the
video that its frames came from (`{video}` is the folder as written, `{name}` its last part). Frames
that were published without their videos (Something-Something V1, Jester) have to be joined to video
files first, one a folder.

Labels are as in `video_list`: positions in the vocabulary file, several after `num_frames` where
the config says `multi_label: true` (then there is no offset), none in a test list. An offset counts
frames of the folder, and a list does not tell their rate: lines with one are good where the
template uses `offset`, that is where each clip is its own file, as in `{video}_{offset:06d}`.
"""

from __future__ import annotations

import re

from configs.schema import TableName
from ops.annotations.clips import Clips, path_columns, whole_number
from ops.annotations.formats.video_list import ending_numbers, ids
from ops.annotations.lines import text_lines
from ops.annotations.rows import Context, Fault, Problem, Read
from ops.annotations.vocabulary import AnnotationError

TABLE: TableName = "clips"
FOLDER = False
OPTIONS = ("first_id",)
EXPECTED = (
    "lines of 'folder num_frames label_id' or 'folder offset num_frames label_id', without a header"
)
SEPARATORS = re.compile(r"[\s,]+")


def sniff(name: str, data: bytes) -> bool:
    """Whether the first lines are a folder and two or three whole numbers."""
    lines = [
        SEPARATORS.split(line.strip())
        for line in data.decode("utf-8", "replace").splitlines()[:20]
        if line.strip()
    ]
    return bool(lines) and all(
        len(fields) in (3, 4)
        and "." not in fields[0].rpartition("/")[2]
        and all(whole_number(field) is not None for field in fields[1:])
        for fields in lines
    )


def read(data: bytes, context: Context) -> Read:
    """Clips of one list. Raises AnnotationError when the config names no split and when no row is
    good.
    """
    if context.split is None:
        raise AnnotationError(
            context.file, "split", None, "a split in the dataset's config: the list names none"
        )
    clips = Clips(context, _columns("folder/name", 1, 0))
    for line, text in text_lines(data, context.file):
        if isinstance(text, Problem):
            clips.refuse(text)
        else:
            _add(clips, text, line)
    return clips.finish(EXPECTED)


def _columns(folder: str, num_frames: int, offset: int) -> dict[str, str | int]:
    columns = path_columns(folder)
    # a folder's name has no file extension to take off
    video = folder.removeprefix("./").rstrip("/")
    return {
        **columns,
        "video": video,
        "name": video.rpartition("/")[2],
        "num_frames": num_frames,
        "offset": offset,
    }


def _add(clips: Clips, text: str, line: int) -> None:
    context = clips.context
    folder, numbers = ending_numbers(text)
    uses_offset = "{offset" in context.video
    has_offset = uses_offset or (len(numbers) == 3 and not context.multi_label)
    if len(numbers) < 1 + uses_offset + (context.split != "test"):
        wanted = (
            "folder, offset, num_frames and label"
            if uses_offset
            else "folder, num_frames and label"
        )
        clips.refuse(Fault("(line)", text, "columns", f"not {wanted}"), line)
        return
    offset, frames, labels = (numbers.pop(0) if has_offset else "0"), numbers[0], ids(numbers[1:])
    fault = _fault(offset, frames)
    if fault is None and has_offset and not uses_offset:
        reason = (
            "a place in frames needs a video template with {offset}, and several labels need"
            " multi_label: true"
        )
        fault = Fault("offset", f"{offset} {' '.join(numbers)}", "structure", reason)
    if fault is not None:
        clips.refuse(fault, line)
    elif isinstance(labels, Fault):
        clips.refuse(labels, line)
    else:
        clips.add(_columns(folder, int(frames), int(offset)), labels, context.split, line)


def _fault(offset: str, frames: str) -> Fault | None:
    for field, text in (("offset", offset), ("num_frames", frames)):
        if whole_number(text) is None:
            return Fault(field, text, "negative_time", "a negative number of frames")
    return (
        None
        if int(frames)
        else Fault("num_frames", frames, "end_before_start", "a clip without frames")
    )
