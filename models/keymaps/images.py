"""Names of image networks' tensors in the checkpoints of ImageNet and CLIP: what a family's
training starts from.

The keys on the left are ours. Tensors that are not named here are fresh: classifiers, and what
looks along time.
"""

from __future__ import annotations

import importlib
import importlib.util
import re

from torch import nn

from models.blocks.densenet import DenseNet
from models.blocks.mobilenetv2 import MobileNetV2
from models.blocks.mobileone import MobileOne
from models.blocks.resnet2d import ResNet2d
from models.blocks.resnet3d import ResNet3d
from models.blocks.swin import SwinFrames
from models.keymaps.frames import below_backbone

_UNIT = re.compile(r"(layer\d\.\d+)\.(conv(\d)|downsample)\.(conv|bn)\.(\w+)")
_STEM = re.compile(r"stem\.(conv|bn)\.(\w+)")


def image_names(model: nn.Module) -> dict[str, str]:
    """Our key -> key of the image checkpoint; several of ours may start from one. Empty where the
    family starts from nothing.

    A family's key map may have an `image_names` of its own; otherwise it is the network on frames,
    or the inflated residual network, inside the model.
    """
    own = f"models.keymaps.{type(model).__module__.rpartition('.')[2]}"
    if importlib.util.find_spec(own) is not None and hasattr(
        family := importlib.import_module(own), "image_names"
    ):
        return family.image_names(model)
    names: dict[str, str] = {}
    for place, module in model.named_modules():
        before = f"{place}." if place else ""
        if isinstance(module, ResNet2d | ResNet3d):
            names |= {before + ours: original for ours, original in _torchvision(module).items()}
        elif isinstance(module, DenseNet | MobileNetV2 | MobileOne | SwinFrames):
            names |= {
                before + ours: original.replace(".net.", ".")
                for ours, original in below_backbone(module).items()
            }
    return names


def _torchvision(trunk: nn.Module) -> dict[str, str]:
    names: dict[str, str] = {}
    for key in trunk.state_dict():
        if found := _STEM.fullmatch(key):
            names[key] = f"{found[1]}1.{found[2]}"
        elif found := _UNIT.fullmatch(key):
            block, unit, number, kind, leaf = found.groups()
            names[key] = (
                f"{block}.downsample.{0 if kind == 'conv' else 1}.{leaf}"
                if unit == "downsample"
                else f"{block}.{kind}{number}.{leaf}"
            )
    return names
