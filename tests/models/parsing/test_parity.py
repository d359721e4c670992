"""DETR against the original's answers, and the table of its published variants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.keymaps.detr import original_names
from models.parsing import detr
from models.weights import PublishedWeightsError, export_published, load_published
from reference import load_module

FIXTURES = ["detr_r50", "detr_r50_padded_batch"]
TOLERANCE = 5e-5


class Case:
    """A fixture with the model that is loaded for it."""

    def __init__(self, shared: Path, name: str) -> None:
        fill, folder = (
            load_module(shared / "parity" / "fill.py", "parity_fill"),
            shared / "parity" / "parsing",
        )
        self.facts: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
        self.answers = np.load(folder / f"{name}.npz")
        self.model = detr.build(detr.Config(num_classes=91)).eval()
        self.report = load_published(
            self.model,
            {key: fill.weight(key, shape, fill.detr) for key, shape, *_ in self.facts["state"]},
        )
        rng = np.random.default_rng(0)
        images = [
            torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
            for shape in self.facts["input_spec"]["shapes"]
        ]
        height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
        self.images, self.padding = (
            torch.zeros(len(images), 3, height, width),
            torch.ones(len(images), height, width, dtype=torch.bool),
        )
        for image, frame, outside in zip(images, self.images, self.padding, strict=True):
            frame[:, : image.shape[1], : image.shape[2]] = image
            outside[: image.shape[1], : image.shape[2]] = False
        # the frames were twice as large as what is fed
        self.sizes = 2 * torch.tensor([image.shape[1:] for image in images])
        self.truth = [
            detr.Truth(
                *(
                    torch.from_numpy(self.answers[f"target{index}/{column}"])
                    for column in ("labels", "boxes")
                )
            )
            for index in range(len(images))
        ]

    def expected(self, what: str) -> np.ndarray:
        """(L, B, Q, ...) of all layers."""
        return np.stack(
            [
                *(self.answers[f"aux{layer}/{what}"] for layer in range(5)),
                self.answers[f"pred_{what}"],
            ]
        )


@pytest.fixture(scope="module", params=FIXTURES)
def case(request: pytest.FixtureRequest, shared: Path) -> Case:
    if not (shared / "parity" / "parsing").is_dir():
        pytest.skip(f"no parsing fixtures in {shared}")
    return Case(shared, request.param)


def test_every_tensor_of_the_checkpoint_has_its_place(case: Case) -> None:
    expected = [(key, tuple(shape)) for key, shape, *_ in case.facts["state"]]
    assert [
        (key, tuple(tensor.shape)) for key, tensor in export_published(case.model).items()
    ] == expected
    assert case.report.loaded == len(expected)
    numbers = [parameter.numel() for parameter in case.model.parameters()]
    trained = [
        parameter.numel() for parameter in case.model.parameters() if parameter.requires_grad
    ]
    assert (
        sum(numbers) == case.facts["num_params"] == 41_524_768
        and sum(trained) == case.facts["num_params_requires_grad"]
    )


@pytest.mark.parametrize("gradients", [False, True], ids=["folded", "in order"])
def test_outputs_of_all_layers_and_boxes_in_pixels(case: Case, gradients: bool) -> None:
    with torch.set_grad_enabled(gradients):
        objects = detr.Objects(
            *(tensor.detach() for tensor in case.model(case.images, case.padding))
        )
    np.testing.assert_allclose(objects.logits, case.expected("logits"), rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(objects.boxes, case.expected("boxes"), rtol=0, atol=TOLERANCE)
    found = detr.decode(objects, case.sizes)
    for image in range(len(case.images)):
        np.testing.assert_allclose(
            found.scores[image], case.answers[f"post{image}/scores"], rtol=0, atol=TOLERANCE
        )
        np.testing.assert_array_equal(found.labels[image], case.answers[f"post{image}/labels"])
        np.testing.assert_allclose(
            found.boxes[image], case.answers[f"post{image}/boxes"], rtol=0, atol=5e-3
        )


def test_without_padding_nothing_changes(case: Case) -> None:
    with torch.no_grad():
        frame = case.images[:1]
        one, other = (
            case.model(frame),
            case.model(frame, torch.zeros_like(frame[:, 0], dtype=torch.bool)),
        )
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(one.boxes, other.boxes, rtol=0, atol=TOLERANCE)


def test_matches_losses_and_gradients(case: Case) -> None:
    case.model.zero_grad()
    objects, criterion = case.model(case.images, case.padding), detr.Criterion()
    matches = criterion.match(objects, case.truth)
    for layer, images in enumerate([*case.facts["matched_aux"], case.facts["matched"]]):
        for image, pairs in enumerate(images):
            here = (matches.layer == layer) & (matches.image == image)
            assert [matches.query[here].tolist(), matches.target[here].tolist()] == pairs

    losses, expected = criterion(objects, case.truth), case.facts["losses"]
    assert losses.total.item() == pytest.approx(case.facts["weighted_total"], rel=1e-4)
    for layer in range(6):
        suffix = "" if layer == 5 else f"_{layer}"
        names = {
            "loss_ce": "classification",
            "loss_bbox": "l1",
            "loss_giou": "giou",
            "cardinality_error": "cardinality",
        }
        for original, ours in names.items():
            assert getattr(losses, ours)[layer].item() == pytest.approx(
                expected[original + suffix], rel=1e-4
            ), (original, layer)

    losses.total.backward()
    names = original_names(case.model)
    norms = {
        names[key]: p.grad.norm().item()
        for key, p in case.model.named_parameters()
        if p.grad is not None
    }
    assert norms.keys() == case.facts["grad_norms"].keys()
    for key, expected_norm in case.facts["grad_norms"].items():
        assert norms[key] == pytest.approx(expected_norm, rel=1e-3, abs=1e-4), key
    total = float(np.sqrt(sum(norm**2 for norm in norms.values())))
    assert total == pytest.approx(case.facts["grad_total_norm"], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [({}, 41_524_768), ({"depth": 101}, 60_464_672), ({"stride": 16}, 41_524_768), ({"positions": "learned"}, 41_537_568),  # noqa: E501
     ({"pre_norm": True}, 41_525_280)],
    ids=["r50", "r101", "dc5", "learned positions", "pre-norm"],
)  # fmt: skip
def test_published_variants(changes: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        model = detr.build(detr.Config(num_classes=91, **changes))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    names = original_names(model)
    assert set(names) == set(model.state_dict()) and len(set(names.values())) == len(names)
    extra = {
        name
        for name in names.values()
        if name.startswith(("backbone.1.", "transformer.encoder.norm."))
    }
    expected = {
        "positions": {"backbone.1.row_embed.weight", "backbone.1.col_embed.weight"},
        "pre_norm": {"transformer.encoder.norm.weight", "transformer.encoder.norm.bias"},
    }
    assert extra == set().union(*(expected.get(field, set()) for field in changes))


def test_dilated_last_stage_keeps_the_weights_reach() -> None:
    with torch.device("meta"):
        trunk = detr.build(detr.Config(num_classes=91, stride=16)).scene.trunk
    convs = [block.conv2.conv for block in trunk.layer4]
    assert [(conv.stride, conv.dilation) for conv in convs] == [
        ((1, 1), (1, 1)),
        ((1, 1), (2, 2)),
        ((1, 1), (2, 2)),
    ]
    assert trunk.layer4[0].downsample.conv.stride == (1, 1) and trunk.layer3[
        0
    ].conv2.conv.stride == (2, 2)


def test_a_checkpoint_that_does_not_fit_is_refused() -> None:
    model = detr.build(detr.TINY)
    published = export_published(model)
    published["class_embed.weight"] = published["class_embed.weight"][:-1]
    with pytest.raises(PublishedWeightsError, match="class_embed.weight: found shape"):
        load_published(model, published)
