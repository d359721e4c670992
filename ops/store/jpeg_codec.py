"""Zarr v3 codec "kinograph.jpeg": one RGB frame, uint8 [1, H, W, 3], as one JPEG image.

The reader and the writer of this project use `ops.store.jpeg` directly; the codec lets every other
Zarr user read the arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

from ops.store.jpeg import decode, encode

NAME = "kinograph.jpeg"


@dataclass(frozen=True)
class JpegCodec(ArrayBytesCodec):
    """The codec, lossy: `quality` 1 to 100. Zarr calls its methods by keyword, so their parameter
    names are fixed.
    """

    is_fixed_size = False
    quality: int = 95

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> JpegCodec:
        """From the array's metadata."""
        _, configuration = parse_named_configuration(data, NAME, require_configuration=False)
        return cls(**(configuration or {}))  # type: ignore[arg-type]

    def to_dict(self) -> dict[str, JSON]:
        """For the array's metadata."""
        return {"name": NAME, "configuration": {"quality": self.quality}}

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> JpegCodec:
        """Itself: the frame's size stands in the JPEG."""
        return self

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Raises ValueError for anything but uint8 [T, H, W, 3] in chunks of one frame."""
        chunk = getattr(chunk_grid, "chunk_shape", None)
        native = dtype.to_native_dtype()
        if (
            native != np.uint8
            or len(shape) != 4
            or shape[-1] != 3
            or (chunk is not None and tuple(chunk) != (1, *shape[1:]))
        ):
            raise ValueError(
                f"{NAME} holds uint8 [T, H, W, 3] in chunks of one frame; found {native} {shape} in"
                f" chunks of {chunk}"
            )

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Raises NotImplementedError: the size depends on the content."""
        raise NotImplementedError

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        data = encode(chunk_data.as_numpy_array()[0], self.quality)
        return chunk_spec.prototype.buffer.from_bytes(data)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        frames = np.empty(chunk_spec.shape, np.uint8)
        decode(chunk_data.to_bytes(), frames[0])
        return chunk_spec.prototype.nd_buffer.from_numpy_array(frames)
