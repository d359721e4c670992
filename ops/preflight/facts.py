"""What is known of a dataset before its videos are decoded: its words, and which splits have rows.

From its annotation files; from its tables where they are written; of the sample world, which is
made later, from its own constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from configs.schema import BUCKETS, Dataset, TableName
from ops.annotations.vocabulary import Vocabulary
from ops.files.storage import exists, read_bytes
from ops.store.layout import Layout

FILMS_LOOKED_AT, FRAMES_APART = 60, 4  # after 40 of the films no state is new
Rows = Mapping[TableName, Mapping[str, int]]


@dataclass(frozen=True)
class Facts:
    """`words` by table and target; `rows` by table and split; names of parts and states, and
    videos' actions, of the parts table.

    `source` says where this was read. `made` is whether frames and tables are there, so that the
    tasks' own checks can read them.
    """

    dataset: str
    source: str
    made: bool
    words: Mapping[tuple[TableName, str], Vocabulary] = field(default_factory=dict)
    rows: Rows = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    errors: tuple[str, ...] = ()  # files that cannot be read
    world_videos: int = 0  # of the sample world, where it is to be made


def facts_of(
    dataset: Dataset,
    layout: Layout,
    world: Mapping[str, int] | None = None,
    tables: Mapping[TableName, pa.Table] | None = None,
) -> Facts:
    """What is known now.

    Args:
        dataset: whose annotations are looked at.
        layout: of the store that has tables and files.
        world: size of the sample world where it is made before anything reads it; None where it is
            not.
        tables: the annotation tables where they were read already.
    """
    if dataset.name == "figures" and world is not None:
        return _of_sample_world(dataset, world)
    written = (layout.annotation_table(dataset.name, table) for table in _tables(dataset))
    if dataset.annotations and all(map(exists, written)) and not _other_files(dataset, layout):
        found = _of_tables(dataset, layout, tables)
        if found is not None:
            return found
    return _of_files(dataset, layout)


def _other_files(dataset: Dataset, layout: Layout) -> bool:
    """Whether the annotation files are others than those that the tables were read from."""
    from ops.annotations.sources import read_sources, sources

    noted = read_sources(dataset, layout)
    return noted is not None and noted != sources(dataset, layout)


def _tables(dataset: Dataset) -> list[TableName]:
    return sorted({file.table for file in dataset.annotations})


def _of_sample_world(dataset: Dataset, size: Mapping[str, int]) -> Facts:
    from ops.synthetic.actions import LABELS, PAIRS
    from ops.synthetic.films import SCENE_ACTIONS
    from ops.synthetic.skeleton import PARTS

    words: dict[tuple[TableName, str], Vocabulary] = {
        **{
            (table, "label"): Vocabulary(tuple(LABELS), tuple(range(len(LABELS))))
            for table in ("clips", "segments", "parts")
        },  # type: ignore[misc]
        ("boxes", "label"): Vocabulary(
            tuple(SCENE_ACTIONS), tuple(range(1, len(SCENE_ACTIONS) + 1))
        ),
    }
    # at least; the size is checked by itself
    rows: Rows = {table: {"train": 1, "val": 1} for table in _tables(dataset)}
    states, videos = _states_of_sample_world(size), _videos_of_sample_world(size)
    return Facts(
        dataset.name,
        "the sample world",
        False,
        words,
        rows,
        tuple(sorted(PARTS)),
        states,
        tuple(PAIRS),
        world_videos=videos,
    )


def _of_files(dataset: Dataset, layout: Layout) -> Facts:
    from ops.annotations.read import read_files

    reading = read_files(dataset, layout)
    rows: Rows = {table: _by_split(found) for table, found in reading.tables.items()}
    parts, states = _part_words(reading.tables.get("parts"))
    errors = tuple(str(error) for error in reading.errors)
    return Facts(
        dataset.name,
        "its annotation files",
        False,
        reading.vocabularies,
        rows,
        parts,
        states,
        _pairs(dataset, layout),
        errors,
    )


def _of_tables(
    dataset: Dataset, layout: Layout, tables: Mapping[TableName, pa.Table] | None = None
) -> Facts | None:
    """`tables` are those that were read already. None where the tables are of another version, or
    the vocabulary cannot be read.
    """
    from ops.annotations.read import vocabulary
    from ops.annotations.vocabulary import AnnotationError
    from ops.store.tables import read_table

    words = {}
    try:
        for table, target in sorted({(file.table, file.target) for file in dataset.annotations}):
            words[table, target] = vocabulary(dataset, table, layout, target)
        tables = tables or {
            table: read_table(layout.annotation_table(dataset.name, table))
            for table in _tables(dataset)
        }
        rows = {table: _by_split(found) for table, found in tables.items()}
    except (AnnotationError, FileNotFoundError, KeyError):
        return None
    parts, states = _part_words(tables.get("parts"))
    return Facts(
        dataset.name,
        "its tables",
        _stored(dataset, layout),
        words,
        rows,
        parts,
        states,
        _pairs(dataset, layout),
    )


def _stored(dataset: Dataset, layout: Layout) -> bool:
    """Whether nothing is left to decode: frames that somebody deleted are made again before the
    tasks' own checks can read them.
    """
    from ops.media.changes import unstored_videos

    return dataset.videos is None or not unstored_videos(dataset, layout, range(BUCKETS))


def _by_split(table: pa.Table) -> dict[str, int]:
    return dict(Counter(table["split"].to_pylist()))


def _part_words(table: pa.Table | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if table is None:
        return (), ()
    names = [
        sorted(name for name in table[column].unique().to_pylist() if name is not None)
        for column in ("part", "state")
    ]
    return tuple(names[0]), tuple(names[1])


def _pairs(dataset: Dataset, layout: Layout) -> tuple[tuple[str, str], ...]:
    """Labels that are each other played backwards; what is wrong with their file is told at its own
    place.
    """
    import json

    from ops.annotations.time_order import PAIRS_FILE

    try:
        return tuple(
            (one, other)
            for one, other in json.loads(read_bytes(f"{layout.dataset_root(dataset)}/{PAIRS_FILE}"))
        )
    except (OSError, ValueError, TypeError):
        return ()


def _states_of_sample_world(size: Mapping[str, int]) -> tuple[str, ...]:
    """States that parts have in it; () where too few of its films are annotated for all to be
    there.
    """
    from ops.synthetic.dataset import figures_size, film_of, jobs, world_of
    from ops.synthetic.states import part_states

    wanted = figures_size(**size)
    annotated = [job for job in jobs(wanted) if job.parts][:FILMS_LOOKED_AT]
    if len(annotated) < FILMS_LOOKED_AT:
        return ()
    world, seen = world_of(wanted, 0), set[str]()
    for film in (film_of(job, world) for job in annotated):
        for (stage, time_s), (_, next_s) in list(zip(film.frames, film.frames[1:], strict=False))[
            ::FRAMES_APART
        ]:
            for one in stage.figures:
                states = part_states(
                    one.state(time_s),
                    one.state(next_s),
                    one.facing(time_s),
                    one.body,
                    1 / wanted.fps,
                )
                seen.update(states.values())
    return tuple(sorted(seen))


def _videos_of_sample_world(size: Mapping[str, int]) -> int:
    from ops.synthetic.dataset import figures_size, jobs

    return len(jobs(figures_size(**size)))
