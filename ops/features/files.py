"""Published feature files: .npy, .npz, a folder of .npy, .csv and .pt, to one checked array [T, C].
Nothing in them is ever run.

Every function raises FeatureFileError with the true reason; none pads, cuts or casts in silence,
save that streams which differ by a few steps at their ends are cut to the shortest
(`length_slack`).
"""

from __future__ import annotations

import io
import math
import pickle
import re
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np

from configs.errors import KinographError
from configs.schema import FeatureFiles

SLACK_STEPS, SLACK_SHARE = 2, 0.005
NAMED = 3  # what a reason lists at most


class FeatureFileError(KinographError, ValueError):
    """A feature file that cannot be used: names the file, what was found and what is allowed."""


def length_slack(steps: int) -> int:
    """By how many steps streams of one video may differ: two, or half a percent of the longest.

    Extractors count the last windows differently, and round the frame rate differently on long
    videos.
    """
    return max(SLACK_STEPS, int(SLACK_SHARE * steps))


def read_stream(stream: FeatureFiles, files: Sequence[tuple[str, bytes]]) -> np.ndarray:
    """One stream of one video, floating point [T, C], finite and of the width that the YAML says.

    Args:
        stream: says format, axes and channels.
        files: (path, content); one, or all of a folder.
    """
    where = files[0][0] if stream.format != "npy_folder" else files[0][0].rpartition("/")[0]
    if stream.format == "npy_folder":
        array = _folder(stream, files)
    else:
        array = _READERS[stream.format](where, files[0][1], stream)
        if array.ndim != 2:
            raise FeatureFileError(
                f"{where}: found an array of shape {list(array.shape)}; allowed: two axes, time and"
                " channels"
            )
        array = array.T if stream.transposed else array
    if array.dtype.kind not in "fiu":
        raise FeatureFileError(f"{where}: found values of type {array.dtype}; allowed: numbers")
    if 0 in array.shape:
        raise FeatureFileError(f"{where}: found an empty array of shape {list(array.shape)}")
    if array.shape[1] != stream.channels:
        turned = (
            "; is it stored the other way round (transposed)?"
            if array.shape[0] == stream.channels
            else ""
        )
        raise FeatureFileError(
            f"{where}: found {array.shape[1]} channels; allowed: {stream.channels}{turned}"
        )
    _require_finite(where, array)
    return array


def joined(streams: Sequence[np.ndarray], paths: Sequence[str], dtype: str) -> np.ndarray:
    """The streams beside each other on channels, cut to the shortest: `dtype` [T, sum of C].

    Args:
        streams: [T, C] each.
        paths: of the streams, for messages.
        dtype: of the result, by numpy's name.

    Raises:
        FeatureFileError: lengths differ by more than `length_slack`, or a value does not fit into
            `dtype`.
    """
    lengths = [len(stream) for stream in streams]
    if max(lengths) - min(lengths) > length_slack(max(lengths)):
        found = ", ".join(f"{path} {length}" for path, length in zip(paths, lengths, strict=True))
        raise FeatureFileError(
            f"streams of different lengths, in steps: {found}; they may differ by"
            f" {length_slack(max(lengths))}"
        )
    with np.errstate(over="ignore"):
        array = np.concatenate([stream[: min(lengths)].astype(dtype) for stream in streams], axis=1)
    if not np.isfinite(array).all():
        raise FeatureFileError(f"{', '.join(paths)}: values beyond the range of {dtype}")
    return array


def _require_finite(where: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    if bad.any():
        step, channel = (int(value) for value in np.argwhere(bad)[0])
        raise FeatureFileError(
            f"{where}: {int(bad.sum())} of {bad.size} values are NaN or infinite, the first at step"
            f" {step}, {channel=}"
        )


# --------------------------------------------------------------------------------------------------
# formats


def _npy(where: str, data: bytes, stream: FeatureFiles) -> np.ndarray:
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, TypeError, SyntaxError, KeyError) as error:
        raise FeatureFileError(
            f"{where}: not a .npy file, or cut short in its header ({_short(error)})"
        ) from error
    if dtype.hasobject:
        raise FeatureFileError(
            f"{where}: holds Python objects (a pickle), which are never loaded; allowed: an array"
            " of numbers"
        )
    expected, left = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if expected > left:
        raise FeatureFileError(f"{where}: truncated: {left} of {expected} bytes of values")
    values = np.frombuffer(data, dtype, count=math.prod(shape), offset=file.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def _npz(where: str, data: bytes, stream: FeatureFiles) -> np.ndarray:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            key = (
                stream.key
                if stream.key is not None
                else next(iter(members))
                if len(members) == 1
                else None
            )
            if key not in members:
                found = ", ".join(sorted(members)[:NAMED]) or "nothing"
                wanted = (
                    f"'{stream.key}'"
                    if stream.key is not None
                    else "one member only, or a 'key' in the features' YAML"
                )
                raise FeatureFileError(f"{where}: found members {found}; allowed: {wanted}")
            content = archive.read(members[key])
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise FeatureFileError(
            f"{where}: not an .npz file, or damaged ({_short(error)})"
        ) from error
    return _npy(f"{where}[{key}]", content, stream)


def _folder(stream: FeatureFiles, files: Sequence[tuple[str, bytes]]) -> np.ndarray:
    steps = []
    for path, data in sorted(files, key=lambda file: _natural(file[0])):
        step = _npy(path, data, stream)
        if step.size != stream.channels or step.ndim == 0 or step.shape[-1] != stream.channels:
            raise FeatureFileError(
                f"{path}: found an array of shape {list(step.shape)}; allowed: [{stream.channels}],"
                " one step"
            )
        steps.append(step.reshape(-1))
    return np.stack(steps)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Order of names in which 2 comes before 10."""
    return [
        (part.isdecimal(), int(part) if part.isdecimal() else 0, part)
        for part in re.split(r"(\d+)", name)
    ]


def _csv(where: str, data: bytes, stream: FeatureFiles) -> np.ndarray:
    """Rows of numbers; a first row of names is passed over."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FeatureFileError(f"{where}: not text in UTF-8 (byte {error.start})") from error
    if not text.strip():
        raise FeatureFileError(f"{where}: found an empty file")
    header = 0 if _is_number(text.lstrip().split("\n", 1)[0].split(",")[0]) else 1
    lines = [line for line in text.splitlines() if line.strip()][header:]
    if not lines:
        raise FeatureFileError(f"{where}: found a header and no rows")
    try:
        return np.loadtxt(lines, delimiter=",", dtype=np.float64, ndmin=2, comments=None)
    except ValueError as error:
        raise FeatureFileError(f"{where}: not a table of numbers ({_short(error)})") from error


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _pt(where: str, data: bytes, stream: FeatureFiles) -> np.ndarray:
    import torch

    try:
        value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FeatureFileError(
            f"{where}: damaged, or holds objects other than tensors, which are never loaded"
        ) from error
    except (
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        TypeError,
    ) as error:
        # a damaged file fails in any way
        raise FeatureFileError(f"{where}: not a .pt file, or damaged ({_short(error)})") from error
    if isinstance(value, dict):
        key = (
            stream.key if stream.key is not None else next(iter(value)) if len(value) == 1 else None
        )
        if key not in value:
            found = ", ".join(sorted(map(str, value))[:NAMED]) or "nothing"
            raise FeatureFileError(
                f"{where}: found entries {found}; allowed: one entry only, or a 'key' in the"
                " features' YAML"
            )
        value = value[key]
    if (
        not isinstance(value, torch.Tensor)
        or value.layout != torch.strided
        or value.dtype.is_complex
    ):
        raise FeatureFileError(
            f"{where}: found a {type(value).__name__}; allowed: one dense tensor of numbers"
        )
    return (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()


def _short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


_READERS = {"npy": _npy, "npz": _npz, "csv": _csv, "pt": _pt}
