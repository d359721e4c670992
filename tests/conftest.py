"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference outputs and media that is not part of the project; the test skips where it is absent."""
    folder = Path(os.environ.get("KINOGRAPH_SHARED", REPO.parent / "shared"))
    if not (folder / "parity").is_dir():
        pytest.skip(f"no reference material at {folder} (set KINOGRAPH_SHARED)")
    return folder


@pytest.fixture
def layout(tmp_path: Path):
    """An empty local storage root."""
    from ops.store.layout import Layout

    return Layout(str(tmp_path / "storage"))
