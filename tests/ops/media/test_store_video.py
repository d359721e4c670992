"""One video's way into the store: what the second decoder says, and what becomes of decoders that
lie, hide damage or eat memory.
"""

from __future__ import annotations

import threading
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

import made_videos as made
from configs.schema import Frames
from ops.compute.memory_watch import CEILING_MB
from ops.compute.pool import run_jobs
from ops.media import decord_reader, recording
from ops.media.store_video import store_video
from ops.store.reader import FrameReader

GOPS = {"g": "12", "bf": "2"}


def stored_numbers(path: Path, tmp_path: Path) -> list[int]:
    reader = FrameReader(str(tmp_path / f"{path.name}.zarr"))
    return made.numbers(reader.read(range(len(reader))))


def test_the_other_decoder_confirms_frames_around_key_frames(make_video, store, tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=made.numbered(90), options=GOPS)
    row = store(path)
    assert (row["decoder"], row["audit"], row["num_frames"]) == ("decord", "ok", 90)
    said = FrameReader(str(tmp_path / "a.mp4.zarr")).attributes["audit"]
    assert (said["verdict"], said["decoder"]) == ("ok", "pyav")
    frames = said["frames"]
    assert (
        frames[:6] == list(range(6))
        and frames[-4:] == [86, 87, 88, 89]
        and any(30 < index < 60 for index in frames)
    )
    assert store(make_video(tmp_path / "b.mp4", 12))["audit"] == "ok: full"


@pytest.mark.parametrize("at, wrong", [(3, 4), (60, 59), (89, 88), (48, 49)])
def test_a_decoder_that_gives_another_frame_is_found_out(
    at, wrong, make_video, store, tmp_path, monkeypatch
):
    path = make_video(tmp_path / "a.mp4", frames=made.numbered(90), options=GOPS)
    right = decord_reader.batch

    def lying(reader, first, last):
        frames = right(reader, first, last)
        if first <= at < last and first <= wrong < last:
            frames[at - first] = frames[wrong - first]
        return frames

    monkeypatch.setattr(decord_reader, "batch", lying)
    # the sample reaches all of these places
    monkeypatch.setattr("ops.media.cross_check.MIDDLE", 30)
    row = store(path)
    assert row["decoder"] == "pyav" and row["audit"].startswith(
        f"corrected: decord gave another frame {at} (mean difference"
    )
    assert stored_numbers(path, tmp_path) == list(range(90))


def test_a_false_alarm_ends_in_a_whole_second_decode(make_video, store, tmp_path, monkeypatch):
    """Where seeking misleads PyAV itself, its whole decode shows that decord was right."""
    path = make_video(tmp_path / "a.mp4", frames=made.numbered(60), options=GOPS)
    monkeypatch.setattr(
        "ops.media.cross_check.pyav_frames", lambda *_: {0: np.zeros((120, 160, 3), np.int16)}
    )
    row = store(path)
    assert (row["decoder"], row["audit"], row["num_frames"]) == ("pyav", "ok: full", 60)


def test_pyav_is_confirmed_on_its_first_frames(make_video, store, tmp_path, monkeypatch):
    monkeypatch.setattr("ops.media.decode.DECORD_BYTES", 0)
    path = make_video(tmp_path / "a.mp4", frames=made.numbered(60), options=GOPS)
    row = store(path)
    assert (row["decoder"], row["audit"]) == ("pyav", "ok")
    monkeypatch.setattr(decord_reader, "times", lambda reader: np.arange(len(reader)) * 0.5)
    assert store(path)["audit"] == "unconfirmed: other times"


def test_damage_that_decord_conceals_is_heeded(make_video, store, tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=made.numbered(90), options=GOPS)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as opened:
        spots = [(packet.pos, packet.size) for packet in opened.demux(video=0) if packet.size > 150]
    place, size = spots[len(spots) // 2]
    for at in range(place + size // 3, place + size // 3 + 16):
        data[at] ^= 0x5A
    path.write_bytes(data)
    row = store(path)
    assert (
        row["reason"].startswith("corrupt: ")
        and "num_frames" not in row
        and not (tmp_path / "a.mp4.zarr").exists()
    )


@pytest.mark.parametrize("attempt, decoder, audit", [
    ("deadline", "pyav", "unconfirmed: decord: it ended by deadline"), ("memory", "pyav", "unconfirmed: decord: it ended by memory"),  # noqa: E501
    ("signal 11", "pyav", "unconfirmed: decord: it ended by signal 11"), ("signal 9", "decord", "ok: full"),  # noqa: E501
])  # fmt: skip
def test_after_a_fault_of_the_first_decoder_the_second_has_its_chance(
    attempt, decoder, audit, make_video, store, tmp_path
):
    row = store(make_video(tmp_path / "a.mp4", 12), attempt=attempt)
    assert (row["decoder"], row["audit"]) == (decoder, audit)


def peak_mb(jobs, workers: int = 1) -> tuple[dict, int]:
    """Outcomes by key, and the most memory that a process below this one has had meanwhile."""
    stop, peak = threading.Event(), [0]

    def look() -> None:
        while not stop.wait(0.005):
            for child in psutil.Process().children(recursive=True):
                try:
                    peak[0] = max(peak[0], child.memory_info().rss >> 20)
                except psutil.NoSuchProcess:
                    continue

    looking = threading.Thread(target=look)
    looking.start()
    try:
        return {
            outcome.job.key: outcome
            for outcome in run_jobs(store_video, jobs, workers)
            if outcome is not None
        }, peak[0]
    finally:
        stop.set()
        looking.join()


@pytest.mark.slow  # it encodes and decodes an hour of small video, and very large frames
@pytest.mark.timeout(900)
def test_no_length_or_size_passes_the_ceiling(ffmpeg, tmp_path):
    sources = {
        "hour.mp4": "testsrc2=s=176x144:r=25:d=3600 -preset ultrafast -g 250",
        "4k.mp4": "testsrc2=s=3840x2160:r=25:d=4 -preset ultrafast",
        "8k.mp4": "testsrc2=s=7680x4320:r=25:d=0.04 -preset ultrafast",
    }
    for name, source in sources.items():
        pattern, *options = source.split()
        ffmpeg(
            "-f",
            "lavfi",
            "-i",
            pattern,
            "-pix_fmt",
            "yuv420p",
            "-c:v",
            "libx264",
            *options,
            tmp_path / name,
        )
    for short_side in (None, 128):
        for name in sources:
            job = made.store_job(
                tmp_path / name, tmp_path / f"{name}.zarr", Frames(short_side=short_side), 600
            )
            outcomes, peak = peak_mb([job])
            print(f"{name} at {short_side or 'its own size'}: {peak} MB, {outcomes[name].value}")
            assert (
                outcomes[name].value["num_frames"]
                == {"hour.mp4": 90000, "4k.mp4": 100, "8k.mp4": 1}[name]
            )
            assert peak < CEILING_MB


@pytest.mark.parametrize("fate", ["another film", "touched", "gone"])
def test_a_file_that_changes_while_it_is_read(fate, make_video, store, tmp_path, monkeypatch):
    path, other = make_video(tmp_path / "a.mp4", 12), make_video(tmp_path / "other.mp4", 9)
    real = recording.write_frames

    def changed_meanwhile(*arguments):
        stored = real(*arguments)
        if fate == "another film":
            path.write_bytes(other.read_bytes())
        elif fate == "touched":
            path.touch()
        else:
            path.unlink()
        return stored

    monkeypatch.setattr(recording, "write_frames", changed_meanwhile)
    row = store(path)
    if fate == "touched":
        assert row["num_frames"] == 12 and not row["reason"]
    else:
        assert row["reason"] == "the file changed while it was read; ingest again"
        assert not (tmp_path / "a.mp4.zarr").exists()


@pytest.mark.parametrize("ending", ["mjpeg", "MJPG"])
def test_a_bare_film_of_jpegs_is_no_picture(ending, make_video, store, tmp_path):
    film = make_video(
        tmp_path / "a.avi",
        frames=made.numbered(20),
        codec="mjpeg",
        options={"strict": "unofficial"},
    )
    with av.open(str(film)) as opened:
        pictures = [bytes(packet) for packet in opened.demux(video=0) if packet.size]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"".join(pictures))
    assert store(path).get("num_frames") == 20
    path.write_bytes(pictures[0])
    assert store(path).get("num_frames") == 1
