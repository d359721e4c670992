"""Messages without passwords, and reading without writing."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from configs import Settings
from ops.tracking.connect import NoDatabaseError, TrackingError, reader, shown


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://me:TOPSECRET@db/x", "postgresql://db/x"),
        ("postgresql://me:TOP/SECRET@db/x", "postgresql://db/x"),
        ("postgresql://me:TOP@SECRET@db/x", "postgresql://db/x"),
        (
            "postgresql://db/x?user=me&password=SECRET&sslmode=on",
            "postgresql://db/x?user=me&password=***&sslmode=on",
        ),
        ("https://host/x?X-Amz-Signature=SECRET", "https://host/x?X-Amz-Signature=***"),
        (
            "cannot reach 'https://me:SECRET@host' at mail@host",
            "cannot reach 'https://host' at mail@host",
        ),
        ("models:/name@champion", "models:/name@champion"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
    ],
)
def test_no_message_shows_a_password(uri: str, said: str) -> None:
    assert shown(uri) == said


@pytest.mark.parametrize(
    "uri", ["postgresql://me:SECRET@127.0.0.1:notaport/x", "http://[bad", "http://127.0.0.1:a"]
)
def test_an_address_that_is_none_is_told_in_words(uri: str) -> None:
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI") as caught:
        reader(uri)
    assert "SECRET" not in str(caught.value)


def test_settings_do_not_show_the_tracking_store() -> None:
    assert "SECRET" not in repr(
        Settings(storage="/s", tracking_uri="postgresql://me:SECRET@db", home=Path("/h"))
    )


def test_a_reader_makes_nothing(settings: Settings) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in settings.home.iterdir())
    store = reader(settings.tracking_uri)
    assert store.search_registered_models() == []
    with pytest.raises(MlflowException, match="readonly"):
        store.create_registered_model("m")
    assert (
        sorted((path.name, path.stat().st_mtime_ns) for path in settings.home.iterdir()) == before
    )
    with pytest.raises(NoDatabaseError, match="there is no database at .*other.db"):
        reader(f"sqlite:///{settings.home}/other.db")
    (settings.home / "empty.db").touch()
    with pytest.raises(NoDatabaseError):
        reader(f"sqlite:///{settings.home}/empty.db")
