"""No file stands for others: lists, references and names that look like addresses are refused,
whichever decoder would follow them.
"""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest

import made_videos as made
from ops.media.containers import A_LIST, FILMS, SOUND, open_film, signature
from ops.media.decode import decode, decoders_for, unsound
from ops.media.probe import inspect

HLS = b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:1.6,%s\n%s\n#EXT-X-ENDLIST\n"
LISTS = {
    "latin1.m3u8": HLS % (b"Caf\xe9", b"film.ts"),
    "control.m3u8": HLS % (b"Caf\x01", b"film.ts"),
    "outside.m3u8": HLS % (b"Caf\xe9", b"../elsewhere/other.ts"),
    "hls_as.mp4": HLS % (b"\xff\xfe", b"film.ts"),
    "latin1.txt": b"ffconcat version 1.0\n# Caf\xe9\nfile film.ts\n",
    "control.ffconcat": b"ffconcat version 1.0\n# Caf\x01\nfile film.ts\n",
    "concat_as.mp4": b"ffconcat version 1.0\n# \x80\nfile film.ts\n",
    "blank_first.m3u8": b"\xef\xbb\xbf\r\n" + HLS % (b"Caf\xe9", b"film.ts"),
    "manifest.mpd": (
        b'<?xml version="1.0"?>\n<MPD><!-- Caf\xe9 --><BaseURL>film.ts</BaseURL></MPD>\n'
    ),
    "player.pls": b"[playlist]\nTitle1=Caf\xe9\nFile1=film.ts\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A film as it may be named by lists, in the folder and beside it."""
    folder = tmp_path_factory.mktemp("lists") / "videos"
    film = made.encoded(folder / "film.ts", frames=made.numbered(12, 64, 128))
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "other.ts").write_bytes(film.read_bytes())
    return folder


def raw(path: Path, num_frames: int) -> Path:
    return made.encoded(path, frames=made.numbered(num_frames, 64, 128), options={"bf": "0"})


def test_the_whitelist_names_what_this_ffmpeg_has():
    assert [name for name in (*FILMS, *SOUND) if name not in av.formats_available] == []
    assert not {
        "hls",
        "concat",
        "dash",
        "image2",
        "vobsub",
        "mlv",
        "sdp",
        "rtsp",
        "lavfi",
        "webm_dash_manifest",
    } & {*FILMS, *SOUND}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_no_video(name, folder, store):
    path = folder / name
    path.write_bytes(LISTS[name])
    assert inspect(path).problem == A_LIST
    assert store(path) == {"reason": A_LIST, "seconds": pytest.approx(0, abs=20)}


@pytest.mark.parametrize(
    "name", ["latin1.m3u8", "control.m3u8", "outside.m3u8", "latin1.txt", "control.ffconcat"]
)
def test_the_demuxer_itself_is_refused(name, folder):
    """Whatever the first look at the bytes lets through: FFmpeg would take these for films, as the
    open without the whitelist shows.
    """
    path = folder / name
    path.write_bytes(LISTS[name])
    with av.open(str(path)) as container:
        assert container.format.name in ("hls", "concat") and container.streams.video
    with pytest.raises(av.error.ArgumentError):
        open_film(path)


@pytest.mark.parametrize("name", ["latin1.m3u8", "latin1.txt"])
def test_a_list_behind_a_tag_is_refused_by_the_whitelist_alone(name, folder, store):
    """FFmpeg steps over an ID3 tag and picks its demuxer by what stands behind it."""
    path = folder / f"tagged_{name}"
    path.write_bytes(b"ID3\4\0\0\0\0\0\x10" + bytes(16) + LISTS[name])
    with pytest.raises(av.error.ArgumentError):
        open_film(path)
    assert (
        inspect(path).problem
        == "not a video file (not in a film's format, or its header is broken)"
    )
    assert store(path)["reason"].startswith("not a video file")


def test_a_series_of_pictures_is_not_opened_by_its_pattern(tmp_path):
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 0, 0)).save(tmp_path / f"f{number:03}.png")
    pattern = tmp_path / "f%03d.png"
    Image.new("RGB", (64, 48)).save(pattern)
    with av.open(str(pattern)) as container:
        assert container.format.name == "image2"
    assert inspect(pattern).problem == "a picture, not a video"


@pytest.mark.parametrize("ending", ["mp4", "h264"])
def test_a_list_in_front_of_a_film_reaches_no_decoder(ending, folder, store):
    """PyAV's FFmpeg goes by the name and finds the stream, others by the first line, and would
    decode what the list names.
    """
    stream = raw(folder / "stream.h264", 12).read_bytes()
    path = folder / f"polyglot.{ending}"
    path.write_bytes(HLS % (b"Caf\xe9", b"film.ts") + b"#" + stream)
    assert inspect(path).problem == A_LIST
    assert store(path)["reason"] == A_LIST


def test_decord_gets_only_files_whose_first_bytes_leave_no_choice(folder, make_video, tmp_path):
    stream = inspect(raw(folder / "stream.h264", 12))
    assert stream.problem is None and stream.signature == ""
    assert decoders_for(stream) == ["pyav"] and unsound(stream).startswith(
        "decord picks its demuxer by itself"
    )
    kinds = (
        ("libx264", "mp4", "mov"),
        ("libx264", "mkv", "matroska"),
        ("mpeg4", "avi", "avi"),
        ("libx264", "flv", "flv"),
    )
    for codec, ending, name in kinds:
        facts = inspect(make_video(tmp_path / f"a.{ending}", 5, codec=codec))
        assert facts.signature == name and decoders_for(facts) == ["decord", "pyav"]


def test_signatures():
    assert signature(b"\0\0\0\x20ftypisom") == signature(b"\x12\x34\x56\x78mdat") == "mov"
    assert signature(b"ID3\4mdat") == ""
    for head in (
        b"",
        b"#EXTM3U\n",
        b"ffconcat",
        b"\x1a\x45\xdf\xa3" + b"\0" * 60,
        b"RIFF\0\0\0\0WAVE",
        b"\0\0\0\1\x67",
        b"<MP wide <MPD",
    ):
        assert signature(head) == ""


def test_a_name_is_no_address(make_video, tmp_path, monkeypatch):
    make_video(tmp_path / "other.mp4", 5, size=(64, 128))
    make_video(tmp_path / "plain.mp4", 9, size=(64, 128)).rename(tmp_path / "file:other.mp4")
    monkeypatch.chdir(tmp_path)
    path = Path("file:other.mp4")
    facts = inspect(path)
    assert facts.num_frames == 9
    assert [sum(map(len, decode(path, facts, decoder))) for decoder in ("decord", "pyav")] == [9, 9]


def test_a_movie_that_refers_to_another_shows_nothing_of_it(make_video, tmp_path, store):
    """A QuickTime reference ("alis") to a film whose samples lie at the same places; the movie's
    own are blank.
    """
    other = make_video(
        tmp_path / "other.mov", frames=made.numbered(10, 64, 128), options={"bf": "0"}
    )
    data = bytearray(referring(other.read_bytes(), str(other)))
    with av.open(str(other)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path = tmp_path / "reference.mov"
    path.write_bytes(bytes(data))
    # the reference is a true one
    with av.open(str(path), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert made.numbers(np.stack(frames)) == list(range(10))
    row = store(path)
    assert row.get("status") != "ok" and row["reason"], row


def referring(data: bytes, target: str) -> bytes:
    """The movie with its only data reference (to itself) replaced by one to another file; its index
    lies behind the samples.
    """
    name = target.encode()
    tail = (
        struct.pack(">hH", 2, len(name))
        + name
        + b"\0" * (len(name) % 2)
        + struct.pack(">hH", -1, 0)
    )
    body = (
        bytes(10)
        + bytes([0])
        + bytes(27)
        + bytes(12)
        + bytes([5])
        + b"other".ljust(63, b"\0")
        + bytes(16)
    )
    body += struct.pack(">hh", 1, 1) + bytes(16) + tail
    entry = struct.pack(">I4sI", 12 + len(body), b"alis", 0) + body
    place = data.index(b"dref") + 12
    grown = len(entry) - 12
    assert (
        data[place + 4 : place + 8] in (b"url ", b"alis")
        and data[place : place + 4] == b"\0\0\0\x0c"
    )
    changed = bytearray(data[:place] + entry + data[place + 12 :])
    for kind in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = changed.rindex(kind, 0, place) - 4 if kind != b"dref" else place - 16
        changed[at : at + 4] = (int.from_bytes(changed[at : at + 4], "big") + grown).to_bytes(
            4, "big"
        )
    return bytes(changed)


def test_raw_pictures_behind_a_line_of_text_are_a_film(tmp_path):
    head, picture = (
        b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n",
        b"FRAME\n" + bytes([100]) * (64 * 48 * 3 // 2),
    )
    path = tmp_path / "a.y4m"
    path.write_bytes(head + picture * 5)
    facts = inspect(path)
    assert facts.problem is None and facts.num_frames == 5 and decoders_for(facts) == ["pyav"]
