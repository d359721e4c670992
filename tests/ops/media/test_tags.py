"""What stands beside the pictures costs no film: tags in any encoding, chapters, and what tools
leave at the ends of a file.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import made_videos as made
from ops.media.decode import decode
from ops.media.probe import inspect

PLAIN, LATIN1 = b"Cafeteria", b"Caf\xe9t\xe9r\xefa"
NUM = 12


def tagged(path: Path, codec: str, chapters: bool = False) -> Path:
    """A film with the word in its title, its stream's title, and a chapter's where the container
    holds such.
    """
    word = PLAIN.decode()
    options = {"movflags": "use_metadata_tags"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=options) as output:
        output.metadata.update(title=word, comment=word, service_name=word, artist=word)
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        stream.metadata.update(title=word, language="eng")
        if chapters:
            output.set_chapters(
                [
                    {
                        "id": 1,
                        "start": 0,
                        "end": 10,
                        "time_base": Fraction(1, 25),
                        "metadata": {"title": word},
                    }
                ]
            )
        for image in made.numbered(NUM, 64, 128):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    data = path.read_bytes()
    assert data.count(PLAIN) >= 1
    path.write_bytes(data.replace(PLAIN, LATIN1))
    return path


@pytest.mark.parametrize(
    "name, codec",
    [
        ("a.avi", "mpeg4"), ("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.flv", "libx264"),  # noqa: E501
        ("a.ts", "libx264"), ("a.nut", "mpeg4"), ("a.ogv", "libtheora"),
    ],
)  # fmt: skip
def test_a_tag_in_another_encoding_is_no_reason(name, codec, tmp_path):
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder {codec}")
    path = tagged(tmp_path / name, codec, chapters=name in ("a.mkv", "a.mp4"))
    facts = inspect(path)
    assert facts.problem is None and facts.num_frames == NUM
    for decoder in ("decord", "pyav"):
        if decoder == "decord" and not facts.signature:
            continue
        assert made.numbers(np.concatenate(list(decode(path, facts, decoder)))) == list(range(NUM))


TRAILERS = {
    "text": b"made by a camera " * 30,
    "ff": b"\xff" * 500,
    "samsung": b"\0\0\0\1\x0a\x0aSEFH" + bytes(range(200)) + b"\xc8\0\0\0SEFT",
    "box": (2**31 - 1).to_bytes(4, "big") + b"XMP_" + bytes(100),
    "picture": b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9,
    "few": b"abc",
}


@pytest.mark.parametrize("kind", TRAILERS)
def test_what_a_camera_appends_is_no_early_end(kind, make_video, tmp_path):
    for name, container in (("a.mp4", {}), ("fast.mp4", {"movflags": "faststart"}), ("a.mov", {})):
        path = make_video(tmp_path / name, frames=made.numbered(NUM, 64, 128), container=container)
        path.write_bytes(path.read_bytes() + TRAILERS[kind])
        facts = inspect(path)
        assert facts.problem is None
        for decoder in ("decord", "pyav"):
            assert made.numbers(np.concatenate(list(decode(path, facts, decoder)))) == list(
                range(NUM)
            )


@pytest.mark.parametrize("ending", ["ts", "h264", "mpg"])
def test_junk_before_the_first_packet_is_passed_over(ending, make_video, tmp_path):
    codec = "mpeg2video" if ending == "mpg" else "libx264"
    path = make_video(tmp_path / f"a.{ending}", frames=made.numbered(NUM, 64, 128), codec=codec)
    junk = b"recorder ready\r\n" * 9 if ending == "h264" else bytes(range(1, 200)) * 3
    path.write_bytes(junk + path.read_bytes())
    facts = inspect(path)
    assert facts.problem is None
    assert made.numbers(np.concatenate(list(decode(path, facts)))) == list(range(NUM))


def test_an_early_end_is_still_one(make_video, tmp_path):
    path = make_video(tmp_path / "a.mp4", 60, container={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[:-7])
    problem = inspect(path).problem
    assert problem is not None and problem.startswith("truncated: ") and "60 of 60" not in problem


def test_encrypted_pictures_are_named(make_video, tmp_path):
    keys = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "00112233445566778899aabbccddeeff",
        "encryption_kid": "0" * 32,
    }
    for name, more in (("a.mp4", {}), ("fragments.mp4", {"movflags": "frag_keyframe+empty_moov"})):
        path = make_video(tmp_path / name, 5, container={**keys, **more})
        assert (
            inspect(path).problem
            == "encrypted: its pictures need a key that the file does not hold"
        )


def test_a_phones_picture_is_a_picture(tmp_path):
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("no encoder of AV1")
    path = made.encoded(tmp_path / "a.avif", 1, codec="libsvtav1")
    assert inspect(path).problem == "a picture, not a video"
