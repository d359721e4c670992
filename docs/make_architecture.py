"""The picture of `architecture.md`: which room uses which, read from the code's own imports.
`python -P docs/make_architecture.py`.

A row is a package or a room of `ops`, those that are used most at the bottom. From each a lane goes
up along those that import it, with a dot in the row of each: a dot below the stairs would be an
import that runs back. Rings are wings that are asked for by name.
"""

from __future__ import annotations

import ast
import colorsys
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap

REPO = Path(__file__).resolve().parent.parent
PICTURE = REPO / "docs" / "architecture.svg"
ABOVE, BELOW = ("pipelines", "assets"), ("models", "configs")
WIDTH, ROW, TOP = 1240, 50, 96  # of the picture, pixels
BOX, LANES, LANE, MARGIN = 600, 40, 26, 24
FONT = "font-family='Helvetica, Arial, DejaVu Sans, sans-serif'"


@dataclass(frozen=True)
class House:
    """What the picture is made of: (room, what it is for) from the top down, who imports whom, who
    asks a task's wing by name.
    """

    rooms: tuple[tuple[str, str], ...]
    imports: frozenset[tuple[str, str]]
    by_name: frozenset[str]


def house(repo: Path = REPO) -> House:
    """Reads the packages' imports, and the order of the rooms of `ops` from the test that holds
    it.
    """
    rooms = (*ABOVE, *(f"ops/{name}" for name in reversed(_order(repo))), *BELOW)
    imports, by_name = set[tuple[str, str]](), set[str]()
    for room in rooms:
        for path in sorted((repo / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imports |= {
                (room, other) for other in _imported(tree) if other in rooms and other != room
            }
            if any(
                isinstance(node, ast.Call) and ast.unparse(node.func) == "wing"
                for node in ast.walk(tree)
            ):
                by_name.add(room)
    return House(
        tuple((room, _purpose(repo / room)) for room in rooms),
        frozenset(imports),
        frozenset(by_name),
    )


def _order(repo: Path) -> tuple[str, ...]:
    for node in ast.parse((repo / "tests" / "test_layers.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ROOMS":
            return tuple(ast.literal_eval(node.value))
    raise LookupError(
        "tests/test_layers.py: found no ROOMS; allowed: the rooms of ops in their order"
    )


def _imported(tree: ast.AST) -> Iterator[str]:
    """Package or room (`ops/store`) of every import, those in functions and for annotations too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            yield "/".join(parts[:2]) if parts[0] == "ops" else parts[0]


def _purpose(folder: Path) -> str:
    """First sentence of the package's docstring, without its full stop."""
    said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    first = " ".join(said.split("\n\n")[0].split())
    return re.split(r"(?<=[.?]) ", first)[0].rstrip(".").replace("`", "")


# --------------------------------------------------------------------------------------------------
# drawing


def draw(made_of: House) -> str:
    """The picture as SVG; the same house gives the same text."""
    rooms = [room for room, _ in made_of.rooms]
    height = TOP + ROW * len(rooms) + 64
    parts = [
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}'"
            f" width='{WIDTH}' height='{height}' {FONT}>"
        ),
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
        _text(MARGIN, 40, "Kinograph: five packages, and the rooms of ops", 22, "#1f2933", "bold"),
        _text(
            MARGIN,
            64,
            "Imports run down. A dot: the room of this row imports the room that the lane starts"
            " from.",
            14,
            "#52606d",
        ),
    ]
    parts += [
        f"<rect x='0' y='{_y(row) - ROW / 2:g}' width='{WIDTH}' height='{ROW}' fill='#f5f7fa'/>"
        for row in range(0, len(rooms), 2)
    ]
    parts += [part for row in range(len(rooms)) for part in _lane(row, rooms, made_of)]
    parts += [
        part
        for row, (room, purpose) in enumerate(made_of.rooms)
        for part in _box(row, room, purpose, len(rooms))
    ]
    parts += _legend(height - 30)
    return "\n".join([*parts, "</svg>\n"])


def _y(row: int) -> float:
    return TOP + ROW * (row + 0.5)


def _x(row: int) -> int:
    return MARGIN + BOX + LANES + LANE * row


def _colour(row: int, number: int, light: float = 0.42) -> str:
    """From warm at the top to cold at the bottom."""
    red, green, blue = colorsys.hls_to_rgb(0.02 + 0.72 * row / number, light, 0.62)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _lane(row: int, rooms: list[str], made_of: House) -> Iterator[str]:
    """From a room's box to the right, and up to the highest room that imports it."""
    users = [rooms.index(user) for user, used in made_of.imports if used == rooms[row]]
    x, y, colour = _x(row), _y(row), _colour(row, len(rooms))
    line = f"fill='none' stroke='{colour}' stroke-width='2'"
    if users:
        yield (
            f"<path d='M {x} {_y(min(users)):g} V {y - 8:g} Q {x} {y:g} {x - 8} {y:g} H"
            f" {MARGIN + BOX + 9}' {line}/>"
        )
        yield f"<path d='M {MARGIN + BOX + 2} {y:g} l 9 -5 v 10 z' fill='{colour}'/>"
    for user in sorted(users):
        title = f"<title>{rooms[user]} imports {rooms[row]}</title>"
        yield (
            f"<circle cx='{x}' cy='{_y(user):g}' r='6' fill='{colour}' stroke='#ffffff'"
            f" stroke-width='1.5'>{title}</circle>"
        )
    asking = [rooms.index(room) for room in made_of.by_name if rooms[row] == "ops/tasks"]
    if asking:
        yield f"<path d='M {x} {y + 8:g} V {_y(max(asking)):g}' {line} stroke-dasharray='2 5'/>"
    for user in sorted(asking):
        title = f"<title>{rooms[user]} asks a task's wing by name</title>"
        yield (
            f"<circle cx='{x}' cy='{_y(user):g}' r='5' fill='#ffffff' stroke='{colour}'"
            f" stroke-width='2'>{title}</circle>"
        )


def _box(row: int, room: str, purpose: str, number: int) -> Iterator[str]:
    x, y, colour = MARGIN, _y(row) - ROW / 2 + 4, _colour(row, number)
    inside = room.startswith("ops/")
    yield (
        f"<rect x='{x}' y='{y:g}' width='{BOX}' height='{ROW - 8}' rx='6' fill='#ffffff'"
        " stroke='#cbd2d9'/>"
    )
    yield f"<rect x='{x}' y='{y:g}' width='8' height='{ROW - 8}' rx='3' fill='{colour}'/>"
    name = room.removeprefix("ops/")
    yield _text(x + 20, y + 26, name, 15, "#1f2933", "bold")
    if inside:
        yield _text(x + 20, y + 38, "ops", 9.5, "#9aa5b1")
    lines = wrap(purpose, 70)
    for index, line in enumerate(lines):
        yield _text(x + 144, y + 25.5 - 7.5 * (len(lines) - 1) + 15 * index, line, 12, "#52606d")


def _legend(y: float) -> Iterator[str]:
    yield f"<circle cx='{MARGIN + 8}' cy='{y - 4:g}' r='6' fill='#7b8794'/>"
    yield _text(MARGIN + 22, y, "imports", 13, "#52606d")
    yield (
        f"<circle cx='{MARGIN + 112}' cy='{y - 4:g}' r='5' fill='#ffffff' stroke='#7b8794'"
        " stroke-width='2'/>"
    )
    yield _text(
        MARGIN + 126,
        y,
        "asks a task's wing for a part by its name, without knowing the task",
        13,
        "#52606d",
    )


def _text(x: float, y: float, text: str, size: float, colour: str, weight: str = "normal") -> str:
    return (
        f"<text x='{x:g}' y='{y:g}' font-size='{size:g}' font-weight='{weight}'"
        f" fill='{colour}'>{escape(text, quote=False)}</text>"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(house()), encoding="utf-8")
    print(f"{PICTURE.relative_to(REPO)} is made anew")
