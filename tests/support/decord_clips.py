"""The samples of a recipe as decord users read them, in a module that loader processes can
import.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ops.tasks.recognition.clips import ClipDataset


class Video:
    """An mp4 in the place of a stored video: opened for each sample, one exact batch."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Uint8 [len(indices), H, W, 3]."""
        from ops.media.decord_reader import decord

        return decord.VideoReader(self.path).get_batch(list(indices)).asnumpy()


class Videos:
    """In the place of the readers of stored videos."""

    def __getitem__(self, uri: str) -> Video:
        return Video(uri)


class DecordClips(ClipDataset):
    """The same samples, where the clips' URIs are paths of mp4 files."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._readers: Any = Videos()


def collate(items: list[dict[str, Any]]) -> Any:
    """The clips of a batch as one tensor."""
    from ops.data.buffers import stacked

    return stacked([item["frames"] for item in items])


def torchs(items: list[dict[str, Any]]) -> Any:
    """The same tensor as torch's own collation makes it: in a process of its DataLoader it lies in
    shared memory from the start.
    """
    from torch.utils.data import default_collate

    return default_collate([item["frames"] for item in items])


def decodes_on_one_thread(_: int) -> None:
    """Begins a process of torch's DataLoader: of two on two CPUs each has one, as our own have
    their share.
    """
    from ops.store.threads import set_decode_threads

    set_decode_threads(1)
