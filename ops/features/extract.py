"""Features of one stored video: windows of its frames through one or several models, side by side
on channels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ops.data.feature_grid import clock, end_of, window_frames
from ops.features.jobs import ExtractJob, FeaturesOutcome, refused, stored
from ops.features.network import Network, Source, device
from ops.features.windows import View, batches
from ops.files.patience import patient
from ops.store.features import write_features
from ops.store.reader import FrameReader, FrameReadError

T = TypeVar("T")


class Extractor:
    """Models that are loaded once and see many videos, in this process or as a Ray actor."""

    def __init__(self, sources: Sequence[Source], threads: int | None = None) -> None:
        """`threads` is how many computing threads the process may take; None leaves torch's own
        number.
        """
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        self.networks = [Network(source, device()) for source in sources]

    def ready(self) -> bool:
        """True: the models are loaded."""
        return bool(self.networks)

    def store(self, job: ExtractJob) -> FeaturesOutcome:
        """Extracts and stores one video's features; what is wrong with the video is in the outcome.

        A store that is away is waited for. Raises StorageError for one that stays away or refuses
        (not for frames that it lacks or holds damaged), ConfigError.
        """
        return patient(job.array_uri, lambda: self._store(job))

    def _store(self, job: ExtractJob) -> FeaturesOutcome:
        start = time.monotonic()
        try:
            reader = FrameReader(job.frames_uri)
            facts = reader.attributes
            if len(facts.get("timestamps_s", ())) != len(reader) or not facts.get("fps"):
                return refused("its stored frames lack their timestamps or rate", start)
            array = features_of(reader, self.networks, job)
            rate = float(facts["fps"])
            own = {
                "fps": job.features.fps or rate,
                "duration_s": round(end_of(facts["timestamps_s"], 1 / rate), 6),
                "num_source_frames": len(reader),
            }
        except FrameReadError as error:
            if error.transient:
                raise
            return refused(str(error).removeprefix(f"{job.frames_uri}: "), start)
        with np.errstate(over="ignore"):
            cast = array.astype(job.features.dtype)
        if not np.isfinite(cast).all():
            what = (
                "NaN or infinite"
                if not np.isfinite(array).all()
                else f"beyond the range of {job.features.dtype}"
            )
            step = int(np.argwhere(~np.isfinite(cast))[0][0])
            return refused(
                f"the model gives values that are {what}, the first at step {step}", start
            )
        streams = [
            {
                **network.source.facts(),
                "device": network.device.type,
                "precision": "bfloat16" if network.device.type == "cuda" else "float32",
            }
            for network in self.networks
        ]
        return stored(
            cast,
            write_features(job.array_uri, cast, {**job.attributes, **own, "streams": streams}),
            start,
        )


def features_of(reader: FrameReader, networks: Sequence[Network], job: ExtractJob) -> np.ndarray:
    """Features float32 [T, sum of D] of one video's stored frames.

    The number of windows at once changes a value by no more than the rounding of the model's sums:
    1e-5 of the largest in float32.

    Args:
        reader: of the video's frames, with their timestamps.
        networks: one for each model, in the order of their channels.
        job: its features say stride, length, rate and batch of the windows.
    """
    config = job.features
    ticks = (
        clock(np.asarray(reader.attributes["timestamps_s"]), config.fps)
        if config.fps
        else np.arange(len(reader))
    )
    views = [
        View(
            window_frames(ticks, config.stride, config.num_frames, network.source.sampled_frames),
            network.prepare,
        )
        for network in networks
    ]
    parts = [
        np.concatenate(
            [network.features(windows) for network, windows in zip(networks, batch, strict=True)],
            axis=1,
        )
        for batch in _ahead(batches(reader.read, views, config.batch_size))
    ]
    return np.concatenate(parts)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made in another thread while the one before is used: frames are read while
    the model works.
    """
    end = object()
    with ThreadPoolExecutor(1) as thread:
        pending = thread.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


def extract_here(
    sources: Sequence[Source], jobs: Sequence[ExtractJob]
) -> Iterator[tuple[ExtractJob, FeaturesOutcome]]:
    """The jobs one after another in this process. Raises StorageError."""
    extractor = Extractor(sources)
    for job in jobs:
        yield job, extractor.store(job)
