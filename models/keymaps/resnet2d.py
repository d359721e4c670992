"""Names of a 2D ResNet's tensors in the original authors' checkpoints. The keys on the left are
ours.
"""

from __future__ import annotations

import re

from models.blocks.adaptive import TemporalAdaptive, TemporalInterlace
from models.blocks.nonlocal_block import NonLocalBlock
from models.blocks.resnet2d import BasicBlock, Bottleneck, ResNet2d
from models.blocks.temporal import TemporalShift
from models.keymaps.resnet3d import nonlocal_block

_BLOCK = re.compile(r"(layer\d\.\d+)\.(conv(\d)|downsample)\.(conv|bn)\.(\w+)")


def mmaction(trunk: ResNet2d) -> dict[str, str]:
    """Our key -> MMAction2's key below `backbone.`, in the original's order.

    Convolutions that a shift wraps carry `.net`, those behind an interlacing `.net2`; blocks that
    another module wraps, `.block`.
    """
    names = {
        key: key.replace("stem.", "conv1.", 1)
        for key in trunk.state_dict()
        if key.startswith("stem.")
    }
    for place, block in trunk.named_modules():
        if isinstance(block, BasicBlock | Bottleneck):
            names |= {
                f"{place}.{ours}": f"{place}.{original}" for ours, original in _block(block).items()
            }
    return names


def _block(block: BasicBlock | Bottleneck) -> dict[str, str]:
    temporal, between, after = block.temporal, block.between, block.after
    wrapped = isinstance(between, TemporalAdaptive) or isinstance(after, NonLocalBlock)
    inside = "block." if wrapped else ""
    names: dict[str, str] = {}
    if isinstance(temporal, TemporalInterlace):
        names |= {
            f"temporal.{key}": f"{inside}conv1.conv.net1.{key}" for key in temporal.state_dict()
        }
    for key in block.state_dict():
        if key.split(".")[0] not in ("temporal", "between", "after"):
            names[key] = inside + key
    if isinstance(temporal, TemporalShift | TemporalInterlace):
        names["conv1.conv.weight"] = (
            f"{inside}conv1.conv.{'net' if isinstance(temporal, TemporalShift) else 'net2'}.weight"
        )
    if isinstance(between, TemporalAdaptive):
        parts = {"taps": "G", "weights": "L"}
        for key in between.state_dict():
            part, _, leaf = key.partition(".")
            names[f"between.{key}"] = f"tam.{parts[part]}.{leaf}"
    if isinstance(after, NonLocalBlock):
        names |= {
            f"after.{ours}": original for ours, original in nonlocal_block(block, "after").items()
        }
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
