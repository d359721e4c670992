"""The original's numbers, from a checkpoint in its own key names: THUMOS14, I3D features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from configs.schema.localization import Decoding
from models.blocks.nms1d import suppress
from models.keymaps.actionformer import original_names
from models.localization import actionformer
from models.localization.actionformer import ActionFormer, Candidates, Config, Criterion, Pyramid
from models.weights import export_published, load_published
from reference import load_module

CONFIG = Config(num_classes=20)


class Original(NamedTuple):
    facts: dict[str, Any]
    state: dict[str, torch.Tensor]
    features: dict[str, torch.Tensor]
    outputs: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def original(shared: Path) -> Original:
    rules = load_module(shared / "parity" / "fill.py", "parity_fill")
    folder = shared / "parity" / "localization"
    facts = json.loads((folder / "actionformer_thumos_i3d.json").read_text())
    state = {
        key: torch.from_numpy(rules.weight(key, shape, rules.actionformer))
        for key, shape in facts["state"]
    }
    rng, spec_ = np.random.default_rng(0), facts["input_spec"]
    features = {
        name: torch.from_numpy(
            rng.standard_normal((spec_["C"], spec_["T"][name])).astype(np.float32)
        )
        for name in spec_["order"]
    }
    with np.load(folder / "actionformer_thumos_i3d.npz") as outputs:
        return Original(facts, state, features, dict(outputs))


@pytest.fixture(scope="module")
def model(original: Original) -> ActionFormer:
    model = actionformer.build(CONFIG).eval()
    # What a training of the original leaves behind: the raw weights, and the averaged ones that are
    # evaluated.
    wrapped = {f"module.{key}": value for key, value in original.state.items()}
    raw = {key: torch.zeros_like(value) for key, value in wrapped.items()}
    report = load_published(model, {"epoch": 35, "state_dict": raw, "state_dict_ema": wrapped})
    assert report.loaded == len(original.state) and not report.unused and not report.defaulted
    return model


def stored(outputs: dict[str, np.ndarray], name: str) -> Pyramid:
    """A pyramid of the fixture, with the batch first."""
    parts = [
        [torch.from_numpy(outputs[f"{name}/{part}{level}"]) for level in range(CONFIG.levels)]
        for part in ("cls", "off", "mask")
    ]
    return Pyramid(*([one if name == "train" else one[None] for one in part] for part in parts))


def assert_close(ours: Pyramid, theirs: Pyramid) -> None:
    for mine, want in zip(ours.logits + ours.offsets, theirs.logits + theirs.offsets, strict=True):
        torch.testing.assert_close(mine, want, rtol=0, atol=5e-5)
    assert all(torch.equal(mine, want) for mine, want in zip(ours.valid, theirs.valid, strict=True))


def by_place(
    segments: np.ndarray, scores: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, ...]:
    order = np.lexsort((segments[:, 1], segments[:, 0], labels))
    return segments[order], scores[order], labels[order]


def test_keys_and_parameters(original: Original, model: ActionFormer) -> None:
    published = export_published(model)
    assert [(key, list(value.shape)) for key, value in published.items()] == [
        (key, shape) for key, shape in original.facts["state"]
    ]
    assert (
        sum(parameter.numel() for parameter in model.parameters()) == original.facts["num_params"]
    )
    assert model.config.divisor == original.facts["max_div_factor"]


@pytest.mark.parametrize("name", ["short", "long"])
def test_pyramid(original: Original, model: ActionFormer, name: str) -> None:
    with torch.no_grad():
        assert_close(
            model(*actionformer.pad([original.features[name]])), stored(original.outputs, name)
        )


@pytest.mark.parametrize("name", ["short", "long"])
def test_candidates_before_suppression(original: Original, name: str) -> None:
    (found,) = actionformer.decode(stored(original.outputs, name), Decoding())
    want = [original.outputs[f"{name}/pre_{part}"] for part in ("segments", "scores", "labels")]
    assert len(found.scores) == original.facts["inference"][name]["n_pre"]
    ours = by_place(found.segments.numpy(), found.scores.numpy(), found.labels.numpy())
    for mine, theirs in zip(ours, by_place(*want), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ["short", "long"])
def test_answer_in_seconds(original: Original, model: ActionFormer, name: str) -> None:
    facts = original.facts["inference"][name]
    grid = {
        "stride": facts["feat_stride"],
        "window": facts["feat_num_frames"],
        "fps": facts["fps"],
        "duration_s": facts["duration"],
    }
    before = Candidates(
        *(
            torch.from_numpy(original.outputs[f"{name}/pre_{part}"])
            for part in ("segments", "scores", "labels")
        )
    )
    want = [original.outputs[f"{name}/post_{part}"] for part in ("segments", "scores", "labels")]
    stored_answer = actionformer.in_seconds(
        actionformer.suppress_candidates(before, Decoding()), **grid
    )
    with torch.no_grad():
        (candidates,) = actionformer.decode(
            model(*actionformer.pad([original.features[name]])), Decoding()
        )
    whole_answer = actionformer.in_seconds(
        actionformer.suppress_candidates(candidates, Decoding()), **grid
    )
    np.testing.assert_allclose(stored_answer.scores, want[1], rtol=0, atol=5e-5)
    np.testing.assert_allclose(whole_answer.scores, want[1], rtol=0, atol=5e-5)
    ours = by_place(*(part.numpy() for part in stored_answer))
    for mine, theirs in zip(ours, by_place(*want), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=5e-5)


@pytest.mark.parametrize("method", ["soft", "hard"])
@pytest.mark.parametrize("kind", ["multi", "agn"])
def test_suppression(original: Original, method: str, kind: str) -> None:
    facts, given = original.facts["nms"], original.outputs
    segments, scores, labels = (
        torch.from_numpy(given[f"nms/{part}"]) for part in ("segments", "scores", "labels")
    )
    kept = suppress(
        segments,
        scores,
        labels,
        method=method,
        multiclass=kind == "multi",
        iou_threshold=facts["iou_threshold"],
        sigma=facts["sigma"],
        min_score=facts["min_score"],
        max_segments=facts["max_seg_num"],
        voting_threshold=facts["voting_thresh"],
    )
    want = [given[f"nms/{method}_{kind}/{part}"] for part in ("segments", "scores", "labels")]
    np.testing.assert_allclose(kept.scores, want[1], rtol=0, atol=1e-6)
    ours = by_place(kept.segments.numpy(), kept.scores.numpy(), kept.labels.numpy())
    for mine, theirs in zip(ours, by_place(*want), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-3 if kind == "agn" else 0)


def test_targets(original: Original) -> None:
    lengths = [CONFIG.max_length // 2**level for level in range(CONFIG.levels)]
    given = original.outputs
    targets = [
        actionformer.assign_targets(
            lengths,
            torch.from_numpy(given[f"train/seg{one}"]),
            torch.from_numpy(given[f"train/lab{one}"]),
            20,
            CONFIG.ranges,
        )
        for one in "AB"
    ]
    classes, offsets = (
        torch.stack([one.classes for one in targets]),
        torch.stack([one.offsets for one in targets]),
    )
    assert np.array_equal(classes.nonzero().numpy(), given["train/gt_cls_nonzero"])
    positive = classes.sum(-1) > 0
    assert np.array_equal(positive.numpy(), given["train/pos_mask"])
    np.testing.assert_allclose(
        offsets[positive].numpy(), given["train/gt_off_pos"], rtol=0, atol=5e-5
    )


def test_losses_and_gradients(original: Original, model: ActionFormer) -> None:
    given = original.outputs
    # eval mode: nothing is dropped
    pyramid = model(*actionformer.pad([original.features["ta"], original.features["tb"]]))
    assert_close(
        Pyramid(*([one.detach() for one in part] for part in pyramid)), stored(given, "train")
    )
    criterion = Criterion(20, CONFIG.ranges)
    losses = criterion(
        pyramid,
        [torch.from_numpy(given[f"train/seg{one}"]) for one in "AB"],
        [torch.from_numpy(given[f"train/lab{one}"]) for one in "AB"],
    )
    normaliser = 100.0
    for step, facts in enumerate(original.facts["train_steps"]):
        assert int(losses.num_positives) == facts["num_pos"]
        normaliser = actionformer.next_normaliser(normaliser, float(losses.num_positives))
        assert normaliser == pytest.approx(facts["normalizer_after"], rel=1e-6)
        total = criterion.total(losses, normaliser)
        assert losses.classification.item() / normaliser == pytest.approx(
            facts["cls_loss"], rel=1e-4
        )
        assert losses.regression.item() / normaliser == pytest.approx(facts["reg_loss"], rel=1e-4)
        assert total.item() == pytest.approx(facts["final_loss"], rel=1e-4)
        if step == 0:
            total.backward(retain_graph=True)
    _assert_gradients(model, original.facts)


def _assert_gradients(model: ActionFormer, facts: dict[str, Any]) -> None:
    names = original_names(model)
    norms = {
        names[key]: parameter.grad.norm().item()
        for key, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert len(norms) == len(names)
    for key, want in facts["grad_norms_step1"].items():
        # The softmax does not feel what is added to every key: those gradients are rounding alone.
        assert norms[key] == pytest.approx(want, rel=1e-3, abs=1e-3), key
    total = float(np.sqrt(sum(norm**2 for norm in norms.values())))
    assert total == pytest.approx(facts["grad_total_norm_step1"], rel=1e-3)
    model.zero_grad()


def test_fusion_with_scores_of_videos(shared: Path) -> None:
    with np.load(shared / "parity" / "localization" / "actionformer_extras.npz") as extras:
        given = dict(extras)
    for video in np.unique(given["fusion/in/video-id"]):
        inside, outside = (
            given["fusion/in/video-id"] == video,
            given["fusion/out/video-id"] == video,
        )
        segments = np.stack(
            [given["fusion/in/t-start"][inside], given["fusion/in/t-end"][inside]], 1
        )
        scores, labels = given["fusion/in/score"][inside], given["fusion/in/label"][inside]
        proposals = Candidates(*(torch.from_numpy(one) for one in (segments, scores, labels)))
        fused = actionformer.fuse_scores(proposals, torch.from_numpy(given[f"fusion/cls/{video}"]))
        want = np.stack(
            [given["fusion/out/t-start"][outside], given["fusion/out/t-end"][outside]], 1
        )
        np.testing.assert_allclose(fused.segments, want, rtol=0, atol=1e-9)
        np.testing.assert_allclose(
            fused.scores, given["fusion/out/score"][outside], rtol=0, atol=1e-9
        )
        assert np.array_equal(fused.labels, given["fusion/out/label"][outside])
