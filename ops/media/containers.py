"""Which files are opened as films: FFmpeg's demuxers on a whitelist, nothing but the one file, and
first bytes that say what a file is.

A playlist, an HLS or DASH manifest, an ffconcat list, a numbered series of pictures or a subtitle
index names other files, and FFmpeg would open them in the file's place: frames of a film that is
not in the data set, or of one that no one may read. FFmpeg picks the demuxer by a file's first
bytes and its name, so neither an ending nor a first line says what it will be; the whitelist is
asked after the pick. decord picks by itself, without a whitelist: it only gets files whose first
bytes leave it no choice (`signature`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

# Containers and bare streams of films, by FFmpeg's names; none of them opens another file. Left out
# with the lists: `mlv`, `dash`, `imf`, `vobsub`, `image2` and `dvdvideo`, which do.
FILMS = (
    "mov",
    "matroska",
    "avi",
    "flv",
    "live_flv",
    "kux",
    "asf",
    "asf_o",
    "mpegts",
    "mpeg",
    "ogg",
    "nut",
    "mxf",
    "mxf_opatom",
    "gxf",
    "lxf",
    "wtv",
    "rm",
    "ivr",
    "dv",
    "nsv",
    "nuv",
    "swf",
    "pva",
    "pmp",
    "ty",
    "ivf",
    "obu",
    "av1",
    "h261",
    "h263",
    "h264",
    "hevc",
    "vvc",
    "evc",
    "apv",
    "m4v",
    "mpegvideo",
    "vc1",
    "vc1test",
    "dirac",
    "dnxhd",
    "cavsvideo",
    "avs2",
    "avs3",
    "mjpeg",
    "mjpeg_2000",
    "mpjpeg",
    "ingenient",
    "smjpeg",
    "mxg",
    "nc",
    "dhav",
    "hxvs",
    "ifv",
    "iv8",
    "luodat",
    "lmlm4",
    "r3d",
    "cine",
    "ser",
    "vivo",
    "vividas",
    "gif",
    "apng",
    "jpegxl_anim",
    "yuv4mpegpipe",
    "roq",
    "smk",
    "bink",
    "flic",
    "film_cpk",
    "ipmovie",
    "moflex",
    "thp",
    "xmv",
    "usm",
    "wsvqa",
    "vmd",
    "idcin",
    "wc3movie",
)
# Sound alone, so that such a file can be refused for what it is
SOUND = (
    "wav",
    "w64",
    "mp3",
    "aac",
    "ac3",
    "eac3",
    "flac",
    "aiff",
    "au",
    "caf",
    "amr",
    "ape",
    "dts",
    "dtshd",
    "truehd",
    "tta",
    "wv",
    "mpc",
    "mpc8",
    "voc",
    "dsf",
    "oma",
    "loas",
    "aa",
)
# Pictures, likewise: the demuxers that look at one file's bytes, not `image2`, which goes by a
# pattern in the name
PICTURES = tuple(sorted(name for name in av.formats_available if name.endswith("_pipe")))
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join((*FILMS, *SOUND, *PICTURES))}
A_PICTURE = "a picture, not a video"
A_LIST = "a list of other files, not a video"
HEAD_BYTES = 4096
MOTION_JPEG = (".mjpeg", ".mjpg")
# How lists of files begin: HLS, FFmpeg's concat, PLS, QuickTime and Windows Media references, SMIL,
# DASH, XSPF, RTSP, cue sheets
LISTS = (
    b"#EXTM3U",
    b"#EXTINF",
    b"ffconcat",
    b"[playlist]",
    b"[reference]",
    b"rtsptext",
    b"smiltext",
    b"<?xml",
    b"<asx",
    b"<smil",
    b"<mpd",
    b"<playlist",
    b"v=0",
    b"file '",
    b"file ",
)
_PICTURES = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"GIF8",
    b"P5\n",
    b"P6\n",
    b"\0\0\1\0",
)
# major brands of HEIF's single pictures
_STILLS = (b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1", b"jxl ", b"crx ")
_BLANK = b"\xef\xbb\xbf \t\r\n"
_SMALL_BOXES, _LARGE_BOXES = (b"ftyp", b"wide", b"free", b"skip", b"pnot"), (b"moov", b"mdat")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def open_film(path: Path) -> Any:
    """PyAV's container of a local file, to be used in a `with`. What is written in its tags may be
    in any encoding.

    Raises av.error.FFmpegError; its ArgumentError (EINVAL) where the format is not on the
    whitelist.
    """
    # by its first bytes alone FFmpeg takes a bare film of JPEGs for the first of them
    kind = (
        "mjpeg"
        if path.suffix.lower() in MOTION_JPEG and first_bytes(path).startswith(b"\xff\xd8\xff")
        else None
    )
    # absolute: FFmpeg takes what stands before a colon in a relative name for a protocol
    return av.open(
        str(path.absolute()), format=kind, options=dict(OPTIONS), metadata_errors="replace"
    )


def signature(head: bytes) -> str:
    """The container that a file's first bytes name beyond doubt, by FFmpeg's name ("mov",
    "matroska", "avi", "flv", "asf"); "" for others.

    FFmpeg's own probes give these beginnings their highest mark, so that every build of it picks
    the same demuxer, whatever follows.
    """
    if head[:3] == b"ID3":  # a tag that FFmpeg may step over
        return ""
    if head[4:8] in _LARGE_BOXES or (head[:1] == b"\0" and head[4:8] in _SMALL_BOXES):
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3" and (b"matroska" in head[:64] or b"webm" in head[:64]):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head[:4] == b"FLV\x01":
        return "flv"
    return "asf" if head[:16] == _ASF else ""


def is_still(head: bytes) -> bool:
    """Whether a file that begins with these bytes is a phone's or a browser's picture in the boxes
    of an mp4; it has no index (moov).
    """
    return head[4:8] == b"ftyp" and head[8:12] in _STILLS


def not_listed(head: bytes) -> str:
    """Why a file that begins with these bytes was refused by the whitelist, in words."""
    if head.startswith(_PICTURES):  # its name holds a pattern, and `image2` would look for a series
        return A_PICTURE
    return "not a video file (not in a film's format, or its header is broken)"


def first_bytes(path: Path) -> bytes:
    """Up to HEAD_BYTES of a local file."""
    with open(path, "rb") as file:
        return file.read(HEAD_BYTES)


def no_video(head: bytes) -> str | None:
    """Why a file that begins with these bytes cannot be a video: it is empty, text, or a list of
    files; None where it may be one.
    """
    if not head:
        return "empty file"
    if _is_text(head):
        return "not a video file (text)"
    return (
        A_LIST
        if head.lstrip(_BLANK)[:16].lower().startswith(tuple(begin.lower() for begin in LISTS))
        else None
    )


def _is_text(head: bytes) -> bool:
    if head.startswith(b"YUV4MPEG2 "):  # raw pictures behind a line of text
        return False
    printable = bytes(range(32, 127)) + b"\t\n\r\f"
    try:
        text = head.decode("utf-8", errors="strict" if len(head) < HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return False
    return "\0" not in text and sum(byte in printable or byte >= 128 for byte in head) == len(head)
