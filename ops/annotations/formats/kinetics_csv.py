"""Kinetics csv: one labelled clip a row.

Form (Kinetics-400, -600, -700 and -700-2020, from DeepMind and from the CVDF mirror): header
`label,youtube_id,time_start,time_end,split`, in any order, further columns allowed (`is_cc`); a
label with a comma stands in quotes; times may be written as 19 or 19.0. The official test lists
have no label column: rows without a label are good only in the test split, and have null label and
label_id. Kinetics-710 has no csv: see `video_list`.

Times are seconds of the original upload. When the dataset's video template uses `time_start` or
`time_end`, each clip is its own file, cut at those times: the clip is then the whole file, and
start_s and end_s are null. Otherwise they are seconds of the file.
"""

from __future__ import annotations

from collections.abc import Iterator

from configs.schema import TableName
from ops.annotations.clips import Clips
from ops.annotations.lines import records
from ops.annotations.rows import Context, Fault, Problem, Read, interval_fault, shorten, split_name
from ops.annotations.vocabulary import AnnotationError

TABLE: TableName = "clips"
FOLDER = False
EXPECTED = (
    "a header with label,youtube_id,time_start,time_end,split (label may be missing in a list of"
    " the test split)"
)
REQUIRED = ("youtube_id", "time_start", "time_end")


def sniff(name: str, data: bytes) -> bool:
    """Whether the first line names the columns of a Kinetics list."""
    header = (
        data.removeprefix(b"\xef\xbb\xbf")
        .split(b"\n", 1)[0]
        .replace(b'"', b"")
        .replace(b" ", b"")
        .strip()
        .split(b",")
    )
    return all(column.encode() in header for column in REQUIRED)


def read(data: bytes, context: Context) -> Read:
    """Clips of one file. Raises AnnotationError for a wrong header and when no row is good."""
    lines = records(data, context.file)
    header = _header(lines, context)
    clips = Clips(context, {name: 1 if name.startswith("time_") else "text" for name in header})
    whole_file = "{time_start" in context.video or "{time_end" in context.video
    for line, fields in lines:
        if isinstance(fields, Problem):
            clips.refuse(fields)
        elif len(fields) != len(header):
            clips.wrong_columns(line, ",".join(fields), len(fields), str(len(header)))
        else:
            _add(clips, dict(zip(header, fields, strict=True)), whole_file, line)
    return clips.finish(EXPECTED)


def _header(lines: Iterator[tuple[int, list[str] | Problem]], context: Context) -> list[str]:
    _, first = next(lines, (0, []))  # none: blanks that only Unicode calls so
    if isinstance(first, Problem):
        raise AnnotationError(context.file, "header", first.found, f"{EXPECTED}; {first.reason}")
    header = [name.strip() for name in first]
    required = set(REQUIRED) | (set() if context.split else {"split"})
    if not required <= set(header) or len(set(header)) != len(header):
        raise AnnotationError(context.file, "header", shorten(",".join(first)), EXPECTED)
    return header


def _add(clips: Clips, values: dict[str, str], whole_file: bool, line: int) -> None:
    fault = interval_fault(values["time_start"], values["time_end"], ("time_start", "time_end"))
    if fault is None and not values["youtube_id"]:
        fault = Fault("youtube_id", "", "empty", "empty")
    split = clips.context.split or split_name(values["split"])
    if fault is None and split is None:
        fault = Fault(
            "split",
            values["split"],
            "unknown_split",
            "unknown split; known: train, val (validate), test",
        )
    if fault is not None:
        clips.refuse(fault, line)
        return
    start_s, end_s = float(values["time_start"]), float(values["time_end"])
    columns = values | {"time_start": _whole(start_s), "time_end": _whole(end_s)}
    labels = [values["label"]] if values.get("label") else []
    if whole_file:
        clips.add(columns, labels, split, line)
    else:
        clips.add(
            columns,
            labels,
            split,
            line,
            "",
            (start_s, end_s),
            f"@{columns['time_start']}-{columns['time_end']}",
        )


def _whole(seconds: float) -> int | float:
    return int(seconds) if seconds.is_integer() else seconds
