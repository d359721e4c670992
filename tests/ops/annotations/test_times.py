"""Times in other units and on other clocks, of every table that has times."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from configs.schema import Dataset, TableName
from ops.annotations.join import Videos, videos_of, with_videos
from ops.annotations.times import unit_questions, with_said
from ops.store.tables import BOXES, CLIPS, SEGMENTS, VIDEOS, from_rows

DATASET = Dataset(name="d", title="t", licence="none", root="/r")
SCHEMAS = {"clips": CLIPS, "segments": SEGMENTS, "boxes": BOXES}


def videos(length: float | None = 60.0, count: int = 6, fps: int = 25) -> Videos:
    rows = [
        {name: None for name in VIDEOS.names}
        | {
            "video_id": f"v{number}",
            "status": "ok",
            "duration_s": length and length + number,
            "fps_num": fps,
            "fps_den": 1,
        }
        for number in range(count)
    ]
    return videos_of(DATASET, from_rows(rows, VIDEOS))


def table(
    kind: TableName, there: Videos, factor: float = 1.0, offset: float = 0.0, rows: int = 5
) -> pa.Table:
    """Rows spread over every video, in seconds times the factor, from the offset (in those) on."""
    found, random = list[dict](), np.random.default_rng(0)
    for name, length in zip(there.row_of, there.table["duration_s"].to_pylist(), strict=True):
        for number in range(rows):
            start = float(random.uniform(0, length * 0.9)) if length else number
            times = {
                "start_s": start * factor + offset,
                "end_s": (start + length * 0.08) * factor + offset if length else number + 1,
            }
            row = (
                {name: None for name in SCHEMAS[kind].names}
                | times
                | {"timestamp_s": times["start_s"]}
            )
            found.append(
                row
                | {"video_id": name, "split": "train", "source": f"f.csv:{number}", "label": "run"}
            )
    return from_rows(
        [{name: row[name] for name in SCHEMAS[kind].names} for row in found], SCHEMAS[kind]
    )


@pytest.mark.parametrize("kind", ["clips", "segments", "boxes"])
@pytest.mark.parametrize(
    "factor, offset, says",
    [
        (1e3, 0, "milliseconds (x 0.001)"),
        (25, 0, "frames (25 a second)"),
        (48_000, 0, "samples at 48,000"),
        (44_100, 0, "samples at 44,100"),
        (1 / 60, 0, "minutes (x 60)"),
        (1 / 3600, 0, "hours (x 3600)"),
        (1, 3600, "times of the film that the videos were cut from"),
        (1, 0, None),
        (1.1, 0, None),
    ],
)
def test_another_unit_is_named_with_its_factor(
    kind: TableName, factor: float, offset: float, says: str | None
):
    there = videos()
    found = unit_questions(kind, table(kind, there, factor, offset), there)
    assert [problem.kind for problem in found] == ([] if says is None else ["time_unit"])
    if says is not None:
        assert (
            says in found[0].reason
            and found[0].file == "f.csv"
            and found[0].found.startswith("train: ")
        )


def test_times_that_fit_in_no_unit_and_shortened_videos():
    there = videos()
    assert (
        "no usual unit"
        in unit_questions("segments", table("segments", there, 7e8), there)[0].reason
    )
    # every video is half of what it was: rows are past its end, and that is told row by row
    rows = table("segments", there, 2.0)
    assert unit_questions("segments", rows, there) == [] and with_videos(rows, "segments", there)[1]
    assert unit_questions("segments", table("segments", videos(None)), videos(None)) == []
    assert unit_questions("clips", table("clips", there).slice(0, 0), there) == []


SHARES = [
    (20, 1, "shares"),
    (900, 1, "shares"),
    (600, 100, "percent"),
    (3, 1, None),
    (150, 100, None),
]


@pytest.mark.parametrize("length, scale, says", SHARES)
def test_shares_of_the_length(length: float, scale: float, says: str | None):
    there = videos(length)
    # spread over videos of that length: up to the scale, and to scale + 5
    rows = table("segments", videos(scale), rows=9)
    keep = rows.filter(pc.less_equal(rows["end_s"], scale))
    keep = pa.concat_tables(
        [
            keep,
            keep.slice(0, 1).set_column(
                keep.schema.get_field_index("end_s"), "end_s", pa.array([0.97 * scale])
            ),
        ]
    )
    found = unit_questions("segments", keep, there)
    assert [says in problem.reason for problem in found] == ([] if says is None else [True])


def test_one_row_in_seconds_hides_no_minutes():
    there = videos(600.0)
    rows = table("segments", there, 1 / 60, rows=10)
    ends = [*rows["end_s"].to_pylist()[:-1], 500.0]
    rows = rows.set_column(
        rows.schema.get_field_index("end_s"), "end_s", pa.array(ends, pa.float64())
    )
    (found,) = unit_questions("segments", rows, there)
    assert "minutes" in found.reason and "nearly all" in found.found


def test_an_end_far_beyond_the_video_is_told_and_rounding_is_not():
    there = videos(20.0, count=1)
    ends = [20.5, 29.9, 30.5, 500.0]
    rows = from_rows(
        [
            {name: None for name in SEGMENTS.names}
            | {"video_id": "v0", "start_s": 1.0, "end_s": end, "split": "train", "source": "f:1"}
            for end in ends
        ],
        SEGMENTS,
    )
    kept, problems = with_videos(rows, "segments", there)
    assert kept["end_s"].to_pylist() == [20.5, 29.9]
    assert [(problem.field, problem.kind, problem.found) for problem in problems] == [
        ("end_s", "past_end", "30.5 of v0 (duration_s 20)"),
        ("end_s", "past_end", "500 of v0 (duration_s 20)"),
    ]


def test_lengths_that_a_file_gives_stand_for_those_not_known_yet():
    there = with_said(videos(None, count=2), {"v0": 60.0})
    assert there.table["duration_s"].to_pylist() == [60.0, None]
    assert with_said(videos(5.0, count=1), {"v0": 60.0}).table["duration_s"].to_pylist() == [5.0]
