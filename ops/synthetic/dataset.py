"""Make the sample world: videos on all cores, then annotations, then the contact sheet, then
figures.json, which says that all is there.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import ops.synthetic.annotations as formats
from configs import versions
from configs.schema import ConfigError
from ops.compute.environment import workers_context
from ops.media.encode import DAMAGES, replace_whole, write_damaged, write_mp4
from ops.synthetic.actions import LABELS, PAIRS
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
from ops.synthetic.render import frame
from ops.synthetic.skeleton import make_looks

Progress = Callable[[int, int], None]
REPORT, MARKER, SHEET = "figures.json", ".figures.incomplete", "contact_sheet.png"
_OWNED = ("videos", "annotations", SHEET)
_DAMAGED_SPLITS = ("train", "train", "val", "train", "val", "val")
_DAMAGED_FROM = 900_000


@dataclass(frozen=True)
class FiguresSize:
    """How much to make. Clips, untrimmed videos and scenes are videos; parts are annotations of
    that many of the trimmed clips.

    Untrimmed videos and scenes are shared out two to one between train and val. Width and height
    are pixels (even), clip_frames the mean length of a trimmed clip, difficulty (0..1) the strength
    of camera motion, clutter and occlusion.
    """

    num_train: int = 480
    num_val: int = 160
    num_untrimmed: int = 12
    num_scenes: int = 48
    num_parts: int = 320
    num_damaged: int = 6
    width: int = 128
    height: int = 96
    fps: int = 16
    clip_frames: int = 32
    train_looks: int = 160
    val_looks: int = 48
    difficulty: float = 0.4

    def __post_init__(self) -> None:
        where = "figures size"
        for name in ("num_train", "num_val", "num_untrimmed", "num_scenes", "num_parts"):
            if getattr(self, name) < 0:
                raise ConfigError(where, name, getattr(self, name), "0 or more")
        if not 0 <= self.num_damaged <= len(DAMAGES):
            raise ConfigError(where, "num_damaged", self.num_damaged, f"0 to {len(DAMAGES)}")
        if self.num_parts > self.num_train + self.num_val:
            raise ConfigError(
                where,
                "num_parts",
                self.num_parts,
                f"at most the number of clips, {self.num_train + self.num_val}",
            )
        for name, low in (("width", 32), ("height", 32)):
            if getattr(self, name) < low or getattr(self, name) % 2:
                raise ConfigError(where, name, getattr(self, name), f"an even number from {low}")
        for name, low in (("fps", 4), ("clip_frames", 8), ("train_looks", 1), ("val_looks", 1)):
            if getattr(self, name) < low:
                raise ConfigError(where, name, getattr(self, name), f"{low} or more")
        if not 0 <= self.difficulty <= 1:
            raise ConfigError(where, "difficulty", self.difficulty, "0 to 1")


class FiguresReport(NamedTuple):
    """What a call did: made is False when everything was there already. counts: by kind of thing.
    seconds: of this call.
    """

    root: str
    made: bool
    counts: dict[str, int]
    seconds: float


LEAST = {"train": 1, "val": 1, "untrimmed": 3, "scenes": 3, "parts": 1}


def figures_size(**given: int | None) -> FiguresSize:
    """Size of the sample world by `train`, `val`, `untrimmed`, `scenes`, `parts`; None is the
    demo's, parts are cut to the number of clips.

    Raises ConfigError where a split would stay empty, and for another name.
    """
    usual = FiguresSize()
    for name in set(given) - set(LEAST):
        raise ConfigError("sample world", name, given[name], "one of " + ", ".join(LEAST))
    sizes = {
        name: getattr(usual, f"num_{name}") if given.get(name) is None else int(given[name] or 0)
        for name in LEAST
    }
    for name, least in LEAST.items():
        if sizes[name] < least:
            raise ConfigError(
                "sample world",
                name,
                sizes[name],
                f"{least} or more, so that train and val both have some",
            )
    sizes["parts"] = min(sizes["parts"], sizes["train"] + sizes["val"])
    return FiguresSize(**{f"num_{name}": value for name, value in sizes.items()})


@dataclass(frozen=True)
class Job:
    """One video to make: its kind (see `films`), split, place in the split, and whether its parts
    are annotated.
    """

    kind: int
    split: str
    index: int
    parts: bool = False


class _Done(NamedTuple):
    """What a worker knows after it wrote a video."""

    kind: int
    split: str
    stem: str
    label: str
    frames: int
    looks: tuple[str, ...]
    segments: tuple[tuple[str, float, float], ...]
    rows: list[formats.BoxRow]
    excluded: list[int]


def world_of(size: FiguresSize, seed: int) -> World:
    """The world that a size and a seed name; films are drawn from it (see `films`)."""
    looks = {
        "train": tuple(make_looks(seed, "train", size.train_looks)),
        "val": tuple(make_looks(seed, "val", size.val_looks)),
    }
    return World(seed, size.width, size.height, size.fps, size.clip_frames, size.difficulty, looks)


_world = lru_cache(maxsize=2)(world_of)


def _split_counts(total: int) -> tuple[int, int]:
    return total - total // 3, total // 3


def jobs(size: FiguresSize) -> list[Job]:
    """Every video to make, the long ones first so that no worker is left with one at the end."""
    found = []
    for kind, total in ((UNTRIMMED, size.num_untrimmed), (SCENE, size.num_scenes)):
        for split, number in zip(("train", "val"), _split_counts(total), strict=True):
            found += [Job(kind, split, index) for index in range(number)]
    clips = size.num_train + size.num_val
    val_parts = round(size.num_parts * size.num_val / clips) if clips else 0
    with_parts = {"train": size.num_parts - val_parts, "val": val_parts}
    for split, number in (("train", size.num_train), ("val", size.num_val)):
        found += [Job(TRIMMED, split, index, index < with_parts[split]) for index in range(number)]
    return found


def film_of(job: Job, world: World) -> Film:
    """The film of a job."""
    make = {TRIMMED: trimmed_film, UNTRIMMED: untrimmed_film, SCENE: scene_film}[job.kind]
    return make(world, job.split, job.index)


def _make(job: Job, size: FiguresSize, seed: int, root: str) -> _Done:
    world = _world(size, seed)
    film = film_of(job, world)
    number = write_mp4(
        Path(root, "videos", f"{film.video_id}.mp4"),
        (frame(stage, t) for stage, t in film.frames),
        size.fps,
        film.coding,
    )
    stem = film.video_id.split("/")[1]
    if job.parts:
        folder = Path(root, "annotations", "parts", film.label, stem)
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in formats.part_files(film, size.fps).items():
            (folder / name).write_bytes(data)
    rows, excluded = formats.scene_rows(film, size.fps) if job.kind == SCENE else ([], [])
    return _Done(
        job.kind,
        job.split,
        stem,
        film.label,
        number,
        film.looks,
        tuple(film.segments),
        rows,
        excluded,
    )


def _run(
    todo: list[Job],
    size: FiguresSize,
    seed: int,
    root: Path,
    workers: int,
    progress: Progress | None,
) -> list[_Done]:
    work = partial(_make, size=size, seed=seed, root=str(root))
    done: list[_Done] = []

    def gather(results: Iterable[_Done]) -> list[_Done]:
        for result in results:
            done.append(result)
            if progress is not None:
                progress(len(done), len(todo))
        return done

    if workers <= 1 or len(todo) < 2:
        return gather(map(work, todo))
    context = workers_context([])
    with ProcessPoolExecutor(min(workers, len(todo)), mp_context=context) as pool:
        return gather(pool.map(work, todo, chunksize=1 if len(todo) < 200 else 4))


def _damaged(
    size: FiguresSize, seed: int, root: Path
) -> list[tuple[tuple[str, str, str, int, int], str]]:
    """The damaged files: their rows of clips.csv and what is wrong with each."""
    world, found = _world(size, seed), []
    for place, damage in enumerate(DAMAGES[: size.num_damaged]):
        split = _DAMAGED_SPLITS[place]
        film = trimmed_film(world, split, _DAMAGED_FROM + place)
        stem = film.video_id.split("/")[1]
        frames = (frame(stage, t) for stage, t in film.frames)
        write_damaged(
            root / "videos" / f"{film.video_id}.mp4",
            damage,
            frames,
            size.fps,
            world.generator(9, split, place),
        )
        found.append((_clip_row(stem, film.label, split), damage))
    return found


def _clip_row(stem: str, label: str, split: str) -> tuple[str, str, str, int, int]:
    name, start, end = stem.rsplit("_", 2)
    return label, name, split, int(start), int(end)


def _write_annotations(
    root: Path, size: FiguresSize, done: list[_Done], damaged: list[tuple[str, str, str, int, int]]
) -> None:
    clips = [_clip_row(item.stem, item.label, item.split) for item in done if item.kind == TRIMMED]
    database: dict[str, dict[str, Any]] = {}
    for item in done:
        if item.kind == UNTRIMMED:
            found = [
                {"label": label, "segment": [round(start, 4), round(end, 4)]}
                for label, start, end in item.segments
            ]
            subset = "training" if item.split == "train" else "validation"
            database[item.stem] = {
                "subset": subset,
                "duration": item.frames / size.fps,
                "fps": float(size.fps),
                "annotations": found,
            }
    scenes = [item for item in done if item.kind == SCENE]
    boxes = {
        split: [(item.stem, row) for item in scenes if item.split == split for row in item.rows]
        for split in ("train", "val")
    }
    folder = {TRIMMED: "trimmed", UNTRIMMED: "untrimmed", SCENE: "scenes"}
    looks = {f"{folder[item.kind]}/{item.stem}": list(item.looks) for item in done}
    files = {
        "clips.csv": formats.clips_csv(clips + damaged),
        "labels.txt": formats.labels_txt(),
        "time_order_pairs.json": formats.text_of([list(pair) for pair in PAIRS]),
        "segments.json": formats.segments_json(database),
        "boxes_train.csv": formats.boxes_csv(boxes["train"]),
        "boxes_val.csv": formats.boxes_csv(boxes["val"]),
        "boxes_excluded.csv": formats.excluded_csv(
            [(item.stem, second) for item in scenes for second in item.excluded]
        ),
        "actions.pbtxt": formats.actions_pbtxt(),
        "looks.json": formats.text_of(looks),
    }
    for name, data in files.items():
        replace_whole(root / "annotations" / name, data)
    (root / "annotations" / "parts").mkdir(exist_ok=True)


def _counts(done: list[_Done], size: FiguresSize) -> dict[str, int]:
    kinds = Counter((item.kind, item.split) for item in done)
    return {
        "clips_train": kinds[TRIMMED, "train"],
        "clips_val": kinds[TRIMMED, "val"],
        "untrimmed": size.num_untrimmed,
        "scenes": size.num_scenes,
        "segments": sum(len(item.segments) for item in done),
        "box_rows": sum(len(item.rows) for item in done),
        "excluded_timestamps": sum(len(item.excluded) for item in done),
        "clips_with_parts": size.num_parts,
        "damaged": size.num_damaged,
        "videos": len(done) + size.num_damaged,
        "frames": sum(item.frames for item in done),
    }


def parameters(size: FiguresSize, seed: int) -> dict[str, Any]:
    """All that decides the bytes of the dataset."""
    return {"seed": seed, "size": asdict(size), "version": versions.FIGURES, "labels": list(LABELS)}


def _generate(
    root: Path, size: FiguresSize, seed: int, workers: int, progress: Progress | None
) -> dict[str, Any]:
    """Make everything but figures.json below an empty local folder; returns the content of
    figures.json.
    """
    from ops.synthetic.sheet import contact_sheet

    todo = jobs(size)
    done = sorted(
        _run(todo, size, seed, root, workers, progress),
        key=lambda item: (item.kind, item.split, item.stem),
    )
    damaged = _damaged(size, seed, root)
    _write_annotations(root, size, done, [row for row, _ in damaged])
    contact_sheet(_world(size, seed), size.fps, jobs(size), root / SHEET)
    names = {
        f"trimmed/{name}_{start:06d}_{end:06d}": damage
        for (_, name, _, start, end), damage in damaged
    }
    return {**parameters(size, seed), "counts": _counts(done, size), "damaged": names}


def _local(
    root: Path, size: FiguresSize, seed: int, workers: int, progress: Progress | None
) -> dict[str, Any]:
    ours = (root / REPORT).exists() or (root / MARKER).exists()
    theirs = [name for name in _OWNED if (root / name).exists()]
    if theirs and not ours:
        raise ConfigError(
            str(root),
            "root",
            theirs,
            "an empty folder, or one made by ops.synthetic (it holds figures.json)",
        )
    root.mkdir(parents=True, exist_ok=True)
    # From here on the folder says that it is unfinished, until figures.json is written.
    (root / MARKER).touch()
    (root / REPORT).unlink(missing_ok=True)
    for name in theirs:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
    report = _generate(root, size, seed, workers, progress)
    replace_whole(root / REPORT, formats.text_of(report))
    (root / MARKER).unlink()
    return report


def _remote(
    root: str, size: FiguresSize, seed: int, workers: int, progress: Progress | None
) -> dict[str, Any]:
    from ops.files.storage import exists, remove, write_bytes

    theirs = [name for name in ("videos", "annotations") if exists(f"{root}/{name}")]
    if theirs and not exists(f"{root}/{REPORT}") and not exists(f"{root}/{MARKER}"):
        raise ConfigError(
            root,
            "root",
            theirs,
            "an empty folder, or one made by ops.synthetic (it holds figures.json)",
        )
    with tempfile.TemporaryDirectory(prefix="figures-") as folder:
        report = _generate(Path(folder), size, seed, workers, progress)
        write_bytes(f"{root}/{MARKER}", b"")
        remove(f"{root}/{REPORT}")
        for name in _OWNED:
            remove(f"{root}/{name}")
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        with ThreadPoolExecutor(8) as pool:
            list(
                pool.map(
                    lambda path: write_bytes(
                        f"{root}/{path.relative_to(folder).as_posix()}", path.read_bytes()
                    ),
                    files,
                )
            )
    write_bytes(f"{root}/{REPORT}", formats.text_of(report))
    remove(f"{root}/{MARKER}")
    return report


def _present(root: str | Path, remote: bool) -> dict[str, Any] | None:
    try:
        if remote:
            from ops.files.storage import read_bytes

            data = read_bytes(f"{root}/{REPORT}")
        else:
            data = Path(root, REPORT).read_bytes()
    except FileNotFoundError:
        return None
    try:
        found = json.loads(data)
    except ValueError as error:
        raise ConfigError(
            f"{root}/{REPORT}",
            "content",
            data[:40],
            "the json that ops.synthetic writes; remove the folder to make it anew",
        ) from error
    return found if isinstance(found, dict) else None


def make_figures(
    root: str | Path,
    size: FiguresSize | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
) -> FiguresReport:
    """Make the dataset, or find that it is there.

    Same size, seed and code version: nothing is done. Otherwise what an earlier call made is
    replaced as a whole. figures.json is removed first and written last, so a folder with
    figures.json is complete.

    Args:
        root: a folder or an fsspec URI; the dataset lies below it.
        size: how many videos of which kind; None is FiguresSize's own.
        seed: same size and seed give the same bytes for any number of workers.
        workers: processes that draw films.
        progress: is told (done, all) videos.

    Raises:
        ConfigError: the folder has videos or annotations that this function did not make.
    """
    began = time.monotonic()
    size = size or FiguresSize()
    place = str(root).removeprefix("file://").rstrip("/")
    remote = "://" in place
    wanted = json.loads(json.dumps(parameters(size, seed)))
    found = _present(place, remote)
    if found is not None and all(found.get(key) == value for key, value in wanted.items()):
        return FiguresReport(place, False, dict(found["counts"]), time.monotonic() - began)
    report = (
        _remote(place, size, seed, workers, progress)
        if remote
        else _local(Path(place), size, seed, workers, progress)
    )
    return FiguresReport(place, True, dict(report["counts"]), time.monotonic() - began)
