"""Recordings that begin before their first key frame: the frames that decode are kept, and the
others counted.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

import made_videos as made
from ops.media.decode import decode, decoders_for
from ops.media.headers import needs_others
from ops.media.probe import inspect
from ops.store.reader import FrameReader

NUM, GROUP, CUT = 45, 15, 4
OPTIONS = {
    "libx264": {"g": "15", "bf": "2", "sc_threshold": "0"},
    "libx265": {"x265-params": "log-level=none:keyint=15:min-keyint=15:scenecut=0"},
    "mpeg2video": {"g": "15", "bf": "2"},
    "mpeg4": {"g": "15"},
    "libvpx": {"g": "15", "deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"g": "15", "deadline": "realtime", "cpu-used": "8"},
}
KINDS = [
    ("libx264", "ts"),
    ("libx264", "mkv"),
    ("libx264", "flv"),
    ("libx264", "h264"),
    ("libx265", "ts"),
    ("libx265", "mkv"),
    ("libx265", "hevc"),
    ("mpeg2video", "ts"),
    ("mpeg4", "avi"),
    ("libvpx", "webm"),
    ("libvpx-vp9", "webm"),
]


def without_first(source: Path, target: Path, count: int) -> Path:
    """A stream copy without the first packets."""
    with av.open(str(source)) as opened, av.open(str(target), "w") as output:
        stream = opened.streams.video[0]
        copied = output.add_stream_from_template(stream)
        for number, packet in enumerate(packet for packet in opened.demux(stream) if packet.size):
            if number >= count:
                packet.stream = copied
                output.mux(packet)
    return target


@pytest.mark.parametrize("codec, ending", KINDS)
def test_the_frames_that_decode_are_kept_and_the_lost_ones_counted(codec, ending, tmp_path, store):
    source = made.encoded(
        tmp_path / f"whole.{ending}",
        frames=made.numbered(NUM, 64, 128),
        codec=codec,
        options=OPTIONS[codec],
    )
    assert not inspect(source).begins_inside
    path = without_first(source, tmp_path / f"late.{ending}", CUT)
    facts = inspect(path)
    assert facts.problem is None and facts.begins_inside and decoders_for(facts) == ["pyav"]
    row = store(path)
    assert row.get("num_frames") == NUM - GROUP, row
    assert (
        row["audit"]
        == f"unconfirmed: it begins before its first key frame, and {GROUP - CUT} frames are lost"
    )
    reader = FrameReader(str(tmp_path / f"{path.name}.zarr"))
    assert made.numbers(reader.read(range(len(reader)))) == list(range(GROUP, NUM))
    times = np.array(reader.attributes["timestamps_s"])
    assert np.allclose(np.diff(times), 1 / 25, atol=0.002) and times[0] == pytest.approx(
        facts.keys_s[0], abs=0.05
    )
    frames = np.concatenate(list(decode(path, facts)))
    assert made.numbers(frames) == list(range(GROUP, NUM))


def test_heads_that_do_not_tell_say_nothing():
    for codec in ("h264", "hevc", "mpeg4", "mpeg2video", "vp8", "vp9", "av1", "ffv1"):
        for data in (b"", b"\0", b"\0\0\1", bytes(20)):
            assert not needs_others(codec, data), (codec, data)
