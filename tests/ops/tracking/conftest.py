"""A recipe to log."""

from __future__ import annotations

import pytest

from configs import load
from configs.schema import RecognitionRecipe


@pytest.fixture
def recipe() -> RecognitionRecipe:
    found = load("tsn_tiny_figures")
    assert isinstance(found, RecognitionRecipe)
    return found
