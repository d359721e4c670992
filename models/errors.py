"""What a caller can get wrong, said in one form: the field, what was found, what is allowed."""

from __future__ import annotations

import torch
from torch import Tensor


class ModelError(ValueError):
    """The base of what a caller can get wrong with a network; its message is for a person."""


class ModelConfigError(ModelError):
    """A family's Config holds a value that no model can be built from.

    Args:
        where: the family, or the module that was asked.
        field: its name in the Config or recipe.
        found: the value as it was given.
        allowed: in words, what the field may hold.
    """

    def __init__(self, where: str, field: str, found: object, allowed: str) -> None:
        self.where, self.field, self.found, self.allowed = where, field, found, allowed
        super().__init__(f"{where}: field '{field}': found {found!r}; allowed: {allowed}")


class ModelInputError(ModelError):
    """A tensor does not fit the model: says what was found and what is expected."""


def require_clip(model: str, clip: Tensor, num_frames: int | None = None) -> None:
    """Refuses what is no clip.

    Args:
        model: the family's name, for the message.
        clip: should be a float (B, 3, T, H, W), normalised RGB, with no side empty.
        num_frames: what T has to be; None is any.

    Raises:
        ModelInputError: it is no such tensor.
    """
    frames = "T" if num_frames is None else str(num_frames)
    expected = f"floating-point (B, 3, {frames}, H, W), normalised RGB"
    if not isinstance(clip, Tensor):
        raise ModelInputError(
            f"{model}: input: found {type(clip).__name__}; expected a tensor, {expected}"
        )
    fits = (
        clip.ndim == 5
        and clip.shape[1] == 3
        and (num_frames is None or clip.shape[2] == num_frames)
    )
    if not fits or not clip.is_floating_point() or 0 in clip.shape:
        dtype = str(clip.dtype).removeprefix("torch.")
        raise ModelInputError(
            f"{model}: input: found {dtype} {tuple(clip.shape)}; expected {expected}"
        )


def require_features(
    model: str, features: Tensor, shape: tuple[int | None, ...], names: str
) -> None:
    """Refuses features of another shape.

    Args:
        model: the family's name, for the message.
        features: what `features` of the model should have given.
        shape: the size of each axis; None stands for any.
        names: the shape in words, for the message: "(B, 512)".

    Raises:
        ModelInputError: they have another shape, or are no tensor.
    """
    sizes = features.shape if isinstance(features, torch.Tensor) else ()
    if len(sizes) != len(shape) or any(
        want not in (None, size) for size, want in zip(sizes, shape, strict=True)
    ):
        raise ModelInputError(f"{model}: features: found {tuple(sizes)}; expected {names}")
