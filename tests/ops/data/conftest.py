"""The tiny stored dataset, and one computing thread: small tensors gain nothing from more."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

WORLD = Path(__file__).resolve().parents[1] / "data" / "world.py"


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Restore the number of threads afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world() -> ModuleType:
    """The module that makes the dataset and its recipe."""
    if "tiny_world" not in sys.modules:
        spec = importlib.util.spec_from_file_location("tiny_world", WORLD)
        assert spec is not None and spec.loader is not None
        sys.modules["tiny_world"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["tiny_world"])
    return sys.modules["tiny_world"]


@pytest.fixture(scope="session")
def stored(world: ModuleType, tmp_path_factory: pytest.TempPathFactory):
    """A layout that holds the dataset; tests only read it."""
    from ops.store.layout import Layout

    layout = Layout(str(tmp_path_factory.mktemp("stored")))
    world.build_world(layout)
    return layout
