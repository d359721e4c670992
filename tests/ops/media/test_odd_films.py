"""Films as recorders, editors and broken transfers leave them: right to the frame and its time, or
one row with its reason.
"""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

import made_videos as made
import odd_videos as odd
from configs.schema import Frames
from ops.media.boxes import auxiliary_tracks
from ops.media.colours import made_plain, matrix_of
from ops.media.damage import damage_in
from ops.media.ingest import ingest
from ops.media.materialize import materialize
from ops.media.probe import inspect
from ops.store.reader import FrameReader, read_manifest

GOPS = {"g": "12", "bf": "2", "sc_threshold": "0"}
QUICK = {"deadline": "realtime", "cpu-used": "8"}
STEP = 0.04


def told(path: Path, tmp_path: Path) -> tuple[list[int], list[float]]:
    """The stored frames' numbers and times."""
    reader = FrameReader(str(tmp_path / f"{path.name}.zarr"))
    return made.numbers(reader.read(range(len(reader)))), reader.attributes["timestamps_s"]


def grainy(num_frames: int) -> np.ndarray:
    """Numbered frames with detail enough for pictures of several transport packets."""
    grain = np.random.default_rng(0).integers(0, 40, (num_frames, 120, 160, 1))
    return np.clip(made.numbered(num_frames).astype(int) + grain - 20, 0, 255).astype(np.uint8)


# ------------------------------------------------------------------ no video ends the run
def test_no_error_of_one_video_ends_the_run(dataset, layout, videos, make_video):
    make_video(videos / "a.mp4", 8)
    for name in ("YCgCo", "bt2020c", "ICtCp"):
        make_video(videos / f"m_{name}.mp4", 8, options={"x264-params": f"colormatrix={name}"})
    make_video(videos / "n.mp4", 4, size=(16, 8192))
    make_video(videos / "z.mp4", 8)
    dataset = dataset.model_copy(update={"frames": Frames(short_side=256, frames_per_shard=8)})
    report = ingest(dataset, layout, workers=1)
    materialize(dataset, layout, workers=1)
    rows = {row["video_id"]: row for row in read_manifest(layout, dataset).to_pylist()}
    assert {name for name, row in rows.items() if row["status"] == "ok"} == {
        "a",
        "m_bt2020c",
        "z",
    } and report.found == 6
    assert (
        rows["m_YCgCo"]["reason"]
        == "its colours are by a matrix that has no conversion to RGB here (ycgco, 8 in ITU-T"
        " H.273)"
    )
    assert rows["m_ICtCp"]["reason"].startswith("its colours are by a matrix")
    assert (
        rows["n"]["reason"]
        == "a frame of 131072x256 as stored is too long (JPEG holds at most 65500 pixels a side)"
    )
    assert FrameReader(rows["m_bt2020c"]["array_uri"]).attributes["colour"]["matrix"] == "bt2020nc"


def test_what_nobody_reckoned_with_is_a_row_that_shows_where(
    make_video, store, tmp_path, monkeypatch
):
    path = make_video(tmp_path / "a.ts", 8)
    monkeypatch.setattr("ops.media.pyav_reader.scaled_size", lambda *_: (0, "wide"))
    row = store(path)
    assert (
        row["reason"].startswith("pyav: unforeseen TypeError: ")
        and "(decoding.py:" in row["reason"]
    )
    assert not (tmp_path / "a.ts.zarr").exists()
    monkeypatch.setattr("ops.media.probe.ending", lambda _: 1 / 0)
    assert store(path)["reason"].startswith(
        "unforeseen ZeroDivisionError: division by zero (probe.py:"
    )


# ------------------------------------------------------------------ damage
def test_what_tells_of_damage_and_what_does_not():
    log = (
        "[h264 @ 0x55d0] missing picture in access unit with size 23\n[12:00:00]"
        " /build/src/a.cc:12: [hevc @ 0x1] no frame!\n"
    )
    assert damage_in(log, "mov", 100) == ""
    assert (
        damage_in(log + "[hevc @ 0x7f] Could not find ref with POC 51\n", "mov", 100)
        == "Could not find ref with POC 51"
    )
    trailer = (
        "[matroska,webm @ 0x1] 0x00 at pos 1234 (0x4d2) invalid as first byte of an EBML number"
    )
    assert damage_in(trailer, "matroska,webm", 1000) == ""
    assert damage_in(trailer, "matroska,webm", 2000, only=True).startswith("0x00 at pos 1234")
    assert damage_in("[vp9 @ 0x1] Invalid data", "matroska,webm", 0, only=True) == ""
    assert (
        damage_in(
            "[12:00:00] /build/src/a.cc:9: [/home/me/a [1].mp4]You have lost frames", "mov", 9
        )
        == "You have lost frames"
    )


@pytest.mark.parametrize(
    "codec, at",
    [("libx264", 0.3), ("libx264", 0.6), ("libx265", 0.45), ("libx265", 0.75), ("mpeg2video", 0.5)],
)
def test_lost_transport_packets_are_damage(codec, at, make_video, store, tmp_path):
    options = {
        "g": "12",
        **({"x265-params": "log-level=none:keyint=12"} if codec == "libx265" else {}),
    }
    whole = make_video(tmp_path / "whole.ts", frames=grainy(36), codec=codec, options=options)
    assert store(whole)["num_frames"] == 36
    assert store(odd.transport_packets_lost(whole, tmp_path / "a.ts", at))["reason"].startswith(
        "corrupt: "
    )


@pytest.mark.parametrize(
    "codec, ending",
    [("libvpx-vp9", "ivf"), ("libx264", "flv"), ("mpeg4", "avi"), ("libx264", "h264")],
)
def test_a_torn_last_picture_is_damage(codec, ending, make_video, store, tmp_path):
    options = QUICK if codec == "libvpx-vp9" else {}
    whole = make_video(
        tmp_path / f"whole.{ending}", frames=grainy(20), codec=codec, options=options
    )
    assert store(whole)["num_frames"] == 20
    reason = store(odd.cut_in_last_packet(whole, tmp_path / f"cut.{ending}"))["reason"]
    assert reason.startswith(("corrupt: ", "truncated: ")), reason


def test_what_a_demuxer_skips_is_damage(make_video, store, tmp_path):
    whole = make_video(tmp_path / "whole.mkv", frames=grainy(60), options=GOPS)
    data = whole.read_bytes()
    half = len(data) // 2
    for name, changed in {
        "hole": data[:half] + data[half + 1500 :],
        "zeros": data[:half] + bytes(1500) + data[half + 1500 :],
    }.items():
        (tmp_path / f"{name}.mkv").write_bytes(changed)
        assert store(tmp_path / f"{name}.mkv")["reason"].startswith(("corrupt: ", "truncated: "))


def test_no_decoder_overrules_another(make_video, store, tmp_path, monkeypatch):
    """decord writes of damage that PyAV does not see: the video is refused, whatever PyAV gives."""
    path, heard = make_video(tmp_path / "a.mp4", 12), list[str]()

    def of_the_first(text, demuxer, reach):
        heard.append(damage_in(text, demuxer, reach))
        return "a bad block" if len(heard) == 1 else heard[-1]

    monkeypatch.setattr("ops.media.recording.damage_in", of_the_first)
    assert store(path)["reason"] == "corrupt: decord reports damage (a bad block)"
    assert heard == ["", ""] and not (tmp_path / "a.mp4.zarr").exists()


# ------------------------------------------------------------------ the stream that is the film
@pytest.mark.parametrize("alpha_first", [True, False])
def test_alpha_is_not_the_film(alpha_first, store, tmp_path):
    alpha = np.repeat(np.random.default_rng(0).integers(0, 255, (10, 120, 160, 1), np.uint8), 3, 3)
    path = odd.two_tracks(tmp_path / "a.mp4", made.numbered(10), alpha, alpha_first)
    assert auxiliary_tracks(path) == {1 if alpha_first else 2}
    assert store(path)["num_frames"] == 10 and told(path, tmp_path)[0] == list(range(10))


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_messages_alone_are_no_lost_pictures(ending, make_video, store, tmp_path):
    def between(number, packet, stream):
        if number % 6 != 3:
            return [packet]
        extra = odd.replaced(packet, odd.message(5, b""))
        extra.pts, extra.dts, extra.is_keyframe = (
            packet.pts + packet.duration // 2,
            packet.dts + packet.duration // 2,
            False,
        )
        return [packet, extra]

    whole = make_video(tmp_path / "whole.mp4", frames=made.numbered(36), options=GOPS)
    path = odd.remuxed(whole, tmp_path / f"a.{ending}", between)
    row = store(path)
    assert row.get("num_frames") == 36 and told(path, tmp_path)[0] == list(range(36)), row
    assert inspect(path).num_frames == 36


@pytest.mark.parametrize("ending", ["264", "mkv", "mp4", "ts"])
def test_field_pictures_are_frames(ending, store, tmp_path):
    brightness = made.numbered(8, 96, 192)[..., 1]
    path = odd.field_pictures(tmp_path / "fields.264", brightness)
    if ending != "264":
        path = retimed(path, tmp_path / f"fields.{ending}")
    row = store(path)
    assert row.get("num_frames") == 8, row
    numbers, times = told(path, tmp_path)
    assert numbers == list(range(8)) and np.allclose(times, np.arange(8) * STEP, atol=0.002)
    assert inspect(path).duration_s == pytest.approx(8 * STEP, abs=STEP)


def retimed(source: Path, target: Path) -> Path:
    """A bare stream in a container, its packets (fields) a 50th of a second apart."""

    def stamped(number, packet, stream):
        packet.pts = packet.dts = round(number / 50 / packet.time_base)
        return [packet]

    return odd.remuxed(source, target, stamped)


def test_raw_pictures_of_16_bits_keep_their_bytes_in_order(store, tmp_path):
    for name in ("rgb555be", "rgb565be", "rgb555le"):
        path = tmp_path / f"{name}.nut"
        with av.open(str(path), "w") as output:
            stream = output.add_stream("rawvideo", rate=25)
            stream.height, stream.width, stream.pix_fmt = 120, 160, name
            for image in made.numbered(6):
                little = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                    format=name.replace("be", "le")
                )
                frame = av.VideoFrame(160, 120, name)
                words = np.frombuffer(bytes(little.planes[0]), np.uint8).reshape(-1, 2)
                frame.planes[0].update((words[:, ::-1] if name.endswith("be") else words).tobytes())
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        assert store(path)["num_frames"] == 6 and told(path, tmp_path)[0] == list(range(6)), name
        stored = FrameReader(str(tmp_path / f"{name}.nut.zarr")).read(range(6))
        assert np.abs(stored.astype(int) - made.numbered(6)).mean() < 8, name


# ------------------------------------------------------------------ clocks
@pytest.mark.parametrize(
    "codec, ending",
    [("libx264", "ts"), ("mpeg2video", "mpg"), ("libvpx", "webm"), ("libx264", "mkv")],
)
def test_parts_joined_by_cat_follow_each_other(codec, ending, make_video, store, tmp_path):
    options = {
        **(QUICK if codec == "libvpx" else {}),
        "g": "12",
        **({"bf": "2"} if codec != "libvpx" else {}),
    }
    parts = [
        make_video(
            tmp_path / f"{n}.{ending}",
            frames=made.numbered(24, first=24 * n),
            codec=codec,
            options=options,
        )
        for n in (0, 1)
    ]
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    row = store(path)
    assert row.get("num_frames") == 48 and row["fps"] == pytest.approx(25), row
    numbers, times = told(path, tmp_path)
    assert numbers == list(range(48)) and np.allclose(times, np.arange(48) * STEP, atol=0.002)
    assert inspect(path).duration_s == pytest.approx(48 * STEP, abs=0.002)


@pytest.mark.parametrize("ending", ["mp4", "flv", "webm"])
def test_films_that_no_demuxer_reaches_are_told(ending, make_video, store, tmp_path):
    codec = "libvpx" if ending == "webm" else "libx264"
    part = make_video(
        tmp_path / f"part.{ending}", 24, codec=codec, options=QUICK if codec == "libvpx" else {}
    )
    path = tmp_path / f"joined.{ending}"
    path.write_bytes(part.read_bytes() * 3)
    assert store(path)["reason"].startswith("several films behind each other in one file: only ")
    path.write_bytes(part.read_bytes() + bytes(5000))  # what a tool has left
    assert "num_frames" in store(path)


@pytest.mark.parametrize(
    "codec, ending",
    [("libx264", "avi"), ("mpeg4", "avi"), ("libx264", "h264"), ("mpeg2video", "m2v")],
)
def test_containers_without_times_begin_at_zero_and_have_a_length(
    codec, ending, make_video, store, tmp_path
):
    path = make_video(
        tmp_path / f"a.{ending}",
        frames=made.numbered(40),
        codec=codec,
        options={"g": "12", "bf": "2"},
    )
    assert store(path)["num_frames"] == 40
    numbers, times = told(path, tmp_path)
    assert numbers == list(range(40)) and np.allclose(times, np.arange(40) * STEP, atol=0.002)
    assert inspect(path).duration_s == pytest.approx(1.6, abs=0.001)


@pytest.mark.parametrize("codec, ending, factor", [("mpeg4", "avi", 10), ("libx264", "mkv", 10)])
def test_a_whole_film_is_stored_whatever_its_header_claims(
    codec, ending, factor, make_video, store, tmp_path
):
    whole = make_video(tmp_path / f"whole.{ending}", frames=made.numbered(60), codec=codec)
    path = odd.lengthened(whole, tmp_path / f"a.{ending}", factor)
    assert store(path).get("num_frames") == 60
    assert inspect(path).duration_s == pytest.approx(2.4, abs=0.002) == inspect(whole).duration_s
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert inspect(path).problem is not None


def test_a_media_header_that_lies_does_not_shorten_the_film(make_video, tmp_path):
    whole = make_video(tmp_path / "whole.mp4", 60)
    assert inspect(odd.with_media_scale(whole, tmp_path / "a.mp4", 30)).duration_s == pytest.approx(
        2.4, abs=0.001
    )


def test_sound_that_lasts_longer_does_not_lengthen_the_film(tmp_path):
    for ending in ("mkv", "mp4", "avi"):
        path = tmp_path / f"a.{ending}"
        with av.open(str(path), "w") as output:
            film, sound = (
                output.add_stream("mpeg4", rate=25),
                output.add_stream("ac3", rate=48000, layout="mono"),
            )
            film.height, film.width, film.pix_fmt = 64, 96, "yuv420p"
            for image in made.moving(25, 64, 96):
                output.mux(film.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            output.mux(film.encode())
            for number in range(150):
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1536), np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = 48000, 1536 * number
                output.mux(sound.encode(frame))
            output.mux(sound.encode())
        facts = inspect(path)
        assert facts.problem is None and facts.duration_s == pytest.approx(
            1.0 + facts.times_s[0], abs=0.03
        ), ending


def test_a_single_wild_stamp_is_put_between_its_neighbours(make_video, store, tmp_path):
    def wild(number, packet, stream):
        packet.pts += round(300 / packet.time_base) if number == 30 else 0
        return [packet]

    path = odd.remuxed(
        make_video(tmp_path / "whole.mp4", frames=made.numbered(60), options=GOPS),
        tmp_path / "a.mp4",
        wild,
    )
    assert inspect(path).clock == "a wild stamp" and inspect(path).duration_s == pytest.approx(
        2.4, abs=0.1
    )
    assert store(path)["num_frames"] == 60
    numbers, times = told(path, tmp_path)
    assert numbers == list(range(60)) and np.allclose(times, np.arange(60) * STEP, atol=0.025)


def test_frames_that_share_one_time_are_all_there(make_video, store, tmp_path):
    def at_zero(number, packet, stream):
        packet.pts = packet.dts = 0
        return [packet]

    path = odd.remuxed(
        make_video(tmp_path / "whole.mp4", frames=made.numbered(30)), tmp_path / "a.mkv", at_zero
    )
    assert store(path).get("num_frames") == 30
    assert told(path, tmp_path)[0] == list(range(30))


def test_unknown_matrices_go_by_none_at_all():
    """A reserved number says nothing: the picture is converted as one without a word on its
    matrix.
    """
    assert [matrix_of(number, 2) for number in (1, 3, 10, 12, 99)] == [
        1,
        2,
        9,
        None,
        2,
    ] and matrix_of(12, 9) == 9
    frame = av.VideoFrame.from_ndarray(made.moving(1, 64, 96)[0], format="rgb24").reformat(
        format="yuv420p"
    )
    right = frame.to_ndarray(format="rgb24")
    frame.colorspace, frame.color_range = 3, 4
    assert np.array_equal(made_plain(frame).to_ndarray(format="rgb24"), right)
