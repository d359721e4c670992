"""Every family of every task, every loss, decoding and metric gives the numbers that it gave when
it agreed with the originals.

The outputs of the originals themselves are outside the repository; these values are what an
outsider can check against.
"""

from __future__ import annotations

import json

import pytest

from golden import FILE, PARTS, Numbers, family
from miniatures import FAMILIES

# Sums of float32 come out another way with other kernels: with torch's vector kernels, with plain
# ones and without oneDNN the numbers differ by less than half of this. A norm in the middle of a
# network with an epsilon of 1e-3 for 1e-5 moves nearly all by more.
LOOSE = {"rel": 5e-5, "abs": 5e-6}
# Metrics count and divide in float64; the file has nine digits.
TIGHT = {"rel": 2e-8, "abs": 1e-9}


@pytest.fixture(scope="module")
def stored() -> dict[str, Numbers]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def test_the_file_has_values_of_everything_and_of_nothing_else(stored: dict[str, Numbers]) -> None:
    assert list(stored) == [f"{task} {name}" for task, name in FAMILIES] + list(PARTS)
    assert FILE.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("task", "name"), [pytest.param(*one, id="-".join(one)) for one in FAMILIES]
)
def test_families(stored: dict[str, Numbers], task: str, name: str) -> None:
    found, wanted = family(task, name), stored[f"{task} {name}"]
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, **LOOSE), key


@pytest.mark.parametrize("name", PARTS)
def test_parts_and_metrics(stored: dict[str, Numbers], name: str) -> None:
    found, wanted = PARTS[name](), stored[name]
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(
            value, **(TIGHT if name.startswith("metric") else LOOSE)
        ), key
