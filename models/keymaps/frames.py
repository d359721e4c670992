"""Names of image networks on frames in the original authors' checkpoints. The keys on the left are
ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from models.blocks.densenet import DenseNet
from models.blocks.mobilenetv2 import InvertedResidual, MobileNetV2
from models.blocks.mobileone import Branches, MobileOne, MobileOneBlock
from models.blocks.resnet2d import ResNet2d
from models.blocks.swin import SwinFrames
from models.blocks.temporal import TemporalShift
from models.keymaps import resnet2d

_MERGE = re.compile(r"^backbone\.layers\.(\d+)\.downsample\.")


def below_backbone(trunk: nn.Module) -> dict[str, str]:
    """Our key -> original key below `backbone.`, in the original's order."""
    if isinstance(trunk, ResNet2d):
        grouped = (
            trunk.layer1[0].conv2.conv.groups > 1 if hasattr(trunk.layer1[0], "conv3") else False  # type: ignore[index]
        )
        return _torchvision_order(trunk) if grouped else resnet2d.mmaction(trunk)
    if isinstance(trunk, DenseNet):
        return {key: f"features.{key}" for key in trunk.state_dict()}
    if isinstance(trunk, MobileNetV2):
        return _mobilenetv2(trunk)
    if isinstance(trunk, MobileOne):
        return _mobileone(trunk)
    if isinstance(trunk, SwinFrames):
        return _swin(trunk)
    raise TypeError(f"no names for a {type(trunk).__name__}")


def frames(model: nn.Module) -> dict[str, str]:
    """Our key -> original key of a model of a `trunk` on frames and one linear layer `fc`."""
    names = {
        f"trunk.{ours}": f"backbone.{original}"
        for ours, original in below_backbone(model.trunk).items()  # type: ignore[arg-type]
    }
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}


def canonical_keys(
    model: nn.Module, found: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A checkpoint under the names above, whichever version of timm wrote it, and the keys that are
    not needed.

    Before 0.9 a stage of a Swin ended with the merging that the next one begins with now, and
    tables that follow from the window's size were kept.

    Args:
        model: says which trunk's names they are.
        found: the checkpoint, key to tensor.
    """
    if not isinstance(model.trunk, SwinFrames):
        return dict(found), ()
    tables = tuple(key for key in found if key.endswith(("attn_mask", "relative_position_index")))
    kept = {key: value for key, value in found.items() if key not in tables}
    if any(key.startswith("backbone.layers.0.downsample.") for key in kept):
        kept = {
            _MERGE.sub(lambda stage: f"backbone.layers.{int(stage[1]) + 1}.downsample.", key): value
            for key, value in kept.items()
        }
    return kept, tables


def _torchvision_order(trunk: ResNet2d) -> dict[str, str]:
    """mmpretrain's ResNeXt: torchvision's names, in the order of its blocks (conv1, bn1, conv2,
    ...).
    """
    return resnet2d.torchvision(trunk)


def _mobilenetv2(trunk: MobileNetV2) -> dict[str, str]:
    shifted = {
        name
        for name, module in trunk.named_modules()
        if isinstance(module, InvertedResidual) and _shifts(module.temporal)
    }
    names: dict[str, str] = {}
    for key in trunk.state_dict():
        block = ".".join(key.split(".")[:2])
        names[key] = key.replace(".conv.0.", ".conv.0.net.", 1) if block in shifted else key
    return names


def _mobileone(trunk: MobileOne) -> dict[str, str]:
    names: dict[str, str] = {}
    for place, block in trunk.named_modules():
        if not isinstance(block, MobileOneBlock):
            continue
        outer = f"{place}.net" if _shifts(block.temporal) else place
        for key in block.weigh.state_dict():
            unit, leaf = key.split(".")
            names[f"{place}.weigh.{key}"] = f"{outer}.se.{unit}.conv.{leaf}"
        if not isinstance(block.body, Branches):
            names |= {
                f"{place}.body.{leaf}": f"{outer}.branch_reparam.{leaf}"
                for leaf in ("weight", "bias")
            }
            continue
        for part, original in (
            ("norm", "branch_norm"),
            ("small", "branch_scale"),
            ("main", "branch_conv_list.0"),
        ):
            module = getattr(block.body, part)
            for key in module.state_dict() if module is not None else ():
                names[f"{place}.body.{part}.{key}"] = f"{outer}.{original}.{key}"
    return names


def _swin(trunk: SwinFrames) -> dict[str, str]:
    """timm's: a stage begins with the merging that we end the one before it with; the index buffers
    are not kept there.
    """
    names: dict[str, str] = {}
    for kind, original in (("embed", "patch_embed.proj"), ("embed_norm", "patch_embed.norm")):
        names |= {f"{kind}.{leaf}": f"{original}.{leaf}" for leaf in ("weight", "bias")}
    swin = trunk.swin
    for stage, blocks in enumerate(swin.stages):
        if stage:
            merge = swin.merges[stage - 1]
            names |= {
                f"swin.merges.{stage - 1}.{key}": f"layers.{stage}.downsample.{key}"
                for key in merge.state_dict()
            }
        for key in blocks.state_dict():
            if not key.endswith("relative_position_index"):
                original = key.replace(".fc1.", ".mlp.fc1.").replace(".fc2.", ".mlp.fc2.")
                names[f"swin.stages.{stage}.{key}"] = f"layers.{stage}.blocks.{original}"
    return names | {f"swin.norm.{leaf}": f"norm.{leaf}" for leaf in ("weight", "bias")}


def _shifts(module: nn.Module) -> bool:
    return isinstance(module, TemporalShift)
