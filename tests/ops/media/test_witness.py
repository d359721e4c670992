"""Flipped bits that the usual decoders pass over in silence: what a stricter decode, or the
container, can tell is told.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

import made_videos as made
from ops.media.headers import can_be_checked
from ops.media.whole import PIECE, joined_behind, wrong_sum
from ops.media.witness import contradiction

ROWS, SUMS, NEITHER = (
    "log-level=none:keyint=6:pools=2:" + more for more in ("wpp=1", "wpp=0:hash=1", "wpp=0")
)
QUICK = {"deadline": "realtime", "cpu-used": "8"}


def grainy(num_frames: int = 12, height: int = 192, width: int = 256) -> np.ndarray:
    grain = np.random.default_rng(0).integers(0, 40, (num_frames, height, width, 1))
    return np.clip(
        made.numbered(num_frames, height, width).astype(int) + grain - 20, 0, 255
    ).astype(np.uint8)


def flipped(source: Path, target: Path, share: float, number: int = 0) -> Path:
    """One bit of a packet is another."""
    with av.open(str(source)) as opened:
        packet = next(
            packet for place, packet in enumerate(opened.demux(video=0)) if place == number
        )
        place = packet.pos + int(packet.size * share)
    data = bytearray(source.read_bytes())
    data[place] ^= 8
    target.write_bytes(bytes(data))
    return target


@pytest.mark.parametrize(
    "codec, options, ending",
    [("libx265", {"x265-params": ROWS}, "mp4"), ("libx265", {"x265-params": SUMS}, "mp4"), ("libvpx-vp9", QUICK, "mp4"),  # noqa: E501
     ("libvpx", QUICK, "ivf")],
)  # fmt: skip
def test_a_stricter_decode_tells_of_a_flipped_bit(
    codec, options, ending, make_video, store, tmp_path
):
    whole = make_video(tmp_path / f"whole.{ending}", frames=grainy(), codec=codec, options=options)
    assert store(whole).get("num_frames") == 12
    files = [
        flipped(whole, tmp_path / f"{number}.{ending}", share, number)
        for number, share in ((0, 0.4), (4, 0.6), (7, 0.5))
    ]
    told = [
        store(path)["reason"].startswith("corrupt: a stricter decode finds damage (")
        for path in files
    ]
    assert sum(told) >= (2 if codec == "libvpx" else 3), told  # VP8 shows nine of ten


def test_only_hevc_that_says_more_than_its_pictures_is_decoded_again(make_video, tmp_path):
    for params, right in ((ROWS, True), (SUMS, True), (NEITHER, False)):
        for ending in ("mp4", "ts"):
            path = make_video(
                tmp_path / f"a.{ending}",
                frames=grainy(3),
                codec="libx265",
                options={"x265-params": params},
            )
            with av.open(str(path)) as opened:
                packet = next(opened.demux(video=0))
                assert (
                    can_be_checked(bytes(packet), opened.streams.video[0].codec_context.extradata)
                    is right
                )


@pytest.mark.parametrize("codec, options", [("libx265", {"x265-params": ROWS}), ("libvpx", QUICK)])
def test_another_conversion_is_no_contradiction(codec, options, make_video, tmp_path):
    """Stored frames that differ from the strict ones are no damage as long as both decodes give the
    same pictures.
    """
    from ops.media.probe import inspect

    path = make_video(tmp_path / "a.mkv", frames=grainy(6), codec=codec, options=options)
    assert contradiction(path, inspect(path), [1] * 6, None) == ""


def test_the_sum_of_a_cluster_is_heeded(make_video, store, tmp_path):
    options = {"x265-params": NEITHER}
    whole = make_video(tmp_path / "whole.mkv", frames=grainy(), codec="libx265", options=options)
    assert wrong_sum(whole) == "" and store(whole)["num_frames"] == 12
    reason = store(flipped(whole, tmp_path / "a.mkv", 0.5, 3))["reason"]
    assert reason.startswith("corrupt: the cluster at byte ") and reason.endswith(
        "does not have the sum (CRC-32) that stands in it"
    )
    for end in (10, 60, 600, 3000):  # a cut is told as one, and no bytes are looked for behind it
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(whole.read_bytes()[:end])
        assert wrong_sum(cut) == ""


def test_a_hole_of_zeros_is_damage(make_video, store, tmp_path):
    whole = make_video(
        tmp_path / "whole.mp4", frames=grainy(), codec="libx265", options={"x265-params": NEITHER}
    )
    with av.open(str(whole)) as opened:
        packet = max(opened.demux(video=0), key=lambda packet: packet.size)
        place = packet.pos + packet.size // 2
    data = bytearray(whole.read_bytes())
    data[place : place + 100] = bytes(100)
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(data))
    assert (
        store(path)["reason"]
        == "corrupt: 1 of 12 packets are damaged or incomplete, as the container shows"
    )


def parts(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, bytes) of an mp4's boxes."""
    found, place = [], 0
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        found.append((data[place + 4 : place + 8], data[place : place + length]))
        place += length
    return found


def test_fragments_that_are_missing_are_told(make_video, store, tmp_path):
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    whole = make_video(
        tmp_path / "whole.mp4", frames=made.numbered(40), options={"g": "10"}, container=fragments
    )
    assert store(whole)["num_frames"] == 40
    boxes = parts(whole.read_bytes())
    places = [number for number, (kind, _) in enumerate(boxes) if kind == b"moof"]
    assert len(places) == 4

    def without(*left_out: int) -> Path:
        gone = {place for number in left_out for place in (places[number], places[number] + 1)}
        path = tmp_path / "a.mp4"
        path.write_bytes(
            b"".join(data for place, (_, data) in enumerate(boxes) if place not in gone)
        )
        return path

    assert (
        store(without(1))["reason"]
        == "incomplete: by their numbers 1 fragments are missing between others, and 0.40 s of"
        " pictures"
    )
    assert store(without(1, 2))["reason"].startswith("incomplete: by their numbers 2 fragments")
    assert store(without(0))["num_frames"] == 30  # a stream that was joined late
    path = tmp_path / "b.m4s"
    path.write_bytes(b"".join(data for _, data in boxes[places[0] : places[1]]))
    assert store(path)["reason"] == "truncated: the index (moov) is missing"


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(),
    reason="the peak of a process is read where Linux shows it",
)
def test_a_long_tail_costs_no_memory(make_video, tmp_path):
    """What is left behind a film is looked through piece by piece: a worker that seems to grow by
    it would be ended.
    """
    program = (
        "import sys; from pathlib import Path; from ops.media.whole import ending, joined_behind,"
        " wrong_sum\npath = Path(sys.argv[1]); print(ending(path).cut, joined_behind(path, 5000),"
        " wrong_sum(path) or"
        " None)\nprint(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"
    )
    for ending in ("mp4", "mkv"):
        path = make_video(tmp_path / f"a.{ending}", 10)
        with open(path, "r+b") as file:
            file.truncate(128 * 2**20)
        run = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        said, kilobytes = run.stdout.splitlines()
        assert said == "None False None" and int(kilobytes) < 100 * 1024, run


def test_another_film_is_found_wherever_a_piece_ends(tmp_path):
    head = b"FLV\x01\5\0\0\0\x09\0\0\0\0"
    for place in (PIECE - 3, PIECE + 990, 2 * PIECE + 1000 - len(head) + 4, 2 * PIECE + 980):
        path = tmp_path / "a.flv"
        path.write_bytes(head + bytes(place) + head + bytes(300))
        assert joined_behind(path, 1000)
