"""What the container and the headers tell without decoding."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from ops.media.headers import Headers, parameters
from ops.media.probe import inspect


def heads(path) -> tuple[str, bytes, list[bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        keys = [
            bytes(packet)
            for packet in container.demux(stream)
            if packet.size and packet.is_keyframe
        ]
        return (
            stream.codec_context.codec.canonical_name,
            stream.codec_context.extradata or b"",
            keys,
        )


@pytest.mark.parametrize(
    "codec, ending",
    [
        ("libx264", "mp4"),
        ("libx264", "ts"),
        ("libx265", "ts"),
        ("mpeg4", "avi"),
        ("libx264", "avi"),
    ],
)
def test_another_frame_size_shows_in_the_headers(codec, ending, make_video, tmp_path):
    options = {
        "g": "5",
        **({"x265-params": "log-level=none:keyint=5"} if codec == "libx265" else {}),
    }
    one = heads(make_video(tmp_path / f"one.{ending}", 15, codec=codec, options=options))
    two = heads(
        make_video(tmp_path / f"two.{ending}", 15, size=(96, 128), codec=codec, options=options)
    )
    seen = Headers(one[0], one[1])
    for key in one[2]:
        seen.see(key)
    assert not seen.changed
    large = [key for key in two[2] if parameters(two[0], key)]
    if ending != "mp4":  # there the parameters stand in the index alone
        assert large
        seen.see(large[0])
        assert seen.changed


def test_any_bytes_are_taken():
    for codec in ("h264", "hevc", "mpeg4", "vp9"):
        for data in (
            b"",
            b"\0",
            b"\0\0\1",
            b"\0\0\0\1\x67",
            b"\0\0\1\0\0\1\0\0\1",
            b"\xff" * 40,
            b"\0" * 40,
            bytes(range(256)),
        ):
            Headers(codec, None).see(data)


def test_key_frames_and_hidden_packets_are_known(make_video, cut, tmp_path):
    whole = make_video(
        tmp_path / "whole.mp4", 60, options={"g": "15", "bf": "2", "sc_threshold": "0"}
    )
    facts = inspect(whole)
    assert (
        len(facts.keys_s) == 4
        and facts.keys_s[1] == pytest.approx(0.6)
        and (facts.hidden, facts.leading, facts.num_videos) == (0, 0, 1)
    )
    hidden = inspect(cut(whole, tmp_path / "cut.mp4", 10))
    assert hidden.hidden == 10 and hidden.num_frames == 50 and not facts.interlaced


def test_a_late_start_is_no_early_end(tmp_path):
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for t, image in enumerate(
            np.random.default_rng(0).integers(0, 255, (100, 64, 96, 3), np.uint8)
        ):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 125 + t, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    facts = inspect(path)
    assert facts.problem is None and facts.num_frames == 100
    assert facts.duration_s == pytest.approx(4, abs=0.1) and facts.times_s[0] == pytest.approx(
        0, abs=0.1
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    problem = inspect(path).problem
    assert problem is not None and problem.startswith("truncated: the data end at")
