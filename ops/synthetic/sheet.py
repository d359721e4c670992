"""The contact sheet: one picture that shows what the dataset holds and how it is annotated."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont

from ops.media.encode import replace_whole
from ops.synthetic.actions import LABELS, PAIRS
from ops.synthetic.annotations import CLEAR_INSIDE, CLEAR_VISIBLE, MIN_INSIDE, MIN_VISIBLE
from ops.synthetic.films import (
    SCENE,
    TRIMMED,
    UNTRIMMED,
    Film,
    World,
    scene_film,
    trimmed_film,
    untrimmed_film,
)
from ops.synthetic.render import frame, truth
from ops.synthetic.skeleton import PARTS
from ops.synthetic.states import part_states

_INK, _FAINT, _PAPER = (32, 34, 40), (120, 124, 134), (250, 250, 248)
_HUES = (
    "#4e79a7",
    "#f28e2b",
    "#59a14f",
    "#b6992d",
    "#499894",
    "#e15759",
    "#79706e",
    "#d37295",
    "#b07aa1",
    "#9d7660",
)
_LEFT, _GAP, _COLUMNS, _TILE_W = 150, 3, 8, 150


class _Place(Protocol):
    @property
    def kind(self) -> int: ...
    @property
    def split(self) -> str: ...
    @property
    def index(self) -> int: ...


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _picture(film: Film, place: int, width: int) -> Image.Image:
    picture = Image.fromarray(frame(*film.frames[place]))
    return picture.resize(
        (width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS
    )


def _spread(number: int, columns: int) -> list[int]:
    return [round(place * (number - 1) / (columns - 1)) for place in range(columns)]


class _Page:
    """A white page that grows downwards."""

    def __init__(self) -> None:
        self.width = _LEFT + _COLUMNS * (_TILE_W + _GAP) + 12
        self.height = 16
        self.image = Image.new("RGB", (self.width, 4096), _PAPER)

    def add(self, height: int) -> tuple[ImageDraw.ImageDraw, int]:
        """Room of `height` pixels; returns the drawing and the room's top."""
        top, self.height = self.height, self.height + height
        if self.height > self.image.height:
            grown = Image.new("RGB", (self.width, 2 * self.height), _PAPER)
            grown.paste(self.image)
            self.image = grown
        return ImageDraw.Draw(self.image), top

    def title(self, text: str, note: str) -> None:
        draw, top = self.add(40)
        draw.text((12, top + 10), text, _INK, _font(18))
        draw.text((12 + draw.textlength(text, _font(18)) + 14, top + 15), note, _FAINT, _font(13))

    def strip(self, tiles: Sequence[Image.Image], label: str, note: str, colour: str) -> None:
        draw, top = self.add(tiles[0].height + _GAP)
        draw.rectangle((12, top, 16, top + tiles[0].height - 1), fill=colour)
        draw.text((24, top + tiles[0].height // 2 - 18), label, _INK, _font(15))
        draw.text((24, top + tiles[0].height // 2 + 2), note, _FAINT, _font(11))
        for column, tile in enumerate(tiles):
            self.image.paste(tile, (_LEFT + column * (tile.width + _GAP), top))


def _trimmed(page: _Page, world: World) -> None:
    partner = dict(PAIRS) | {second: first for first, second in PAIRS}
    page.title(
        "Trimmed clips",
        "one clip per action, time from left to right; the first six are three pairs that only the"
        " order of time tells apart",
    )
    for place, label in enumerate(LABELS):
        film = trimmed_film(world, "train", place)
        tiles = [_picture(film, index, _TILE_W) for index in _spread(len(film.frames), _COLUMNS)]
        note = f"reverse of {partner[label]}" if label in partner else ""
        page.strip(tiles, label, note, _HUES[place])


def _timeline(page: _Page, film: Film, fps: int) -> None:
    seconds = len(film.frames) / fps
    draw, top = page.add(58)
    left, right = _LEFT, page.width - 12 - _GAP

    def at(second: float) -> float:
        return left + (right - left) * second / seconds

    draw.rectangle((left, top + 4, right, top + 24), fill=(228, 229, 232))
    for place, (label, start, end) in enumerate(film.segments):
        colour = _HUES[LABELS.index(label)]
        draw.rectangle((at(start), top + 4, at(end), top + 24), fill=colour)
        draw.text(
            ((at(start) + at(end)) / 2, top + 33 + 11 * (place % 2)),
            label,
            colour,
            _font(11),
            anchor="mm",
        )
    draw.text((24, top + 7), f"0 to {seconds:.1f} s", _FAINT, _font(11))


def _untrimmed(page: _Page, world: World, split: str, index: int) -> None:
    film = untrimmed_film(world, split, index)
    page.title(
        "Untrimmed video",
        f"{film.video_id}: shots with actions (coloured on the timeline) and background between"
        " them",
    )
    for row in range(2):
        places = _spread(len(film.frames), 2 * _COLUMNS)[row * _COLUMNS : (row + 1) * _COLUMNS]
        now = f"{places[0] / world.fps:.0f} to {places[-1] / world.fps:.0f} s"
        page.strip([_picture(film, place, _TILE_W) for place in places], "", now, "#c0c2c8")
    _timeline(page, film, world.fps)


def _framed(
    draw: ImageDraw.ImageDraw,
    box: Sequence[float],
    scale: float,
    colour: str,
    text: str,
    below: bool = False,
) -> None:
    x1, y1, x2, y2 = (edge * scale for edge in box)
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour, width=2)
    if text:
        width, y = (
            draw.textlength(text, _font(11)) + 4,
            min(y2, draw.im.size[1] - 13) if below else max(0, y1 - 13),
        )
        x = max(0, min(x1, draw.im.size[0] - width))
        draw.rectangle((x, y, x + width, y + 12), fill=colour)
        draw.text((x + 2, y), text, "white", _font(11))


def _scene(page: _Page, world: World, places: list[tuple[str, int]]) -> None:
    page.title(
        "Scenes",
        "key frames once a second, a box and one or more actions per person; grey: excluded because"
        " somebody is ambiguous",
    )
    for split, index in places:
        film, tiles, wide = scene_film(world, split, index), [], 2 * _TILE_W + _GAP
        for second in (1, 4, 6, 9):
            stage, t = film.frames[second * world.fps]
            picture = _picture(film, second * world.fps, wide)
            draw = ImageDraw.Draw(picture)
            people = truth(stage, t, with_parts=False)
            unclear = any(
                person.whole.visible < CLEAR_VISIBLE or person.whole.inside < CLEAR_INSIDE
                for person in people
            )
            for person in people:
                text = "excluded" if unclear else " + ".join(film.acts[person.person](t))
                _framed(
                    draw,
                    person.whole.box,
                    wide / world.width,
                    "#8a8d94" if unclear else _HUES[person.person],
                    text,
                    person.person % 2 == 1,
                )
            tiles.append(picture)
        page.strip(tiles, f"scene {index}", f"{len(stage.figures)} people", "#c0c2c8")


def _part_tile(world: World, film: Film, place: int, wide: int) -> Image.Image:
    """A frame with its part boxes, and below it what each part does."""
    stage, t = film.frames[place]
    picture = _picture(film, place, wide)
    tile = Image.new("RGB", (wide, picture.height + 72), _PAPER)
    draw, marks, shown = ImageDraw.Draw(tile), ImageDraw.Draw(picture), 0
    for person in truth(stage, t):
        figure = stage.figures[person.person]
        then = film.frames[place + 1][1]
        verbs = part_states(
            figure.state(t), figure.state(then), figure.facing(t), figure.body, 1 / world.fps
        )
        for name in (name for name in PARTS if name in person.parts):
            part = person.parts[name]
            if part.visible < MIN_VISIBLE or part.inside < MIN_INSIDE:
                continue
            colour, x, y = (
                _HUES[PARTS.index(name)],
                wide // 2 * (shown % 2),
                picture.height + 3 + 13 * (shown // 2),
            )
            _framed(marks, part.box, wide / world.width, colour, "")
            draw.rectangle((x, y + 2, x + 9, y + 10), fill=colour)
            draw.text((x + 14, y), f"{name.replace('_', ' ')}: {verbs[name]}", _INK, _font(11))
            shown += 1
    tile.paste(picture)
    return tile


def _parts(page: _Page, world: World, indices: Sequence[int]) -> None:
    page.title(
        "Parts", "ten parts per person, each with a box and a state; hidden parts are left out"
    )
    for index in indices:
        film = trimmed_film(world, "train", index)
        places = [round(share * (len(film.frames) - 2)) for share in (0.2, 0.4, 0.6, 0.8)]
        tiles = [_part_tile(world, film, place, 2 * _TILE_W + _GAP) for place in places]
        page.strip(tiles, film.label, "", _HUES[index % len(LABELS)])


def contact_sheet(world: World, fps: int, places: Sequence[_Place], path: Path) -> None:
    """Draw the sheet of a dataset whose videos are `places`, and write it as PNG; kinds that the
    dataset lacks are left out.
    """
    page = _Page()
    kinds = {
        kind: [(place.split, place.index) for place in places if place.kind == kind]
        for kind in (TRIMMED, UNTRIMMED, SCENE)
    }
    page.title(
        "Figures",
        f"{len(places)} whole videos, {world.width} x {world.height} pixels, {fps} frames per"
        f" second, seed {world.seed}",
    )
    if kinds[TRIMMED]:
        _trimmed(page, world)
    if kinds[UNTRIMMED]:
        _untrimmed(page, world, *kinds[UNTRIMMED][0])
    if kinds[SCENE]:
        _scene(page, world, kinds[SCENE][:3])
    if kinds[TRIMMED]:
        _parts(page, world, (4, 9))
    page.add(12)
    buffer = io.BytesIO()
    page.image.crop((0, 0, page.width, page.height)).save(buffer, format="PNG")
    replace_whole(path, buffer.getvalue())
