"""Numbers that networks, losses, decodings and metrics give for made-up weights and inputs, as
`tests/golden/values.json` keeps them.

Weights and inputs are drawn by numpy's PCG64 from names, not by torch: no version or kernel of
torch has a say in them. The stored values are those of code that agreed with the originals'
outputs; where a number is meant to change, make them anew and say why:

    .venv/bin/python tests/support/golden.py
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema.detection import LossWeights
from configs.schema.localization import Decoding
from miniatures import FAMILIES, answers
from models.blocks.nms1d import suppress
from models.blocks.roi import roi_align
from models.detection import evad
from models.localization import actionformer
from models.parsing import apct, detr
from ops.tasks.detection.metric import DetectionMetric
from ops.tasks.detection.tubes import FoundTube, Linking, Tube, link, video_map
from ops.tasks.localization.errors import KINDS, errors_of, gains, video_scores
from ops.tasks.localization.metric import LocalizationMetric, match
from ops.tasks.parsing import human_matching
from ops.tasks.parsing.columns import ParsingMetric, TrueHumans
from ops.tasks.recognition.metric import RecognitionMetric, average_views
from ops.tasks.recognition.scores import scores_of
from ops.training.cases import of_miniature

FILE = Path(__file__).resolve().parent.parent / "golden" / "values.json"
Numbers = dict[str, float | list[float]]


def drawn(name: str, *shape: int) -> np.ndarray:
    """float64 in [-1, 1), decided by the name."""
    return np.asarray(np.random.default_rng(zlib.crc32(name.encode())).random(shape) * 2 - 1)


def tensor(name: str, *shape: int) -> Tensor:
    """float32 of about unit variance."""
    return torch.from_numpy(1.7 * drawn(name, *shape)).float()


@torch.no_grad()
def network(task: str, name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A family's miniature in eval mode with drawn weights and statistics, and its drawn inputs."""
    case = of_miniature(task, name)
    model = case.build().eval()
    for key, value in model.state_dict().items():
        # boxes start at the whole picture
        if not value.is_floating_point() or key == "proposal_boxes.weight":
            continue
        own = torch.from_numpy(drawn(key, *value.shape))
        if key.endswith("running_var"):
            own = 1 + 0.3 * own
        elif value.ndim > 1:
            own = own * (3 / max(1, value[0].numel())) ** 0.5
        else:
            own = 0.2 * own + (1 if key.endswith("weight") else 0)
        value.copy_(own)
    first = tensor("input", *case.inputs[0].shape)
    if task == "localization":
        first = first * case.inputs[1][:, None]
    return model, (first, *case.inputs[1:])


def some(values: Iterable[Tensor], count: int = 4) -> list[float]:
    """A few numbers of each tensor, evenly spaced, and its norm."""
    found: list[float] = []
    for value in values:
        flat = value.detach().double().flatten()
        places = torch.linspace(0, len(flat) - 1, min(count, len(flat))).long() if len(flat) else []
        found += [*flat[places].tolist(), flat.norm().item()] if len(flat) else [0.0]
    return found


def gradient(model: nn.Module, loss: Tensor) -> float:
    """Norm of the loss's gradient by all parameters."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    return sum(grad.double().square().sum().item() for grad in grads if grad is not None) ** 0.5


# --------------------------------------------------------------------------------------------------
# families and losses


def family(task: str, name: str) -> Numbers:
    """What the model answers, the terms of its loss, the gradient of their total, and what the
    answer is decoded to.
    """
    model, inputs = network(task, name)
    found = some(answers(model, inputs))
    losses, total, decoded = TASKS[task](name, model, inputs)
    return {
        "answer": found,
        "losses": some(losses, 8),
        "gradient": gradient(model, total),
        "decoded": some(decoded),
    }


Judged = tuple[list[Tensor], Tensor, list[Tensor]]


def recognition(name: str, model: nn.Module, inputs: tuple[Tensor, ...]) -> Judged:
    losses = [
        F.cross_entropy(scores, torch.tensor([0, 1]), label_smoothing=0.1)
        for scores in answers(model, inputs)
    ]
    return losses, torch.stack(losses).sum(), [model.features(*inputs)]  # type: ignore[operator]


def detection(name: str, model: nn.Module, inputs: tuple[Tensor, ...]) -> Judged:
    said = model(*inputs)
    actions = torch.zeros(2, evad.TINY.num_classes)
    actions[0, 0] = actions[1, 1] = actions[1, 2] = 1
    boxes = torch.tensor([[4.0, 6, 30, 50], [40, 10, 90, 60]])
    found = evad.Criterion(LossWeights())(
        said, [evad.Target(boxes, actions), evad.Target(boxes[:1] + 5, actions[1:])]
    )
    single = [
        evad.Target(boxes, torch.tensor([0, 1])),
        evad.Target(boxes[:0], torch.zeros(0, dtype=torch.int64)),
    ]
    other = evad.Criterion(LossWeights(), multi_label=False)(said, single)
    decoded = [
        column
        for threshold in (0.0, 0.7)
        for persons in evad.decode(said, threshold)
        for column in persons
    ]
    return [*found.terms().values(), *other.terms().values()], found.total, decoded


def localization(name: str, model: nn.Module, inputs: tuple[Tensor, ...]) -> Judged:
    pyramid = model(*inputs)
    criterion = actionformer.Criterion(5, actionformer.TINY.ranges, label_smoothing=0.1)
    segments = [
        torch.tensor([[2.0, 6.0], [10.0, 40.0]]),
        torch.tensor([[1.0, 4.0], [8.0, 30.0], [5.0, 15.0]]),
    ]
    found = criterion(pyramid, segments, [torch.tensor([0, 1]), torch.tensor([2, 3, 4])])
    total = criterion.total(found, 10.0)
    decoded: list[Tensor] = []
    for decoding in (
        Decoding(),
        Decoding(method="hard", multiclass=False, voting_threshold=0.5),
        Decoding(method="none"),
    ):
        for one in actionformer.decode(pyramid, decoding):
            kept = actionformer.suppress_candidates(one, decoding)
            decoded += actionformer.in_seconds(kept, stride=4, window=16, fps=25, duration_s=9.0)
            decoded += actionformer.fuse_scores(kept, torch.tensor([0.1, 0.5, 0.2]))
    return [one for one in found if isinstance(one, Tensor)] + [total], total, decoded


def parsing(name: str, model: nn.Module, inputs: tuple[Tensor, ...]) -> Judged:
    said, sizes = model(*inputs), torch.tensor([[480.0, 640.0], [300.0, 200.0]])
    boxes = torch.tensor([[0.3, 0.4, 0.2, 0.5], [0.7, 0.5, 0.3, 0.6]])
    if name == "detr":
        truth = [
            detr.Truth(torch.tensor([1, 4]), boxes),
            detr.Truth(torch.zeros(0, dtype=torch.int64), boxes[:0]),
        ]
        found = detr.Criterion()(said, truth)
        return list(found), found.total, list(detr.decode(said, sizes))
    parts = boxes[:, None] * torch.tensor([1.0, 1.1, 0.9])[None, :, None]
    seen, states = (
        torch.tensor([[True, True, False], [True, False, True]]),
        torch.tensor([[0, -1, -1], [3, 2, 4]]),
    )
    people = apct.People(boxes, parts, seen, states)
    terms = apct.Criterion(apct.Weights(giou=2.0))(
        said, [people, apct.People(*(column[:1] for column in people))]
    )
    return (
        list(terms),
        terms.total,
        [
            column
            for persons in apct.decode(said, sizes, persons=3, proposals=2)
            for column in persons
        ],
    )


TASKS: dict[str, Callable[[str, nn.Module, tuple[Tensor, ...]], Judged]] = {
    "recognition": recognition,
    "detection": detection,
    "localization": localization,
    "parsing": parsing,
}


# --------------------------------------------------------------------------------------------------
# parts and metrics


def part_suppression() -> Numbers:
    start = torch.from_numpy(drawn("start", 60) + 1) * 20
    segments = torch.stack(
        [start, start + torch.from_numpy(drawn("length", 60) + 1.2) * 8], 1
    ).float()
    scores, labels = torch.from_numpy((drawn("score", 60) + 1) / 2).float(), torch.arange(60) % 3
    given: dict[str, Any] = {
        "iou_threshold": 0.3,
        "sigma": 0.5,
        "min_score": 0.01,
        "max_segments": 20,
    }
    return {
        f"{method}, {'a class alone' if multiclass else 'all classes'}": some(
            suppress(
                segments,
                scores,
                labels,
                method=method,
                multiclass=multiclass,
                voting_threshold=0 if multiclass else 0.6,
                **given,
            ),
            12,
        )
        for method in ("soft", "hard", "none")
        for multiclass in (True, False)
    }


def part_roi_align() -> Numbers:
    maps, low = tensor("maps", 2, 3, 12, 16), torch.from_numpy(drawn("low", 6, 2) * 60 + 50).float()
    boxes = torch.cat([low, low + torch.from_numpy(drawn("side", 6, 2) * 40 + 50).float()], 1)
    return {
        f"samples {ratio}": some(
            [roi_align(maps, boxes, torch.arange(6) % 2, 3, 1 / 16, ratio)], 30
        )
        for ratio in (2, 0)
    }


def metric_recognition() -> Numbers:
    logits, labels = drawn("logits", 40 * 3, 6) * 3, (np.arange(40) * 7) % 6
    found: Numbers = {}
    for average in ("prob", "score"):
        scores = average_views(logits, 3, average)  # type: ignore[arg-type]
        metric = RecognitionMetric((1, 2, 5))
        metric.update(
            {"scores": one, "label_id": label} for one, label in zip(scores, labels, strict=True)
        )
        numbers = metric.compute() | scores_of(
            scores, labels, list("abcdef"), [("a", "b"), ("c", "f")]
        )
        found |= {f"{average}/{name}": value for name, value in numbers.items()}
    return found


def metric_localization() -> Numbers:
    metric = LocalizationMetric(4, (0.3, 0.5, 0.7), (1, 5))
    for video in range(6):
        true = np.sort((drawn(f"true {video}", 5, 2) + 1) * 30, 1) + [0, 2]
        near = np.concatenate(
            [
                true + drawn(f"near {video}", 5, 2),
                np.sort((drawn(f"far {video}", 9, 2) + 1) * 30, 1) + [0, 1],
            ]
        )
        metric.update(
            [
                {
                    "video_id": f"v{video}",
                    "true_segments": true,
                    "true_labels": (np.arange(5) + video) % 4,
                    "segments": near,
                    "labels": (np.arange(14) * (1 + video % 2) + video) % 4,
                    "scores": (drawn(f"score {video}", 14) + 1) / 2,
                }
            ]
        )
    truth, found = metric.tables()
    matches = match(truth, found, (0.3, 0.5, 0.7))
    errors = errors_of(truth, found, matches, 1)
    kinds = np.bincount(errors.kind + 1, minlength=len(KINDS) + 1).astype(float)
    return {
        **metric.compute(),
        "kinds of error": kinds.tolist(),
        "video scores": list(video_scores(truth, found, errors).values()),
        **{f"without {name}": gain for name, gain in gains(truth, found, errors, matches).items()},
    }


def metric_detection() -> Numbers:
    found: Numbers = {}
    for pixels in (False, True):
        metric = DetectionMetric(
            ["a", "b", "c"], {"first": [0, 1]}, cap=None if pixels else 4, pixels=pixels
        )
        for frame in range(8):
            low = (drawn(f"low {frame}", 3, 2) + 1) * 0.3
            true = np.concatenate([low, low + 0.2 + (drawn(f"side {frame}", 3, 2) + 1) * 0.1], 1)
            boxes = np.concatenate([true + 0.05 * drawn(f"off {frame}", 3, 4), true[:2] + 0.2])
            scores = (drawn(f"scores {frame}", 5, 3) + 1) / 2
            row = {
                "video_id": f"v{frame % 2}",
                "frame": frame,
                "boxes": boxes,
                "person_scores": scores[:, 0],
                "scores": scores,
                "true_boxes": true,
                "true_labels": drawn(f"labels {frame}", 3, 3) > 0,
                "width": 320,
                "height": 240,
            }
            metric.update([row])
        found |= {
            f"{'pixels' if pixels else 'shares'}/{name}": value
            for name, value in metric.compute().items()
        }
    return found


def metric_tubes() -> Numbers:
    frames, scores = np.repeat(np.arange(40), 2), (drawn("tube scores", 80) + 1) / 2
    low = (
        np.stack([frames * 2.0 + (np.arange(80) % 2) * 60, np.full(80, 20.0)], 1)
        + drawn("tube off", 80, 2) * 3
    )
    boxes = np.concatenate([low, low + [40, 80]], 1)
    linked = link(frames, boxes, scores, 40, Linking(min_length=5))
    at = np.arange(40)
    true = [
        Tube(
            at,
            np.stack(
                [at * 2.0 + side, np.full(40, 20.0), at * 2.0 + side + 40, np.full(40, 100.0)], 1
            ),
        )
        for side in (0, 60)
    ]
    scored = video_map(
        {0: [FoundTube("v", *one) for one in linked]}, {0: {"v": true}}, 1, (0.2, 0.5, 0.75, 0.9)
    )
    return {
        "tubes": [
            value
            for score, tube in linked
            for value in (score, len(tube.frames), float(tube.boxes.sum()))
        ]
    } | {f"video_map/{threshold}": one.mean_ap for threshold, one in scored.items()}


def metric_parsing() -> Numbers:
    counts = np.array([2, 0, 3, 1, 2, 3])
    low = (drawn("people", int(counts.sum()), 2) + 1) * 150
    people = np.concatenate([low, low + 80 + (drawn("sides", len(low), 2) + 1) * 40], 1)
    parts = np.concatenate(
        [people[:, None, :2] + (drawn("parts", len(low), 3, 2) + 1) * 20] * 2, 2
    ) + [0, 0, 40, 40]
    truth = TrueHumans(
        ["v", "w"],
        ["run", "sit"],
        np.repeat([0, 1], 3),
        np.tile([0, 1, 2], 2),
        counts,
        people,
        drawn("seen", len(low), 3) > -0.5,
        parts,
        np.arange(3 * len(low)).reshape(-1, 3) % 4,
    )
    metric, ends = (
        ParsingMetric(truth, ["head", "arm", "leg"], {"v": "run", "w": "jump"}),
        np.cumsum(counts),
    )
    for place, (first, last) in enumerate(zip(ends - counts, ends, strict=True)):
        own = range(first, last)[::-1]  # in another order, a stranger at the end
        boxes = np.concatenate(
            [people[own] + drawn(f"found {place}", len(own), 4) * 25, [[0.0, 0, 60, 60]]]
        )
        found = np.concatenate(
            [
                parts[own] + drawn(f"found parts {place}", len(own), 3, 4) * 12,
                np.full((1, 3, 4), [0.0, 0, 9, 9]),
            ]
        )
        states = np.concatenate([truth.states[own], np.zeros((1, 3), np.int64)])
        states[:, 1] = (states[:, 1] + place) % 4
        scores = (drawn(f"sure {place}", len(boxes), 3, 1) + 1) / 2
        metric.update(
            [
                {
                    "video_id": "vw"[place // 3],
                    "frame": place % 3,
                    "scores": scores[:, 0, 0],
                    "boxes": boxes,
                    "parts": found,
                    "states": states[..., None],
                    "state_scores": scores,
                }
            ]
        )
    found = metric.found()
    pairs = human_matching.match(counts, people, found.counts, found.boxes, 0.1)
    return {
        **metric.compute(),
        "iou of pairs": pairs.iou.tolist(),
        "found of pairs": pairs.found.astype(float).tolist(),
    }


PARTS: dict[str, Callable[[], Numbers]] = {
    name.replace("_", " ", 1): make
    for name, make in globals().copy().items()
    if name.startswith(("part_", "metric_"))
}


def everything() -> dict[str, Numbers]:
    """All values, by what gives them."""
    found = {f"{task} {name}": family(task, name) for task, name in FAMILIES}
    return found | {name: make() for name, make in PARTS.items()}


def main() -> None:
    """Write the file."""
    torch.set_num_threads(1)

    def short(value: float | list[float]) -> Any:
        return [short(one) for one in value] if isinstance(value, list) else float(f"{value:.9g}")

    found = {
        name: {key: short(value) for key, value in numbers.items()}
        for name, numbers in everything().items()
    }
    lines = [f"{json.dumps(name)}: {json.dumps(numbers)}" for name, numbers in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
