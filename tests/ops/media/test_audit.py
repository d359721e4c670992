"""Stored frames against a whole second decode."""

from __future__ import annotations

import av
import numpy as np
import pytest

import made_videos as made
from configs.schema import Frames
from ops.media.audit import compare
from ops.media.cross_check import first_difference, sample_of, thinned
from ops.media.decode import decode
from ops.media.probe import inspect
from ops.store.frames import write_frames
from ops.store.reader import FrameReader


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("short_side", [None, 64])
def test_every_frame_is_compared(decoder, short_side, make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", frames=made.numbered(50), options={"g": "12"})
    frames = np.concatenate(list(decode(path, None, decoder, short_side=short_side)))
    config = Frames(short_side=short_side, frames_per_shard=16)
    about = {"resize": None if short_side is None else {"short_side": short_side}}

    def verdict(stored: np.ndarray) -> tuple[int, str]:
        write_frames(str(tmp_path / "a.zarr"), stored, config, about)
        return compare(path, FrameReader(str(tmp_path / "a.zarr")), decoder)

    other = {"decord": "pyav", "pyav": "decord"}[decoder]
    assert verdict(frames) == (50, "")
    assert verdict(frames[:49]) == (50, f"{decoder} gave 49 frames, {other} 50")
    wrong = frames.copy()
    wrong[31] = frames[30]
    assert verdict(wrong)[1].startswith(f"{other} gave another frame 31 (mean difference ")


def test_strong_colours_are_no_mismatch(tmp_path):
    """A JPEG has its colours at half resolution: what that costs is no difference between two
    decodes.
    """
    checks = np.indices((64, 96)).sum(0) % 2
    frames = np.repeat(
        np.stack([255 * checks, 255 * (1 - checks), np.full_like(checks, 128)], -1)[None].astype(
            np.uint8
        ),
        4,
        0,
    )
    path, stored = tmp_path / "a.mkv", str(tmp_path / "a.zarr")
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "bgr0"
        for image in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    write_frames(
        stored,
        np.concatenate(list(decode(path, None, "pyav"))),
        Frames(frames_per_shard=16),
        {"resize": None},
    )
    assert compare(path, FrameReader(stored), "decord") == (4, "")


def test_a_frame_that_fits_its_neighbour_better_is_another_frame():
    frames = {index: np.full((8, 8, 3), 100 + 2 * index, np.int16) for index in range(3)}
    assert first_difference(frames, frames) == ""
    # decoders may differ by so much
    assert first_difference({1: frames[1] + 1}, {1: frames[1]}) == ""
    close = {index: np.full((8, 8, 3), 100 + index, np.int16) for index in range(3)}
    assert first_difference({1: close[2]}, close) == "another frame 1 (mean difference 1.0)"
    assert first_difference({1: frames[1] + [30, -15, 0]}, frames).startswith(
        "other colours in frame 1"
    )
    assert (
        first_difference({1: frames[1][:4]}, frames) == "frame 1 as (8, 8) where (4, 8) was stored"
    )


def test_the_sample_is_small_and_cheap_to_reach(make_video, tmp_path):
    facts = inspect(
        make_video(tmp_path / "a.mp4", 240, options={"g": "60", "bf": "2", "sc_threshold": "0"})
    )
    places = sample_of(facts, "decord").places
    assert (
        (places[0].first, places[0].last) == (0, 5)
        and places[1].first in (60, 120, 180)
        and len(places) == 2
    )  # the end is 60 frames off
    assert [(place.first, place.last) for place in sample_of(facts, "pyav").places] == [(0, 5)]
    assert thinned(np.zeros((1080, 1920, 3), np.uint8)).shape == (135, 240, 3)
