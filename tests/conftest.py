"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ops.tracking  # noqa: F401 - before any test imports MLflow, which reads its switches then

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One computing thread, where the collected tests use torch at all: small tensors gain nothing
    from more.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of reference outputs and media that is not part of the project; the test skips where
    it is absent.
    """
    folder = Path(os.environ.get("KINOGRAPH_SHARED", REPO.parent / "shared"))
    if not (folder / "parity").is_dir():
        pytest.skip(f"no reference material at {folder} (set KINOGRAPH_SHARED)")
    return folder


@pytest.fixture
def layout(tmp_path: Path):
    """An empty local storage root."""
    from ops.store.layout import Layout

    return Layout(str(tmp_path / "storage"))
