"""APCT's own parts: the ladder, the cascade, the losses and their masks, the answers, and a DETR as
its start.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from models.blocks.boxes import to_corners
from models.blocks.image_encoder import Memory
from models.checkpoints import PublishedWeightsError
from models.errors import ModelConfigError, ModelInputError
from models.init_weights import init_from
from models.parsing import apct, detr
from models.weights import export_published

LAYERS, IMAGES, QUERIES, PARTS, STATES = 2, 2, 4, 3, 5


def said(seed: int = 0, requires_grad: bool = False) -> apct.Parsed:
    """An answer drawn at random."""
    torch.manual_seed(seed)
    shape = (LAYERS, IMAGES, QUERIES)
    drawn = (
        torch.randn(shape),
        0.2 + 0.5 * torch.rand(*shape, 4),
        0.2 + 0.5 * torch.rand(*shape, PARTS, 4),
        torch.randn(*shape, PARTS, STATES),
        torch.randn(IMAGES, QUERIES, PARTS, STATES),
    )
    return apct.Parsed(*(tensor.requires_grad_(requires_grad) for tensor in drawn))


def people(number: int, seed: int = 0) -> apct.People:
    generator = torch.Generator().manual_seed(seed)
    boxes = 0.2 + 0.4 * torch.rand(number, 4, generator=generator)
    parts = 0.2 + 0.4 * torch.rand(number, PARTS, 4, generator=generator)
    seen = torch.rand(number, PARTS, generator=generator) > 0.3
    return apct.People(
        boxes, parts, seen, torch.randint(-1, STATES, (number, PARTS), generator=generator)
    )


TRUTH = [people(2, 1), people(1, 2)]


@pytest.mark.parametrize(
    ("step", "parameters"),
    [
        ("baseline", 41_899_217),
        ("cascade", 46_877_357),
        ("refinement", 50_975_479),
        ("swin_base", 113_936_111),
    ],
)
def test_steps_of_the_ladder_at_full_size(step: str, parameters: int) -> None:
    with torch.device("meta"):
        model = apct.build(apct.Config(num_classes=74, **apct.LADDER[step]))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert (len(model.offsets), len(model.readings)) == ((1, 0) if step == "baseline" else (6, 5))
    assert (model.refinement is not None) == (step in ("refinement", "swin_base"))


def test_swin_steps_by_32_alone() -> None:
    with pytest.raises(
        ModelConfigError, match="'stride': found 16; allowed: 32 with trunk swin_base"
    ):
        apct.Config(num_classes=3, trunk="swin_base", stride=16)


@pytest.mark.slow
def test_swin_takes_images_of_any_size() -> None:
    model = apct.build(dataclasses.replace(apct.TINY, trunk="swin_base", stride=32)).eval()
    with torch.no_grad():
        parsed = model(torch.randn(1, 3, 70, 101))
    assert parsed.refined.shape == (1, 6, 3, 5) and all(
        torch.isfinite(tensor).all() for tensor in parsed
    )


def test_a_cascade_starts_with_offsets_of_zero() -> None:
    torch.manual_seed(0)
    parsed = apct.build(apct.TINY).eval()(torch.randn(2, 3, 64, 96))
    assert torch.equal(parsed.boxes[0], parsed.boxes[1]) and torch.equal(
        parsed.parts[0], parsed.parts[1]
    )
    assert torch.equal(parsed.refined, parsed.states[-1])


def test_a_part_without_offset_is_its_person() -> None:
    model = apct.build(apct.TINY).eval()
    with torch.no_grad():
        for parameter in model.offsets[0].parameters():
            parameter.zero_()
    parsed = model(torch.randn(1, 3, 64, 96))
    assert torch.equal(parsed.boxes, torch.full_like(parsed.boxes, 0.5))
    assert torch.equal(parsed.parts, torch.full_like(parsed.parts, 0.5))


def test_gradients_go_through_references_but_not_from_parts_to_persons() -> None:
    torch.manual_seed(0)
    model = apct.build(apct.TINY)
    model(torch.randn(1, 3, 64, 96)).boxes[1].sum().backward()
    assert (
        model.offsets[0].box.last().weight.grad.any()
        and model.offsets[0].part.last().weight.grad is None
    )
    model = apct.build(apct.TINY)
    model(torch.randn(1, 3, 64, 96)).parts[1].sum().backward()
    assert model.offsets[0].part.last().weight.grad.any()
    assert all(offsets.box.last().weight.grad is None for offsets in model.offsets)


def test_a_layer_reads_where_the_one_before_it_found_boxes() -> None:
    """Of a map whose channels are a place's column and row: the centres come back, in the part of
    the map that is image.
    """
    reading = apct.Reading(2, 1)
    with torch.no_grad():
        reading.project.weight.copy_(torch.eye(2, 4))
        reading.project.bias.zero_()
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(8.0), indexing="ij")
    tokens = torch.stack([columns, rows], -1).flatten(0, 1)[None]
    memory = Memory(tokens, tokens, None, (4, 8), [], torch.tensor([[64, 64]]))
    boxes = torch.tensor([[[0.5, 0.375, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]]], requires_grad=True)
    inside = torch.tensor([[0.5, 1.0]])  # the right half is padding
    found = reading(memory, inside, boxes, boxes[:, :, None])
    torch.testing.assert_close(found, torch.tensor([[[1.5, 1.0], [3.1, 3.0]]]))
    found.sum().backward()
    assert boxes.grad is None and reading.project.weight.grad.any()


def test_padding_shrinks_the_map_that_is_read() -> None:
    model, seen = apct.build(apct.TINY).eval(), []
    images, padding = torch.randn(1, 3, 64, 128), torch.zeros(1, 64, 128, dtype=torch.bool)
    padding[..., 96:] = True
    model.readings[0].register_forward_hook(lambda module, given, out: seen.append(given[1]))
    model(images, padding)
    model(images)
    assert [one.tolist() for one in seen] == [[[0.75, 1.0]], [[1.0, 1.0]]]


def test_losses_by_hand() -> None:
    """One query, one person, one seen part: each term from its formula."""
    logit, box, part = (
        torch.zeros(1, 1, 1),
        torch.full((1, 1, 1, 4), 0.5),
        torch.full((1, 1, 1, 1, 4), 0.25),
    )
    states = torch.zeros(1, 1, 1, 1, 2)
    truth = apct.People(
        torch.tensor([[0.51, 0.5, 0.4, 0.5]]),
        torch.full((1, 1, 4), 0.25),
        torch.tensor([[True]]),
        torch.tensor([[1]]),
    )
    losses = apct.Criterion()(apct.Parsed(logit, box, part, states, states[0]), [truth])
    ln2 = torch.log(torch.tensor(2.0)).item()
    assert losses.person.item() == pytest.approx(ln2)
    assert losses.box.item() == pytest.approx(5 * (0.01**2 / 0.1 + (0.1 - 0.025)), rel=1e-4)
    assert losses.part.item() == 0
    assert (
        losses.state.item()
        == pytest.approx(2 * (0.25 + 0.75) * 0.25 * ln2)
        == losses.refined.item()
    )
    assert losses.total.item() == pytest.approx(sum(term.item() for term in losses[1:]))


def test_what_is_not_seen_changes_nothing() -> None:
    parsed, criterion = said(), apct.Criterion()
    changed = []
    for one in TRUTH:
        hidden, unknown = ~one.seen, ~one.seen | (one.states < 0)
        parts = torch.where(hidden[..., None], torch.full_like(one.parts, 0.9), one.parts)
        changed.append(
            one._replace(
                parts=parts,
                states=torch.where(unknown & hidden, torch.full_like(one.states, 4), one.states),
            )
        )
    for one, other in zip(criterion(parsed, TRUTH), criterion(parsed, changed), strict=True):
        assert torch.equal(one, other)


def test_unseen_parts_get_no_gradient() -> None:
    parsed = said(requires_grad=True)
    blind = [one._replace(seen=torch.zeros_like(one.seen)) for one in TRUTH]
    losses = apct.Criterion()(parsed, blind)
    losses.total.backward()
    assert losses.part == losses.state == losses.refined == 0
    assert (
        parsed.parts.grad.abs().sum()
        == parsed.states.grad.abs().sum()
        == parsed.refined.grad.abs().sum()
        == 0
    )
    assert parsed.boxes.grad.abs().sum() > 0


def test_two_ranks_equal_one_with_all_images() -> None:
    """With the mean of the ranks' totals the mean of their losses is that of one rank: so are the
    gradients.
    """
    parsed, criterion = said(), apct.Criterion()
    whole = criterion(parsed, TRUTH)
    shares = [
        apct.Parsed(
            *(tensor[:, rank : rank + 1] for tensor in parsed[:4]), parsed.refined[rank : rank + 1]
        )
        for rank in range(2)
    ]
    mean = sum(apct.totals([one], QUERIES) for one in TRUTH) / 2
    halves = [criterion(share, [one], mean) for share, one in zip(shares, TRUTH, strict=True)]
    for term, *both in zip(whole, *halves, strict=True):
        torch.testing.assert_close(sum(both) / 2, term)


def test_every_layer_and_image_is_matched_for_itself() -> None:
    parsed, criterion = said(), apct.Criterion()
    found = criterion.match(parsed, TRUTH)
    assert found.layer.tolist() == [0, 0, 0, 1, 1, 1] and found.image.tolist() == [0, 0, 1, 0, 0, 1]
    for layer in range(LAYERS):
        alone = criterion.match(
            apct.Parsed(*(tensor[layer : layer + 1] for tensor in parsed[:4]), parsed.refined),
            TRUTH,
        )
        here = found.layer == layer
        assert torch.equal(found.query[here], alone.query) and torch.equal(
            found.target[here], alone.target
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda truth: truth[:1], "found 1 images; expected 2"),
        (
            lambda truth: [truth[0], truth[1]._replace(seen=truth[1].seen.long())],
            "people of image 1: found shapes",
        ),
        (
            lambda truth: [truth[0]._replace(parts=truth[0].parts[:, :2]), truth[1]],
            "people of image 0: found shapes .*; expected",
        ),
    ],
    ids=["images", "seen", "parts"],
)
def test_people_that_do_not_fit_are_named(change: Any, says: str) -> None:
    with pytest.raises(ModelInputError, match=says):
        apct.Criterion()(said(), change(TRUTH))


class TestDecode:
    def test_the_best_persons_in_pixels(self) -> None:
        parsed, sizes = said(), torch.tensor([[48, 64], [100, 200]])
        for image, (height, width) in enumerate(sizes.tolist()):
            found = apct.decode(parsed, sizes, persons=3)[image]
            order = parsed.persons[-1, image].argsort(descending=True)[:3]
            scale = torch.tensor([width, height, width, height])
            torch.testing.assert_close(found.scores, parsed.persons[-1, image, order].sigmoid())
            torch.testing.assert_close(
                found.boxes, to_corners(parsed.boxes[-1, image, order]).clamp(0, 1) * scale
            )
            torch.testing.assert_close(
                found.parts, to_corners(parsed.parts[-1, image, order]).clamp(0, 1) * scale
            )
            assert torch.equal(found.states[..., 0], parsed.refined[image, order].argmax(-1))
            torch.testing.assert_close(
                found.state_scores[..., 0], parsed.refined[image, order].sigmoid().amax(-1)
            )

    def test_scores_proposals_and_allowed_states(self) -> None:
        parsed, sizes = said(), torch.tensor([[48, 64]] * 2)
        found = apct.decode(parsed, sizes, min_score=0.5, proposals=2)
        assert [len(one.scores) for one in found] == (parsed.persons[-1] >= 0).sum(1).tolist()
        assert all((one.state_scores[..., 0] >= one.state_scores[..., 1]).all() for one in found)
        allowed = torch.zeros(PARTS, STATES, dtype=torch.bool)
        allowed[:, 3] = True
        assert all((one.states == 3).all() for one in apct.decode(parsed, sizes, allowed=allowed))
        nobody = apct.decode(parsed, sizes, min_score=1.0)[0]
        assert nobody.boxes.shape == (0, 4) and nobody.states.shape == (0, PARTS, 1)

    @pytest.mark.parametrize(
        ("given", "says"),
        [({"proposals": 6}, "found 6; expected 1 to 5"), ({"sizes": torch.ones(1, 2)}, r"sizes: found \(1, 2\)"),  # noqa: E501
         ({"allowed": torch.ones(2, 5, dtype=torch.bool)}, r"allowed: found \(2, 5\)")],
        ids=["proposals", "sizes", "allowed"],
    )  # fmt: skip
    def test_bad_requests_are_named(self, given: dict[str, Any], says: str) -> None:
        with pytest.raises(ModelInputError, match=says):
            apct.decode(said(), **{"sizes": torch.ones(2, 2), **given})


class TestStart:
    """A DETR's weights as the start of an APCT."""

    @pytest.mark.parametrize("cascade", [False, True])
    def test_persons_and_boxes_are_those_of_the_detr(self, cascade: bool) -> None:
        torch.manual_seed(0)
        original = detr.build(dataclasses.replace(detr.TINY, num_classes=91)).eval()
        model = apct.build(
            dataclasses.replace(
                apct.TINY, norm="frozen", encoder_layers=2, queries=4, cascade=cascade
            )
        ).eval()
        report = init_from(model, {"model": export_published(original)})
        assert not report.unused and report.loaded + len(report.fresh) == len(model.state_dict())
        fresh = {"heads", "offsets", "refinement"} | ({"readings"} if cascade else set())
        assert {key.split(".")[0] for key in report.fresh} == fresh
        assert (
            f"{report.loaded} tensors loaded as a DETR\n  fresh: heads.state.layers (4), "
            in str(report)
        )
        assert len(str(report).splitlines()) == 2

    def test_the_boxes_of_the_first_layer_are_equal(self) -> None:
        torch.manual_seed(0)
        original = detr.build(dataclasses.replace(detr.TINY, num_classes=91)).eval()
        model = apct.build(dataclasses.replace(apct.TINY, norm="frozen", encoder_layers=2)).eval()
        init_from(model, export_published(original))
        images = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            objects, parsed = original(images), model(images)
        torch.testing.assert_close(parsed.boxes[0], objects.boxes[0])
        shares = objects.logits.softmax(-1)
        torch.testing.assert_close(
            parsed.persons.sigmoid(), shares[..., 1] / (shares[..., 1] + shares[..., -1])
        )

    def test_a_checkpoint_of_something_else_is_refused(self) -> None:
        with pytest.raises(PublishedWeightsError, match="expected a DETR's"):
            init_from(apct.build(apct.TINY), {"class_embed.weight": torch.zeros(2, 2)})
        with pytest.raises(PublishedWeightsError, match="does not fit APCT"):
            init_from(apct.build(apct.TINY), {"fc.weight": torch.zeros(2, 2)})
