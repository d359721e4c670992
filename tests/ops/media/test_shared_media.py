"""Real and odd files: every one is usable, or quarantined for a true reason."""

from __future__ import annotations

import pytest

from configs.schema import Dataset, Frames
from ops.media.audit import audit
from ops.media.ingest import ingest
from ops.media.materialize import materialize
from ops.store.layout import Layout
from ops.store.reader import FrameReader, read_manifest

# decoder and frame count, as ffmpeg counts them, of the files that are not ordinary
ODD = {
    "decord/tests/test_data/unordered": ("decord", 4),
    "decord/tests/test_data/video_90": ("pyav", 3),  # turned, and scaled
    "imageio/images/newtonscradle": ("pyav", 36),  # gif
    "mediaelement/echo-hereweare": ("pyav", 836),  # VP8, variable rate
    "opencv/Megamind_bugy": ("decord", 270),
    "opencv/box": ("pyav", 455),  # an edit list hides the first of its 456 frames
    "opencv/tree": ("pyav", 68),  # 444 declared: the others repeat and are not in the file; cinepak
    "torchcodec/test/resources/av1_video": ("pyav", 125),
    "torchcodec/test/resources/h265_10bits": ("pyav", 30),
    "torchcodec/test/resources/nasa_13013": ("pyav", 390),  # six streams, two of them pictures
}
REASONS = {
    "decord/tests/test_data/corrupted": "corrupt: 48 of 50 frames decode without damage",
    "mmaction2/test.mp4": "duplicate video_id 'mmaction2/test': mmaction2/test.avi has it",
}


@pytest.mark.slow  # it decodes some minutes of video in many formats
@pytest.mark.timeout(1200)
def test_every_file_is_accounted_for(shared, tmp_path):
    if not (shared / "media").is_dir():
        pytest.skip("no media among the reference material")
    dataset = Dataset(
        name="odd",
        title="t",
        licence="mixed",
        root=str(shared),
        videos="media",
        frames=Frames(short_side=128),
    )
    layout = Layout(str(tmp_path))
    files = [path for path in (shared / "media").rglob("*") if path.is_file()]
    report = ingest(dataset, layout)
    assert report.found + sum(report.aside.values()) == len(files)
    assert set(report.aside) <= {"a downloader's notes", "a thumbnail"}
    materialize(dataset, layout)
    rows = {row["video_id"]: row for row in read_manifest(layout, dataset).to_pylist()}
    for video_id, row in sorted(rows.items()):
        size = (
            f"{row['num_frames']:5} {row['height']}x{row['width']} {row['fps']:6.2f} fps"
            if row["array_uri"]
            else ""
        )
        print(
            f"{video_id:80} {row['status']:11} {row['decoder']:6} {size}"
            f" {row['reason']}{row['audit']}"
        )
    assert len(rows) == report.found
    for video_id, row in rows.items():
        ending = row["array_uri"] == "" and row["reason"]
        if row["status"] == "ok":
            assert min(row["height"], row["width"]) == 128 and row["num_frames"] > 0
            assert row["audit"].startswith("ok") or (
                row["decoder"] == "pyav" and row["audit"].startswith("unconfirmed: ")
            ), row
            reader = FrameReader(row["array_uri"])
            assert len(reader) == row["num_frames"] == len(reader.attributes["timestamps_s"])
            assert reader.attributes["timestamps_s"] == sorted(reader.attributes["timestamps_s"])
        else:
            assert ending in (
                REASONS.get(video_id),
                "not a video file (text)",
                "no video stream",
            ), (video_id, ending)
    assert {
        video_id: (rows[video_id]["decoder"], rows[video_id]["num_frames"]) for video_id in ODD
    } == ODD
    assert {video_id: rows[video_id]["reason"] for video_id in REASONS} == REASONS
    upright = rows["decord/tests/test_data/video_90"]
    assert upright["height"] > upright["width"]
    assert audit(dataset, layout, None) == []
    assert materialize(dataset, layout).planned == 0
