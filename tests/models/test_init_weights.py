"""What every family can start from and what it refuses, on its miniature."""

from __future__ import annotations

import dataclasses
import functools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import models
from models.checkpoints import read_checkpoint
from models.init_weights import head_shapes, init_from
from models.weights import PublishedWeightsError, export_published, load_published, original_names

FAMILIES = models.families("recognition")
State = dict[str, torch.Tensor]


def tiny(name: str, num_classes: int | None = None, seed: int = 0) -> torch.nn.Module:
    """The family's miniature, with another number of classes where one is given."""
    torch.manual_seed(seed)
    module = models.family("recognition", name)
    config = (
        module.TINY
        if num_classes is None
        else dataclasses.replace(module.TINY, num_classes=num_classes)
    )
    model = module.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


@functools.cache
def published(name: str, num_classes: int | None = None) -> State:
    """A checkpoint of the miniature. Not to be changed."""
    return export_published(tiny(name, num_classes, seed=1))


def copied(model: torch.nn.Module) -> State:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def unchanged(model: torch.nn.Module, before: State) -> bool:
    return all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


class Bomb:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", FAMILIES)
class TestEveryFamily:
    def test_its_own_checkpoint_is_loaded_whole(self, name: str) -> None:
        model = tiny(name, seed=2)
        report = init_from(model, published(name))
        assert all(
            torch.equal(tensor, published(name)[key])
            for key, tensor in export_published(model).items()
        )
        assert not report.fresh and report.kind == "the published network"

    def test_a_classifier_of_other_classes_stays_fresh_and_is_reported(self, name: str) -> None:
        model, names = tiny(name, seed=2), original_names(tiny(name))
        before, heads = copied(model), head_shapes(model)
        report = init_from(model, published(name, 7))
        assert heads and set(report.fresh) == set(heads)
        assert "7 classes there, 5 here" in str(report)
        for key, tensor in model.state_dict().items():
            assert torch.equal(
                tensor, before[key] if key in heads else published(name, 7)[names[key]]
            ), key

    def test_only_the_starting_weights_are_lenient(self, name: str) -> None:
        with pytest.raises(PublishedWeightsError, match=r"does not fit \w+:\n(.|\n)*found shape"):
            load_published(tiny(name), published(name, 7))

    def test_rows_of_a_larger_classifier_are_selected(self, name: str) -> None:
        source, model = published(name, 9), tiny(name, seed=2)
        before, channels, heads, names = (
            copied(model),
            [8, 0, 3, 3, 1],
            head_shapes(model),
            original_names(model),
        )
        if name == "omnisource":  # a hidden layer of its head is as wide as it has classes, twice
            with pytest.raises(
                PublishedWeightsError,
                match="5 of its 9 classes cannot be selected.*has no row for each class",
            ):
                init_from(model, source, channels)
            assert unchanged(model, before)
            return
        report = init_from(model, source, channels)
        assert not report.fresh and "5 of its 9 classes selected" in str(report)
        for key, growth in heads.items():
            theirs = source[names[key]].index_select(growth.index(1), torch.tensor(channels))
            assert torch.equal(model.state_dict()[key], theirs), key

    def test_channels_that_it_lacks_are_refused(self, name: str) -> None:
        model = tiny(name)
        before = copied(model)
        for channels in ([0, 1, 2, 3, 9], [0, 1]):
            with pytest.raises(
                PublishedWeightsError, match="5 of its 9 classes cannot be selected"
            ):
                init_from(model, published(name, 9), channels)
        assert unchanged(model, before)

    def test_another_familys_checkpoint_is_refused(self, name: str) -> None:
        model = tiny(name)
        before, own = copied(model), {key: tensor.shape for key, tensor in published(name).items()}
        place = FAMILIES.index(name)
        # over all families all pairs of kinds
        for other in [FAMILIES[(place + step) % len(FAMILIES)] for step in (1, 7, 14)]:
            state = published(other)
            if {key: tensor.shape for key, tensor in state.items()} == own or (name, other) == (
                "tin",
                "tsm",
            ):
                continue
            with pytest.raises(
                PublishedWeightsError,
                match=r"does not fit \w+:\n  \d+ (missing|unexpected|do not fit)",
            ):
                init_from(model, state)
            with pytest.raises(PublishedWeightsError, match="does not fit"):
                load_published(model, state)
            assert unchanged(model, before), other

    def test_missing_and_extra_keys_are_named(self, name: str) -> None:
        model = tiny(name)
        before, state = copied(model), dict(published(name))
        lost = next(key for key in state if not key.endswith("num_batches_tracked"))
        del state[lost]
        state["backbone.extra.weight"] = torch.zeros(1)
        for load in (init_from, load_published):
            with pytest.raises(PublishedWeightsError) as caught:
                load(model, state)
            assert f"missing:\n    {lost}" in str(
                caught.value
            ) and "1 unexpected:\n    backbone.extra.weight" in str(caught.value)
        assert unchanged(model, before)

    def test_a_truncated_file_is_named(self, name: str, tmp_path: Path) -> None:
        model = tiny(name)
        before, state = copied(model), published(name)
        for suffix in (".pth.tar", ".safetensors"):
            path = tmp_path / f"weights{suffix}"
            (
                save_file(state, path)
                if suffix == ".safetensors"
                else torch.save({"state_dict": state}, path)
            )
            path.write_bytes(path.read_bytes()[:-100])
            for load in (init_from, load_published):
                with pytest.raises(PublishedWeightsError, match=f"weights{suffix}: damaged"):
                    load(model, path)
        assert unchanged(model, before)

    def test_code_in_a_file_is_refused_and_not_run(self, name: str, tmp_path: Path) -> None:
        model, path, trap = tiny(name), tmp_path / "weights.pth", tmp_path / "trap"
        torch.save({"state_dict": published(name), "meta": Bomb(trap)}, path)
        for load in (init_from, load_published):
            with pytest.raises(PublishedWeightsError, match="never run"):
                load(model, path)
        path.write_bytes(pickle.dumps({"state_dict": Bomb(trap)}, protocol=2))
        with pytest.raises(PublishedWeightsError, match="never run"):
            init_from(model, path)
        assert not trap.exists()

    def test_its_trunk_alone_is_a_start(self, name: str) -> None:
        if name == "pan":  # its authors name the trunk otherwise
            return
        model, names = tiny(name, seed=2), original_names(tiny(name))
        theirs = published(name, 7)
        state = {
            key.removeprefix("backbone."): value
            for key, value in theirs.items()
            if key.startswith("backbone.")
        }
        report = init_from(model, state)
        assert report.kind in ("its trunk", "an image network") and report.fresh
        for key, tensor in model.state_dict().items():
            assert key in report.fresh or torch.equal(tensor, theirs[names[key]]), key


def test_an_image_network_that_never_saw_time_is_a_start_of_uniformer() -> None:
    model, donor = tiny("uniformer"), tiny("uniformer", seed=1)
    state: State = {"head.weight": torch.zeros(1000, 4), "head.bias": torch.zeros(1000)}
    for key, value in export_published(donor).items():
        if key.startswith("backbone."):
            state[key.removeprefix("backbone.")] = (
                value[:, :, 0].clone() if value.ndim == 5 else value
            )
    report = init_from(model, {"model": state})
    assert report.kind == "an image network" and set(report.fresh) == {"fc.weight", "fc.bias"}
    for key, value in model.state_dict().items():
        if value.ndim == 5 and value.shape[2] > 1:
            middle = value.shape[2] // 2
            assert value[:, :, middle].abs().sum() > 0
            assert value.abs().sum().item() == pytest.approx(
                value[:, :, middle].abs().sum().item()
            ), key


@pytest.mark.parametrize("before", ["", "encoder."])
def test_the_videomae_authors_own_files_are_a_start(before: str) -> None:
    model, donor = tiny("videomae", seed=2), tiny("videomae", 7, seed=1)
    pre_trained = before == "encoder."
    state: State = {}
    for key, value in donor.state_dict().items():
        if key == "positions" or (pre_trained and key.startswith(("norm.", "fc."))):
            continue
        for ours, theirs in (
            ("embed.", "patch_embed.proj."),
            ("norm.", "fc_norm."),
            ("fc.", "head."),
        ):
            key = theirs + key.removeprefix(ours) if key.startswith(ours) else key
        state[before + key] = value
    if pre_trained:
        state |= {
            key: torch.zeros(2)
            for key in (
                "encoder.norm.weight",
                "decoder.head.bias",
                "mask_token",
                "encoder_to_decoder.weight",
            )
        }
    report = init_from(model, {"module": state})
    assert torch.equal(model.blocks[1].mlp.fc2.weight, donor.blocks[1].mlp.fc2.weight)
    fresh = {"positions", "fc.weight", "fc.bias"} | (
        {"norm.weight", "norm.bias"} if pre_trained else set()
    )
    assert set(report.fresh) == fresh
    assert len(report.unused) == (4 if pre_trained else 0)


def test_a_tsm_is_a_start_of_tin() -> None:
    tsm, tin = models.family("recognition", "tsm"), models.family("recognition", "tin")
    torch.manual_seed(0)
    sizes = {"depth": 10, "width": 16, "num_segments": tin.TINY.num_segments}
    donor, model = (
        tsm.build(tsm.Config(num_classes=5, **sizes)),
        tin.build(dataclasses.replace(tin.TINY, depth=10, width=16)),
    )
    report = init_from(model, export_published(donor))
    assert report.kind == "a TSM" and all("temporal" in key for key in report.fresh)
    assert torch.equal(model.fc.weight, donor.fc.weight)


def test_tables_of_relative_positions_are_stretched() -> None:
    module = models.family("recognition", "mvit")
    model, donor = (
        tiny("mvit", seed=2),
        module.build(dataclasses.replace(module.TINY, num_frames=8)),
    )
    init_from(model, export_published(donor))
    ours, theirs = model.blocks[0].attn.rel_pos_t, donor.blocks[0].attn.rel_pos_t
    assert len(ours) < len(theirs)
    torch.testing.assert_close(
        ours, torch.nn.functional.interpolate(theirs.T[None], size=len(ours), mode="linear")[0].T
    )


def test_plain_values_of_older_files_are_read(tmp_path: Path) -> None:
    kept = {
        "state_dict": {"a": torch.ones(2)},
        "best": np.float64(0.5),
        "history": np.arange(3),
        "epoch": 7,
    }
    torch.save(kept, tmp_path / "old.pth.tar")
    found = read_checkpoint(tmp_path / "old.pth.tar")
    assert (
        found["best"] == 0.5
        and found["history"].tolist() == [0, 1, 2]
        and torch.equal(found["state_dict"]["a"], torch.ones(2))
    )
