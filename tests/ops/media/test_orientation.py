"""Films lie as their matrix says: turned, mirrored, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

import made_videos as made
import odd_videos as odd
from ops.media.orientation import NoQuarterTurn, Orientation, of_matrix
from ops.media.probe import inspect
from ops.store.reader import FrameReader

# what becomes of the upper left corner, [rows, columns, 3] -> the same
SHOWN = {
    (0, 0, 0, 0): lambda image: image,
    (1, 0, 0, 1): lambda image: image,
    (2, 0, 0, 1): lambda image: image,
    (-1, 0, 0, 1): lambda image: image[:, ::-1],
    (1, 0, 0, -1): lambda image: image[::-1],
    (-1, 0, 0, -1): lambda image: image[::-1, ::-1],
    (0, 1, -1, 0): lambda image: np.rot90(image, -1),
    (0, -1, 1, 0): lambda image: np.rot90(image),
    (0, 1, 1, 0): lambda image: image.swapaxes(0, 1),
    (0, -1, -1, 0): lambda image: image[::-1, ::-1].swapaxes(0, 1),
}


def stored(path, tmp_path) -> np.ndarray:
    reader = FrameReader(str(tmp_path / f"{path.name}.zarr"))
    return reader.read(range(len(reader))).astype(int)


@pytest.mark.parametrize("matrix", SHOWN)
def test_every_matrix_is_shown_as_ffmpeg_shows_it(matrix, make_video, store, tmp_path):
    plain = make_video(tmp_path / "plain.mp4", 5)
    path = odd.with_matrix(plain, tmp_path / "a.mp4", matrix, last=int(any(matrix)))
    assert store(plain)["status"] == store(path)["status"] == "ok"
    right = np.stack([SHOWN[matrix](image) for image in stored(plain, tmp_path)])
    assert (
        stored(path, tmp_path).shape == right.shape
        and np.abs(stored(path, tmp_path) - right).mean() < 2
    )
    said = FrameReader(str(tmp_path / "a.mp4.zarr")).attributes
    image = np.arange(24).reshape(4, 6)[..., None]
    upright = np.rot90(image[:, ::-1] if said["mirrored"] else image, -said["rotation"] // 90)
    assert np.array_equal(upright, SHOWN[matrix](image))


def test_the_decoder_that_shows_zeros_as_they_are_is_not_overruled(make_video, store, tmp_path):
    path = odd.with_matrix(
        make_video(tmp_path / "plain.mp4", 30), tmp_path / "a.mp4", (0, 0, 0, 0), last=0
    )
    assert store(path)["audit"] == "ok"


def test_a_turn_between_the_quarters_is_refused(make_video, store, tmp_path):
    with pytest.raises(NoQuarterTurn, match="by 45 degrees"):
        of_matrix(np.array([1, 1, 0, -1, 1, 0, 0, 0, 1]))
    path = odd.with_matrix(make_video(tmp_path / "plain.mp4", 5), tmp_path / "a.mp4", (1, 1, -1, 1))
    assert store(path)["reason"].startswith("its display matrix turns the picture by 45 degrees")


def test_exif_of_motion_jpeg_lays_the_film_and_may_not_change(store, tmp_path):
    images = made.moving(12, 64, 96)
    ways = {
        1: Orientation(),
        2: Orientation(flip_x=True),
        3: Orientation(False, True, True),
        6: Orientation(True, True),
    }
    for orientation, way in ways.items():
        path = odd.exif_pictures(tmp_path / f"{orientation}.avi", images, [orientation] * 12)
        assert inspect(path).orientation == way and store(path)["status"] == "ok"
        right = np.stack([way.apply(image) for image in images]).astype(int)
        assert np.abs(stored(path, tmp_path) - right).mean() < 4
    path = odd.exif_pictures(tmp_path / "mid.avi", images, [1] * 6 + [3] * 6)
    assert store(path)["reason"].startswith(
        "the orientation changes from 0 degrees to 180 degrees at frame 6"
    )


@pytest.mark.parametrize("at", [0, 7])
def test_a_message_that_turns_the_picture_on_the_way_is_refused(at, make_video, store, tmp_path):
    def turned(number, packet, stream):
        return (
            [odd.replaced(packet, odd.message(47, b"") + bytes(packet))]
            if number == at
            else [packet]
        )

    whole = make_video(tmp_path / "whole.mp4", 30, options={"bf": "0"})
    path = odd.remuxed(whole, tmp_path / "a.mp4", turned)
    assert inspect(path).turning and not inspect(whole).turning
    assert store(path)["reason"].startswith("the orientation changes from ")
