"""Starting weights: of the family itself, of ImageNet, with the same head or a fresh one."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import models
from configs.schema import ConfigError, HeadLabels
from models.weights import PublishedWeightsError, export_published
from ops.files.download import fetched
from ops.files.storage import StorageError
from ops.training.init_weights import head_channels, load_initial, scale_head
from ops.training.run_folder import plan_run
from ops.training.task import build


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


def test_a_web_address_is_downloaded_once(
    world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    source, target = model(world, seed=1), model(world, seed=2)
    (tmp_path / "served").mkdir()
    torch.save(export_published(source), tmp_path / "served" / "weights.pth")
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    load_initial(target, f"{address}/weights.pth")
    assert torch.equal(target.fc.weight, source.fc.weight)
    with pytest.raises(
        StorageError, match=r"missing\.pth: the starting weights cannot be downloaded"
    ):
        load_initial(target, f"{address}/missing.pth")
    server.shutdown()
    server.server_close()
    load_initial(model(world, seed=3), f"{address}/weights.pth")  # from the cache


class Moved(SimpleHTTPRequestHandler):
    """Serves its port number as weights; /moved leads to the server `elsewhere`."""

    elsewhere = 0

    def do_GET(self) -> None:
        """Answer a request."""
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.elsewhere}/internal.pth")
            self.end_headers()
            return
        data = str(self.server.server_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def servers() -> Iterator[tuple[int, int]]:
    """Ports of two servers of this machine; the second one's /moved leads to the first."""
    made = [ThreadingHTTPServer(("127.0.0.1", 0), Moved) for _ in range(2)]
    for server in made:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    Moved.elsewhere = made[0].server_port
    yield made[0].server_port, made[1].server_port
    for server in made:
        server.shutdown()
        server.server_close()


def test_an_address_is_known_by_all_of_it_and_its_file_by_its_content(
    servers: tuple[int, int], tmp_path: Path
) -> None:
    one, two = (
        f"http://127.0.0.1:{port}/{folder}/resnet50.pth"
        for port, folder in zip(servers, ("evil", "official"), strict=True)
    )
    first, second = fetched(one, None, tmp_path), fetched(two, None, tmp_path)
    assert (first.read_text(), second.read_text()) == tuple(
        map(str, servers)
    ) and first.name == second.name == "resnet50.pth"
    second.write_text("changed in the cache")
    assert fetched(two, None, tmp_path).read_text() == str(servers[1])
    right = hashlib.sha256(str(servers[1]).encode()).hexdigest()
    assert fetched(two, right.upper(), tmp_path) == second
    with pytest.raises(
        StorageError, match=f"its sha256 is {right}; training.init_sha256 says {'0' * 64}"
    ):
        fetched(two, "0" * 64, tmp_path)


def test_no_detour_no_plain_http_and_no_password(
    servers: tuple[int, int], tmp_path: Path, world, stored
) -> None:
    moved = f"http://127.0.0.1:{servers[1]}/moved/x.pth"
    with pytest.raises(
        StorageError,
        match=(
            "it redirects to http://127.0.0.1; name that address itself, or give"
            " training.init_sha256"
        ),
    ):
        fetched(moved, None, tmp_path)
    assert fetched(
        moved, hashlib.sha256(str(servers[0]).encode()).hexdigest(), tmp_path
    ).read_text() == str(servers[0])
    with pytest.raises(StorageError, match="http://192.0.2.1/x.pth: plain http: https is allowed"):
        fetched("http://192.0.2.1/x.pth", None, tmp_path)
    secret = f"http://user:TOP@SECRET@127.0.0.1:{servers[0]}/y.pth"
    with pytest.raises(StorageError, match="user or password") as told:
        fetched(secret, None, tmp_path)
    with pytest.raises(StorageError, match=r"/moved/x\.pth\?\.\.\.: the starting") as token:
        fetched(f"{moved}?token=SECRET", None, tmp_path)
    assert "SECRET" not in str(token.value)
    with pytest.raises(ConfigError, match="training.init_from.*with a user or password") as planned:
        plan_run(world.recipe(training={"init_from": secret}), stored, world.DATASET)
    assert (
        "SECRET" not in f"{told.value}{planned.value}"
        and "TOP" not in f"{told.value}{planned.value}"
    )


# of a larger dataset; ours are right, left, still
LABELS = ("stands still", "moves right", "moves left", "vanishes", "jumps")
RENAMED = {"right": "Moves Right", "left": "moves-left", "still": "stands still"}


def started(
    world, stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **head: object
) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The network of five classes and the one of three that starts from it."""
    monkeypatch.setattr(
        "ops.tasks.recognition.task.labels", lambda *asked: ["right", "left", "still"]
    )
    source = model(world, num_classes=5, seed=1)
    save_file(export_published(source), tmp_path / "weights.safetensors")
    training = {"init_from": str(tmp_path / "weights.safetensors"), "init_head": head}
    torch.manual_seed(2)
    return source, build(world.recipe(training=training), stored, world.DATASET).model()


@pytest.mark.parametrize("form", ["labels.txt", "labels.json", "rows.json"])
def test_the_classifier_takes_the_rows_of_our_labels(
    world, stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    listed = [1, 2, 0] if form == "rows.json" else list(LABELS)
    (tmp_path / form).write_text(
        "\n".join(LABELS) + "\n" if form.endswith(".txt") else json.dumps(listed)
    )
    source, target = started(
        world, stored, tmp_path, monkeypatch, file=str(tmp_path / form), renamed=RENAMED
    )
    assert torch.equal(target.fc.weight, source.fc.weight[[1, 2, 0]]) and torch.equal(
        target.fc.bias, source.fc.bias[[1, 2, 0]]
    )
    assert torch.equal(target.trunk.stem.conv.weight, source.trunk.stem.conv.weight)


TEXTS = {
    "header.csv": (
        "id,name\n"
        + "".join(f"{row},{label}\n" for row, label in reversed(list(enumerate(LABELS))))
    ),
    "numbers.txt": "".join(f"{row + 1} {label}\n" for row, label in enumerate(LABELS)),
    "quotes.txt": "\ufefflabel\r\n" + "".join(f'"{label}"\r\n' for label in LABELS),
    "map.pbtxt": "".join(
        f'item {{ name: "{label}" id: {row + 1} }}\n'
        for row, label in reversed(list(enumerate(LABELS)))
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_list_of_labels_is_read_as_any_vocabulary(
    world, stored, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text(TEXTS[name], encoding="utf-8", newline="")
    wanted = HeadLabels(file=str(tmp_path / name), renamed=RENAMED)
    assert head_channels(wanted, ["left", "right", "still"], stored, world.recipe()) == [2, 1, 0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            b"3,a\n5,b\n",
            (
                r"labels\.txt: field 'numbers': found '2 from 3 to 5'; allowed: numbers of the"
                r" labels from 0 or 1, without a gap"
            ),
        ),
        (
            b"r\xfcn\n",
            r"labels\.txt: field 'encoding': found 'byte 0xfc at 1'; allowed: UTF-8 text",
        ),
        (b"\n", r"labels\.txt: field '\(whole file\)': found 'no labels'"),
        (b"a\na\n", r"labels\.txt: field 'name': found 'a'; allowed: each name once"),
    ],
)
def test_a_list_of_labels_that_cannot_be_read_is_named(
    world, stored, tmp_path: Path, data: bytes, message: str
) -> None:
    (tmp_path / "labels.txt").write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        head_channels(
            HeadLabels(file=str(tmp_path / "labels.txt")), ["left"], stored, world.recipe()
        )


def test_labels_that_the_checkpoint_lacks_are_named(
    world, stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    with pytest.raises(
        ConfigError,
        match=r"training\.init_head'?: found '?right, left'?; allowed: labels of .*labels\.txt",
    ):
        started(
            world,
            stored,
            tmp_path,
            monkeypatch,
            file=str(tmp_path / "labels.txt"),
            renamed={"still": "stands still"},
        )
    (tmp_path / "rows.json").write_text("[0, 1]")
    with pytest.raises(
        ConfigError, match=r"rows\.json.*found '2 rows'; allowed: 3, one for each label"
    ):
        started(world, stored, tmp_path, monkeypatch, file=str(tmp_path / "rows.json"))
    (tmp_path / "rows.json").write_text('{"right": 1}')
    with pytest.raises(ConfigError, match=r"found 'dict'; allowed: a list of labels"):
        started(world, stored, tmp_path, monkeypatch, file=str(tmp_path / "rows.json"))


def test_the_labels_may_be_those_of_another_dataset(
    world, stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "ops.training.init_weights.configs.dataset", lambda name: asked.append(name) or name
    )
    monkeypatch.setattr(
        "ops.training.init_weights.labels_of", lambda dataset, table, layout, target: list(LABELS)
    )
    wanted = HeadLabels(dataset="kinetics710", renamed=RENAMED)
    assert head_channels(wanted, ["left", "right", "still"], stored, world.recipe()) == [
        2,
        1,
        0,
    ] and asked == ["kinetics710"]
    with pytest.raises(ValueError, match="one of dataset and file"):
        HeadLabels()


def test_a_fresh_classifier_may_be_scaled_down(world, stored) -> None:
    torch.manual_seed(3)
    plain = build(world.recipe(), stored, world.DATASET).model()
    torch.manual_seed(3)
    scaled = build(world.recipe(training={"head_scale": 0.001}), stored, world.DATASET).model()
    torch.testing.assert_close(scaled.fc.weight, 0.001 * plain.fc.weight)
    with pytest.raises(ConfigError, match=r"training\.head_scale.*no layer `fc`"):
        scale_head(torch.nn.Conv2d(1, 1, 1), 0.5, world.recipe())


def test_an_image_network_of_any_family_is_a_start_and_the_report_says_what_is_fresh(
    world, tmp_path: Path, caplog
) -> None:
    swin = models.family("recognition", "videoswin")
    network, state = swin.build(swin.TINY), {}
    for key, value in export_published(network).items():
        key = key.replace("backbone.norm1.", "backbone.norm.").removeprefix("backbone.")
        if key.endswith("bias_table"):
            value = torch.randn(value.shape[0] // 3, value.shape[1])
        state[key] = torch.randn(value[:, :, 0].shape) if value.ndim == 5 else value
    torch.save({"model": state}, tmp_path / "swin.pth")
    with caplog.at_level("INFO"):
        report = load_initial(network, str(tmp_path / "swin.pth"))
    assert report is not None and report.kind == "an image network"
    assert (
        "fresh: fc.bias, fc.weight (not in an image network)" in caplog.text
        and "cls_head.fc_cls.bias" in caplog.text
    )
