"""Memory that a loader process fills and the training process reads, used again and again.

A batch of video is tens of megabytes. Fresh shared memory costs several times the copy itself, as
the kernel hands it out page by page, so a loader process keeps its blocks: a block is free again
when the last tensor on it is gone in the training process, however long that keeps it. Blocks are
anonymous files in memory (`memfd`): no name is left behind by a killed process, and the small
`/dev/shm` of containers is no limit. Messages are pickled as multiprocessing does it, between a
process and its own child over a pipe that nobody else has; nothing is read from a file.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import tempfile
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler, recv_handle, send_handle
from typing import Any

import numpy as np
import torch
from torch import Tensor

SMALL = 16 * 1024  # bytes of a tensor that travels with the message itself
ALIGNED = 64  # where Arrow wants its buffers to begin
GRAIN = 2**21  # sizes of blocks are multiples of it, so that batches of about one size share them
SPARE = 2  # free blocks that a process keeps: a batch can be large


def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    """A tensor [len(arrays), ...] of arrays of one shape and type: what `collate` makes a batch
    with.

    In a loader process it lies in a shared block from the start, so that the batch is written once
    and never copied.
    """
    out = empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    np.stack(arrays, out=out)
    return torch.from_numpy(out)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array for a batch, its content unset; in a loader process a shared block."""
    kind = np.dtype(dtype)
    nbytes = int(np.prod(shape)) * kind.itemsize
    if _blocks is None or nbytes <= SMALL:
        return np.empty(shape, kind)
    return _blocks.take(nbytes).array[:nbytes].view(kind).reshape(shape)


class Block:
    """Shared memory of `size` bytes as a uint8 array."""

    def __init__(self, number: int, size: int, handle: int) -> None:
        """Maps the open file `handle` and closes it."""
        self.number, self.size = number, size
        try:
            self.array = np.frombuffer(mmap.mmap(handle, size), np.uint8)
        finally:
            os.close(handle)


class Blocks:
    """A loader process's own blocks."""

    def __init__(self) -> None:
        self._free: list[Block] = []
        self._lent: dict[int, Block] = {}  # by number: the training process has them
        self._taken: dict[int, Block] = {}  # by address: of the batch that is being made
        # (number, size, handle) that the training process has not seen
        self._new: list[tuple[int, int, int]] = []
        self._gone: list[int] = []
        self._count = 0

    def take(self, nbytes: int) -> Block:
        """A block of at least so many bytes."""
        size = -(-nbytes // GRAIN) * GRAIN
        fitting = [block for block in self._free if size <= block.size <= 2 * size]
        if fitting:
            block = min(fitting, key=lambda own: own.size)
            self._free.remove(block)
        else:
            handle = _memory(size)
            self._count += 1
            self._new.append((self._count, size, os.dup(handle)))
            block = Block(self._count, size, handle)
        self._taken[block.array.ctypes.data] = block
        return block

    def release(self, numbers: Sequence[int]) -> None:
        """The training process is done with these."""
        self._free += [self._lent.pop(number) for number in numbers]
        while len(self._free) > SPARE:
            self._gone.append(self._free.pop(0).number)

    def send(self, connection: Connection, message: Any) -> None:
        """Send a message with its tensors, large ones as places in blocks."""
        buffer = io.BytesIO()
        _Pickler(buffer, self).dump(message)
        new, self._new = self._new, []
        gone, self._gone = self._gone, []
        self._free += self._taken.values()  # taken for something that is not part of the batch
        self._taken = {}
        connection.send(([pair[:2] for pair in new], gone, buffer.getvalue()))
        for _, _, handle in new:
            send_handle(connection, handle, os.getppid())
            os.close(handle)

    def place(self, tensor: Tensor) -> int:
        """Number of the block that holds the tensor from its first byte on; the tensor is copied
        into one if it must.
        """
        block = self._taken.pop(tensor.data_ptr(), None)
        if block is None:
            block = self.take(tensor.nbytes)
            block.array[: tensor.nbytes] = tensor.reshape(-1).view(torch.uint8).numpy()
            del self._taken[block.array.ctypes.data]
        self._lent[block.number] = block
        return block.number


class Shared:
    """A thing for many processes whose large buffers (of arrays, of Arrow tables) lie in one file
    that each of them maps.

    A data set of a million clips so lies in memory once more, and not once for every process that
    loads it.
    """

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self._sizes: list[int] = []
        self._handle: int | None = None

    def send(self, connection: Connection, pid: int) -> None:
        """Send it to the process `pid` at the other end. Raises OSError, as without memory for the
        file.
        """
        large: list[memoryview] = []

        def stays(buffer: pickle.PickleBuffer) -> bool:  # with the message
            raw = buffer.raw()
            if raw.nbytes > SMALL:
                large.append(raw)
            return raw.nbytes <= SMALL

        # The message is each process's own, as handles of tensors in shared memory can be taken but
        # once; the file is for all.
        content = io.BytesIO()
        ForkingPickler(content, pickle.HIGHEST_PROTOCOL, True, stays).dump(self.thing)
        sizes = [raw.nbytes for raw in large]
        if self._handle is not None and sizes != self._sizes:
            raise ValueError(
                "a data set was given other arrays after its first loader process had them;"
                " allowed: one that stays as it is, in a pool of its own"
            )
        if large and self._handle is None:
            self._sizes = sizes
            self._handle = _written(large, *_spread(self._sizes))
        connection.send((content.getvalue(), self._sizes))
        if self._handle is not None:
            send_handle(connection, self._handle, pid)

    def close(self) -> None:
        """Let the file go; processes that have it keep it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def receive_shared(connection: Connection, content: bytes, sizes: Sequence[int]) -> Any:
    """The thing whose message has come, on memory that all have in common; what is written to it is
    this process's own.
    """
    if not sizes:
        return ForkingPickler.loads(content)
    starts, size = _spread(sizes)
    handle = recv_handle(connection)
    try:
        memory = memoryview(mmap.mmap(handle, size, access=mmap.ACCESS_COPY))
    finally:
        os.close(handle)
    return ForkingPickler.loads(
        content,
        buffers=[
            memory[start : start + nbytes] for start, nbytes in zip(starts, sizes, strict=True)
        ],
    )


def _spread(sizes: Sequence[int]) -> tuple[list[int], int]:
    """First byte of each of several buffers in one file, and the file's size."""
    rounded = [-(-nbytes // ALIGNED) * ALIGNED for nbytes in sizes]
    return [sum(rounded[:number]) for number in range(len(rounded))], sum(rounded)


class Mirror:
    """The training process's side of one loader process's blocks."""

    def __init__(self) -> None:
        self._blocks: dict[int, Block] = {}
        self._released: list[int] = []

    def receive(self, connection: Connection) -> Any:
        """The next message, its tensors in shared memory. Raises EOFError, OSError when the process
        is gone.
        """
        new, gone, content = connection.recv()
        for number, size in new:
            self._blocks[number] = Block(number, size, recv_handle(connection))
        message = _Unpickler(io.BytesIO(content), self).load()
        for number in gone:
            del self._blocks[number]
        return message

    def released(self) -> list[int]:
        """Blocks whose last tensor is gone since the last call."""
        numbers: list[int] = []
        while self._released:
            numbers.append(self._released.pop())
        return numbers

    def tensor(self, number: int, nbytes: int) -> Tensor:
        """The first bytes of a block as uint8; the block counts as released when nothing refers to
        them any more.
        """
        view = self._blocks[number].array[:nbytes]
        weakref.finalize(view, self._released.append, number).atexit = False
        return torch.from_numpy(view)


def serve_from(blocks: Blocks | None) -> None:
    """Make `stacked` and `empty` use these blocks in this process."""
    global _blocks
    _blocks = blocks


_blocks: Blocks | None = None


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, blocks: Blocks) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._blocks = blocks

    def persistent_id(self, thing: Any) -> Any:
        if (
            not isinstance(thing, Tensor)
            or thing.device.type != "cpu"
            or thing.layout != torch.strided
        ):
            return None
        tensor = thing.detach().contiguous()
        about = (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), tensor.nbytes)
        if tensor.nbytes > SMALL:
            return (*about, self._blocks.place(tensor))
        return (*about, tensor.reshape(-1).view(torch.uint8).numpy().tobytes())


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, mirror: Mirror) -> None:
        super().__init__(file)
        self._mirror = mirror

    def persistent_load(self, about: Any) -> Tensor:
        name, shape, nbytes, content = about
        kind = getattr(torch, name)
        if not nbytes:
            return torch.empty(shape, dtype=kind)
        own = isinstance(content, bytes)
        raw = (
            torch.frombuffer(bytearray(content), dtype=torch.uint8)
            if own
            else self._mirror.tensor(content, nbytes)
        )
        return raw.view(kind).reshape(shape)


def _written(buffers: Sequence[memoryview], starts: Sequence[int], size: int) -> int:
    """An open file in memory that has each buffer from its first byte on."""
    handle = _memory(size)
    with mmap.mmap(handle, size) as memory:
        for start, raw in zip(starts, buffers, strict=True):
            memory[start : start + raw.nbytes] = raw
    return handle


def _memory(size: int) -> int:
    """An open file without a name, in memory where the system has such."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("kinograph-batch")
    else:
        with tempfile.TemporaryFile() as file:
            handle = os.dup(file.fileno())
    try:
        (
            os.posix_fallocate(handle, 0, size)
            if hasattr(os, "posix_fallocate")
            else os.ftruncate(handle, size)
        )
    except OSError:
        os.close(handle)
        raise
    return handle
