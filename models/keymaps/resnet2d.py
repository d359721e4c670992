"""Names of a 2D ResNet's tensors in the original authors' checkpoints. The keys on the left are ours."""

from __future__ import annotations

import re

from models.blocks.resnet2d import ResNet2d
from models.blocks.temporal import TemporalShift

_BLOCK = re.compile(r"(layer\d\.\d+)\.(conv(\d)|downsample)\.(conv|bn)\.(\w+)")


def mmaction(trunk: ResNet2d) -> dict[str, str]:
    """Our key -> MMAction2's key below `backbone.`: convolutions that a shift wraps carry `.net`."""
    shifted = {name.removesuffix(".temporal") for name, module in trunk.named_modules() if isinstance(module, TemporalShift)}
    names: dict[str, str] = {}
    for key in trunk.state_dict():
        block = key.split(".conv1.conv.weight")[0]
        wrapped = key.endswith(".conv1.conv.weight") and block in shifted
        names[key] = f"{block}.conv1.conv.net.weight" if wrapped else re.sub(r"^stem\.", "conv1.", key)
    return names


def torchvision(trunk: ResNet2d) -> dict[str, str]:
    """Our key -> torchvision's key, the naming of ImageNet checkpoints."""
    names: dict[str, str] = {}
    for key in trunk.state_dict():
        found = _BLOCK.fullmatch(key)
        if found is None:
            names[key] = key.replace("stem.conv.", "conv1.").replace("stem.bn.", "bn1.")
            continue
        block, unit, number, kind, leaf = found.groups()
        if unit == "downsample":
            names[key] = f"{block}.downsample.{0 if kind == 'conv' else 1}.{leaf}"
        else:
            names[key] = f"{block}.{kind}{number}.{leaf}"
    return names
