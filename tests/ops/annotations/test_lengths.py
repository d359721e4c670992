"""Lengths of videos that are not ingested yet, measured for a check."""

from pathlib import Path

import pytest

import made_videos as made
from configs.schema import AnnotationFile, Dataset
from ops.annotations.check import examine
from ops.store.layout import Layout


@pytest.mark.parametrize(
    "factor, says", [(1, None), (25, "frames (25 a second)"), (1000, "milliseconds (x 0.001)")]
)
def test_units_show_before_a_video_is_ingested(
    layout: Layout, factor: int, says: str | None
) -> None:
    root, rows = Path(layout.root, "d"), "label,youtube_id,time_start,time_end,split\n"
    for number in range(3):
        made.encoded(root / f"videos/v{number}.avi", 75, codec="mpeg4")  # 3 s
        rows += "".join(
            f"run,v{number},{place * factor},{(place + 1) * factor},train\n" for place in range(3)
        )
    (root / "videos/broken.avi").write_bytes(b"RIFF" + b"x" * 2000)
    (root / "clips.csv").write_text(rows + f"run,broken,0,{factor},train\n")
    file = AnnotationFile(
        table="clips", format="kinetics_csv", path="clips.csv", video="{youtube_id}"
    )
    found = examine(
        Dataset(name="d", title="t", licence="l", root="{storage}/d", annotations=(file,)), layout
    )
    assert found.num_lengths == 3 and not found.ingested and found.good == (says is None)
    assert says is None or says in str(found.error)
