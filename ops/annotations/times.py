"""Times of a table against the lengths of its videos, as a whole: other units and other clocks,
once for all formats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.schema import TableName
from ops.annotations.join import FAR_S, FAR_SHARE, Videos
from ops.annotations.rows import Fault, Problem

PLACES: dict[TableName, tuple[str, str]] = {
    "clips": ("start_s", "end_s"),
    "segments": ("start_s", "end_s"),
    "boxes": ("timestamp_s",) * 2,
}
SHARE_FAR = 0.2  # of the rows beyond their videos' ends, from which all of them are in question
TIMES_TOO_LONG = 3.0  # the last row of the usual video ends so many lengths of it away
FITTING = 0.95  # of the rows, in the unit that they are taken for
REACH = (0.1, 1.1)  # the last row of the usual video then ends in this share of it
ALIKE = 1.15  # units closer than this are both named
MIN_VIDEOS = 3  # of which times are asked for being too small
UNITS: dict[str, float] = {
    "milliseconds": 1e-3,
    "hundredths of a second": 1e-2,
    "microseconds": 1e-6,
    "samples at 48,000 a second": 1 / 48_000,
    "samples at 44,100 a second": 1 / 44_100,
    "samples at 16,000 a second": 1 / 16_000,
}
LONG_UNITS: dict[str, float] = {"minutes": 60.0, "hours": 3600.0}

# the whole, the usual video's length in these from which it is asked, the word
SHARES = ((1.0, 5.0, "shares"), (100.0, 3.0, "percent"))


class _Rows(NamedTuple):
    """Rows with a time, of videos of known length: start, end, length and rate of the video, and a
    number for each video.
    """

    start: np.ndarray
    end: np.ndarray
    length: np.ndarray
    fps: np.ndarray
    video: np.ndarray

    def last(self, ends: np.ndarray) -> float:
        """Where the last row of the usual video ends, as a share of its length."""
        last, length = np.zeros(self.video.max() + 1), np.ones(self.video.max() + 1)
        np.maximum.at(last, self.video, ends)
        length[self.video] = self.length
        return float(np.median(last / length))

    def fit(self, ends: np.ndarray) -> bool:
        """Whether nearly all rows end within their videos."""
        return float(np.mean(ends <= self.length * 1.02 + 1)) >= FITTING


def unit_questions(kind: TableName, table: pa.Table, videos: Videos) -> list[Problem]:
    """A question for each split whose times fit its videos in another unit, or on another clock."""
    if kind not in PLACES or not table.num_rows:
        return []
    found = list[Problem]()
    for split in sorted(table["split"].unique().to_pylist()):
        part = table.filter(pc.equal(table["split"], split))
        rows = _rows(kind, part, videos)
        fault = _too_long(rows, kind) if rows is not None else None
        fault = fault or (_too_short(rows) if rows is not None else None)
        if fault is not None:
            file = part["source"][0].as_py().partition(":")[0]
            found.append(fault._replace(found=f"{split}: {fault.found}").at(file, 0))
    return found


def _rows(kind: TableName, table: pa.Table, videos: Videos) -> _Rows | None:
    names = pc.dictionary_encode(table["video_id"].combine_chunks())
    row = np.array(
        [videos.row_of.get(name, -1) for name in names.dictionary.to_pylist()], dtype=np.int64
    )[names.indices.to_numpy()]
    start, end = (pc.fill_null(table[column], np.nan).to_numpy() for column in PLACES[kind])
    facts = {name: _column(videos.table, name) for name in ("duration_s", "fps_num", "fps_den")}
    good = (row >= 0) & np.isfinite(start) & np.isfinite(end)
    good &= np.where(row >= 0, facts["duration_s"][row], np.nan) > 0
    if not good.any():
        return None
    row = row[good]
    with np.errstate(invalid="ignore", divide="ignore"):
        fps = (facts["fps_num"] / facts["fps_den"])[row]
    return _Rows(
        start[good],
        end[good],
        facts["duration_s"][row],
        fps,
        np.unique(row, return_inverse=True)[1],
    )


def _column(table: pa.Table, name: str) -> np.ndarray:
    values = pc.fill_null(pc.cast(table[name], pa.float64()), np.nan).to_numpy()
    usable = pc.equal(table["status"], "ok").to_numpy()
    return np.where(usable, values, np.nan) if len(values) else np.array([np.nan])


def _too_long(rows: _Rows, kind: TableName) -> Fault | None:
    far = (rows.start >= rows.length) | (
        rows.end - rows.length > np.maximum(FAR_S, FAR_SHARE * rows.length)
    )
    last = rows.last(rows.end)
    if far.sum() < 2 or far.mean() < SHARE_FAR:
        return None
    evidence = (
        f"{far.sum()} of {len(far)} rows lie beyond the end of their video, the last of the usual"
        f" one at {last:.3g} times its length"
    )
    first = np.full(rows.video.max() + 1, np.inf)
    np.minimum.at(first, rows.video, rows.start)
    shifted = rows.end - first[rows.video]
    if rows.fit(shifted) and (
        kind == "boxes" or np.median((rows.end - rows.start) / rows.length) > 0.01
    ):
        reason = (
            "counted from each video's first row they fit: times of the film that the videos were"
            " cut from?"
        )
        return Fault("time", evidence, "time_unit", reason)
    if last < TIMES_TOO_LONG:
        return None  # shortened copies of videos show like this
    units = {name: rows.end * factor for name, factor in UNITS.items()} | {
        "frames": rows.end / rows.fps
    }
    fitting = {
        name: rows.last(ends)
        for name, ends in units.items()
        if np.isfinite(ends).all() and rows.fit(ends)
    }
    fitting = {name: reach for name, reach in fitting.items() if REACH[0] <= reach <= REACH[1]}
    if not fitting:
        return Fault(
            "time",
            evidence,
            "time_unit",
            "no usual unit makes them fit: do they belong to these videos?",
        )
    likely = [name for name, reach in fitting.items() if reach * ALIKE >= max(fitting.values())]
    words = [
        (
            f"{name} ({np.median(rows.fps):.6g} a second)"
            if name == "frames"
            else f"{name} (x {UNITS[name]:.6g})"
        )
        for name in likely
    ]
    return Fault(
        "time", evidence, "time_unit", f"they fit as {' or '.join(words)}; the form has seconds"
    )


def _too_short(rows: _Rows) -> Fault | None:
    """Times that all lie in the first minutes of long videos, a sixtieth of each; or in the first
    second, as shares of a length would.
    """
    # a few rows may be in seconds all the same
    last, reach = rows.last(rows.end), float(np.quantile(rows.end / rows.length, FITTING))
    if rows.video.max() + 1 < MIN_VIDEOS:
        return None
    if reach > 1.1 / LONG_UNITS["minutes"]:
        return _shares(rows)
    fitting = [
        name
        for name, factor in LONG_UNITS.items()
        if REACH[0] <= last * factor <= REACH[1] and rows.fit(rows.end * factor)
    ]
    likely = next(iter(fitting), None)
    if likely is None:
        return _shares(rows)
    far = float(np.max(rows.end / rows.length)) > reach * 1.1
    found = (
        f"{'nearly ' if far else ''}all {len(rows.end)} rows lie in the first {100 * reach:.2g} %"
        " of their videos"
    )
    return Fault(
        "time",
        found,
        "time_unit",
        f"they fit as {likely} (x {LONG_UNITS[likely]:g}); the form has seconds",
    )


def _shares(rows: _Rows) -> Fault | None:
    """Times up to 1 or to 100, whatever the videos' lengths."""
    highest, ends = float(rows.end.max()), len(np.unique(rows.end))
    for scale, times, word in SHARES:
        if (
            0.9 * scale < highest <= scale
            and ends >= MIN_VIDEOS
            and float(np.median(rows.length)) >= times * scale
        ):
            found = (
                f"all {len(rows.end)} rows end within {scale:g} s, of videos of"
                f" {np.median(rows.length):.3g} s"
            )
            return Fault(
                "time", found, "time_unit", f"{word} of each video's length? the form has seconds"
            )
    return None


def with_said(videos: Videos, said: Mapping[str, float]) -> Videos:
    """The videos, with the lengths that the annotation files give for those whose own is not known
    yet.
    """
    if not said or not videos.table["duration_s"].null_count:
        return videos
    known = videos.table["duration_s"].to_pylist()
    lengths = [
        said.get(name) if length is None else length
        for name, length in zip(videos.row_of, known, strict=True)
    ]
    place = videos.table.schema.get_field_index("duration_s")
    table = videos.table.set_column(
        place, videos.table.schema.field(place), pa.array(lengths, pa.float64())
    )
    return Videos(videos.dataset, videos.row_of, table, videos.missing_buckets)
