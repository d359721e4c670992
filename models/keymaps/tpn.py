"""Names of a TPN's tensors in MMAction2's checkpoints."""

from __future__ import annotations

import re

from models.keymaps import resnet2d, resnet3d
from models.recognition.tpn import TPN, SlowFrames

_PARTS = {  # in the original's order
    "tempo.": "temporal_modulation_ops.",
    "up.": "downsample_ops.0.",
    "top_down.": "level_fusion_1.",
    "align.": "spatial_modulation.spatial_modulation.0.0.",
    "bottom_up.": "level_fusion_2.",
    "fuse.": "pyramid_fusion.",
}


def original_names(model: TPN) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    trunk = model.trunk
    if isinstance(trunk, SlowFrames):
        names = {
            f"trunk.clips.{ours}": f"backbone.{original}"
            for ours, original in resnet3d.mmaction(trunk.clips).items()
        }
    else:
        names = {
            f"trunk.frames.{ours}": f"backbone.{original}"
            for ours, original in resnet2d.mmaction(trunk.frames).items()
        }
    for ours, original in _PARTS.items():
        for key in model.pyramid.state_dict():
            if key.startswith(ours):
                names[f"pyramid.{key}"] = f"neck.{original}{_inner(key.removeprefix(ours), ours)}"
    for key in model.auxiliary.state_dict():
        names[f"auxiliary.{key}"] = f"neck.aux_head.{key}"
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}


def _inner(key: str, part: str) -> str:
    if part == "tempo.":
        return key.replace(".weight", ".conv.conv.weight")
    if part == "up.":
        return f"conv.conv.{key}"
    if part in ("top_down.", "bottom_up."):
        return re.sub(
            r"^fuse\.", "fusion_conv.", re.sub(r"^levels\.(\d)\.", r"downsamples.\1.conv.", key)
        )
    return key
