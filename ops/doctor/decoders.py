"""Do both decoders show a film's frames, all, in order, in their colours? A made clip in which
every frame carries its number.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from configs.settings import Settings
from ops.doctor.finding import Finding, good, note, wrong

FRAMES, FPS = 60, 25
CELL = 16  # pixels: macroblocks, so that coding blurs no number
BITS = 8
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200], [120, 120, 120]], np.uint8)
ALLOWED = 24  # levels: what coding at half the colour's resolution may change inside a patch
TIMES_S = 1e-3


def check(settings: Settings) -> Iterator[Finding]:
    """Encode the clip with PyAV, decode it with each decoder."""
    from ops.media.encode import Coding, write_mp4

    with tempfile.TemporaryDirectory(prefix="kinograph-") as folder:
        path = Path(folder, "numbered.mp4")
        write_mp4(
            path,
            (picture(number) for number in range(FRAMES)),
            FPS,
            Coding(crf=18, gop=12, bframes=2, faststart=False),
        )
        for decoder in ("pyav", "decord"):
            try:
                yield _decoded(path, decoder)
            except ImportError as error:
                if decoder == "pyav":
                    raise
                yield note(
                    "decord",
                    f"not here ({error})",
                    "PyAV decodes in its place, with the same frames; some files take longer",
                )


def picture(number: int) -> np.ndarray:
    """uint8 [4 * CELL, BITS * CELL, 3]: the number in black and white cells above and, inverted,
    below; patches of colour between.
    """
    bits = np.array([255 * (number >> bit & 1) for bit in range(BITS)], np.uint8)
    cells = np.stack([bits, 255 - bits])[..., None].repeat(3, 2)
    patches = COLOURS.repeat(BITS // len(COLOURS), 0)
    return np.stack([cells[0], patches, patches, cells[1]]).repeat(CELL, 0).repeat(CELL, 1)


def numbers(frames: np.ndarray) -> list[int]:
    """The number of each frame [n, H, W, 3]; -1 where it cannot be read."""
    middles = frames[:, CELL // 2 :: CELL, CELL // 2 :: CELL].mean(3)
    above, below = middles[:, 0] > 127, middles[:, 3] > 127
    read = (above << np.arange(BITS)).sum(1)
    return [
        int(number) if sound else -1
        for number, sound in zip(read, (above != below).all(1), strict=True)
    ]


def _decoded(path: Path, decoder: str) -> Finding:
    from ops.media.decode import decode

    decoding = decode(path, None, decoder)
    frames = np.concatenate(list(decoding))
    name, advice = (
        decoding.decoder,
        "install it anew: pip install --force-reinstall "
        + ("av" if decoder == "pyav" else "decord"),
    )
    found, expected = numbers(frames), list(range(FRAMES))
    if found != expected:
        first = next(
            (
                place
                for place, pair in enumerate(zip(found, expected, strict=False))
                if pair[0] != pair[1]
            ),
            len(found),
        )
        text = f"{len(found)} frames of {FRAMES}; from place {first} on: {found[first : first + 8]}"
        return wrong(name, f"{decoding.decoder_version}: {text}", advice)
    late = np.abs(np.array(decoding.timestamps_s) - np.arange(FRAMES) / FPS).max()
    if late > TIMES_S:
        return wrong(
            name,
            f"{decoding.decoder_version}: frames are up to {late:.3f} s off their times",
            advice,
        )
    patches = frames[:, CELL + CELL // 2 : 3 * CELL : CELL, CELL // 2 :: CELL].astype(int)
    off = int(np.abs(patches - COLOURS.repeat(BITS // len(COLOURS), 0)).max())
    if off > ALLOWED:
        return wrong(
            name,
            f"{decoding.decoder_version}: colours are up to {off} of 255 levels off; allowed"
            f" {ALLOWED}",
            advice,
        )
    return good(
        name,
        f"{decoding.decoder_version}: {FRAMES} numbered frames in order, at their times, colours"
        f" within {off} levels",
    )
