"""Extraction: equal to one window after another, every frame decoded once, and kept up to date by
the ledger.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import configs
import models
from configs.schema import ConfigError, RecognitionRecipe
from models.weights import export_published
from ops.data.feature_grid import clock, num_steps
from ops.data.transforms import fixed_views
from ops.features import extract, materialize
from ops.features.materialize import FeaturesError, make_features, read_rows
from ops.files.storage import StorageError, list_files
from ops.store.features import FeatureReader
from ops.store.reader import FrameReader
from stored import read_features


def stored(world, features) -> dict[str, dict]:
    return {row["video_id"]: row for row in read_rows(features, world.layout)}


def frames_of(world, video: str) -> np.ndarray:
    folder = f"{world.layout.root}/frames/small/{world.dataset.frames.key()}/arrays/{video}"
    reader = FrameReader(f"{folder}/{Path(list_files(folder)[0].path_below).parts[0]}")
    return reader.read(range(len(reader)))


def direct(
    world,
    folder: str,
    video: str,
    stride: int,
    num_frames: int,
    sampled: int,
    fps: float | None = None,
) -> np.ndarray:
    """One window after another, each cut, resized and run on its own."""
    recipe = RecognitionRecipe.model_validate_json(Path(folder, "recipe.json").read_text())
    network = models.build(recipe).eval()
    network.load_state_dict(load_file(Path(folder, "model.safetensors")))
    frames = frames_of(world, video)
    if fps is not None:
        frames = frames[clock(np.arange(len(frames)) / 10.0, fps)]
    found = []
    for step in range(num_steps(len(frames), stride, num_frames)):
        places = [
            step * stride + int((share + 0.5) * num_frames / sampled) for share in range(sampled)
        ]
        window = frames[[min(place, len(frames) - 1) for place in places]]
        with torch.inference_mode():
            feature = network.features(torch.from_numpy(fixed_views(window, recipe.transforms, 1)))
        found.append((feature if feature.ndim == 2 else feature.mean(1))[0].numpy())
    return np.stack(found)


@pytest.mark.parametrize("family", ["tsn", "tsm"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_it_equals_one_window_after_another(
    frames, trained, extraction, family: str, batch_size: int
) -> None:
    folder = trained(family)
    features = extraction(folder, batch_size=batch_size)
    report = make_features(features, frames.layout, frames.settings)
    assert (
        report.planned,
        report.done,
        report.reused,
        report.annotated,
        report.usable,
        report.quarantined,
    ) == (3, 3, 0, 5, 3, 2)
    assert report.coverage == pytest.approx(0.6)
    rows = stored(frames, features)
    for video, steps in (("long", 10), ("even", 5), ("short", 1)):
        found = read_features(rows[video]["array_uri"])
        wanted = direct(frames, folder, video, 4, 8, 4)
        assert (
            found.shape == (steps, rows[video]["channels"]) == wanted.shape
            and found.dtype == np.float32
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert rows["bad"]["reason"] == "its frames are quarantined: not a video file"
    assert rows["gone"]["reason"].startswith("no stored frames")
    assert "extra" not in rows  # stored, and not annotated


def test_a_clock_several_models_and_half_precision(frames, trained, extraction) -> None:
    first, second = trained("tsm"), trained("tsn", seed=1)
    streams = [{"model": first}, {"model": second, "sampled_frames": 3}]
    features = extraction(extract=streams, fps=5.0, dtype="float16", stride=2)
    make_features(features, frames.layout, frames.settings)
    for video in ("long", "short"):
        reader = FeatureReader(stored(frames, features)[video]["array_uri"])
        wanted = [
            direct(frames, first, video, 2, 8, 4, 5.0),
            direct(frames, second, video, 2, 8, 3, 5.0),
        ]
        assert reader.dtype == np.float16 and reader.attributes["fps"] == 5.0
        np.testing.assert_allclose(reader.read(), np.concatenate(wanted, 1), rtol=2e-3, atol=1e-4)


def test_the_array_says_what_it_is(frames, trained, extraction) -> None:
    folder = trained()
    features = extraction(folder)
    report = make_features(features, frames.layout, frames.settings)
    row = stored(frames, features)["long"]
    facts = FeatureReader(row["array_uri"]).attributes
    assert facts["axes"] == ["time", "channel"] and (
        facts["stride"],
        facts["num_frames"],
        facts["fps"],
    ) == (4, 8, 10.0)
    assert (facts["video_id"], facts["duration_s"], facts["num_source_frames"]) == ("long", 4.5, 45)
    assert (
        facts["key"] == row["key"]
        and facts["source_key"] == row["sha256"]
        and facts["features_key"] == features.key()
    )
    stream = facts["streams"][0]
    assert (
        stream["model"] == folder
        and stream["weights_sha256"] == report.models[folder]
        and stream["recipe"] == "small_tsm"
    )
    assert facts["code_version"] == configs.versions.FEATURES


def test_every_frame_is_decoded_once(
    frames, trained, extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    largest = []
    read = FrameReader.read

    def counting(self, indices):
        seen.update((self.uri, int(index)) for index in indices)
        largest.append(len(indices))
        return read(self, indices)

    monkeypatch.setattr(FrameReader, "read", counting)
    streams = [
        {"model": trained("tsm"), "sampled_frames": 4},
        {"model": trained("tsn"), "sampled_frames": 8},
    ]
    make_features(
        extraction(extract=streams, stride=1, batch_size=4), frames.layout, frames.settings
    )
    assert set(seen.values()) == {1} and sum(seen.values()) == 45 + 24 + 5
    assert max(largest) <= 11  # a batch of four windows of eight frames, one apart


def test_a_second_run_does_nothing(
    frames, trained, extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = extraction(trained())
    make_features(features, frames.layout, frames.settings)
    before = [(info.uri, info.modified) for info in list_files(f"{frames.layout.root}/features")]
    monkeypatch.setattr(extract, "Extractor", None)
    report = make_features(features, frames.layout, frames.settings)
    assert (report.planned, report.done, report.reused, report.usable) == (0, 0, 5, 3)
    assert [
        (info.uri, info.modified) for info in list_files(f"{frames.layout.root}/features")
    ] == before


def test_other_weights_and_another_content_are_made_anew(frames, trained, extraction) -> None:
    folder = trained(seed=0)
    features = extraction(folder)
    make_features(features, frames.layout, frames.settings)
    before = stored(frames, features)
    # what a promotion does
    Path(trained(seed=7), "model.safetensors").replace(Path(folder, "model.safetensors"))
    report = make_features(features, frames.layout, frames.settings)
    after = stored(frames, features)
    assert report.done == 3 and all(before[name]["key"] != after[name]["key"] for name in after)
    np.testing.assert_allclose(
        read_features(after["even"]["array_uri"]),
        direct(frames, folder, "even", 4, 8, 4),
        rtol=1e-5,
        atol=1e-5,
    )
    arrays = {
        info.uri.split(".zarr")[0]
        for info in list_files(f"{frames.layout.root}/features")
        if ".zarr" in info.uri
    }
    # the old ones are gone
    assert arrays == {
        row["array_uri"].removesuffix(".zarr") for row in after.values() if row["array_uri"]
    }

    frames.annotate("long", "extra")  # two videos are no longer asked for, one is new
    report = make_features(features, frames.layout, frames.settings)
    assert (report.done, report.reused, report.removed) == (1, 1, 4) and set(
        stored(frames, features)
    ) == {"long", "extra"}


def test_what_was_cut_short_goes_on_and_ends_equal(
    frames, trained, extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = extraction(trained())
    store, calls = extract.Extractor.store, []

    def failing(self, job):
        if len(calls) == 1:
            # half done when it ends
            extract.write_features(job.array_uri, np.ones((2, 2), np.float32), {})
            raise KeyboardInterrupt
        calls.append(job.video_id)
        return store(self, job)

    monkeypatch.setattr(extract.Extractor, "store", failing)
    with pytest.raises(KeyboardInterrupt):
        make_features(features, frames.layout, frames.settings)
    assert [
        row["video_id"] for row in read_rows(features, frames.layout) if row["status"] == "ok"
    ] == calls
    monkeypatch.undo()
    monkeypatch.setenv("KINOGRAPH_CONFIGS", str(Path(frames.layout.root).parent / "configs"))
    report = make_features(features, frames.layout, frames.settings)
    assert (report.done, report.reused) == (2, 3)
    rows = stored(frames, features)
    for video in ("long", "even", "short"):
        np.testing.assert_allclose(
            read_features(rows[video]["array_uri"]),
            direct(frames, trained(), video, 4, 8, 4),
            rtol=1e-5,
            atol=1e-5,
        )
    left = [info.path_below for info in list_files(f"{frames.layout.root}/features")]
    assert not [path for path in left if "pending" in path or "lease" in path]


def test_damaged_frames_are_refused_and_may_be_tried_again(frames, trained, extraction) -> None:
    features = extraction(trained())
    folder = f"{frames.layout.root}/frames/small/{frames.dataset.frames.key()}/arrays/long"
    shard = next(
        Path(info.uri) for info in list_files(folder) if info.path_below.endswith("c/1/0/0/0")
    )
    whole = shard.read_bytes()
    shard.unlink()
    report = make_features(features, frames.layout, frames.settings)
    assert report.usable == 2 and "shard is missing" in stored(frames, features)["long"]["reason"]
    shard.write_bytes(whole)
    assert make_features(features, frames.layout, frames.settings).planned == 0
    report = make_features(features, frames.layout, frames.settings, retry_quarantined=True)
    assert (report.planned, report.usable) == (1, 3)


def test_frames_without_timestamps_are_refused(frames, trained, extraction) -> None:
    folder = f"{frames.layout.root}/frames/small/{frames.dataset.frames.key()}/arrays/even"
    metadata = next(
        Path(info.uri) for info in list_files(folder) if info.path_below.endswith("zarr.json")
    )
    value = json.loads(metadata.read_text())
    value["attributes"]["timestamps_s"].pop()
    metadata.write_text(json.dumps(value))
    features = extraction(trained())
    assert make_features(features, frames.layout, frames.settings).usable == 2
    assert (
        stored(frames, features)["even"]["reason"]
        == "its stored frames lack their timestamps or rate"
    )


def test_a_store_that_fails_is_an_error_and_no_refusal(
    frames, trained, extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_):
        raise StorageError("s3://x", "failed 3 times", transient=True)

    monkeypatch.setattr(extract, "write_features", away)
    features = extraction(trained())
    with pytest.raises(StorageError, match="failed 3 times"):
        make_features(features, frames.layout, frames.settings)
    assert not [
        row
        for row in read_rows(features, frames.layout)
        if row["video_id"] in ("long", "even", "short")
    ]


def test_values_that_are_not_finite_are_refused(
    frames, trained, extraction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        extract, "features_of", lambda reader, networks, job: np.full((3, 2), 1e6, np.float32)
    )
    features = extraction(trained(), dtype="float16")
    report = make_features(features, frames.layout, frames.settings)
    assert (
        report.usable == 0
        and "beyond the range of float16, the first at step 0"
        in stored(frames, features)["long"]["reason"]
    )


def test_a_recipe_with_published_weights(frames, trained, extraction, tmp_path: Path) -> None:
    recipe = configs.load("tsn_tiny_figures")
    torch.manual_seed(3)
    network = models.build(recipe).eval()
    torch.save(export_published(network), tmp_path / "published.pth")
    features = extraction(
        extract=[{"model": recipe.name, "checkpoint": str(tmp_path / "published.pth")}],
        num_frames=16,
    )
    make_features(features, frames.layout, frames.settings)
    with pytest.raises(ConfigError, match="extract.checkpoint"):
        make_features(extraction(recipe.name), frames.layout, frames.settings)
    reader = FeatureReader(stored(frames, features)["even"]["array_uri"])
    assert reader.attributes["streams"][0]["recipe"] == recipe.name and len(reader) == 3


def test_mistakes_are_told(frames, trained, extraction, tmp_path: Path) -> None:
    def said(kind: type[Exception], *models_: str, **changes: object) -> str:
        with pytest.raises(kind) as caught:
            make_features(extraction(*models_, **changes), frames.layout, frames.settings)
        return str(caught.value)

    assert "models:/<name>@<alias>" in said(ConfigError, str(tmp_path / "nowhere"))
    assert "at most num_frames = 8" in said(
        ConfigError, extract=[{"model": trained(), "sampled_frames": 9}]
    )
    folder = trained()
    recipe = json.loads(Path(folder, "recipe.json").read_text())
    Path(folder, "recipe.json").write_text(json.dumps({**recipe, "num_classes": 4}))
    assert "allowed: those of recipe small_tsm" in said(ConfigError, folder)
    frames.annotate("gone")
    assert "no stored frames of dataset 'small'" in said(FeaturesError, trained())


def test_a_promoted_model_is_found_in_the_registry(frames, settings, trained, extraction) -> None:
    """The alias moves from one version to another, as the gate moves it."""
    from ops.tracking.connect import client

    store = client(settings.tracking_uri)
    features = extraction("models:/small@champion")
    with pytest.raises(ConfigError, match="promoted before"):
        make_features(features, frames.layout, settings)
    store.create_registered_model("small")
    keys = []
    for seed in (0, 1):
        folder = Path(trained(seed=seed))
        (folder / "artifacts").mkdir()
        for name in ("model.safetensors", "recipe.json"):
            (folder / name).rename(folder / "artifacts" / name)
        version = store.create_model_version("small", folder.as_uri())
        store.set_registered_model_alias("small", "champion", version.version)
        report = make_features(features, frames.layout, settings)
        keys.append(
            {row["key"] for row in read_rows(features, frames.layout) if row["status"] == "ok"}
        )
        assert report.done == 3 and make_features(features, frames.layout, settings).planned == 0
    assert not keys[0] & keys[1]


def test_on_s3(frames, s3, trained, extraction) -> None:
    """The features go to S3, and come back equal."""
    from ops.files.storage import read_bytes, write_bytes
    from ops.store.layout import Layout

    for info in list_files(frames.layout.root):
        write_bytes(f"{s3.bucket}/{info.path_below}", read_bytes(info.uri))
    far = Layout(s3.bucket)
    features = extraction(trained())
    make_features(features, frames.layout, frames.settings)
    near = stored(frames, features)
    assert materialize.make_features(features, far, frames.settings).usable == 3
    for row in read_rows(features, far):
        if row["status"] == "ok":
            assert row["array_uri"].startswith("s3://")
            np.testing.assert_array_equal(
                read_features(row["array_uri"]), read_features(near[row["video_id"]]["array_uri"])
            )
