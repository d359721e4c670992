"""What each video's features are to be made from: its stored frames, or its files; or why there is
nothing to make them from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from configs import versions
from configs.schema import Dataset, Features, content_hash
from ops.features.imported import Named
from ops.features.listing import Entry, annotated, check_template, listing, rendered
from ops.store.layout import Layout
from ops.store.manifest import read_manifest

UNANNOTATED = "no annotation names this video"


@dataclass(frozen=True)
class Request:
    """One video that should have features. `reason` says why it cannot; else it has `frames_uri`,
    or the files of every stream.
    """

    video_id: str
    entry: Entry
    sha256: str = ""  # the frames' ledger key; of files it is known when they are read
    salt: tuple[str, ...] = ()  # keys of the models
    reason: str = ""
    frames_uri: str = ""
    streams: tuple[Named, ...] = ()

    def key(self, features: Features, sha256: str | None = None) -> str:
        """Ledger key of features made from this content; of a refusal that needed no reading, the
        reason is part of it.
        """
        content = (
            f"{self.sha256}: {self.reason}"
            if self.reason
            else self.sha256
            if sha256 is None
            else sha256
        )
        return content_hash([content, features.key(), *self.salt, versions.FEATURES])


def from_frames(
    features: Features, dataset: Dataset, layout: Layout, models: Sequence[str]
) -> list[Request]:
    """The annotated videos, or all stored ones where nothing is annotated, with their stored
    frames.

    Args:
        features: what is wanted of them.
        dataset: whose videos they are.
        layout: of the store that has frames and annotations.
        models: keys of the models, a part of the ledger's keys.
    """
    columns = ["video_id", "key", "array_uri", "status", "reason"]
    stored = {
        row["video_id"]: row for row in read_manifest(layout, dataset, columns=columns).to_pylist()
    }
    entries = annotated(dataset, layout)
    if entries is None:
        entries = {video: Entry(video) for video in stored}
    found = []
    for video, entry in sorted(entries.items()):
        row = stored.get(video)
        if row is None:
            found.append(
                Request(
                    video,
                    entry,
                    salt=tuple(models),
                    reason="no stored frames: its file is not among the dataset's videos",
                )
            )
        elif row["status"] != "ok":
            found.append(
                Request(
                    video,
                    entry,
                    row["key"],
                    tuple(models),
                    reason=f"its frames are quarantined: {row['reason']}",
                )
            )
        else:
            found.append(
                Request(video, entry, row["key"], tuple(models), frames_uri=row["array_uri"])
            )
    return found


def from_files(features: Features, dataset: Dataset, layout: Layout) -> list[Request]:
    """The annotated videos with their files, and the files that belong to none; by the files alone
    where nothing is annotated.

    Raises ConfigError for a path that is no template over the video, StorageError.
    """
    for stream in features.files:
        check_template(f"features '{features.name}'", stream)
    root = layout.dataset_root(dataset)
    listings = [listing(stream, root) for stream in features.files]
    entries = annotated(dataset, layout)
    listed = set().union(*(one.videos() for one in listings))
    if entries is None:
        entries, unannotated = {video: Entry(video) for video in listed}, set()
    else:
        named = {_shown(stream.path, video) for stream in features.files for video in entries}
        unannotated = {video for video in listed if video not in named}
    found = []
    for video, entry in sorted(entries.items()):
        streams = tuple(
            (one.stream, rendered(one.stream, video), one.of(video)) for one in listings
        )
        missing = [path for _, path, files in streams if not files]
        found.append(
            Request(
                video,
                entry,
                reason=f"no file {', '.join(missing)}" if missing else "",
                streams=streams,
            )
        )
    found += [
        Request(video, Entry(video), reason=UNANNOTATED)
        for video in sorted(unannotated - set(entries))
    ]
    return found


def _shown(template: str, video_id: str) -> str:
    """What a listing finds of this video's id by the template."""
    return video_id if "{video}" in template else video_id.rpartition("/")[2]
