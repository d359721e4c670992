"""Frames into H.264 mp4, and the damaged files that every real collection has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

DAMAGES = ("no_index", "cut_short", "empty", "audio_only", "text", "noise")
"""mp4 without its index (lost end), mp4 with its index first and its end lost, zero bytes, sound
without pictures, a text, random bytes.
"""


class Coding(NamedTuple):
    """How one video is encoded: constant rate factor, longest distance of key frames, B-frames,
    index at the front of the file.
    """

    crf: int
    gop: int
    bframes: int
    faststart: bool


def draw_coding(rng: np.random.Generator, fps: int) -> Coding:
    """Settings as different as those of real collections."""
    return Coding(
        int(rng.integers(17, 23)),
        int(rng.choice([fps // 2, fps, 2 * fps, 250])),
        int(rng.integers(0, 4)),
        bool(rng.random() < 0.5),
    )


def replace_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is never seen half-written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: int, coding: Coding) -> int:
    """Encode a video as H.264 yuv420p; returns the number of its frames. Same frames, same bytes.

    Args:
        path: of the file, seen whole or not at all; its folder is made.
        frames: uint8 [height, width, 3] RGB of one size, both even.
        fps: frames per second, constant.
        coding: quality, key frames and B-frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    number = 0
    flags = {"movflags": "+faststart"} if coding.faststart else {}
    with av.open(str(temporary), "w", format="mp4", options=flags) as container:
        stream = None
        for pixels in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps))
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                # One thread: the bytes must not depend on the machine.
                stream.codec_context.thread_count = 1
                # No macroblock tree: on pictures this small x264's vector code for it reads past
                # its rows, and the bytes vary.
                settings: dict[str, object] = {
                    "preset": "veryfast",
                    "mbtree": "0",
                    "crf": str(coding.crf),
                    "g": str(coding.gop),
                    "bf": str(coding.bframes),
                }
                stream.options = settings
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            frame.time_base = Fraction(1, fps)
            container.mux(stream.encode(frame))
            number += 1
        if stream is not None:
            container.mux(stream.encode())
    os.replace(temporary, path)
    return number


def _sound(path: Path, seconds: float) -> None:
    rate = 16000
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    with av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate)
        wave = (0.2 * np.sin(2 * np.pi * 330 * np.arange(int(rate * seconds)) / rate)).astype(
            np.float32
        )
        for start in range(0, len(wave) - 1023, 1024):
            frame = av.AudioFrame.from_ndarray(
                wave[None, start : start + 1024], format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    os.replace(temporary, path)


def write_damaged(
    path: Path, damage: str, frames: Iterable[np.ndarray], fps: int, rng: np.random.Generator
) -> None:
    """Write one damaged .mp4.

    Args:
        path: of the file; its folder is made.
        damage: one of DAMAGES.
        frames: those that a whole file would hold, as `write_mp4` takes them.
        fps: frames per second.
        rng: draws what is noise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if damage in ("no_index", "cut_short"):
        write_mp4(path, frames, fps, Coding(20, fps // 2, 0, damage == "cut_short"))
        whole = path.read_bytes()
        replace_whole(path, whole[: len(whole) * (60 if damage == "cut_short" else 70) // 100])
    elif damage == "audio_only":
        _sound(path, 2.0)
    else:
        data = {
            "empty": b"",
            "text": b"This file is called .mp4, and yet it is a text.\n" * 8,
            "noise": rng.bytes(4096),
        }
        replace_whole(path, data[damage])
