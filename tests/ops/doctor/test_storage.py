"""Decoders, arrays, S3 and MLflow: sound ones pass, each real fault is found and nothing is left
behind.
"""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

import configs
from mlflow_server import mlflow_server
from ops.doctor import arrays, bucket, decoders, tracker
from ops.files.storage import list_files
from ops.media.encode import Coding, write_mp4

CODING = Coding(18, 12, 2, False)


@pytest.fixture
def settings(tmp_path: Path) -> configs.Settings:
    return configs.Settings(
        storage=str(tmp_path / "storage"),
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        home=tmp_path / "home",
    )


def test_both_decoders_show_every_frame(settings) -> None:
    found = list(decoders.check(settings))
    assert (
        {finding.state for finding in found} <= {"good", "note"}
        and found[0].name == "pyav"
        and found[0].state == "good"
    )


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ([*range(30), *range(31, 60), 59], "from place 30 on: [31, 32"),
        ([*range(20), 21, 20, *range(22, 60)], "from place 20 on: [21, 20"),
        (list(range(59)), "59 frames of 60"),
    ],
    ids=["left out", "exchanged", "short"],
)
@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_frames_that_are_not_those_are_found(tmp_path, decoder, order, says) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    write_mp4(
        tmp_path / "v.mp4", (decoders.picture(number) for number in order), decoders.FPS, CODING
    )
    finding = decoders._decoded(tmp_path / "v.mp4", decoder)
    assert finding.state == "wrong" and says in finding.found


def test_wrong_colours_and_times_are_found(tmp_path) -> None:
    swapped = (
        np.ascontiguousarray(decoders.picture(number)[..., ::-1])
        for number in range(decoders.FRAMES)
    )
    write_mp4(tmp_path / "v.mp4", swapped, decoders.FPS, CODING)
    assert "colours are up to" in decoders._decoded(tmp_path / "v.mp4", "pyav").found
    write_mp4(tmp_path / "w.mp4", map(decoders.picture, range(decoders.FRAMES)), 24, CODING)
    assert "off their times" in decoders._decoded(tmp_path / "w.mp4", "pyav").found


def test_arrays_at_a_local_storage(settings, tmp_path) -> None:
    assert [finding.state for finding in (*arrays.local(settings), *arrays.stored(settings))] == [
        "good",
        "good",
    ]
    assert not list(tmp_path.iterdir())


def test_a_codec_that_is_wrong_is_found(settings, monkeypatch) -> None:
    from ops.store import jpeg

    monkeypatch.setattr(
        jpeg,
        "encode",
        lambda frame, quality, real=jpeg.encode: real(np.ascontiguousarray(frame[::-1]), quality),
    )
    (finding,) = arrays.local(settings)
    assert finding.state == "wrong" and "levels off" in finding.found


def test_s3_does_what_is_asked_of_it_and_keeps_nothing(settings, s3) -> None:
    remote = settings.model_copy(update={"storage": f"{s3.bucket}/prefix"})
    found = [*bucket.check(remote), *arrays.stored(remote)]
    assert {finding.state for finding in found} == {"good"} and len(found) == 6
    assert list_files(s3.bucket) == []


def test_s3_without_conditional_creates_is_found(settings, s3, monkeypatch) -> None:
    def deaf(environ, start_response, real=s3.application):
        environ.pop("HTTP_IF_NONE_MATCH", None)
        return real(environ, start_response)

    monkeypatch.setattr(s3, "application", deaf)
    found = {
        finding.name: finding
        for finding in bucket.check(settings.model_copy(update={"storage": f"{s3.bucket}/p"}))
    }
    assert {name for name, finding in found.items() if finding.state == "wrong"} == {
        "S3 conditional create"
    }


def test_s3_that_ignores_ranges_is_found(settings, s3, monkeypatch) -> None:
    def deaf(environ, start_response, real=s3.application):
        environ.pop("HTTP_RANGE", None)
        return real(environ, start_response)

    monkeypatch.setattr(s3, "application", deaf)
    found = {
        finding.name: finding
        for finding in bucket.check(settings.model_copy(update={"storage": f"{s3.bucket}/p"}))
    }
    assert {name for name, finding in found.items() if finding.state == "wrong"} == {"S3 ranges"}


def test_s3_that_refuses_names_the_credentials(settings, s3) -> None:
    s3.refuse = True
    with pytest.raises(OSError, match="access refused"):
        list(bucket.check(settings.model_copy(update={"storage": f"{s3.bucket}/p"})))


def test_no_mlflow_server_is_told_at_once(settings) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ValueError, match=f"no MLflow server answers at http://127.0.0.1:{port}"):
        list(
            tracker.check(
                settings.model_copy(update={"tracking_uri": f"http://user:secret@127.0.0.1:{port}"})
            )
        )


def test_a_database_that_is_none_is_told(settings, tmp_path) -> None:
    (tmp_path / "mlflow.db").write_text("this is a text, and no database at all; " * 40)
    with pytest.raises(ValueError, match="cannot open"):
        list(tracker.check(settings))


@pytest.mark.slow
def test_a_server_gets_an_experiment_and_loses_it(settings, tmp_path) -> None:

    from ops.tracking.connect import client

    with mlflow_server(settings.tracking_uri, tmp_path) as url:
        served = settings.model_copy(update={"tracking_uri": url})
        for _ in range(2):  # the second finds the first one's deleted experiment
            found = {finding.name: finding for finding in tracker.check(served)}
            assert {finding.state for finding in found.values()} == {"good"}, found
            assert set(found) == {"MLflow version", "MLflow", "MLflow runs", "MLflow artifacts"}
        assert [one.name for one in client(url).search_experiments()] == ["Default"]
        assert not [path for path in (tmp_path / "served").rglob("*") if path.is_file()]
