"""The second decoder's word on a decode that has just ended: count, times and a sample of frames,
for about a tenth of its cost.

PyAV confirms decord around key frames, which it can reach without decoding what lies before: the
first frames, some after a key frame in the middle, and the last ones where the last key frame is
not too far from them. decord confirms PyAV on the first frames alone: it is not to be trusted on
any others out of order. Where another decoder cannot be trusted at all, the verdict says
"unconfirmed" and why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np

from ops.media.containers import open_film
from ops.media.decode import unsound
from ops.media.decoding import DecodeError, Decoding, scaled_size
from ops.media.probe import Facts

FULL = 24  # a video of so few frames is compared whole
HEAD, MIDDLE, TAIL = 6, 3, 4  # frames of each place that are compared
BUDGET = 0.1  # share of the frames that may be decoded to reach the last ones
GRID = 128  # about so many points per side are compared
# Mean differences in grey levels, of brightness and of the three colours: where the decoders scale,
# they place half-resolution colour samples a little differently (0.1 to 0.3 and 0.3 to 3 measured);
# frames of a film that follow each other differ by 1.4 to 10.
TOLERANCE, COLOUR_TOLERANCE = 1.0, 8.0
NOISE = 0.5  # up to here two decoders' frames are the same; beyond, a neighbour must not fit better
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
TIME_TOLERANCE_S = 0.002
# decord runs ahead of its reader by tens of frames while the first ones are read
DECORD_FRAME_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Place:
    """Frames first..last (indices), reached from the key frame at `key_s`."""

    key_s: float
    first: int
    last: int


@dataclass(frozen=True)
class CrossCheck:
    """`text` goes into the ledger: "ok", "ok: full", "unconfirmed: <why>", "corrected: <how>".
    `wrong` is what does not agree, or "".
    """

    text: str
    by: str = ""
    frames: tuple[int, ...] = ()
    wrong: str = ""

    def attribute(self) -> dict[str, object]:
        """What is stored beside the frames."""
        return {"verdict": self.text, "decoder": self.by, "frames": list(self.frames)}


@dataclass
class Sample:
    """Frames of the first decoder that wait for the second one's word, by index, thinned out to a
    grid of points.
    """

    places: list[Place]
    kept: dict[int, np.ndarray] = field(default_factory=dict)

    def tee(self, pieces: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """Passes the pieces on and keeps what is in the sample."""
        first = 0
        for piece in pieces:
            for place in self.places:
                for index in range(
                    max(place.first, first), min(place.last + 1, first + len(piece))
                ):
                    self.kept[index] = thinned(piece[index - first])
            first += len(piece)
            yield piece


def thinned(frame: np.ndarray) -> np.ndarray:
    """Every so many'th point of a frame [H, W, 3], as int16."""
    step = max(1, min(frame.shape[:2]) // GRID)
    return frame[::step, ::step].astype(np.int16)


def sample_of(facts: Facts, decoder: str) -> Sample:
    """What to compare of a video that `decoder` decodes."""
    count = facts.num_frames
    start = float(facts.times_s[0])
    if count <= FULL:
        return Sample([Place(start, 0, count - 1)])
    places = [Place(start, 0, HEAD - 1)]
    keys = np.searchsorted(facts.times_s, facts.keys_s - TIME_TOLERANCE_S / 2)
    keys = keys[keys >= HEAD]
    if decoder != "decord" or not len(keys):
        return Sample(places)
    middle, last = int(keys[np.abs(keys - count // 2).argmin()]), int(keys[-1])
    places.append(Place(float(facts.times_s[middle]), middle, min(middle + MIDDLE, count) - 1))
    if count - last <= max(FULL, BUDGET * count):
        places.append(Place(float(facts.times_s[last]), max(last, count - TAIL), count - 1))
    return Sample(places)


def cross_check(
    path: Path, facts: Facts, decoding: Decoding, sample: Sample, short_side: int | None
) -> CrossCheck:
    """Asks the decoder that did not do this decode. Raises MemoryError."""
    if decoding.num_frames < facts.num_frames:
        if facts.begins_inside:
            lost = facts.num_frames - decoding.num_frames
            return CrossCheck(
                f"unconfirmed: it begins before its first key frame, and {lost} frames are lost"
            )
        return CrossCheck(
            f"unconfirmed: {decoding.num_frames} frames from {facts.num_frames} packets"
        )
    other = "pyav" if decoding.decoder == "decord" else "decord"
    why_not = unsound(facts, short_side) if other == "decord" else ""
    height, width = scaled_size((facts.height, facts.width), short_side)
    if other == "decord" and height * width * 3 > DECORD_FRAME_BYTES:
        why_not = "frames of this size would fill the memory with what decord reads ahead"
    if why_not:
        return CrossCheck(f"unconfirmed: {why_not}")
    try:
        second = (
            pyav_frames(path, facts, sample, short_side)
            if other == "pyav"
            else decord_frames(path, facts, sample, short_side)
        )
    except Disagreement as error:
        return CrossCheck(f"unconfirmed: {error}", other, (), str(error))
    except DecodeError as error:
        return CrossCheck(f"unconfirmed: {error}", other)
    wrong = first_difference(sample.kept, second)
    frames = tuple(sorted(set(second) & set(sample.kept)))
    if wrong:
        return CrossCheck(f"unconfirmed: {other} gave {wrong}", other, frames, wrong)
    if not frames:
        return CrossCheck(f"unconfirmed: {other} reached no frame of the sample", other)
    return CrossCheck("ok: full" if len(frames) == decoding.num_frames else "ok", other, frames)


class Disagreement(DecodeError):
    """The two decoders do not show the same video."""


def first_difference(
    one: dict[int, np.ndarray], two: dict[int, np.ndarray], tolerance: float = TOLERANCE
) -> str:
    """The first frame that is not the same in both, in words; "" for none. A frame that fits its
    neighbour better is another frame.
    """
    for index in sorted(set(one) & set(two)):
        if one[index].shape != two[index].shape:
            return (
                f"frame {index} as {two[index].shape[:2]} where {one[index].shape[:2]} was stored"
            )
        off = brightness_difference(one[index], two[index])
        beside = [
            brightness_difference(one[index], two[near])
            for near in (index - 1, index + 1)
            if near in two
        ]
        if off > tolerance or (off > NOISE and any(near < off / 2 for near in beside)):
            return f"another frame {index} (mean difference {off:.1f})"
        if (colour := float(np.abs(one[index] - two[index]).mean())) > COLOUR_TOLERANCE:
            return f"other colours in frame {index} (mean difference {colour:.1f})"
    return ""


def brightness_difference(one: np.ndarray, two: np.ndarray) -> float:
    """Mean absolute difference of two frames' brightness, grey levels."""
    return float(np.abs((one - two) @ LUMA).mean()) if one.shape == two.shape else float("inf")


def pyav_frames(
    path: Path, facts: Facts, sample: Sample, short_side: int | None
) -> dict[int, np.ndarray]:
    """The sample's frames by PyAV. Raises Disagreement for damage, or a frame at a time that no
    packet has.
    """
    from ops.media.pyav_reader import video

    found: dict[int, np.ndarray] = {}
    with open_film(path) as container:
        stream = video(container, 1)
        for number, place in enumerate(sample.places):
            if number:
                try:
                    container.seek(
                        round((place.key_s + facts.start_s) / stream.time_base), stream=stream
                    )
                except av.error.FFmpegError:  # no index to seek by
                    continue
            more, orderly = _frames_of(container, stream, facts, place, short_side)
            if not orderly and number:
                continue
            found |= more
            # packed B-frames: their times stand with the wrong frames, so that none is found again
            # by its time
            if not orderly:
                break
    return found


def _frames_of(
    container: Any, stream: Any, facts: Facts, place: Place, short_side: int | None
) -> tuple[dict[int, np.ndarray], bool]:
    """Frames of a place, by index, counted from the key frame on; and whether their times rise as
    they should.
    """
    from ops.media.pyav_reader import frames, upright

    found: dict[int, np.ndarray] = {}
    times: list[float] = []
    key = _index_at(place.key_s, facts)
    most = 2 * max(FULL, BUDGET * facts.num_frames)  # a seek that lands far too early is given up
    for count, frame in enumerate(frames(container, stream)):
        if count > most:
            break
        if frame is not None and frame.pts is None:
            raise DecodeError("pyav gives its frames no times")
        time = float(frame.pts * frame.time_base) - facts.start_s if frame is not None else None
        if not times and (time is None or time < place.key_s - TIME_TOLERANCE_S):
            continue  # before the key frame: not to be decoded without what lies before it
        if time is None or frame.is_corrupt:
            raise Disagreement(f"damage after {place.key_s:.2f} s")
        times.append(time)
        index = key + len(times) - 1
        if place.first <= index <= place.last:
            found[index] = thinned(upright(frame, short_side))
        if index >= place.last:
            break
    orderly = times == sorted(times)
    expected = facts.times_s[key : key + len(times)]
    if orderly and (
        len(expected) < len(times)
        or np.abs(np.array(times) - expected).max(initial=0.0) > TIME_TOLERANCE_S
    ):
        raise Disagreement(f"other times after {place.key_s:.2f} s")
    return found, orderly


def _index_at(time: float, facts: Facts) -> int:
    return int(np.abs(facts.times_s - time).argmin())


def decord_frames(
    path: Path, facts: Facts, sample: Sample, short_side: int | None
) -> dict[int, np.ndarray]:
    """The first frames by decord. Raises Disagreement where it counts or times the frames
    otherwise, DecodeError where it fails.
    """
    from ops.media import decord_reader

    reader = decord_reader.opened(path, facts, short_side, 1)
    if len(reader) != facts.num_frames:
        raise Disagreement(f"{len(reader)} frames where {facts.num_frames} packets are")
    times = decord_reader.times(reader)
    if np.abs(times - (facts.times_s - facts.times_s[0])).max() > TIME_TOLERANCE_S:
        raise Disagreement("other times")
    head = decord_reader.batch(reader, 0, sample.places[0].last + 1)
    return {index: thinned(frame) for index, frame in enumerate(head)}
