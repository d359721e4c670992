"""Feature arrays: whole, self-describing, readable by any Zarr v3 reader, and never silently
short.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numcodecs.zstd import compress

from ops.files.storage import StorageError, exists, list_files, read_bytes
from ops.store import features as store
from ops.store.features import FeatureReader, FeatureReadError, write_features
from ops.store.shards import with_checksum


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CHUNK_BYTES", 7 * 5 * 4)  # seven steps of five channels


def features(steps: int = 23, channels: int = 5, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(steps).normal(size=(steps, channels)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("steps", [1, 6, 7, 8, 23])
def test_round_trip_and_slices(tmp_path: Path, small_chunks: None, steps: int, dtype: str) -> None:
    array, uri = features(steps, dtype=dtype), str(tmp_path / "x.zarr")
    size = write_features(uri, array, {"stride": 4})
    assert size == sum(info.bytes for info in list_files(uri))
    reader = pickle.loads(pickle.dumps(FeatureReader(uri)))
    assert reader.shape == array.shape and len(reader) == steps and reader.dtype == dtype
    assert reader.attributes == {"axes": ["time", "channel"], "stride": 4}
    np.testing.assert_array_equal(FeatureReader(uri).read(), array)
    for part in (
        slice(None),
        slice(2, 5),
        slice(-3, None),
        slice(5, 100),
        slice(9, 2),
        slice(0, steps, 3),
        slice(None, None, -2),
    ):
        np.testing.assert_array_equal(reader[part], array[part])
    with pytest.raises(IndexError, match="outside"):
        reader.read(0, steps + 1)


def test_what_was_stored_before_is_stored_and_read_still(small_chunks: None) -> None:
    """A chunk's bytes as they always were: a feature is not made again because another hand writes
    it. An empty chunk is one too.
    """
    array, uri = np.zeros((9, 5), "float32"), "memory://features/x.zarr"
    array[7:] = 1.5
    write_features(uri, array, {})
    files = {info.path_below: read_bytes(info.uri) for info in list_files(uri)}
    assert sorted(files) == ["c/0/0", "c/1/0", "zarr.json"]
    assert files["zarr.json"].startswith(b'{"zarr_format":3,"node_type":"array","shape":[9,5],')
    for number, chunk in enumerate(
        (array[:7], np.concatenate([array[7:], np.zeros((5, 5), "float32")]))
    ):
        assert files[f"c/{number}/0"] == with_checksum(
            bytes(compress(np.ascontiguousarray(chunk), level=3))
        )
    np.testing.assert_array_equal(FeatureReader(uri).read(6, 9), array[6:])


def test_a_write_that_fails_leaves_nothing_to_read(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, written = str(tmp_path / "x.zarr"), []

    def full(name: str, data: bytes) -> None:
        assert not exists(f"{uri}/zarr.json")  # not before the last chunk
        written.append(name)
        if len(written) == 4:
            raise StorageError(name, "full")

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(StorageError, match="full"):
        write_features(uri, features(), {})
    assert written[-1].endswith("c/3/0") and not exists(uri)


def test_zarr_itself_reads_it(tmp_path: Path, small_chunks: None) -> None:
    zarr = pytest.importorskip("zarr")
    array, uri = features(), str(tmp_path / "x.zarr")
    write_features(uri, array, {"fps": 30.0})
    opened = zarr.open_array(uri, mode="r")
    np.testing.assert_array_equal(opened[:], array)
    assert opened.attrs["fps"] == 30.0 and opened.metadata.dimension_names == ("time", "channel")


def test_what_is_not_features_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "x.zarr")
    bad = features()
    bad[3, 1] = np.nan
    for array, said in (
        (bad, "not finite"),
        (features().astype("float64"), "float64"),
        (features()[0], "allowed"),
        (features()[:0], "0, 5"),
    ):
        with pytest.raises(ValueError, match=said):
            write_features(uri, array, {})
    assert list_files(uri) == []


def test_a_missing_or_damaged_chunk_is_an_error(tmp_path: Path, small_chunks: None) -> None:
    uri = str(tmp_path / "x.zarr")
    with pytest.raises(FeatureReadError, match="no such array"):
        FeatureReader(uri).read()
    write_features(uri, features(), {})
    chunk = Path(uri, "c", "1", "0")
    data = bytearray(chunk.read_bytes())
    data[9] ^= 1
    chunk.write_bytes(data)
    # the others are whole
    np.testing.assert_array_equal(FeatureReader(uri).read(0, 7), features()[:7])
    with pytest.raises(FeatureReadError, match="chunk 1 is damaged"):
        FeatureReader(uri).read()
    chunk.unlink()
    with pytest.raises(FeatureReadError, match="chunk 1 is missing"):
        FeatureReader(uri).read()


def test_a_store_that_fails_leaves_nothing(
    tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, real, written = str(tmp_path / "x.zarr"), store.write_bytes, []

    def full(target: str, data: bytes) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(target)
        real(target, data)

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_features(uri, features(), {})
    assert len(written) == 2 and list_files(uri) == []


def test_on_s3(s3, small_chunks: None) -> None:
    uri = f"{s3.bucket}/features/x.zarr"
    write_features(uri, features(), {"stride": 4})
    s3.requests.clear()
    np.testing.assert_array_equal(FeatureReader(uri).read(8, 12), features()[8:12])
    assert sum(method == "GET" for method, _ in s3.requests) == 2  # zarr.json and the one chunk
