"""The original EVAD's numbers, from checkpoints in its own key names."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from configs.schema.detection import LossWeights
from models.blocks.drop import DropPath
from models.detection.evad import EVAD, Config, Criterion, Detections, Target, build, decode
from models.keymaps.evad import original_names
from models.weights import export_published, load_published
from reference import load_module

CASES = ["tiny_kr0.7", "tiny_kr1.0", pytest.param("vitb_kr0.7_small", marks=pytest.mark.slow)]
TOLERANCE, PIXELS = 5e-5, 5e-3


@dataclass
class Case:
    """One fixture, and what our model makes of its input, layer by layer."""

    facts: dict[str, Any]
    outputs: dict[str, np.ndarray]
    model: EVAD
    state: dict[str, Tensor]
    clip: Tensor
    sizes: Tensor
    seen: dict[str, Any] = field(default_factory=dict)
    detections: Detections | None = None

    @property
    def targets(self) -> list[Target]:
        named = range(len(self.clip))
        return [
            Target(
                *(
                    torch.from_numpy(self.outputs[f"target{index}/{kind}"])
                    for kind in ("boxes", "actions")
                )
            )
            for index in named
        ]


def config(facts: dict[str, Any]) -> Config:
    parts = facts["config"]
    vit, refinement, sparse, rates = (
        parts["ViT"],
        parts["CRD"],
        parts["SparseRCNN"],
        parts["KTP"]["KEEP_RATES"],
    )
    pruning = tuple(index for index, rate in enumerate(rates) if rate < 1)
    return Config(
        num_classes=80,
        width=vit["EMBED_DIM"],
        depth=vit["DEPTH"],
        heads=vit["NUM_HEADS"],
        taps=tuple(vit["FPN_INDICES"]),
        keep_rate=min(rates),
        key_weight=parts["KTP"]["ENHANCED_WEIGHT"],
        prune_blocks=pruning or (3, 6, 9),
        proposals=sparse["NUM_PROPOSALS"],
        stages=sparse["NUM_HEADS"],
        action_hidden=sparse["ACT_FC_DIM"],
        decoder_width=refinement["EMBED_DIM"],
        decoder_depth=refinement["DEPTH"],
        decoder_heads=refinement["NUM_HEADS"],
        roi_extension=tuple(refinement["ROI_EXTENSION"]),
    )


def watch(case: Case) -> None:
    """Writes down what the parts give in the next passes."""
    for index, block in enumerate(case.model.encoder.blocks):

        def note(_: Any, __: Any, out: Any, index: int = index) -> None:
            case.seen[f"block{index}"] = out[0] if isinstance(out, tuple) else out
            if isinstance(out, tuple):
                case.seen[f"keep{index}"], case.seen[f"score{index}"] = out[1], out[2]

        block.register_forward_hook(note)
    case.model.encoder.register_forward_hook(lambda _, __, out: case.seen.update(encoded=out))
    case.model.pyramid.register_forward_hook(lambda _, __, out: case.seen.update(pyramid=out))
    case.model.head.stages[-1].register_forward_hook(
        lambda _, __, out: case.seen.update(features=out.features)
    )
    case.model.head.actions.blocks[0].norm1.register_forward_hook(
        lambda _, inputs, __: case.seen.update(decoder=inputs[0])
    )


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, shared: Path) -> Case:
    folder = shared / "parity" / "detection"
    fill = load_module(shared / "parity" / "fill.py", "parity_fill")
    facts = json.loads((folder / f"evad_{request.param}.json").read_text())
    with np.load(folder / f"evad_{request.param}.npz") as stored:
        outputs = dict(stored)
    state = {
        key: torch.from_numpy(fill.weight(key, shape, fill.evad)) for key, shape in facts["state"]
    }
    state["criterion.empty_weight"] = torch.tensor([1.0, 0.1])
    rng = np.random.default_rng(0)
    clips = [
        torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
        for shape in facts["input_spec"]["shapes"]
    ]
    height, width = (-(-max(clip.shape[axis] for clip in clips) // 32) * 32 for axis in (2, 3))
    padded = [
        torch.nn.functional.pad(clip, (0, width - clip.shape[3], 0, height - clip.shape[2]))
        for clip in clips
    ]
    sizes = torch.tensor([clip.shape[2:] for clip in clips])
    made = Case(facts, outputs, build(config(facts)).eval(), state, torch.stack(padded), sizes)
    load_published(made.model, state)
    watch(made)
    with torch.no_grad():
        made.detections = made.model(made.clip, sizes)
    return made


def close(found: Tensor, true: np.ndarray, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(found, torch.from_numpy(true), rtol=0, atol=tolerance)


def test_keys_and_their_order(case: Case) -> None:
    assert (
        sum(parameter.numel() for parameter in case.model.parameters()) == case.facts["num_params"]
    )
    exported = export_published(case.model)
    assert list(exported) == [key for key, _ in case.facts["state"]]
    assert all(torch.equal(exported[key], value) for key, value in case.state.items())


def test_tokens_kept_and_their_scores(case: Case) -> None:
    pruning = [index for index in range(case.model.config.depth) if f"keep{index}" in case.outputs]
    assert len(pruning) == (3 if case.model.config.keep_rate < 1 else 0)
    for index in pruning:
        # Sorted: tokens stand in the order of an earlier choice, where two that are equal but for
        # rounding may change places.
        close(
            case.seen[f"score{index}"].sort().values, np.sort(case.outputs[f"score{index}"]), 1e-7
        )
        for found, true in zip(
            case.seen[f"keep{index}"].tolist(), case.outputs[f"keep{index}"].tolist(), strict=True
        ):
            assert set(found) == set(true)
    assert [
        case.seen[f"block{index}"].shape[1] for index in range(case.model.config.depth)
    ] == case.facts["tokens_after_block"]


def test_encoder_and_pyramid(case: Case) -> None:
    rows, columns = (11, 8) if case.model.config.width == 96 else (37, 16)
    for index in range(case.model.config.depth):
        close(
            case.seen[f"block{index}"][:, ::rows, ::columns], case.outputs[f"block{index}_sample"]
        )
    tokens = case.seen["encoded"].tokens
    close(
        tokens if case.model.config.width == 96 else tokens[:, ::7, ::8], case.outputs["enc_final"]
    )
    for level, found in enumerate(case.seen["pyramid"], 2):
        close(found[:, ::16], case.outputs[f"fpn_p{level}"])


def test_people(case: Case) -> None:
    found, last = case.detections, case.model.config.stages - 1
    assert found is not None
    for stage, (logits, boxes) in enumerate(zip(found.person_logits, found.boxes, strict=True)):
        close(logits, case.outputs[f"head{stage}/logits"])
        if stage < last:  # the last ones are there after clipping and scaling only
            close(boxes, case.outputs[f"head{stage}/boxes"], PIXELS)
    close(case.seen["features"].flatten(0, 1)[None], case.outputs["head_last/features"])
    everybody = decode(found, threshold=0)
    close(torch.stack([one.person_scores for one in everybody]), case.outputs["post/person_scores"])
    original = 2 * case.sizes.flip(1).repeat(1, 2)[:, None]
    close(
        torch.stack([one.boxes for one in everybody]) * original,
        case.outputs["post/person_boxes"],
        PIXELS,
    )


def test_actions(case: Case) -> None:
    assert case.detections is not None
    decoder = case.seen["decoder"]
    queries = case.model.config.proposals
    close(decoder[:, -queries:], case.outputs["roi_feat"])
    close(decoder[:, :-queries][:, ::7, ::4], case.outputs["dec_in_ctx_sample"])
    for index, logits in enumerate(case.detections.action_logits):
        close(logits, case.outputs[f"act{index}"])


def test_decoding(case: Case) -> None:
    assert case.detections is not None
    people = decode(case.detections)
    clips = torch.arange(len(people)).repeat_interleave(
        torch.tensor([len(one.boxes) for one in people])
    )
    close(clips.float(), case.outputs["post/boxes"][:, 0], 0)
    close(torch.cat([one.boxes for one in people]), case.outputs["post/boxes"][:, 1:])
    close(torch.cat([one.action_scores for one in people]), case.outputs["post/actions"])


def test_losses_matches_and_gradients(case: Case) -> None:
    case.model.train()
    for module in case.model.modules():
        if isinstance(module, DropPath):
            module.rate = 0.0
    losses = Criterion(LossWeights())(case.model(case.clip, case.sizes), case.targets)
    losses.total.backward()
    case.model.eval()
    theirs = {"person": "ce", "l1": "bbox", "giou": "giou", "action": "bce"}
    terms = losses.terms()
    assert len(terms) == case.facts["n_loss_terms"] + 1
    for name, value in terms.items():
        kind, _, number = name.partition("_")
        key = f"loss_{theirs.get(kind)}" + (f"_{number}" if number else "")
        true = (
            case.facts["loss_total_mean_over_terms"]
            if name == "total"
            else case.facts["losses_weighted"][key]
        )
        assert value.item() == pytest.approx(true, rel=1e-4), name
    matches = [[[one.tolist(), other.tolist()] for one, other in stage] for stage in losses.matches]
    assert [matches[-1], *matches[:-1]] == case.facts["matched"]
    if "grad_norms" in case.facts:
        names = original_names(case.model)
        norms = {
            names[key]: parameter.grad.norm().item()
            for key, parameter in case.model.named_parameters()
        }
        assert norms == pytest.approx(case.facts["grad_norms"], rel=1e-3)
