"""Import of published files: every form, every way in which one can be bad, several streams, and no
silence about what is missing.
"""

from __future__ import annotations

import io
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.schema import ConfigError, FeatureFiles
from ops.features import imported
from ops.features.files import FeatureFileError, joined, length_slack, read_stream
from ops.features.listing import listing
from ops.features.materialize import FeaturesError, make_features, read_rows
from ops.files.storage import StorageError, list_files, write_bytes
from ops.store.features import FeatureReader
from s3_fixtures import once
from stored import read_features

ARRAY = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)


def npy(array: np.ndarray, **more: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **more)
    return file.getvalue()


def npz(**members: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **members)  # type: ignore[arg-type]
    return file.getvalue()


def pt(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def csv(array: np.ndarray, header: str = "") -> bytes:
    return (
        header + "\n".join(",".join(repr(float(value)) for value in row) for row in array) + "\n"
    ).encode()


def read(form: str, *files: bytes, **changes: Any) -> np.ndarray:
    stream = FeatureFiles(path="{video}", format=form, **{"channels": 4, **changes})  # type: ignore[arg-type]
    return read_stream(
        stream, [(f"folder/{index}.{form}", data) for index, data in enumerate(files)]
    )


@pytest.mark.parametrize(
    ("form", "data", "changes"),
    [
        ("npy", npy(ARRAY), {}),
        ("npy", npy(np.asfortranarray(ARRAY)), {}),
        ("npy", npy(ARRAY.astype(">f8")), {}),
        ("npy", npy(ARRAY.T), {"transposed": True}),
        ("npz", npz(feats=ARRAY), {}),
        ("npz", npz(feats=ARRAY, other=ARRAY[:2]), {"key": "feats"}),
        ("csv", csv(ARRAY), {}),
        ("csv", csv(ARRAY, "f0,f1,f2,f3\n"), {}),
        ("csv", b"\xef\xbb\xbf" + csv(ARRAY), {}),
        ("pt", pt(torch.from_numpy(ARRAY)), {}),
        ("pt", pt({"feats": torch.from_numpy(ARRAY), "fps": torch.ones(1)}), {"key": "feats"}),
    ],
)
def test_every_form(form: str, data: bytes, changes: dict[str, Any]) -> None:
    np.testing.assert_allclose(read(form, data, **changes).astype(np.float32), ARRAY, rtol=1e-6)


def test_a_folder_of_steps_goes_by_the_numbers_in_its_names() -> None:
    stream = FeatureFiles(path="{video}", format="npy_folder", channels=4)
    files = [
        (f"v/step_{index}.npy", npy(row if index % 2 else row[None]))
        for index, row in enumerate(np.tile(ARRAY, (2, 1)))
    ]
    np.testing.assert_array_equal(read_stream(stream, files[::-1]), np.tile(ARRAY, (2, 1)))
    np.testing.assert_array_equal(read_stream(stream, sorted(files)), np.tile(ARRAY, (2, 1)))


class Harm:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("open('/tmp/kinograph-was-here', 'w')",))


def with_value(value: float) -> np.ndarray:
    array = ARRAY.copy()
    array[5, 2] = value
    return array


@pytest.mark.parametrize(
    ("form", "data", "changes", "said"),
    [
        ("npy", npy(ARRAY), {"channels": 5}, "found 4 channels; allowed: 5"),
        (
            "npy",
            npy(ARRAY.T),
            {},
            r"found 9 channels; allowed: 4; is it stored the other way round \(transposed\)",
        ),
        (
            "npy",
            npy(with_value(np.nan)),
            {},
            "1 of 36 values are NaN or infinite, the first at step 5, channel=2",
        ),
        ("npy", npy(with_value(np.inf)), {}, "NaN or infinite"),
        ("npy", npy(ARRAY[:0]), {}, r"empty array of shape \[0, 4\]"),
        ("npy", npy(ARRAY[0]), {}, r"shape \[4\]; allowed: two axes"),
        ("npy", npy(ARRAY[None]), {}, r"shape \[1, 9, 4\]; allowed: two axes"),
        ("npy", npy(ARRAY)[:-10], {}, "truncated: 134 of 144 bytes"),
        ("npy", npy(ARRAY)[:40], {}, "not a .npy file, or cut short"),
        ("npy", b"", {}, "not a .npy file"),
        ("npy", b"<html>not found</html>", {}, "not a .npy file"),
        (
            "npy",
            npy(np.array([[1, None]], object), allow_pickle=True),
            {},
            r"Python objects \(a pickle\), which are never loaded",
        ),
        ("npy", npy(ARRAY.astype("S4")), {}, "values of type"),
        ("npy", npy(ARRAY.astype(complex)), {}, "values of type complex128"),
        ("npz", npz(a=ARRAY, b=ARRAY), {}, "found members a, b; allowed: one member only"),
        ("npz", npz(a=ARRAY), {"key": "feats"}, "found members a; allowed: 'feats'"),
        ("npz", npz(feats=ARRAY)[:60], {}, "not an .npz file, or damaged"),
        ("npz", npy(ARRAY), {}, "not an .npz file"),
        ("csv", b"1,2,3,4\n1,2,x,4\n", {}, "not a table of numbers"),
        ("csv", b"1,2,3,4\n1,2,3\n", {}, "not a table of numbers"),
        ("csv", b"1,2,nan,4\n", {}, "1 of 4 values are NaN"),
        ("csv", b"", {}, "empty file"),
        ("csv", b"f0,f1\n", {}, "a header and no rows"),
        ("csv", b"\xff\xfe1,2", {}, "not text in UTF-8"),
        ("pt", pt(Harm()), {}, "objects other than tensors, which are never loaded"),
        ("pt", pickle.dumps(ARRAY), {}, "damaged|never loaded"),
        ("pt", pt(torch.from_numpy(ARRAY))[:200], {}, "damaged"),
        ("pt", pt([1, 2]), {}, "found a list; allowed: one dense tensor"),
        (
            "pt",
            pt({"a": torch.ones(1), "b": torch.ones(1)}),
            {},
            "found entries a, b; allowed: one entry only",
        ),
        (
            "npy_folder",
            npy(ARRAY),
            {},
            r"0.npy_folder: found an array of shape \[9, 4\]; allowed: \[4\], one step",
        ),
    ],
)
def test_every_bad_file_is_told(form: str, data: bytes, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FeatureFileError, match=said) as caught:
        read(form, data, **changes)
    assert str(caught.value).startswith("folder/0.")
    assert not Path("/tmp/kinograph-was-here").exists()


def test_a_bit_flip_in_an_archive_is_noticed() -> None:
    data = bytearray(npz(feats=np.random.default_rng(1).normal(size=(50, 4))))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        start = archive.infolist()[0].header_offset + 200
    data[start] ^= 8
    with pytest.raises(FeatureFileError, match="damaged"):
        read("npz", bytes(data))


def test_streams_are_cut_to_the_shortest_where_only_rounding_parts_them() -> None:
    long, short = np.ones((10, 2), np.float32), np.zeros((8, 3), np.float64)
    array = joined([long, short], ["a", "b"], "float32")
    assert (
        array.shape == (8, 5)
        and array.dtype == np.float32
        and array[:, :2].all()
        and not array[:, 2:].any()
    )
    with pytest.raises(
        FeatureFileError, match="different lengths, in steps: a 10, b 7; they may differ by 2"
    ):
        joined([long, short[:7]], ["a", "b"], "float32")
    assert length_slack(1000) == 5 and length_slack(10) == 2
    with pytest.raises(FeatureFileError, match="a: values beyond the range of float16"):
        joined([np.full((2, 2), 1e6)], ["a"], "float16")


# -------------------------------------------------------------------------------------------------
# whole datasets


def rows_of(world, features) -> dict[str, dict]:
    return {row["video_id"]: row for row in read_rows(features, world.layout)}


def put(world, path: str, data: bytes) -> str:
    uri = f"{world.layout.dataset_root(world.dataset)}/{path}"
    write_bytes(uri, data)
    return uri


STREAM = {"path": "feats/{video}.npy", "format": "npy", "channels": 4}


def test_a_dataset_with_gaps(world, imports) -> None:
    world.annotate("a", "b", "c", "deep/d")
    for name, array in (
        ("a", ARRAY),
        ("b", ARRAY[:3, :2]),
        ("deep/d", ARRAY[:5]),
        ("stranger", ARRAY),
    ):
        put(world, f"feats/{name}.npy", npy(array))
    put(world, "feats/.hidden.npy", b"")
    put(world, "feats/readme.txt", b"about")
    features = imports(STREAM)
    report = make_features(features, world.layout, world.settings)
    assert (report.annotated, report.usable, report.quarantined, report.done) == (
        4,
        2,
        3,
        2,
    ) and report.coverage == 0.5
    assert report.reasons == {
        "feats/b.npy: found 2 channels; allowed: 4": 1,
        "no file feats/c.npy": 1,
        "no annotation names this video": 1,
    }
    rows = rows_of(world, features)
    assert set(rows) == {"a", "b", "c", "deep/d", "stranger"} and rows["deep/d"]["num_steps"] == 5
    np.testing.assert_array_equal(read_features(rows["a"]["array_uri"]), ARRAY)
    facts = FeatureReader(rows["a"]["array_uri"]).attributes
    assert facts["streams"] == [
        {"path": "feats/a.npy", "format": "npy", "channels": 4, "key": None, "steps": 9}
    ]
    assert (facts["stride"], facts["num_frames"], facts["fps"], facts["duration_s"]) == (
        16,
        32,
        None,
        4.5,
    )
    assert facts["key"] == rows["a"]["key"] and facts["source_key"] == rows["a"]["sha256"]


def test_a_second_run_reads_nothing_and_a_changed_file_is_read_again(
    world, imports, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.annotate("a", "b", "c")
    for name in ("a", "b"):
        put(world, f"feats/{name}.npy", npy(ARRAY))
    features, reads, real = imports(STREAM), [], imported.read_bytes
    monkeypatch.setattr(imported, "read_bytes", lambda uri: reads.append(uri) or real(uri))
    make_features(features, world.layout, world.settings)
    before = rows_of(world, features)
    assert len(reads) == 2
    report = make_features(features, world.layout, world.settings)
    assert (report.planned, report.reused, len(reads)) == (0, 3, 2)

    put(world, "feats/a.npy", npy(ARRAY))  # touched: read again, and found to be the same
    report = make_features(features, world.layout, world.settings)
    assert (report.planned, report.done, report.reused, len(reads)) == (1, 0, 3, 3) and rows_of(
        world, features
    ) == before
    assert make_features(features, world.layout, world.settings).planned == 0

    put(world, "feats/b.npy", npy(ARRAY * 2))
    put(world, "feats/c.npy", npy(ARRAY * 3))  # was missing
    report = make_features(features, world.layout, world.settings)
    assert (report.done, report.reused, report.usable) == (2, 1, 3)
    np.testing.assert_array_equal(
        read_features(rows_of(world, features)["b"]["array_uri"]), ARRAY * 2
    )
    assert not Path(before["b"]["array_uri"]).exists()


def test_streams_side_by_side(world, imports) -> None:
    world.annotate("clips/x", "clips/y")
    put(world, "slow/x.npy", npy(ARRAY))
    put(world, "fast/x.npz", npz(feats=ARRAY[:8, :2]))
    for step in range(12):
        put(world, f"ego/x/{step}.npy", npy(np.full(3, step, np.float32)))
    put(world, "slow/y.npy", npy(ARRAY))
    streams = [
        {"path": "slow/{name}.npy", "format": "npy", "channels": 4},
        {"path": "fast/{name}.npz", "format": "npz", "channels": 2, "key": "feats"},
        {"path": "ego/{name}", "format": "npy_folder", "channels": 3},
    ]
    features = imports(*streams[:2], fps=30.0)
    make_features(features, world.layout, world.settings)
    rows = rows_of(world, features)
    np.testing.assert_array_equal(
        read_features(rows["clips/x"]["array_uri"]), np.concatenate([ARRAY[:8], ARRAY[:8, :2]], 1)
    )
    assert FeatureReader(rows["clips/x"]["array_uri"]).attributes["fps"] == 30.0
    assert rows["clips/y"]["reason"] == "no file fast/y.npz"
    features = imports(*streams)
    make_features(features, world.layout, world.settings)
    assert (
        "slow/x.npy 9, fast/x.npz 8, ego/x 12; they may differ by 2"
        in rows_of(world, features)["clips/x"]["reason"]
    )


def test_without_annotations_the_files_say_which_videos_there_are(world, imports) -> None:
    for name in ("v_one", "v_two", "other"):
        put(world, f"tsp/{name}.npy", npy(ARRAY))
    features = imports({**STREAM, "path": "tsp/v_{video}.npy"})
    report = make_features(features, world.layout, world.settings)
    assert set(rows_of(world, features)) == {"one", "two"} and (
        report.annotated,
        report.usable,
    ) == (2, 2)


def test_mistakes_in_the_yaml_and_an_empty_folder(world, imports) -> None:
    with pytest.raises(
        FeaturesError,
        match=r"no video has its files \(feats/\{video\}.npy\) below .*/datasets/small",
    ):
        make_features(imports(STREAM), world.layout, world.settings)
    for path in ("feats/all.npy", "{video}/{video}.npy", "{clip}.npy", "feats/{video"):
        with pytest.raises(ConfigError, match="files.path"):
            make_features(imports({**STREAM, "path": path}), world.layout, world.settings)


def test_a_run_that_is_cut_short_goes_on(world, imports, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(40):
        put(world, f"feats/v{index:02d}.npy", npy(ARRAY + index))
    features, real = imports(STREAM), imported.write_features

    def full(uri: str, *more: Any) -> int:
        if "/v30/" in uri:
            raise OSError(28, "No space left on device")
        return real(uri, *more)

    monkeypatch.setattr(imported, "write_features", full)
    with pytest.raises(OSError, match="No space"):
        make_features(features, world.layout, world.settings)
    kept = {row["video_id"] for row in read_rows(features, world.layout)}
    assert 0 < len(kept) < 40 and "v30" not in kept
    monkeypatch.setattr(imported, "write_features", real)
    report = make_features(features, world.layout, world.settings)
    assert report.usable == 40
    for row in read_rows(features, world.layout):
        np.testing.assert_array_equal(
            read_features(row["array_uri"]), ARRAY + int(row["video_id"][1:])
        )
    left = {
        info.uri.split(".zarr")[0] + ".zarr"
        for info in list_files(f"{world.layout.root}/features")
        if ".zarr" in info.uri
    }
    assert left == {row["array_uri"] for row in read_rows(features, world.layout)}


def test_one_listing_finds_all(world) -> None:
    put(world, "a/{odd}/x.npy", b"")
    put(world, "a/b/y.npy", b"")
    found = listing(
        FeatureFiles(path="a/{video}.npy", format="npy", channels=1),
        world.layout.dataset_root(world.dataset),
    )
    assert found.videos() == {"{odd}/x", "b/y"}
    assert [info.path_below for info in found.of("b/y")] == ["b/y.npy"] and found.of("z") == ()


def test_on_s3(world, imports, s3) -> None:
    from ops.store.layout import Layout

    layout = Layout(f"{s3.bucket}/root")
    for name in ("a", "b"):
        write_bytes(f"{layout.dataset_root(world.dataset)}/feats/{name}.npy", npy(ARRAY))
    features = imports(STREAM)
    assert make_features(features, layout, world.settings).usable == 2
    row = read_rows(features, layout)[0]
    assert row["array_uri"].startswith(s3.bucket)
    np.testing.assert_array_equal(read_features(row["array_uri"]), ARRAY)
    assert make_features(features, layout, world.settings).planned == 0


@pytest.mark.slow  # a server in a process of its own, killed and started again
def test_a_store_that_is_cut_off_while_features_are_written_is_waited_for(
    world, imports, disk_server, monkeypatch
) -> None:
    monkeypatch.setattr("ops.store.bucket_writer.COMMIT_EVERY_ROWS", 1)
    for index in range(40):
        put(world, f"feats/v{index:02d}.npy", npy(ARRAY + index))
    features, layout = imports(STREAM), type(world.layout)("s3://data/root")
    dataset = world.dataset.model_copy(update={"root": world.layout.dataset_root(world.dataset)})
    monkeypatch.setattr("configs.dataset", lambda name: dataset)

    def restart() -> None:
        disk_server.kill()
        time.sleep(3)
        disk_server.start()

    away = once(lambda: len(disk_server.put(".zarr/zarr.json")) >= 8, restart)
    report = make_features(features, layout, world.settings)
    away.join()
    assert (report.done, report.usable, report.quarantined) == (40, 40, 0)
    for row in read_rows(features, layout):
        np.testing.assert_array_equal(
            read_features(row["array_uri"]), ARRAY + int(row["video_id"][1:])
        )
    left = [info.path_below for info in list_files(f"{layout.root}/features")]
    assert not [name for name in left if ".pending" in name or ".lease" in name or ".parts" in name]


@pytest.mark.slow
def test_a_store_that_stays_away_ends_the_run_and_the_next_one_goes_on(
    world, imports, disk_server, monkeypatch
) -> None:
    monkeypatch.setattr("ops.store.bucket_writer.COMMIT_EVERY_ROWS", 1)
    monkeypatch.setattr("ops.files.patience.PATIENCE_S", 2.0)
    for index in range(40):
        put(world, f"feats/v{index:02d}.npy", npy(ARRAY + index))
    features, layout = imports(STREAM), type(world.layout)("s3://data/root")
    dataset = world.dataset.model_copy(update={"root": world.layout.dataset_root(world.dataset)})
    monkeypatch.setattr("configs.dataset", lambda name: dataset)
    killer = once(lambda: len(disk_server.put(".zarr/zarr.json")) >= 8, disk_server.kill)
    with pytest.raises(StorageError, match="failed 3 times"):
        make_features(features, layout, world.settings)
    killer.join()
    disk_server.start()
    kept = len(read_rows(features, layout))
    report = make_features(features, layout, world.settings)
    assert (report.done, report.reused, report.usable) == (40 - kept, kept, 40) and kept < 40
