"""Names of a TIN's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from torch import nn

from models.keymaps.frames import frames as original_names

__all__ = ["original_names", "init_names"]


def init_names(model: nn.Module) -> list[tuple[str, dict[str, str], tuple[str, ...]]]:
    """Our key -> key in a TSM's checkpoint: the same network with shifts, which have no weights, in
    place of the interlacing.
    """
    names = original_names(model)
    moved = tuple(ours for ours, original in names.items() if ".net1." in original)
    return [
        (
            "a TSM",
            {
                ours: key.replace(".net2.", ".net.")
                for ours, key in names.items()
                if ours not in moved
            },
            moved,
        )
    ]
