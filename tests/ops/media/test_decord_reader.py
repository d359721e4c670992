"""decord beside PyAV: the same bytes, libraries of their own, and a house that stands without
decord.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs.schema import Frames
from ops.media import decord_reader
from ops.media.decode import decode, decoders_for
from ops.media.probe import inspect
from ops.store.reader import FrameReader

REPO = Path(__file__).parents[3]


def run(
    code: str, *arguments: object, path: Path | None = None, **environment: str
) -> subprocess.CompletedProcess:
    places = os.pathsep.join(
        map(str, [REPO, REPO / "tests" / "support", *([path] if path else [])])
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": places, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=env, timeout=120)


@pytest.mark.skipif(decord_reader.decord is None, reason="decord is not installed")
@pytest.mark.parametrize("short_side", [None, 48, 96, 200])
@pytest.mark.parametrize("codec, ending", [("libx264", "mp4"), ("mpeg4", "avi")])
def test_both_decoders_give_the_same_bytes(codec, ending, short_side, make_video, tmp_path):
    """Also where decord's rows are padded to a multiple of their width (48 and 96, among
    others).
    """
    path = make_video(
        tmp_path / f"a.{ending}", 6, size=(128, 128), codec=codec, options={"bf": "2"}
    )
    one, two = (
        np.concatenate(list(decode(path, None, decoder, 1, short_side=short_side)))
        for decoder in ("decord", "pyav")
    )
    assert np.array_equal(one, two)


@pytest.mark.skipif(decord_reader.decord is None, reason="decord is not installed")
def test_every_width_comes_with_its_rows(make_video, tmp_path):
    import av

    from ops.media.pyav_reader import _scaled

    path = make_video(tmp_path / "a.mp4", 1, size=(64, 128))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    for width in (*range(16, 50), 72, 96, 100, 144, 160, 192):
        reader = decord_reader.decord.VideoReader(str(path), num_threads=1, width=width, height=64)
        assert np.array_equal(decord_reader.batch(reader, 0, 1)[0], _scaled(frame, 64, width)), (
            width
        )


def owner(library: str) -> str:
    """The package that a shared library came with: "av", "decord" or another's, ""."""
    below = library.rpartition("/site-packages/")[2].split("/")[0]
    return "av" if below in ("av", "av.libs") else "decord" if below.startswith("decord") else ""


SHARED_LIBRARIES = """
import importlib, sys
for module in sys.argv[1].split(","):
    importlib.import_module(module)
from pathlib import Path
import numpy as np
from ops.media.decode import decode
for decoder in ("decord", "pyav"):
    list(decode(Path(sys.argv[2]), None, decoder, short_side=48))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or decord_reader.decord is None,
    reason="needs glibc's loader and decord",
)
def test_no_decoder_works_in_the_others_library(make_video, tmp_path):
    """The two carry FFmpegs of the same names; the loader would bind PyAV's to decord's, were it
    there first.
    """
    from ops.compute.pool import PRELOAD

    path, log = make_video(tmp_path / "a.mp4", 3, size=(64, 128)), tmp_path / "bindings"
    modules = ",".join(name for name in PRELOAD if name != "__main__")
    run(SHARED_LIBRARIES, modules, path, LD_DEBUG="bindings", LD_DEBUG_OUTPUT=str(log))
    files = [file for file in tmp_path.iterdir() if file.name.startswith("bindings")]
    assert files
    crossed, seen = set(), 0
    for file in files:
        with open(file, errors="replace") as lines:
            for line in lines:
                if "binding file" in line and "/lib" in line:
                    one, two = (
                        place.split()[0]
                        for place in line.split("binding file", 1)[1].split(" to ", 1)
                    )
                    if owner(one) and owner(two) and Path(two).name.startswith(("libav", "libsw")):
                        seen += 1
                        crossed |= {(one, two)} if owner(one) != owner(two) else set()
    assert seen > 100 and crossed == set()


CUDA = """
import sys
import ops.media.decord_reader as reader
assert reader.decord is not None, reader.MISSING
print("libpretend" in open("/proc/self/maps").read(), "nvidia" in sys.modules)
import nvidia
"""


@pytest.mark.skipif(
    sys.platform != "linux" or decord_reader.decord is None, reason="needs /proc and decord"
)
def test_decord_loads_no_cuda_libraries(tmp_path):
    """It would load every library of the packages `nvidia-*` into each worker, and count them into
    its memory.
    """
    import simplejpeg

    library = next(Path(simplejpeg.__file__).parent.glob("*.so"))
    place = tmp_path / "nvidia" / "pretend" / "lib"
    place.mkdir(parents=True)
    (place / "libpretend.so").write_bytes(library.read_bytes())
    assert (
        run(
            "import decord; print('libpretend' in open('/proc/self/maps').read())", path=tmp_path
        ).stdout
        == "True\n"
    )
    assert run(CUDA, path=tmp_path).stdout == "False False\n"


WITHOUT = """
import sys
sys.modules["decord"] = None
from pathlib import Path
import made_videos as made
from ops.media import decord_reader
from ops.media.store_video import store_video
from configs.schema import Frames
path, target = Path(sys.argv[1]), Path(sys.argv[2])
row = store_video(made.store_job(path, target, Frames(short_side=48)).payload, "")
print(decord_reader.MISSING, row["decoder"], row["audit"], row["num_frames"], sep="|")
"""


def test_pyav_does_it_all_where_there_is_no_decord(make_video, tmp_path, store):
    """The same frames, and a word about who confirmed them."""
    path = make_video(tmp_path / "a.mp4", 30, size=(64, 128))
    said = run(WITHOUT, path, tmp_path / "without.zarr").stdout.strip()
    assert said == "decord is not installed|pyav|unconfirmed: decord is not installed|30"
    row = store(path, Frames(short_side=48))
    one, two = (
        FrameReader(str(tmp_path / name)).read(range(30)) for name in ("without.zarr", "a.mp4.zarr")
    )
    assert row["num_frames"] == 30 and np.array_equal(one, two)


def test_a_decord_that_does_not_load_says_why(monkeypatch):
    """A library that misses the system's own, say, is no reason to decode nothing."""

    def broken(name, *rest, **more):
        if name == "decord":
            raise OSError("libdecord.so: version `GLIBC_2.99' not found")
        return real(name, *rest, **more)

    import builtins

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", broken)
    assert decord_reader._load() == (
        None,
        "decord does not load (libdecord.so: version `GLIBC_2.99' not found)",
    )


def test_decoders_without_decord(monkeypatch, make_video, tmp_path):
    facts = inspect(make_video(tmp_path / "a.mp4", 3, size=(64, 128)))
    monkeypatch.setattr(decord_reader, "MISSING", "decord is not installed")
    assert decoders_for(facts) == ["pyav"]
    assert decoders_for(facts, 32) == ["pyav"]
