"""Names of an R(2+1)D's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.keymaps import resnet3d
from models.recognition.r2plus1d import R2Plus1D

_PARTS = {
    "over_image": "conv.conv_s",
    "between": "conv.bn_s",
    "along_time": "conv.conv_t",
    "bn": "bn",
}


def original_names(model: R2Plus1D) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names = resnet3d.pooled(model)
    for ours, original in names.items():
        if ours.startswith("trunk."):
            unit, part, leaf = original.rsplit(".", 2)
            names[ours] = f"{unit}.{_PARTS[part]}.{leaf}"
    return names
