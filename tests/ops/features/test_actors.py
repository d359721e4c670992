"""Extraction on Ray actors: the same features, and a worker that dies costs its video at most."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from ops.features import actors
from ops.features.extract import Extractor
from ops.features.jobs import ExtractJob, FeaturesOutcome
from ops.features.materialize import make_features, read_rows
from stored import read_features

pytestmark = pytest.mark.slow  # Ray takes ten seconds to start


@pytest.fixture(scope="module", autouse=True)
def ray_ended() -> Iterator[None]:
    yield
    import ray

    ray.shutdown()


def test_the_features_are_those_of_one_process(frames, trained, extraction) -> None:
    features = extraction(trained("tsm"), trained("tsn", seed=1))
    make_features(features, frames.layout, frames.settings, engine="local")
    here = {
        row["video_id"]: read_features(row["array_uri"])
        for row in read_rows(features, frames.layout)
        if row["status"] == "ok"
    }
    renamed = extraction(trained("tsm"), trained("tsn", seed=1), stride=4, dtype="float16")
    assert renamed.key() != features.key()
    report = make_features(renamed, frames.layout, frames.settings, engine="ray")
    assert (report.done, report.usable, report.quarantined) == (3, 3, 2)
    for row in read_rows(renamed, frames.layout):
        if row["status"] == "ok":
            np.testing.assert_allclose(
                read_features(row["array_uri"]),
                here[row["video_id"]].astype("float16"),
                rtol=2e-3,
                atol=1e-4,
            )
    assert make_features(renamed, frames.layout, frames.settings, engine="ray").planned == 0


def test_a_worker_that_dies(
    frames, trained, extraction, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    class Dying(Extractor):
        def store(self, job: ExtractJob) -> FeaturesOutcome:
            if job.video_id == "even":
                os._exit(1)  # every time
            marker = tmp_path / job.video_id
            if job.video_id == "short" and not marker.exists():
                marker.touch()
                os._exit(1)  # once
            return super().store(job)

    monkeypatch.setattr(actors, "Extractor", Dying)
    features = extraction(trained())
    report = make_features(features, frames.layout, frames.settings, engine="ray")
    assert (report.done, report.usable) == (2, 2)
    reasons = {row["video_id"]: row["reason"] for row in read_rows(features, frames.layout)}
    assert (
        reasons["even"].startswith("the worker died twice on it")
        and reasons["short"] == reasons["long"] == ""
    )
    monkeypatch.undo()
    monkeypatch.setenv(
        "KINOGRAPH_CONFIGS", os.path.join(os.path.dirname(frames.layout.root), "configs")
    )
    report = make_features(
        features, frames.layout, frames.settings, engine="ray", retry_quarantined=True
    )
    assert (report.planned, report.usable) == (1, 3)
