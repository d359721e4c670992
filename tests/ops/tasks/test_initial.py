"""Starting weights: of the family itself, of ImageNet, with the same head or a fresh one."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import models
from models.weights import PublishedWeightsError, export_published
from ops.store.files import StorageError
from ops.tasks.initial import load_initial


def model(world, num_classes: int = 3, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.build(world.recipe(num_classes=num_classes))


def test_nothing_named_changes_nothing(world) -> None:
    network = model(world)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    load_initial(network, None)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_a_checkpoint_of_the_family_is_loaded_whole(world, tmp_path: Path) -> None:
    source, target = model(world, seed=1), model(world, seed=2)
    save_file(export_published(source), tmp_path / "weights.safetensors")
    load_initial(target, str(tmp_path / "weights.safetensors"))
    for name, tensor in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], tensor), name


def test_a_head_of_other_classes_stays_fresh_and_the_rest_is_loaded(world, tmp_path: Path) -> None:
    source, target = model(world, num_classes=5, seed=1), model(world, seed=2)
    fresh = target.fc.weight.detach().clone()
    torch.save({"state_dict": export_published(source)}, tmp_path / "weights.pth")
    load_initial(target, str(tmp_path / "weights.pth"))
    assert torch.equal(target.fc.weight, fresh)
    for name, tensor in source.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(target.state_dict()[name], tensor), name


def test_another_network_does_not_fit(world, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = models.build(world.recipe(model={"depth": 10, "width": 16, "num_segments": 4}))
    save_file(export_published(other), tmp_path / "weights.safetensors")
    with pytest.raises(PublishedWeightsError):
        load_initial(model(world), str(tmp_path / "weights.safetensors"))


def test_a_missing_file_is_named(world, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"weights\.pth"):
        load_initial(model(world), str(tmp_path / "weights.pth"))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


def test_a_web_address_is_downloaded_once(world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    source, target = model(world, seed=1), model(world, seed=2)
    (tmp_path / "served").mkdir()
    torch.save(export_published(source), tmp_path / "served" / "weights.pth")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    load_initial(target, f"{address}/weights.pth")
    assert torch.equal(target.fc.weight, source.fc.weight)
    with pytest.raises(StorageError, match=r"missing\.pth: the starting weights cannot be downloaded"):
        load_initial(target, f"{address}/missing.pth")
    server.shutdown()
    server.server_close()
    load_initial(model(world, seed=3), f"{address}/weights.pth")  # from the cache
