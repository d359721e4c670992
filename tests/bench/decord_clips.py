"""The samples of a recipe as decord users read them, in a module that loader processes can import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ops.data.clips import ClipDataset


class DecordClips(ClipDataset):
    """The same samples, read from the mp4: opened for each sample, one exact batch."""

    path = ""

    def _reader(self, uri: str) -> Any:
        return self

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Uint8 [len(indices), H, W, 3]."""
        import decord

        return decord.VideoReader(self.path).get_batch(list(indices)).asnumpy()


def collate(items: list[dict[str, Any]]) -> Any:
    """The clips of a batch as one tensor."""
    from ops.data.buffers import stacked

    return stacked([item["frames"] for item in items])
