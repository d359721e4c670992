"""Odd kinds of video, made with ffmpeg from a clip whose frames carry their numbers: right to the
frame, or refused for a true reason.
"""

from __future__ import annotations

import time
from pathlib import Path

import av
import numpy as np
import pytest

import made_videos as made
from configs.schema import Frames
from ops.compute.pool import run_jobs
from ops.media.store_video import store_video
from ops.store.reader import FrameReader

NUM, SIZE, RATE = 60, (120, 160), 25
DEADLINE_S = 30.0
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-threads", "1"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
OPEN_264 = [
    *X264,
    "-x264-params",
    "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-pyramid=2:scenecut=0",
]
OPEN_265 = [
    *X265,
    "-x265-params",
    "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0:log-level=none",
]
CLOSED = [*X264, "-g", "12", "-bf", "2"]
BT2020 = [
    "-vf",
    "scale=out_color_matrix=bt2020:out_range=pc,format=yuv420p",
    "-colorspace",
    "bt2020nc",
    "-color_range",
    "pc",
]
EDITS = "decord does not heed the edit list"

# name: (ffmpeg's arguments after "-i clip", decoder, how the verdict begins)
ENCODED = {
    "closed.mp4": (CLOSED, "decord", "ok"),
    "open264.mp4": (OPEN_264, "decord", "ok"),
    "open265.mp4": (OPEN_265, "decord", "ok"),
    "open264.mkv": (OPEN_264, "decord", "ok"),
    "vfr.mp4": (
        ["-vf", "setpts=PTS+floor(N/7)*0.1/TB", "-fps_mode", "vfr", *CLOSED],
        "decord",
        "ok",
    ),
    "interlaced.mp4": (["-flags", "+ildct+ilme", *X264, "-x264opts", "tff=1"], "pyav", "ok"),
    "mpeg2.mkv": (
        ["-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-top", "1", "-q:v", "3"],
        "pyav",
        "unconfirmed: decord is not checked",
    ),
    "anamorphic.mp4": (["-vf", "setsar=4/3", *CLOSED], "decord", "ok"),
    "ten_bit.mp4": ([*X264[:4], "-pix_fmt", "yuv420p10le"], "pyav", "ok"),
    "odd_size.mp4": (
        ["-vf", "scale=161:121,format=yuv444p", "-c:v", "libx264", "-preset", "veryfast"],
        "decord",
        "ok",
    ),
    "odd_size.webm": (
        ["-vf", "scale=161:121", "-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"],
        "pyav",
        "ok",
    ),
    "av1.mkv": (["-c:v", "libsvtav1", "-preset", "12", "-pix_fmt", "yuv420p"], "pyav", "ok"),
    "stream.ts": (CLOSED, "pyav", "unconfirmed: decord is not sound on mpegts"),
    "one.mp4": (["-frames:v", "1", *X264], "decord", "ok: full"),
    "late.mp4": (["-output_ts_offset", "5", *CLOSED], "decord", "ok"),
    "late.mkv": (["-output_ts_offset", "5", *CLOSED], "decord", "ok"),
    "fragments.mp4": ([*CLOSED, "-movflags", "frag_keyframe+empty_moov"], "decord", "ok"),
    "bframes.avi": (["-c:v", "mpeg4", "-bf", "2", "-q:v", "3"], "decord", "ok"),
    "packed.avi": (["-c:v", "libxvid", "-bf", "2", "-q:v", "3"], "decord", "ok"),
    "lossless.mkv": (["-c:v", "ffv1"], "pyav", "unconfirmed"),
    "bt2020.mp4": ([*BT2020, *CLOSED], "decord", "ok"),
}
# name: (ffmpeg's arguments, with {} for the folder; decoder; how the verdict begins)
DERIVED = {
    "cut.mp4": ("-ss 0.7 -i {}/closed.mp4 -t 1 -c copy", "pyav", f"unconfirmed: {EDITS}"),
    "cut_open264.mp4": ("-ss 0.7 -i {}/open264.mp4 -t 1 -c copy", "pyav", f"unconfirmed: {EDITS}"),
    "cut_open265.mp4": ("-ss 0.7 -i {}/open265.mp4 -t 1 -c copy", "pyav", f"unconfirmed: {EDITS}"),
    "cut_at_key.mp4": ("-ss 0.96 -i {}/closed.mp4 -t 1 -c copy", "decord", "ok"),
    "two_streams.mp4": (
        (
            "-i {}/closed.mp4 -f lavfi -i color=s=320x240:r=25:d=1 -map 1:v -map 0:v -c:v libx264"
            " -preset ultrafast -disposition:v:0 0 -disposition:v:1 default"
        ),
        "pyav",
        "unconfirmed: decord may choose another",
    ),
    "turned.mp4": ("-display_rotation 90 -i {}/closed.mp4 -c copy", "decord", "ok"),
}
REFUSED = {
    "changes.mkv": "the frame size changes from 160x120 to 320x240 at frame 60",
    "cut_off.mp4": "truncated: ",
    "no_index.mp4": "truncated: the file ends",
    "half.mkv": "truncated: the data end at",
    "damaged.mp4": "corrupt: ",
}


@pytest.fixture(scope="module")
def folder(ffmpeg, tmp_path_factory) -> Path:
    """The variants, and those that must be refused."""
    folder = tmp_path_factory.mktemp("variants")
    clip = folder / "clip.nut"
    frames = made.numbered(NUM, *SIZE)
    with av.open(str(clip), "w") as output:
        stream = output.add_stream("ffv1", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "bgr0"
        for image in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    for name, (arguments, _, _) in ENCODED.items():
        ffmpeg(
            "-i",
            clip,
            *(
                []
                if "-vf" in arguments
                else ["-vf", "format=yuv420p10le" if "ten" in name else "format=yuv420p"]
            ),
            *arguments,
            folder / name,
        )
    for name, (arguments, _, _) in DERIVED.items():
        if name == "turned.mp4":
            made.turn(copy_of(folder / "closed.mp4", folder / name), 90)
        else:
            ffmpeg(*arguments.format(folder).split(), folder / name)
    ffmpeg("-i", clip, "-vf", "scale=320:240", *CLOSED, folder / "large.ts")
    (folder / "both.ts").write_bytes(
        (folder / "stream.ts").read_bytes() + (folder / "large.ts").read_bytes()
    )
    ffmpeg("-i", folder / "both.ts", "-c", "copy", folder / "changes.mkv")
    spoil(folder)
    return folder


def copy_of(path: Path, target: Path) -> Path:
    target.write_bytes(path.read_bytes())
    return target


def spoil(folder: Path) -> None:
    """Truncations and flipped bits."""
    closed, mkv = (folder / "closed.mp4").read_bytes(), (folder / "open264.mkv").read_bytes()
    (folder / "no_index.mp4").write_bytes(closed[: len(closed) // 2])
    (folder / "half.mkv").write_bytes(mkv[: len(mkv) // 2])
    fast = folder / "faststart.mp4"
    with (
        av.open(str(folder / "closed.mp4")) as one,
        av.open(str(fast), "w", options={"movflags": "faststart"}) as two,
    ):
        stream = one.streams.video[0]
        copied = two.add_stream_from_template(stream)
        for packet in one.demux(stream):
            if packet.dts is not None:
                packet.stream = copied
                two.mux(packet)
    data = fast.read_bytes()
    (folder / "cut_off.mp4").write_bytes(data[: len(data) * 3 // 4])
    with av.open(str(folder / "closed.mp4")) as one:
        spots = [(packet.pos, packet.size) for packet in one.demux(video=0) if packet.size > 200]
    damaged = bytearray(closed)
    for place, size in spots[1:4]:
        for at in range(place + size // 3, place + size // 3 + 24):
            damaged[at] ^= 0x5A
    (folder / "damaged.mp4").write_bytes(bytes(damaged))


@pytest.fixture(scope="module")
def outcomes(folder, tmp_path_factory) -> dict:
    """What storing each of them in the pool gives, at its own size and at 64 pixels, with the
    array's URI.
    """
    target = tmp_path_factory.mktemp("stored")
    jobs, found = [], {}
    for name in (*ENCODED, *DERIVED, *REFUSED):
        for short_side in (None, 64):
            frames = Frames(short_side=short_side, frames_per_shard=16)
            job = made.store_job(
                folder / name, target / f"{name}-{short_side}.zarr", frames, DEADLINE_S
            )
            jobs.append(type(job)((name, short_side), job.payload, DEADLINE_S))
    start = time.monotonic()
    for outcome in run_jobs(store_video, jobs, 2):
        if outcome is not None:
            assert outcome.failure is None, (outcome.job.key, outcome.failure)
            found[outcome.job.key] = {**outcome.value, "array_uri": outcome.job.payload.array_uri}
            assert outcome.value["seconds"] < DEADLINE_S
    print(f"{len(jobs)} jobs in {time.monotonic() - start:.1f} s")
    return found


def by_pyav(path: Path) -> tuple[np.ndarray, list[float]]:
    """A whole decode by PyAV alone: upright frames and their times from the start of the
    container.
    """
    images, times = [], []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        for frame in container.decode(stream):
            images.append(
                np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
            )
            times.append(
                float(frame.pts * frame.time_base) - (container.start_time or 0) / av.time_base
            )
    return np.stack(images), sorted(times)


@pytest.mark.parametrize("name", [*ENCODED, *DERIVED])
def test_right_to_the_frame(name, folder, outcomes):
    decoder, verdict = (ENCODED.get(name) or DERIVED[name])[1:]
    row = outcomes[name, None]
    assert row.get("num_frames"), row
    assert (row["decoder"], row["audit"][: len(verdict)]) == (decoder, verdict), row
    reader = FrameReader(row["array_uri"])
    stored, (expected, times) = reader.read(range(len(reader))), by_pyav(folder / name)
    assert stored.shape == expected.shape
    bright = np.abs(stored.astype(np.int16) - expected).mean((1, 2, 3))
    assert bright.max() < 4, bright.round(1)
    upright = np.rot90(stored, 1, (1, 2)) if name == "turned.mp4" else stored
    found = numbers_of(upright, expected, name)
    assert len(found) == 1 or (np.diff(found) > 0).all()
    assert name in DERIVED or found == list(range(1 if name == "one.mp4" else len(expected)))
    assert name in ("one.mp4", "packed.avi", *DERIVED) or len(found) == NUM
    said = reader.attributes
    # AVI numbers its pictures as they are decoded; PyAV gives them one late
    if name == "bframes.avi":
        times = [time - times[0] for time in times]
    if name != "packed.avi":  # PyAV gives the times of such a file in the order of its packets
        assert np.allclose(said["timestamps_s"], times, atol=0.002)
    shown = np.array(said["timestamps_s"])
    assert len(shown) == len(stored) and (np.diff(shown) > 0).all()
    if name != "vfr.mp4":  # the number that stands in the picture is the time at which it is shown
        assert np.array_equal(np.round((shown - shown[0]) * RATE), np.array(found) - found[0])


def numbers_of(stored: np.ndarray, expected: np.ndarray, name: str) -> list[int]:
    found = made.numbers(stored)
    assert found == made.numbers(
        np.rot90(expected, 1, (1, 2)) if name == "turned.mp4" else expected
    )
    return found


@pytest.mark.parametrize("name", [*ENCODED, *DERIVED])
def test_right_to_the_frame_when_scaled(name, outcomes):
    whole, small = outcomes[name, None], outcomes[name, 64]
    assert min(small["height"], small["width"]) == 64
    one, two = FrameReader(whole["array_uri"]), FrameReader(small["array_uri"])
    turned = (
        (lambda frames: np.rot90(frames, 1, (1, 2)))
        if name == "turned.mp4"
        else (lambda frames: frames)
    )
    assert made.numbers(turned(two.read(range(len(two))))) == made.numbers(
        turned(one.read(range(len(one))))
    )
    assert one.attributes["timestamps_s"] == two.attributes["timestamps_s"]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_right_is_refused_for_its_reason(name, outcomes):
    for short_side in (None, 64):
        row = outcomes[name, short_side]
        assert "num_frames" not in row and row["reason"].startswith(REFUSED[name]), row
        assert not Path(row["array_uri"]).exists()


def test_what_the_arrays_say_of_themselves(outcomes):
    said = {name: FrameReader(outcomes[name, None]["array_uri"]).attributes for name in ENCODED}
    assert said["anamorphic.mp4"]["pixel_aspect"] == [4, 3] and said["closed.mp4"][
        "pixel_aspect"
    ] == [1, 1]
    assert (
        said["interlaced.mp4"]["field_order"] == "top first"
        and said["closed.mp4"]["field_order"] == "progressive"
    )
    assert (
        said["bt2020.mp4"]["colour"]["matrix"] == "bt2020nc"
        and said["bt2020.mp4"]["colour"]["range"] == "full"
    )
    assert (
        said["closed.mp4"]["colour"]["matrix"] == "smpte170m"
        and said["closed.mp4"]["colour"]["range"] == "limited"
    )
    assert said["late.mkv"]["timestamps_s"][0] == pytest.approx(0, abs=0.1)
    gaps = np.diff(said["vfr.mp4"]["timestamps_s"])
    assert gaps.max() > 0.1 and gaps.min() < 0.05
    assert (
        said["open264.mp4"]["audit"]["decoder"] == "pyav"
        and len(said["open264.mp4"]["audit"]["frames"]) >= 9
    )
