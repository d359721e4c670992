"""Probe and decoders, on sound and on damaged files."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from configs.schema import Frames
from ops.media.decode import DecodeError, attributes, count_frames, decode, decoders_for, mean_fps
from ops.media.orientation import Orientation
from ops.media.probe import inspect

FASTSTART = {"movflags": "faststart"}
ALL_KEYS = {"g": "1"}


def pixels(path, decoder=None):
    decoding = decode(path, None, decoder)
    return np.concatenate(list(decoding)), decoding


@pytest.mark.parametrize(
    "codec, ending", [("libx264", "mp4"), ("libx264", "mkv"), ("mpeg4", "avi"), ("libx265", "mp4")]
)
def test_both_decoders_agree_on_sound_files(codec, ending, make_video, tmp_path):
    path = make_video(
        tmp_path / f"a.{ending}",
        40,
        codec=codec,
        options={"x265-params": "log-level=none"} if codec == "libx265" else {},
    )
    facts = inspect(path)
    assert (facts.problem, facts.num_frames, facts.width, facts.height, facts.rotation) == (
        None,
        40,
        96,
        64,
        0,
    )
    assert float(facts.fps) == 25 and abs(facts.duration_s - 1.6) < 0.05
    first, one = pixels(path)
    second, two = pixels(path, "pyav")
    assert (one.decoder, two.decoder) == ("decord", "pyav") and first.shape == (40, 64, 96, 3)
    assert np.abs(first.astype(int) - second).mean() < 1
    assert np.allclose(one.timestamps_s, np.arange(40) / 25, atol=0.002) and np.allclose(
        two.timestamps_s, one.timestamps_s, atol=0.002
    )
    assert count_frames(path) == 40


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_stand_upright_in_both_decoders(degrees, make_video, turn, tmp_path):
    plain = make_video(tmp_path / "plain.mp4", 6)
    path = turn(make_video(tmp_path / "turned.mp4", 6), degrees)
    assert inspect(path).rotation == degrees
    expected = np.rot90(pixels(plain)[0], k=-degrees // 90, axes=(1, 2))
    for decoder in ("decord", "pyav"):
        assert np.array_equal(pixels(path, decoder)[0], expected), decoder


def test_a_cut_with_an_edit_list_goes_to_pyav(make_video, cut, tmp_path):
    whole = make_video(tmp_path / "whole.mp4", 60, options={"g": "30", "bf": "2"})
    path = cut(whole, tmp_path / "cut.mp4", 10)
    facts = inspect(path)
    assert (facts.problem, facts.num_frames, facts.num_frames_declared) == (None, 50, 60)
    assert decoders_for(facts) == ["pyav"]
    with pytest.raises(DecodeError, match="decord: 60 frames where the container shows 50"):
        decode(path, facts, "decord")
    frames, _ = pixels(path, "pyav")
    assert np.array_equal(frames, pixels(whole)[0][10:])


def test_variable_rate_keeps_its_times(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for pts in (0, 1, 2, 10, 30, 31, 60):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), pts, np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    _, decoding = pixels(path)
    assert np.allclose(decoding.timestamps_s, np.array([0, 1, 2, 10, 30, 31, 60]) / 25, atol=0.002)
    assert mean_fps(inspect(path), decoding.timestamps_s) == pytest.approx(6 / 2.4, rel=0.01)


def test_decord_only_gets_what_would_fit_into_memory(make_video, tmp_path):
    facts = inspect(make_video(tmp_path / "a.mp4", 5))
    assert decoders_for(facts) == ["decord", "pyav"]
    long = replace(facts, width=1920, height=1080, times_s=np.arange(90.0))
    assert decoders_for(long) == ["pyav"] and decoders_for(long, 256) == ["decord", "pyav"]
    assert decoders_for(replace(long, times_s=np.arange(9000.0)), 256) == ["pyav"]


def test_decord_only_gets_what_it_is_known_to_do_right(make_video, tmp_path):
    facts = inspect(make_video(tmp_path / "a.mp4", 5))
    others = [
        {"codec": "vp9"},
        {"hidden": 1},
        {"leading": 2},
        {"num_videos": 2},
        {"parameters_change": True},
        {"field_order": "top first"},
        {"pixel_format": "yuv420p10le"},
        {"width": 7680, "height": 4320},
        {"orientation": Orientation(flip_x=True)},
        {"turning": True},
        {"clock": "the clock restarts"},
        {"odd_colours": True},
    ]
    for other in others:
        assert decoders_for(replace(facts, **other)) == ["pyav"], other
    turned = replace(facts, orientation=Orientation(True, True, False))
    assert (
        turned.rotation == 90
        and decoders_for(turned) == ["decord", "pyav"]
        and decoders_for(turned, 32) == ["pyav"]
    )


@pytest.mark.parametrize("matrix, number", [("bt709", 1), ("smpte170m", 6), ("bt2020nc", 9)])
@pytest.mark.parametrize("value_range", ["tv", "pc"])
def test_colours_follow_the_matrix_and_range_of_the_file(matrix, number, value_range, tmp_path):
    """Both decoders give the colours that went in, whichever way they were coded."""
    full = value_range == "pc"
    colours = np.array([[200, 30, 40], [40, 190, 60], [50, 40, 210], [120, 120, 120]], np.float64)
    kr, kb = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}[
        matrix
    ]
    y = (colours @ [kr, 1 - kr - kb, kb])[:, None] / 255
    planes = np.concatenate(
        [y, (colours[:, 2:] / 255 - y) / (2 - 2 * kb), (colours[:, :1] / 255 - y) / (2 - 2 * kr)], 1
    )
    coded = np.round(
        planes * (255 if full else [219, 224, 224]) + [0 if full else 16, 128, 128]
    ).astype(np.uint8)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"qp": "1", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuvj420p" if full else "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = number, 2 if full else 1
        for _ in range(4):
            stripes = [
                np.repeat(np.tile(coded[:, plane], (64 >> (plane > 0), 1)), 32 >> (plane > 0), 1)
                for plane in range(3)
            ]
            image = np.concatenate([stripe.ravel() for stripe in stripes]).reshape(96, 128)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format=stream.pix_fmt)))
        output.mux(stream.encode())
    facts = inspect(path)
    assert (facts.colour_space, facts.colour_range) == (matrix, "full" if full else "limited")
    for decoder in ("decord", "pyav"):
        for short_side in (None, 32):
            frames = np.concatenate(list(decode(path, facts, decoder, short_side=short_side)))
            width = frames.shape[2]
            seen = frames[0, 8, [width // 8 + width // 4 * stripe for stripe in range(4)]]
            assert np.abs(seen - colours).max() < 5, (decoder, short_side, seen)
    said = attributes(facts, decode(path, facts, "pyav"), Frames(), "", "")["colour"]
    assert (said["matrix"], said["range"]) == (matrix, "full" if full else "limited")


def test_mpeg_ts_never_meets_decord(make_video, tmp_path):
    path = make_video(tmp_path / "a.ts", 30)
    facts = inspect(path)
    assert facts.problem is None and decoders_for(facts) == ["pyav"]
    frames, decoding = pixels(path)
    assert len(frames) == 30 and decoding.timestamps_s[0] == pytest.approx(0, abs=0.05)


def test_a_header_that_asks_for_gigabytes_is_refused_by_its_size(make_video, tmp_path):
    path = make_video(tmp_path / "a.avi", 5, codec="ffv1")
    data = bytearray(path.read_bytes())
    place = data.index(b"strf") + 8
    data[place + 4 : place + 12] = struct.pack("<ii", 16000, 16000)
    path.write_bytes(data)
    assert (
        inspect(path).problem == "a frame of 16000x16000 is too large (at most 38 million pixels)"
    )


def test_damage_has_a_true_reason(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", 90, options=ALL_KEYS, container=FASTSTART)
    whole = path.read_bytes()
    with av.open(str(path)) as opened:
        spots = [(packet.pos, packet.size) for packet in opened.demux(video=0) if packet.size]
    path.write_bytes(whole[: spots[31][0] + 5])
    assert inspect(path).problem == "truncated: 31 of 90 frames are there"
    place, size = spots[40]
    path.write_bytes(whole[:place] + b"\xff" * size + whole[place + size :])
    assert inspect(path).problem is None
    for decoder in ("decord", "pyav"):
        with pytest.raises(DecodeError) as caught:
            pixels(path, decoder)
    assert str(caught.value) == "corrupt: 89 of 90 frames decode without damage"


def test_an_mp4_without_its_index_says_so(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", 50)
    path.write_bytes(path.read_bytes()[:3000])
    problem = inspect(path).problem
    assert (
        problem is not None
        and problem.startswith("truncated: the file ends")
        and "(moov) is missing" in problem
    )


@pytest.mark.parametrize("codec, ending", [("libx264", "mkv"), ("mpeg4", "avi")])
def test_other_containers_show_an_early_end(codec, ending, make_video, tmp_path):
    path = make_video(tmp_path / f"a.{ending}", 100, codec=codec)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    problem = inspect(path).problem
    assert problem is not None and problem.startswith("truncated: the data end at"), problem


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty file"),
        (b"hello, this is text\n" * 300, "not a video file (text)"),
        (b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/secret.ts\n", "not a video file (text)"),
        (bytes(range(256)) * 40, "not a video file (Invalid data found when processing input)"),
        (b"\0" * 5000, "not a video file (Invalid data found when processing input)"),
    ],
)
def test_what_is_no_video_is_named(content, reason, tmp_path):
    (tmp_path / "a.mp4").write_bytes(content)
    assert inspect(tmp_path / "a.mp4").problem == reason
    with pytest.raises(DecodeError):
        decode(tmp_path / "a.mp4")


def test_sound_and_pictures_are_no_videos(tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    assert inspect(tmp_path / "a.png").problem == "a picture, not a video"
    with av.open(str(tmp_path / "a.wav"), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 8000), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
    assert inspect(tmp_path / "a.wav").problem == "no video stream"


def test_resizing_keeps_the_aspect_and_the_short_side(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", 5, size=(90, 160))
    whole = pixels(path)[0]
    for decoder in ("decord", "pyav"):
        small = np.concatenate(list(decode(path, None, decoder, short_side=48)))
        assert small.shape == (5, 48, 85, 3)
        pillow = np.stack(
            [
                np.asarray(Image.fromarray(frame).resize((85, 48), Image.Resampling.BILINEAR))
                for frame in whole
            ]
        )
        assert np.abs(small.astype(int) - pillow).mean() < 3
        assert list(decode(path, None, decoder, short_side=180))[0].shape == (5, 180, 320, 3)
    assert list(decode(path))[0].shape == (5, 90, 160, 3)


def test_attributes_say_where_frames_come_from(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", 5)
    facts, (_, decoding) = inspect(path), pixels(path)
    said = attributes(facts, decoding, Frames(short_side=32), "s3://b/a.mp4", "abc")
    assert (
        said["fps"] == 25
        and len(said["timestamps_s"]) == 5
        and said["decoder"] == "decord"
        and said["decoder_version"]
    )
    assert said["resize"]["short_side"] == 32 and said["colour"]["source_pixel_format"] == "yuv420p"


def test_the_pieces_are_small_whatever_the_length(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", 150, size=(32, 32))
    for decoder in ("decord", "pyav"):
        assert max(len(piece) for piece in decode(path, None, decoder)) <= 32


PEAK = """
import resource, sys
from pathlib import Path
from configs.schema import Frames
from ops.media.decode import decode
from ops.store.frames import write_frames

write_frames(sys.argv[2], decode(Path(sys.argv[1]), threads=1).pieces, Frames(), {})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow  # it encodes and decodes 3000 frames
def test_memory_does_not_grow_with_the_length(make_video, tmp_path):
    peaks = []
    for seconds in (10, 120):  # 3000 frames are 690 MB of pixels
        path = make_video(tmp_path / f"{seconds}.mp4", frames=Loop(25 * seconds))
        command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / "a.zarr")]
        peaks.append(
            int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        )
    print(f"{peaks[0]} MB for 10 s, {peaks[1]} MB for 120 s")
    assert peaks[1] < peaks[0] + 60


class Loop:
    """So many frames of 240x320, made one by one."""

    def __init__(self, length: int) -> None:
        self.shape = (length, 240, 320, 3)

    def __iter__(self):
        for t in range(self.shape[0]):
            yield np.roll(
                np.tile(np.arange(320, dtype=np.uint8)[None, :, None], (240, 1, 3)), 3 * t, axis=1
            )


MANY = """
import sys
from pathlib import Path
from ops.media.decode import decode

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024

pieces = decode(Path(sys.argv[1]), None, "pyav", threads=1).pieces
for number, piece in enumerate(pieces):
    before = resident() if number == 3 else before if number > 3 else 0  # by then two pieces have stood beside each other
print(resident() - before)
"""  # noqa: E501


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_no_frame_outlives_its_piece(make_video, turn, tmp_path):
    """PyAV never frees a frame that was asked for its side data; a film of any length must leave
    nothing behind.
    """
    frames = np.zeros((320, 360, 640, 3), np.uint8)  # 66 MB of the last 192 as they are decoded
    path = turn(make_video(tmp_path / "a.mp4", frames=frames, options={"preset": "ultrafast"}), 90)
    done = subprocess.run(
        [sys.executable, "-c", MANY, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 12, done.stdout
