"""Fusions: the mean of logits of models that were trained apart, under one protocol."""

from __future__ import annotations

import math
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import configs
import models
from configs.schema import ConfigError, RecognitionRecipe
from models.weights import PublishedWeightsError, export_published
from ops.store.layout import Layout
from ops.tasks.recognition import fusion
from ops.tasks.recognition.fusion import fuse, mean_rows, members, network
from ops.tasks.recognition.task import Recognition

Parts = list[tuple[RecognitionRecipe, str]]


def recipe(discs, name: str, modality: str, clip_len: int, **changes: object) -> RecognitionRecipe:
    found = configs.load("pan_tiny_figures")
    assert isinstance(found, RecognitionRecipe)
    model = {
        "modality": modality,
        "depth": 10,
        "width": 8,
        "num_segments": 2,
        "data_length": 4,
        "shift_div": 4,
    }
    return found.model_copy(
        update={
            "name": name,
            "num_classes": 3,
            "dataset": "discs",
            "model": model,
            "transforms": discs.recipe.transforms,
            "sampling": found.sampling.model_copy(update={"num_segments": 2, "clip_len": clip_len}),
            **changes,
        }
    )


@pytest.fixture
def parts(discs, tmp_path: Path) -> Parts:
    """The three branches of PAN: one in our names, two as the authors' files have them."""
    found: Parts = []
    for seed, (modality, clip_len) in enumerate((("lite", 4), ("rgb", 1), ("pa", 4))):
        torch.manual_seed(seed)
        own = recipe(discs, f"pan_{modality}", modality, clip_len)
        model = models.build(own)
        path = tmp_path / f"{modality}{'.safetensors' if modality == 'lite' else '.pth.tar'}"
        if modality == "lite":
            save_file(model.state_dict(), path)
        else:
            torch.save(
                {
                    "epoch": 80,
                    "state_dict": {
                        f"module.{key}": value for key, value in export_published(model).items()
                    },
                },
                path,
            )
        found.append((own, str(path)))
    return found


def whole(discs, **changes: object) -> RecognitionRecipe:
    views = configs.load("pan_en_r50_sthv1").views.model_copy(update={"crop": 40, **changes})
    return recipe(discs, "pan_en", "en", 4, views=views, fusion=("pan_lite", "pan_rgb", "pan_pa"))


def test_en_is_the_mean_of_three_models_logits_over_both_views_of_the_whole_picture(
    discs, plain, parts: Parts
) -> None:
    en = whole(discs)
    assert en.views.twice and en.views.average == "score"
    done = fuse(en, parts, discs.layout, dataset=discs.dataset)
    logits = []
    for own, uri in parts:
        task = Recognition(own.model_copy(update={"views": en.views}), discs.layout, discs.dataset)
        samples, model = task.samples("val", "test"), network(own, Path(uri))
        items = torch.stack(
            [torch.from_numpy(samples[index]["frames"]) for index in range(len(samples))]
        )
        assert items.shape[1:2] == (2,) and items.shape[-2:] == (40, 40)
        with torch.inference_mode():
            logits.append(torch.stack([model(views).mean(0) for views in items]).numpy())
    expected = np.mean(logits, axis=0)
    np.testing.assert_allclose(done.rows()["scores"].to_pylist(), expected, atol=1e-5)
    assert done.rows()["predicted_id"].to_pylist() == expected.argmax(1).tolist()
    assert done.predictions_uri.startswith(discs.layout.run("pan_en", ""))


def test_the_same_fusion_is_scored_once_and_other_coefficients_are_another(
    discs, plain, parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fuse(whole(discs), parts[1:], discs.layout, dataset=discs.dataset)
    with monkeypatch.context() as patched:
        patched.setattr(fusion, "predict", lambda *_, **__: pytest.fail("scored again"))
        assert fuse(whole(discs), parts[1:], discs.layout, dataset=discs.dataset).reused
    other = fuse(whole(discs), parts[1:], discs.layout, dataset=discs.dataset, coefficients=[1, 0])
    alone = fuse(whole(discs), parts[1:2], discs.layout, dataset=discs.dataset)
    assert (
        not other.reused
        and other.rows()["scores"] == alone.rows()["scores"] != first.rows()["scores"]
    )


def test_one_member_is_in_memory_at_a_time(
    discs, plain, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref[torch.nn.Module]] = []

    def built(recipe: RecognitionRecipe, weights: Path) -> torch.nn.Module:
        assert all(earlier() is None for earlier in seen)
        model = network(recipe, weights)
        seen.append(weakref.ref(model))
        return model

    monkeypatch.setattr(fusion, "network", built)
    fuse(whole(discs), parts, discs.layout, dataset=discs.dataset)
    assert len(seen) == 3


def test_other_clips_are_no_fusion() -> None:
    row = {"clip_id": "a", "scores": np.ones(2)}
    with pytest.raises(ValueError, match="other clips"):
        mean_rows([[row], [{**row, "clip_id": "b"}]], [1, 1])
    assert mean_rows([[row], [{**row, "scores": np.zeros(2)}]], [3, 1])[0]["scores"].tolist() == [
        0.75,
        0.75,
    ]


def test_members_are_named_and_checked(discs) -> None:
    assert [member.name for member in members(configs.load("pan_full_r50_sthv2"))] == [
        "pan_rgb_r50_sthv2",
        "pan_pa_r50_sthv2",
    ]
    with pytest.raises(ConfigError, match="fusion.*found 'nothing'"):
        members(discs.recipe)
    with pytest.raises(
        ConfigError,
        match=(
            r"recipe 'pan_lite_r50_sthv1'.*'dataset': found 'something_v1'; allowed: something_v2"
        ),
    ):
        members(
            configs.load("pan_en_r50_sthv2").model_copy(update={"fusion": ("pan_lite_r50_sthv1",)})
        )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([1.0], "3 numbers"),
        ([0, 0, 0], "not all 0"),
        ([1, 1, -1], "at least 0"),
        ([1, 1, math.nan], "3 numbers"),
        ([1, 1, math.inf], "3 numbers"),
    ],
)
def test_wrong_coefficients_are_named(discs, parts: Parts, given: list[float], says: str) -> None:
    with pytest.raises(ConfigError, match=f"coefficients.*{says}"):
        fuse(whole(discs), parts, discs.layout, dataset=discs.dataset, coefficients=given)


def test_what_cannot_be_fused_is_named(discs, parts: Parts) -> None:
    with pytest.raises(ConfigError, match=r"views\.average.*score or prob"):
        fuse(whole(discs, average="feature"), parts, discs.layout, dataset=discs.dataset)
    swapped = [(parts[0][0], parts[1][1])]
    with pytest.raises(PublishedWeightsError, match=r"rgb\.pth\.tar does not fit PAN"):
        fuse(whole(discs), swapped, discs.layout, dataset=discs.dataset)


def test_weights_of_other_classes_are_told_in_words(parts: Parts, tmp_path: Path) -> None:
    own, _ = parts[0]
    other = models.build(own.model_copy(update={"num_classes": own.num_classes + 1}))
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(PublishedWeightsError, match="do not fit:"):
        network(own, tmp_path / "other.safetensors")


def test_the_command(
    discs,
    plain,
    parts: Parts,
    command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {own.name: own for own, _ in parts} | {"pan_en": whole(discs)}
    monkeypatch.setattr(configs, "load", known.__getitem__)
    monkeypatch.setattr(configs, "dataset", lambda name: discs.dataset)
    monkeypatch.setenv("KINOGRAPH_STORAGE", str(discs.layout.root))
    weights = [f"--weights={own.name}={uri}" for own, uri in parts]
    assert command("fusion", "pan_en", *weights, "--device", "cpu") == 0
    assert "pan_lite + pan_rgb + pan_pa on 8 clips" in capsys.readouterr().out
    assert command("fusion", "pan_en", *weights[1:], "--device", "cpu") == 1
    assert (
        "a finished training of recipe 'pan_lite', or --weights pan_lite=<URI>"
        in capsys.readouterr().err
    )
    assert command("fusion", "pan_en", *weights, "--device", "tpu") == 1
    assert "'--device': found 'tpu'; allowed: " in capsys.readouterr().err
    assert command("fusion", "pan_en", "--weights=pan_en=x") == 1
    assert "MEMBER=URI with a member out of pan_lite" in capsys.readouterr().err
    assert isinstance(discs.layout, Layout)
