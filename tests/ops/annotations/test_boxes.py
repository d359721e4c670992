"""Boxes of a table that are not of the table's form."""

import numpy as np
import pytest

from configs.schema import Dataset, TableName
from ops.annotations.boxes import box_questions
from ops.annotations.join import Videos, videos_of
from ops.annotations.rows import Problem
from ops.store.tables import BOXES, PARTS, VIDEOS, from_rows

DATASET = Dataset(name="d", title="t", licence="none", root="/r")
NAMES = {"boxes": ("x1", "y1", "x2", "y2"), "parts": ("px1", "py1", "px2", "py2")}


def videos(width: int | None = 320, height: int | None = 240, rotation: int = 0) -> Videos:
    row = {name: None for name in VIDEOS.names} | {
        "video_id": "v",
        "status": "ok",
        "width": width,
        "height": height,
        "rotation": rotation,
    }
    return videos_of(DATASET, from_rows([row], VIDEOS))


def asked(
    kind: TableName, boxes: np.ndarray, there: Videos | None = None, inverted: int = 0
) -> list[str]:
    schema = BOXES if kind == "boxes" else PARTS
    blank = {name: None for name in schema.names} | {
        "video_id": "v",
        "split": "train",
        "source": "b.csv:1",
    }
    table = from_rows(
        [blank | dict(zip(NAMES[kind], map(float, box), strict=True)) for box in boxes], schema
    )
    problems = [Problem("b.csv", 1, "box", "", "box_inverted", "")] * inverted
    return [problem.reason for problem in box_questions(kind, table, problems, there or videos())]


def corners(number: int, width: float = 1.0, height: float = 1.0) -> np.ndarray:
    points = np.sort(np.random.default_rng(0).uniform(0, 1, (number, 2, 2)), axis=1)
    return (points * (width, height)).reshape(number, 4)


def sized(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


@pytest.mark.parametrize("kind, scale", [("boxes", (1, 1)), ("parts", (320, 240))])
def test_width_and_height_for_a_corner(kind: TableName, scale: tuple[int, int]):
    good = corners(200, *scale)
    assert asked(kind, good) == []
    wrong = sized(good)
    # what no reader refuses
    kept = wrong[(wrong[:, 2] > wrong[:, 0]) & (wrong[:, 3] > wrong[:, 1])]
    assert asked(kind, kept) == ["x, y, width, height? the form has two corners"]
    assert asked(kind, kept[:5]) == [] and asked(kind, kept[:5], inverted=9) == [
        "x, y, width, height? the form has two corners"
    ]


def test_one_person_in_a_corner_is_no_evidence():
    assert asked("boxes", np.tile([[0.1, 0.1, 0.4, 0.5]], (50, 1))) == []


def test_parts_are_pixels_of_their_video():
    assert "shares of the picture" in asked("parts", corners(3))[0]
    assert "another size" in asked("parts", corners(50, 640, 480))[0]
    assert asked("parts", corners(50, 240, 320), videos(rotation=90)) == []
    assert asked("parts", corners(50, 640, 480), videos(None, None)) == []
