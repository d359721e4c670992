"""Writing and reading frames, against Zarr's own reader."""

from __future__ import annotations

import json
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import zarr

from configs.schema import Frames
from ops.files.storage import StorageError, exists, list_files, remove
from ops.store.frames import array_metadata, write_frames
from ops.store.jpeg_codec import JpegCodec
from ops.store.reader import FrameReader, FrameReadError

LOSSLESS = Frames(codec="lossless", frames_per_shard=8)
JPEG = Frames(codec="jpeg", frames_per_shard=8)


def moving(num_frames: int, height: int = 32, width: int = 48, seed: int = 0) -> np.ndarray:
    """Smooth moving colours with a little noise, uint8 [T, H, W, 3]."""
    rng = np.random.default_rng(seed)
    t, y, x = np.meshgrid(np.arange(num_frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [127 + 100 * np.sin((x + 2 * t) / 9 + k) * np.cos((y - t) / 7 + k) for k in range(3)]
    return np.clip(
        np.stack(waves, -1) + rng.normal(0, 3, (num_frames, height, width, 3)), 0, 255
    ).astype(np.uint8)


@pytest.mark.parametrize("config", [LOSSLESS, JPEG], ids=["lossless", "jpeg"])
@pytest.mark.parametrize("with_index", [True, False], ids=["index in metadata", "index in shards"])
def test_our_reader_equals_zarrs_on_random_indices(config, with_index, tmp_path):
    rng = random.Random(7)
    for case in range(12):
        length = rng.choice([1, 7, 8, 9, 16, 23])
        frames = moving(length, 16 + 2 * case, 20 + case, seed=case)
        if case % 3 == 0:
            frames[rng.randrange(length)] = 0  # black frames are stored like all others
        uri = str(tmp_path / f"{case}.zarr")
        write_frames(uri, frames, config, {"fps": 25.0})
        if not with_index:
            forget_index(Path(uri))
        full = zarr.open_array(uri, mode="r")[:]
        indices = [rng.randrange(length) for _ in range(rng.randrange(1, 3 * length))]
        read = FrameReader(uri).read(indices)
        assert read.dtype == np.uint8 and np.array_equal(read, full[indices])
        if config is LOSSLESS:
            assert np.array_equal(full, frames)
        else:
            assert np.abs(full.astype(int) - frames).mean() < 6


def forget_index(array: Path) -> None:
    metadata = json.loads((array / "zarr.json").read_text())
    del metadata["attributes"]["frame_bytes"]
    (array / "zarr.json").write_text(json.dumps(metadata))


def test_the_pieces_of_a_stream_make_the_same_array_as_the_whole(tmp_path):
    frames = moving(21)
    write_frames(str(tmp_path / "a"), frames, JPEG, {})
    write_frames(
        str(tmp_path / "b"), iter([frames[:3], frames[3:4], frames[4:19], frames[19:]]), JPEG, {}
    )
    for info in list_files(str(tmp_path / "a")):
        assert Path(info.uri).read_bytes() == (tmp_path / "b" / info.path_below).read_bytes()


def test_what_is_stored_describes_itself(tmp_path):
    times: list[float] = []

    def stream():
        for _ in range(3):
            times.append(len(times) / 25)
            yield moving(1)

    stored = write_frames(
        str(tmp_path / "a"), stream(), JPEG, lambda: {"fps": 25.0, "timestamps_s": times}
    )
    reader = FrameReader(str(tmp_path / "a"))
    assert (
        reader.shape == (3, 32, 48, 3) == (stored.num_frames, stored.height, stored.width, 3)
        and len(reader) == 3
    )
    assert (
        reader.attributes["timestamps_s"] == [0.0, 0.04, 0.08]
        and reader.attributes["axes"][0] == "time"
    )
    assert stored.bytes == sum(info.bytes for info in list_files(str(tmp_path / "a")))


def test_the_metadata_is_what_zarr_writes_itself(tmp_path):
    config = Frames(codec="jpeg", quality=90, frames_per_shard=4)
    theirs = zarr.create_array(
        store=str(tmp_path / "z"),
        shape=(8, 16, 16, 3),
        chunks=(1, 16, 16, 3),
        shards=(4, 16, 16, 3),
        dtype="uint8",
        serializer=JpegCodec(quality=90),
        compressors=[zarr.codecs.Crc32cCodec()],
        filters=None,
        fill_value=0,
        attributes={"fps": 25.0},
        dimension_names=["time", "height", "width", "channel"],
    )
    theirs[:] = moving(8, 16, 16)  # the codec encodes through Zarr too
    written = json.loads((tmp_path / "z" / "zarr.json").read_text())
    ours = json.loads(array_metadata((8, 16, 16, 3), config, {"fps": 25.0}))
    assert ours == written
    write_frames(str(tmp_path / "o"), moving(8, 16, 16), config, {"fps": 25.0})
    assert (tmp_path / "o/c/1/0/0/0").read_bytes() == (tmp_path / "z/c/1/0/0/0").read_bytes()


def test_an_index_outside_names_video_index_and_length(tmp_path):
    uri = str(tmp_path / "a")
    write_frames(uri, moving(5), JPEG, {})
    for bad in (5, -1):
        with pytest.raises(IndexError, match=f"{uri}: frame {bad} is outside the video's 5 frames"):
            FrameReader(uri).read([0, bad])


def test_no_indices_give_no_frames(tmp_path):
    write_frames(str(tmp_path / "a"), moving(5), JPEG, {})
    assert FrameReader(str(tmp_path / "a")).read([]).shape == (0, 32, 48, 3)


@pytest.mark.parametrize("with_index", [True, False])
def test_missing_and_damaged_data_are_errors_and_never_black(with_index, tmp_path):
    uri = str(tmp_path / "a")
    write_frames(uri, moving(20), JPEG, {})
    if not with_index:
        forget_index(Path(uri))
    shard = tmp_path / "a/c/1/0/0/0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(
        FrameReadError, match=f"{uri}: frame 8 cannot be read: the stored data is damaged"
    ):
        FrameReader(uri).read([0, 8])
    FrameReader(uri).read([0, 9, 19])
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FrameReadError, match=f"{uri}: frame (8|15) cannot be read"):
        FrameReader(uri).read([15])
    shard.unlink()
    with pytest.raises(
        FrameReadError, match=f"{uri}: frame 8 cannot be read: its shard is missing"
    ):
        FrameReader(uri).read([3, 8])
    with pytest.raises(FrameReadError, match="no such array"):
        FrameReader(str(tmp_path / "none")).read([0])


def test_an_array_of_something_else_is_refused(tmp_path):
    zarr.create_array(store=str(tmp_path / "z"), shape=(8, 4), chunks=(1, 4), dtype="float32")
    with pytest.raises(FrameReadError, match="not an array of frames"):
        FrameReader(str(tmp_path / "z")).read([0])


def test_a_stream_that_fails_leaves_nothing(tmp_path):
    uri = str(tmp_path / "a")

    def stream():
        yield moving(20)
        raise ValueError("broken off")

    with pytest.raises(ValueError, match="broken off"):
        write_frames(uri, stream(), JPEG, {})
    assert not exists(uri)
    with pytest.raises(ValueError, match="no frames"):
        write_frames(uri, iter([]), JPEG, {})
    with pytest.raises(ValueError, match="allowed: uint8"):
        write_frames(uri, iter([moving(2), moving(2, 16, 16)]), JPEG, {})
    assert not exists(uri)


def test_a_half_written_array_cannot_be_opened(tmp_path):
    uri = str(tmp_path / "a")
    seen = []

    def stream():
        yield moving(20)
        with pytest.raises(FrameReadError):
            FrameReader(uri).read([0])
        seen.append(exists(f"{uri}/c/0/0/0/0"))
        yield moving(1)

    write_frames(uri, stream(), JPEG, {})
    assert seen == [True]


def test_a_reader_travels_and_survives_a_fork(tmp_path):
    uri = str(tmp_path / "a")
    write_frames(uri, moving(20), JPEG, {})
    reader = FrameReader(uri)
    expected = reader.read([3, 17])
    assert np.array_equal(pickle.loads(pickle.dumps(reader)).read([3, 17]), expected)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(reader.read([3, 17]), expected) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_codec_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="kinograph.jpeg holds uint8"):
        zarr.create_array(
            store=str(tmp_path / "z"),
            shape=(8, 4, 4),
            chunks=(1, 4, 4),
            dtype="uint8",
            serializer=JpegCodec(),
            filters=None,
            compressors=None,
        )


# --------------------------------------------------------------------------------------------------
# S3


@pytest.mark.parametrize("config", [LOSSLESS, JPEG], ids=["lossless", "jpeg"])
def test_s3_reads_like_zarr_in_few_requests(config, s3):
    uri = f"{s3.bucket}/v/a.zarr"
    write_frames(uri, moving(16), config, {"fps": 25.0})
    full = zarr.open_array(uri, mode="r")[:]
    sparse = [0, 2, 5, 7, 8, 11, 13, 15]  # of two shards
    reader = FrameReader(uri)
    s3.requests.clear()
    assert np.array_equal(reader.read(sparse), full[sparse])
    cold = len(s3.requests)
    s3.requests.clear()
    assert np.array_equal(reader.read(sparse), full[sparse])
    assert (cold, len(s3.requests)) == (3, 2)
    s3.requests.clear()
    reader.read([5, 5, 5])
    assert len(s3.requests) == 1


def test_frames_lie_in_any_store():
    uri, frames = "memory://frames/a.zarr", moving(19)
    write_frames(uri, frames, LOSSLESS, {})
    reader = pickle.loads(pickle.dumps(FrameReader(uri)))
    assert np.array_equal(reader.read([18, 0, 9, 9, 8]), frames[[18, 0, 9, 9, 8]])
    with pytest.raises(FrameReadError, match="no such array"):
        FrameReader("memory://frames/none.zarr").read([0])


def test_s3_errors_name_the_frame_or_the_refusal(s3, monkeypatch):
    import ops.files.errors as errors

    monkeypatch.setattr(errors, "FIRST_WAIT_S", 0.01)
    uri = f"{s3.bucket}/a.zarr"
    write_frames(uri, moving(16), JPEG, {})
    reader = FrameReader(uri)
    s3.failures = 2
    reader.read([0])
    remove(f"{uri}/c/1")
    with pytest.raises(
        FrameReadError, match=f"{uri}: frame 9 cannot be read: its shard is missing"
    ):
        reader.read([1, 9])
    with pytest.raises(FrameReadError, match="no such array"):
        FrameReader(f"{s3.bucket}/none").read([0])
    s3.refuse = True
    s3.requests.clear()
    with pytest.raises(StorageError, match="access refused") as caught:
        reader.read([0])
    assert len(s3.requests) == 1 and "test-secret" not in str(caught.value)
    s3.refuse, s3.failures = False, 100
    with pytest.raises(StorageError, match="failed 3 times"):
        reader.read([0])


def test_a_forked_child_is_told_instead_of_hanging(s3):
    uri = f"{s3.bucket}/a.zarr"
    write_frames(uri, moving(4), JPEG, {})
    reader = FrameReader(uri)
    reader.read([0])
    child = os.fork()
    if child == 0:
        try:
            reader.read([0])
        except RuntimeError as error:
            os._exit(0 if "forkserver" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("where", ["local", "s3"])
def test_odd_names_are_plain_names(where, request, tmp_path):
    root = str(tmp_path) if where == "local" else request.getfixturevalue("s3").bucket
    uri = f"{root}/a [b1] #2 %41 ü & 'q' *x?/k.zarr"
    write_frames(uri, moving(9), JPEG, {})
    assert FrameReader(uri).read([0, 8]).shape == (2, 32, 48, 3)
    write_frames(uri, moving(3), JPEG, {})
    assert len(FrameReader(uri)) == 3 and not exists(f"{uri}/c/1")
