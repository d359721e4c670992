"""Checkpoints that fit, that do not, that are damaged, and that carry code."""

from __future__ import annotations

import dataclasses
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import configs
import models
from models.blocks.swin import SwinFrames
from models.checkpoints import read_checkpoint
from models.init_weights import load_imagenet
from models.weights import PublishedWeightsError, export_published, load_published

TSM, TSN = models.family("recognition", "tsm"), models.family("recognition", "tsn")


@pytest.fixture
def source() -> torch.nn.Module:
    torch.manual_seed(1)
    model = TSM.build(TSM.TINY)
    model.trunk.stem.bn.num_batches_tracked.fill_(12_345)
    return model


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    return all(
        torch.equal(tensor, two.state_dict()[key]) for key, tensor in one.state_dict().items()
    )


def test_original_names(source: torch.nn.Module) -> None:
    published = export_published(source)
    assert list(published)[:2] == ["backbone.conv1.conv.weight", "backbone.conv1.bn.weight"]
    assert "backbone.layer1.0.conv1.conv.net.weight" in published
    assert {
        "backbone.layer2.0.conv2.conv.weight",
        "backbone.layer2.0.downsample.bn.running_var",
        "cls_head.fc_cls.bias",
    } <= set(published)
    counter = published["backbone.conv1.bn.num_batches_tracked"]
    assert counter.dtype == torch.int64 and counter.item() == 12_345
    plain = export_published(TSN.build(TSN.TINY))
    assert "backbone.layer1.0.conv1.conv.weight" in plain and not any(
        ".net." in key for key in plain
    )
    deep = TSM.build(TSM.Config(num_classes=2, depth=101, width=1))
    shifted = {key for key in export_published(deep) if ".net." in key}
    assert (
        "backbone.layer3.22.conv1.conv.net.weight" in shifted
        and "backbone.layer3.21.conv1.conv.net.weight" not in shifted
    )


def test_export_copies(source: torch.nn.Module) -> None:
    published = export_published(source)
    published["cls_head.fc_cls.bias"].fill_(7)
    assert not source.fc.bias.eq(7).any()
    assert not any(tensor.requires_grad for tensor in published.values())


@pytest.mark.parametrize("wrap", ["state_dict", "model_state", None])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_files(
    source: torch.nn.Module, tmp_path: Path, wrap: str | None, prefix: str, suffix: str
) -> None:
    state = {prefix + key: value for key, value in export_published(source).items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path, metadata={"format": "pt"})
    else:
        torch.save({wrap: state, "meta": {"epoch": 50}} if wrap else state, path)
    model = TSM.build(TSM.TINY)
    report = load_published(model, path)
    assert same(model, source)
    assert report.loaded == len(state) and str(path) in str(report)


def test_mapping_of_arrays_and_half_precision(source: torch.nn.Module) -> None:
    model = TSM.build(TSM.TINY)
    load_published(model, {key: value.numpy() for key, value in export_published(source).items()})
    assert same(model, source)
    load_published(
        model,
        {
            key: value.half() if value.is_floating_point() else value
            for key, value in export_published(source).items()
        },
    )
    assert model.fc.weight.dtype == torch.float32
    torch.testing.assert_close(model.fc.weight, source.fc.weight, rtol=1e-3, atol=1e-6)


def test_everything_that_does_not_fit_is_listed_and_nothing_is_loaded(
    source: torch.nn.Module,
) -> None:
    state = export_published(source)
    del state["backbone.layer1.0.conv2.bn.weight"]
    state["cls_head.fc_cls.weight"] = torch.zeros(400, 64)
    state["backbone.layer9.0.conv1.conv.weight"] = torch.zeros(1)
    state["cls_head.fc_cls.bias"] = torch.zeros(5, dtype=torch.int64)
    state["backbone.conv1.bn.bias"] = "zeros"  # type: ignore[assignment]
    model = TSM.build(TSM.TINY)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(PublishedWeightsError) as caught:
        load_published(model, state)
    for line in (
        "does not fit TSM",
        "1 missing:\n    backbone.layer1.0.conv2.bn.weight",
        "1 unexpected:\n    backbone.layer9.0.conv1.conv.weight",
        "cls_head.fc_cls.weight: found shape (400, 64), expected (5, 64)",
        "cls_head.fc_cls.bias: found torch.int64, expected torch.float32",
        "backbone.conv1.bn.bias: found a str, expected a tensor",
    ):
        assert line in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_long_lists_are_cut() -> None:
    with pytest.raises(PublishedWeightsError, match=r"\.\.\. and \d+ more"):
        load_published(TSM.build(TSM.TINY), {})


def test_batch_counters_are_absent_all_or_none(source: torch.nn.Module) -> None:
    state = export_published(source)
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    model = TSM.build(TSM.TINY)
    model.trunk.stem.bn.num_batches_tracked.fill_(3)
    report = load_published(model, old)
    assert report.defaulted and "batch counters" in str(report)
    assert model.trunk.stem.bn.num_batches_tracked.item() == 0
    del state["backbone.conv1.bn.num_batches_tracked"]
    with pytest.raises(
        PublishedWeightsError, match="1 missing:\n    backbone.conv1.bn.num_batches_tracked"
    ):
        load_published(model, state)


def test_tsn_weights_are_not_tsm_weights() -> None:
    with pytest.raises(
        PublishedWeightsError,
        match=r"conv1\.conv\.net\.weight(.|\n)*unexpected:\n.*conv1\.conv\.weight",
    ):
        load_published(TSM.build(TSM.TINY), export_published(TSN.build(TSN.TINY)))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.999])
def test_truncated_files(source: torch.nn.Module, tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"weights{suffix}"
    state = export_published(source)
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(PublishedWeightsError, match=f"weights{suffix}: damaged"):
        load_published(TSM.build(TSM.TINY), path)


class Bomb:
    """An object whose unpickling writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("bare", [True, False])
def test_code_in_a_file_is_refused_and_not_run(
    source: torch.nn.Module, tmp_path: Path, bare: bool
) -> None:
    path, trap = tmp_path / "weights.pth", tmp_path / "trap"
    if bare:
        path.write_bytes(pickle.dumps({"state_dict": Bomb(trap)}, protocol=2))
    else:
        torch.save({"state_dict": export_published(source), "meta": Bomb(trap)}, path)
    with pytest.raises(PublishedWeightsError, match="never run"):
        load_published(TSM.build(TSM.TINY), path)
    assert not trap.exists()


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(PublishedWeightsError, match="allowed: .pth, .pt, .*.safetensors"):
        read_checkpoint(tmp_path / "weights.onnx")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(PublishedWeightsError, match="found a list; expected a mapping"):
        read_checkpoint(tmp_path / "list.pth")
    beyond = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,99]}}'.ljust(64)
    for text in (
        b"<html>Not found</html>",
        b"\x08\0\0\0\0\0\0\0[1,2,3] ",
        b"\x40\0\0\0\0\0\0\0" + beyond,
    ):
        (tmp_path / "bad.safetensors").write_bytes(text)
        with pytest.raises(PublishedWeightsError, match="damaged or truncated safetensors"):
            read_checkpoint(tmp_path / "bad.safetensors")


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.uint8, torch.bool]
)
def test_safetensors_is_read_as_the_library_writes_it(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {
        "a": torch.arange(6).reshape(2, 3).to(dtype),
        "scalar": torch.tensor(1).to(dtype),
        "none": torch.empty(0, 3, dtype=dtype),
    }
    save_file(tensors, tmp_path / "all.safetensors")
    found = read_checkpoint(tmp_path / "all.safetensors")
    assert set(found) == set(tensors)
    for key, tensor in tensors.items():
        assert found[key].dtype == dtype and torch.equal(found[key], tensor)


def test_meta_models_cannot_hold_weights(source: torch.nn.Module) -> None:
    with torch.device("meta"):
        model = TSM.build(TSM.TINY)
    with pytest.raises(PublishedWeightsError, match="meta device"):
        load_published(model, export_published(source))


def test_a_model_of_no_family_has_no_key_map() -> None:
    with pytest.raises(PublishedWeightsError, match="Linear: found no key map"):
        load_published(torch.nn.Linear(2, 2), {})


def imagenet(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The trunk's tensors as torchvision names them, written out by hand rather than by the key
    map.
    """
    state = {}
    for key, value in model.trunk.state_dict().items():
        for ours, theirs in (
            ("stem.conv", "conv1"),
            ("stem.bn", "bn1"),
            ("downsample.conv", "downsample.0"),
            ("downsample.bn", "downsample.1"),
            ("conv1.conv", "conv1"),
            ("conv1.bn", "bn1"),
            ("conv2.conv", "conv2"),
            ("conv2.bn", "bn2"),
            ("conv3.conv", "conv3"),
            ("conv3.bn", "bn3"),
        ):
            if f"{ours}." in key:
                key = key.replace(ours, theirs)
                break
        state[key] = value
    return state | {"fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}


@pytest.mark.parametrize("depth", [18, 50])
def test_imagenet_weights_fill_the_trunk(depth: int) -> None:
    config = TSM.Config(num_classes=3, depth=depth, width=4)
    torch.manual_seed(2)
    donor, model = TSM.build(config), TSM.build(config)
    state = imagenet(donor)
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv1.weight",
        "layer2.0.downsample.1.bias",
    } <= set(state)
    head = model.fc.weight.clone()
    report = load_imagenet(model, state)
    assert same(model.trunk, donor.trunk) and torch.equal(model.fc.weight, head)
    assert report.unused == ("fc.weight", "fc.bias")
    del state["layer3.1.bn2.weight"]
    with pytest.raises(PublishedWeightsError, match="missing:\n    layer3.1.bn2.weight"):
        load_imagenet(model, state)
    state = imagenet(
        TSM.build(TSM.Config(num_classes=3, depth=101 if depth == 50 else 34, width=4))
    )
    with pytest.raises(PublishedWeightsError, match="unexpected:\n    layer"):
        load_imagenet(model, state)
    with pytest.raises(PublishedWeightsError, match="made of no image network"):
        load_imagenet(torch.nn.Linear(1, 1), state)


def test_frozen_norms_have_no_use_for_batch_counters() -> None:
    apct = models.family("parsing", "apct")
    model = apct.build(dataclasses.replace(apct.TINY, norm="frozen"))
    donor = TSM.build(TSM.Config(num_classes=3, depth=10, width=8))
    state = imagenet(donor)
    assert sum(key.endswith("num_batches_tracked") for key in state) == 12
    report = load_imagenet(model, state)
    assert report.unused == ("fc.weight", "fc.bias")
    assert torch.equal(
        model.scene.trunk.layer3[0].conv1.conv.weight, donor.trunk.layer3[0].conv1.conv.weight
    )
    with pytest.raises(
        PublishedWeightsError, match="unexpected:\n    layer9.bn.num_batches_tracked"
    ):
        load_imagenet(model, state | {"layer9.bn.num_batches_tracked": torch.tensor(1)})


def test_round_trip_through_numpy(source: torch.nn.Module, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "weights.npz",
        **{key: value.numpy() for key, value in export_published(source).items()},
    )
    with np.load(tmp_path / "weights.npz") as stored:
        load_published(model := TSM.build(TSM.TINY), dict(stored))
    assert same(model, source)


def test_a_2d_kernel_is_spread_over_time() -> None:
    i3d, tsn = models.family("recognition", "i3d"), models.family("recognition", "tsn")
    torch.manual_seed(3)
    donor, model = (
        TSM.build(TSM.Config(num_classes=3, depth=50, width=4)),
        i3d.build(i3d.Config(num_classes=3, depth=50, width=4)),
    )
    load_imagenet(model, imagenet(donor))
    stem, image = model.trunk.stem.conv.weight, donor.trunk.stem.conv.weight
    assert (
        stem.shape[2] == 5
        and torch.allclose(stem.sum(2), image, atol=1e-6)
        and torch.equal(stem[:, :, 0], stem[:, :, 4])
    )
    # A clip of one frame again and again: away from the ends of time the inflated stem answers what
    # the image's does.
    frame = torch.randn(1, 3, 32, 32)
    still = torch.nn.functional.conv3d(
        frame[:, :, None].expand(-1, -1, 9, -1, -1), stem, padding=(2, 3, 3)
    )
    torch.testing.assert_close(
        still[:, :, 4], torch.nn.functional.conv2d(frame, image, padding=3), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(PublishedWeightsError, match="does not fit"):
        load_imagenet(tsn.build(tsn.Config(num_classes=3, depth=50, width=8)), imagenet(donor))


def test_pan_starts_from_the_mean_over_colours() -> None:
    pan = models.family("recognition", "pan")
    donor = TSM.build(TSM.Config(num_classes=3, depth=18, width=4))
    model = pan.build(pan.Config(num_classes=3, depth=18, width=4, modality="lite"))
    load_imagenet(model, imagenet(donor))
    stem = model.branches["lite"].trunk.stem.conv.weight
    torch.testing.assert_close(
        stem, donor.trunk.stem.conv.weight.mean(1, keepdim=True).expand_as(stem)
    )


def vit(width: int, depth: int, patch: int, places: int) -> dict[str, torch.Tensor]:
    """An image transformer in timm's names."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, places + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (10, width),
        "head.bias": (10,),
    }
    for index in range(depth):
        for name, shape in (
            ("norm1.weight", (width,)),
            ("norm1.bias", (width,)),
            ("attn.qkv.weight", (3 * width, width)),
            ("attn.qkv.bias", (3 * width,)),
            ("attn.proj.weight", (width, width)),
            ("attn.proj.bias", (width,)),
            ("norm2.weight", (width,)),
            ("norm2.bias", (width,)),
            ("mlp.fc1.weight", (4 * width, width)),
            ("mlp.fc1.bias", (4 * width,)),
            ("mlp.fc2.weight", (width, 4 * width)),
            ("mlp.fc2.bias", (width,)),
        ):
            shapes[f"blocks.{index}.{name}"] = shape
    return {key: torch.randn(shape) for key, shape in shapes.items()}


@pytest.mark.parametrize("attention", ["divided", "joint", "space_only"])
def test_timesformer_starts_from_an_image_transformer(attention: str) -> None:
    module = models.family("recognition", "timesformer")
    model = module.build(
        module.Config(
            num_classes=3, attention=attention, width=16, depth=2, heads=2, num_frames=4, size=32
        )
    )
    state = vit(16, 2, 16, 4)
    report = load_imagenet(model, state)
    assert report.unused == ("head.weight", "head.bias") and torch.equal(
        model.positions, state["pos_embed"]
    )
    if attention == "divided":
        assert torch.equal(
            model.blocks[1].time_attn.qkv.weight, model.blocks[1].space_attn.qkv.weight
        )
        assert torch.equal(model.blocks[1].time_attn.qkv.weight, state["blocks.1.attn.qkv.weight"])


def test_video_swin_starts_from_the_image_swin() -> None:
    module = models.family("recognition", "videoswin")
    model = module.build(module.TINY)
    state = {}
    for key, value in export_published(model).items():
        key = key.removeprefix("backbone.")
        key = key.replace("norm1.", "norm.") if key.startswith("norm1.") else key
        if key.endswith("bias_table"):
            # windows of one frame have a third of the distances of two
            value = torch.randn(value.shape[0] // 3, value.shape[1])
        if key == "patch_embed.proj.weight":
            value = torch.randn(value[:, :, 0].shape)
        state[key] = value
    load_imagenet(model, state)
    table, image = (
        model.swin.stages[0][0].attn.relative_position_bias_table,
        state["layers.0.blocks.0.attn.relative_position_bias_table"],
    )
    assert torch.equal(table[:25], image) and torch.equal(table[25:50], image)
    torch.testing.assert_close(model.embed.weight.sum(2), state["patch_embed.proj.weight"])


def test_uniformerv2_starts_from_clip() -> None:
    module = models.family("recognition", "uniformerv2")
    torch.manual_seed(4)
    donor, model = module.build(module.TINY), module.build(module.TINY)
    state = {
        f"visual.{key.removeprefix('backbone.')}": value
        for key, value in export_published(donor).items()
        if "resblocks" in key
    }
    state |= {
        "visual.class_embedding": donor.class_embedding,
        "visual.positional_embedding": donor.positional_embedding,
        "visual.conv1.weight": donor.embed.weight[:, :, 0],
        "visual.ln_pre.weight": donor.norm_first.weight,
        "visual.ln_pre.bias": donor.norm_first.bias,
        "visual.ln_post.weight": torch.ones(16),
        "visual.proj": torch.ones(16, 8),
        "text_projection": torch.ones(3),
    }
    report = load_imagenet(model, state)
    assert set(report.unused) == {"ln_post.weight", "proj"} and torch.equal(
        model.embed.weight, donor.embed.weight
    )
    assert torch.equal(model.blocks[2].mlp.c_fc.weight, donor.blocks[2].mlp.c_fc.weight)


def test_image_swins_of_all_versions_of_timm(tmp_path: Path) -> None:
    """Before 0.9 each stage ended with the merging that now begins the next one, and index tables
    were kept.
    """
    torch.manual_seed(1)
    source, model = (TSN.build(TSN.TINY) for _ in range(2))
    source.trunk, model.trunk = (
        SwinFrames(width=4, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2)) for _ in range(2)
    )
    published = export_published(source)
    assert not any("relative_position_index" in key for key in published)
    load_published(model, published)
    assert same(model, source)

    older = {
        re.sub(
            r"layers\.(\d)\.downsample", lambda stage: f"layers.{int(stage[1]) - 1}.downsample", key
        ): value
        for key, value in published.items()
    }
    tables = {
        f"backbone.layers.0.blocks.1.{name}": torch.zeros(49, 49)
        for name in ("attn_mask", "attn.relative_position_index")
    }
    torch.nn.init.zeros_(model.trunk.swin.merges[0].reduction.weight)
    assert load_published(model, older | tables).unused == tuple(tables)
    assert same(model, source)
    with pytest.raises(
        PublishedWeightsError, match=r"1 missing:\n +backbone\.layers\.3\.downsample\.norm\.bias"
    ):
        load_published(
            model,
            {
                key: value
                for key, value in older.items()
                if key != "backbone.layers.2.downsample.norm.bias"
            },
        )


def rows() -> list[str]:
    """One published row of each network that differs from the others in more than its classes."""
    found = {}
    for name in configs.names("recognition"):
        recipe = configs.load(name)
        if recipe.dataset != "figures":
            found[recipe.family, str(sorted(recipe.model.items()))] = name
    return sorted(found.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", rows())
def test_every_network_takes_its_own_weights_back(name: str) -> None:
    source, model = (models.build(configs.load(name)) for _ in range(2))
    load_published(model, export_published(source))
    assert same(model, source)
