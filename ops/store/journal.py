"""What a run has begun and not committed yet: names of arrays, in small files beside the ledger."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from ops.files.patience import patient
from ops.files.storage import (
    StorageError,
    is_local,
    list_files,
    local_path,
    read_bytes,
    remove,
    write_bytes,
)
from ops.store.layout import array_below, arrays_of_ledger

REMOVERS = 16
OF_ARRAY = re.compile(r"zarr\.json|c(/\d+)+")  # files below an array
ANY = "/*"  # behind a video's folder: every array in it


class Journal:
    """Names of arrays that may lie in the store without a ledger row, written down before they are
    begun.

    `folder` holds one small file per group of arrays that are worked on together; it goes when they
    are in the ledger. The arrays lie below the folder `arrays`: a name of anything else is damage,
    and nothing is removed by it. A video's own folder stands for the arrays that lie in it, where
    their names cannot be known before the video is read.
    """

    def __init__(self, folder: str, arrays: str) -> None:
        self.folder, self.arrays = folder, arrays
        self._next = 0

    def open(self, arrays: Iterable[str]) -> int:
        """Writes down arrays that the coming work may create or delete; returns the group's
        number.
        """
        number = self._next
        self._next += 1
        data = json.dumps(sorted(arrays)).encode()
        patient(self.folder, lambda: write_bytes(self._uri(number), data))
        return number

    def close(self, number: int) -> None:
        """The group's arrays are in the ledger or gone."""
        patient(self.folder, lambda: remove(self._uri(number)))

    def left_over(self) -> bool:
        """Whether a run that was cut short has written anything down."""
        return bool(list_files(self.folder))

    def names(self) -> list[str]:
        """The place of every array that is written down. Raises StorageError for a file that names
        anything else.
        """
        return sorted(
            {place for info in list_files(self.folder) for place in self._places(info.uri)}
        )

    def _places(self, file: str) -> list[str]:
        try:
            names = [str(name) for name in json.loads(read_bytes(file))]
        except (ValueError, TypeError, RecursionError) as error:
            raise StorageError(
                file, f"damaged, no list of arrays ({error}); look at it, then remove it"
            ) from error
        places: list[str] = []
        for name in names:
            place = array_below(
                self.arrays, f"{name.removesuffix(ANY)}/any.zarr" if name.endswith(ANY) else name
            )
            if place is None:
                found = f"it names {name!r}, which is no array below {self.arrays}"
                raise StorageError(
                    file, f"damaged: {found}; nothing was touched. Look at the file, then remove it"
                )
            places += (
                self.arrays_of(place.removeprefix(f"{self.arrays}/").rpartition("/")[0])
                if name.endswith(ANY)
                else [place]
            )
        return places

    def any_of(self, video_id: str) -> str:
        """The name by which the journal holds whatever lies in a video's folder."""
        return f"{self.arrays}/{video_id}{ANY}"

    def arrays_of(self, video_id: str) -> list[str]:
        """The arrays, and pieces of such, that lie in a video's folder. What else lies there is of
        other videos, whose ids go on where this one ends, and may look like an array by its name.
        """
        folder = f"{self.arrays}/{video_id}"
        paths = (info.path_below.partition("/") for info in list_files(folder))
        names = {name for name, _, file in paths if OF_ARRAY.fullmatch(file)}
        return sorted(
            place
            for name in names
            if (place := array_below(self.arrays, f"{folder}/{name}", video_id)) is not None
        )

    def sweep(self, committed: set[str]) -> list[str]:
        """Removes what a run that was cut short has left: every array written down that is not
        committed. Returns their URIs.
        """
        left = [name for name in self.names() if name not in committed]
        self.remove_arrays(left)
        remove(self.folder)
        return left

    def remove_arrays(self, uris: Iterable[str]) -> None:
        """Removes arrays of this store, waiting for a store that is away. Raises StorageError
        before it would touch anything else.
        """
        uris = list(uris)
        for uri in uris:
            if array_below(self.arrays, uri) != uri:
                raise StorageError(
                    self.arrays, f"found {uri!r} to remove; allowed: arrays below this folder"
                )
            if is_local(uri) and not _really_below(self.arrays, uri):
                raise StorageError(
                    uri, f"a link leads out of {self.arrays}; it is not followed: remove the link"
                )
        if uris:
            with ThreadPoolExecutor(min(REMOVERS, len(uris))) as pool:
                list(pool.map(lambda uri: patient(uri, lambda: remove(uri)), uris))

    def _uri(self, number: int) -> str:
        return f"{self.folder}/{number:08d}.json"


def _really_below(folder: str, uri: str) -> bool:
    """Whether a local array's own folder lies below `folder` once links are followed."""
    root, parent = (
        os.path.realpath(local_path(place)) for place in (folder, uri.rpartition("/")[0])
    )
    return os.path.commonpath([root, parent]) == root


def journal_of(manifest_uri: str) -> Journal:
    """The journal of one ledger, frames' or features'."""
    arrays = arrays_of_ledger(manifest_uri)
    assert arrays is not None, f"{manifest_uri} is no ledger of arrays"
    return Journal(f"{manifest_uri.removesuffix('.parquet')}.pending", arrays)
