"""Views of a clip: what is averaged where, and how many of them are in the network at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import models
from ops.tasks.recognition.metric import softmax
from ops.tasks.recognition.views import VIEWS_AT_ONCE, view_scores, views_at_once


class Counting(nn.Module):
    """Scores by the mean of each colour; remembers how many views and pixels came together."""

    def __init__(self) -> None:
        super().__init__()
        self.portions: list[tuple[int, int]] = []

    def forward(self, clip: Tensor) -> Tensor:
        self.portions.append((len(clip), clip[:, 0].numel()))
        return clip.mean((2, 3, 4))


def test_ten_clips_of_three_crops_of_32_frames_go_through_in_portions() -> None:
    model = Counting()
    # one view's memory stands for thirty
    views = torch.randn(1, 3, 32, 256, 256).expand(30, -1, -1, -1, -1)
    scores = view_scores(model, views, 30, "prob")
    assert scores.shape == (1, 3)
    counts = [count for count, _ in model.portions]
    assert max(counts) == views_at_once(views) == 6 and sum(counts) == 30
    assert max(pixels for _, pixels in model.portions) <= 256 * 224 * 224


@pytest.mark.parametrize(
    ("frames", "size", "together"),
    [(8, 224, 16), (16, 224, 16), (32, 224, 8), (32, 336, 3), (64, 1024, 1)],
)
def test_long_and_large_views_go_through_in_smaller_portions(
    frames: int, size: int, together: int
) -> None:
    assert (
        views_at_once(torch.empty(30, 3, frames, size, size, device="meta"))
        == together
        <= VIEWS_AT_ONCE
    )


def test_portions_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    module = models.family("recognition", "tsn")
    torch.manual_seed(0)
    model, views = module.build(module.TINY).eval(), torch.randn(12, 3, 3, 32, 32)
    with torch.inference_mode():
        whole = {
            average: view_scores(model, views, 4, average)
            for average in ("prob", "score", "feature")
        }
        logits = model(views).numpy().reshape(3, 4, -1)
        np.testing.assert_allclose(whole["prob"], softmax(logits).mean(1), atol=1e-6)
        np.testing.assert_allclose(whole["score"], logits.mean(1), atol=1e-5)
        monkeypatch.setattr("ops.tasks.recognition.views.VIEWS_AT_ONCE", 5)
        for average, expected in whole.items():
            np.testing.assert_allclose(view_scores(model, views, 4, average), expected, atol=1e-6)


def test_tsn_averages_the_features_of_all_frames_of_all_views() -> None:
    """As its original, which sees 25 segments of ten crops as one clip of 250 frames."""
    module = models.family("recognition", "tsn")
    torch.manual_seed(1)
    model, views = module.build(module.TINY).eval(), torch.randn(10, 3, 5, 32, 32)
    with torch.inference_mode():
        one_clip = model(views.transpose(0, 1).flatten(1, 2)[None]).numpy()
        np.testing.assert_allclose(view_scores(model, views, 10, "feature"), one_clip, atol=1e-5)
