"""Pictures are small, valid, and bear many or no labels."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ops.evaluation import plots as pictures


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("size", [2, 20, 60])
def test_confusion_matrix_of_few_and_many_labels(size: int) -> None:
    counts = np.random.default_rng(0).multinomial(12, np.ones(size) / size, size=size)
    data = pictures.confusion_matrix(
        counts, [f"a rather long label {index}" for index in range(size)]
    )
    assert opened(data).width < 2000 and len(data) < 200_000


def test_a_label_without_clips_does_not_divide_by_zero() -> None:
    opened(pictures.confusion_matrix(np.array([[2, 1], [0, 0]]), ["one", "two"]))


def test_bars_and_curves() -> None:
    bars = pictures.class_bars({"wave": 0.9, "sit_down": 0.05}, {"wave": 10, "sit_down": 20}, 0.1)
    curves = {
        "loss": [(1, 2.0), (2, 1.0)],
        "top1": [(2, 0.5)],
        "train_top1": [(1, 0.3), (2, 0.6)],
        "best_top1": [(2, 0.5)],
        "lr": [],
    }
    assert len(bars) < 60_000 and opened(bars).width > 500
    assert opened(pictures.learning_curves(curves)).width > 500
    opened(pictures.learning_curves({}))


def test_contact_sheet_of_clips_of_any_length_and_of_none() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 200, 90, 3), np.uint8)
    clip = pictures.Clip("a/b", "wave", "sit_down", 0.9, 0.05, frames)
    assert opened(pictures.worst_clips([clip, clip], 2, 20)).height > 200
    opened(pictures.worst_clips([], 0, 20))
