"""EVAD's matching and losses: by definition, over ranks, and where there is nobody."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from configs.schema.detection import LossWeights
from models.detection.evad import Counts, Criterion, Detections, Target, counts, match
from models.errors import ModelInputError

CLASSES, QUERIES = 4, 5
TARGETS = [
    Target(
        torch.tensor([[2.0, 3, 20, 30], [30, 5, 50, 40]]),
        torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 0]]),
    ),
    Target(torch.zeros(0, 4), torch.zeros(0, CLASSES)),
    Target(torch.tensor([[10.0, 10, 40, 44]]), torch.tensor([[0.0, 0, 0, 1]])),
]


def detections(batch: int = 3, seed: int = 0) -> Detections:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    low = 30 * torch.rand(batch, QUERIES, 2, generator=generator)
    boxes = [
        torch.cat([low, low + 5 + 20 * torch.rand(batch, QUERIES, 2, generator=generator)], -1)
        for _ in range(2)
    ]
    return Detections(
        [draw(batch, QUERIES, 2).requires_grad_() for _ in range(2)],
        [one.requires_grad_() for one in boxes],
        [draw(batch, QUERIES, CLASSES).requires_grad_() for _ in range(3)],
        torch.tensor([[48.0, 64.0]]).repeat(batch, 1),
        torch.zeros(batch, 0, dtype=torch.int64),
    )


def part(found: Detections, index: slice) -> Detections:
    lists = ([one[index] for one in kind] for kind in found[:3])
    return Detections(*lists, found.sizes[index], found.kept[index])


def test_the_definition() -> None:
    found = detections()
    losses = Criterion(LossWeights())(found, TARGETS)
    for stage in range(2):
        pairs = match(
            found.person_logits[stage], found.boxes[stage], TARGETS, found.sizes, LossWeights()
        )
        classes = torch.ones(3, QUERIES, dtype=torch.int64)
        l1 = torch.zeros(())
        for clip, (proposals, chosen) in enumerate(pairs):
            classes[clip, proposals] = 0
            apart = found.boxes[stage][clip, proposals] - TARGETS[clip].boxes[chosen]
            l1 = l1 + (apart / torch.tensor([64.0, 48, 64, 48])).abs().sum() / 3
        person = F.cross_entropy(
            found.person_logits[stage].flatten(0, 1), classes.flatten(), torch.tensor([1.0, 0.1])
        )
        torch.testing.assert_close(losses.person[stage], 2 * person)
        torch.testing.assert_close(losses.l1[stage], 5 * l1)
        assert [[one.tolist() for one in pair] for pair in pairs] == [
            [one.tolist() for one in pair] for pair in losses.matches[stage]
        ]
    rows = [
        found.action_logits[-1][clip, proposals]
        for clip, (proposals, _) in enumerate(losses.matches[-1])
    ]
    wanted = [TARGETS[clip].actions[chosen] for clip, (_, chosen) in enumerate(losses.matches[-1])]
    action = F.binary_cross_entropy_with_logits(torch.cat(rows), torch.cat(wanted))
    torch.testing.assert_close(losses.action[-1], 12 * action)
    terms = [*losses.person, *losses.l1, *losses.giou, *losses.action]
    torch.testing.assert_close(losses.total, torch.stack(terms).mean())
    assert len(losses.terms()) == len(terms) + 1


def test_ranks_average_to_one_large_batch() -> None:
    """With counts over all ranks divided by their number, also where a rank has nobody."""
    found = detections()
    whole = Criterion(LossWeights())(found, TARGETS)
    shares = [slice(0, 1), slice(1, 2), slice(2, 3)]
    shared = Counts(*(number / 3 for number in counts(TARGETS, QUERIES)))
    ranks = [
        Criterion(LossWeights())(part(found, share), TARGETS[share], shared) for share in shares
    ]
    for name, value in whole.terms().items():
        torch.testing.assert_close(torch.stack([one.terms()[name] for one in ranks]).mean(), value)


def test_nobody_at_all() -> None:
    found, nobody = detections(1), [TARGETS[1]]
    losses = Criterion(LossWeights())(found, nobody)
    assert torch.isfinite(losses.total) and all(
        term == 0 for term in (*losses.l1, *losses.giou, *losses.action)
    )
    losses.total.backward()
    for tensor in (*found.person_logits, *found.boxes, *found.action_logits):
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all()


def test_more_people_than_proposals() -> None:
    boxes = (
        torch.tensor([[2.0, 3, 20, 30]]).repeat(QUERIES + 2, 1) + torch.arange(QUERIES + 2)[:, None]
    )
    crowd = [Target(boxes, torch.ones(QUERIES + 2, CLASSES))]
    losses = Criterion(LossWeights())(detections(1), crowd)
    assert losses.matches[-1][0][0].tolist() == list(range(QUERIES)) and torch.isfinite(
        losses.total
    )
    assert counts(crowd, QUERIES) == (QUERIES + 2, QUERIES, 1)


def test_empty_boxes_have_finite_losses_and_gradients() -> None:
    found = detections(1)
    with torch.no_grad():
        found.boxes[1][0, :, 2:] = found.boxes[1][0, :, :2]
    point = torch.tensor([[10.0, 10, 10, 10]])
    losses = Criterion(LossWeights())(found, [Target(point, torch.ones(1, CLASSES))])
    losses.total.backward()
    assert torch.isfinite(losses.total) and all(
        torch.isfinite(one.grad).all() for one in found.boxes
    )


def test_single_label() -> None:
    found = detections()
    targets = [
        Target(
            target.boxes,
            target.actions.argmax(1) if len(target.actions) else torch.zeros(0, dtype=torch.int64),
        )
        for target in TARGETS
    ]
    losses = Criterion(LossWeights(), multi_label=False)(found, targets)
    rows = torch.cat(
        [
            found.action_logits[0][clip, proposals]
            for clip, (proposals, _) in enumerate(losses.matches[-1])
        ]
    )
    wanted = torch.cat(
        [targets[clip].actions[chosen] for clip, (_, chosen) in enumerate(losses.matches[-1])]
    )
    torch.testing.assert_close(losses.action[0], 12 * F.cross_entropy(rows, wanted))


def test_weights() -> None:
    found = detections()
    plain, heavy = (
        Criterion(LossWeights())(found, TARGETS),
        Criterion(LossWeights(action=6.0))(found, TARGETS),
    )
    torch.testing.assert_close(plain.action[0], 2 * heavy.action[0])
    with pytest.raises(ValidationError, match="distance\n.*greater than or equal to 0"):
        LossWeights(distance=-5)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (Target(torch.ones(1, 5), torch.ones(1, CLASSES)), r"target 0: found boxes \(1, 5\)"),
        (
            Target(torch.ones(1, 4), torch.ones(2, CLASSES)),
            r"and actions \(2, 4\); expected \(G, 4\) and \('G', 4\)",
        ),
        (Target(torch.tensor([[9.0, 0, 3, 4]]), torch.ones(1, CLASSES)), "expected x1 <= x2"),
        (
            Target(torch.tensor([[0.0, 0, float("nan"), 4]]), torch.ones(1, CLASSES)),
            "expected x1 <= x2",
        ),
    ],
)
def test_bad_targets_are_named(target: Target, says: str) -> None:
    with pytest.raises(ModelInputError, match=says):
        Criterion(LossWeights())(detections(1), [target])


def test_bad_classes_and_counts_are_named() -> None:
    with pytest.raises(ModelInputError, match=r"found classes \[4\]; expected 0 to 3"):
        Criterion(LossWeights(), multi_label=False)(
            detections(1), [Target(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([4]))]
        )
    with pytest.raises(ModelInputError, match="found 3; expected one for each of 1 clips"):
        Criterion(LossWeights())(detections(1), TARGETS)
