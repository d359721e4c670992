"""Names of a C2D's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.blocks.resnet2d import ResNet2d
from models.keymaps import resnet2d
from models.recognition.c2d import C2D


def original_names(model: C2D) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    trunk = model.get_submodule("trunk.frames")
    assert isinstance(trunk, ResNet2d)
    names = {
        f"trunk.frames.{ours}": f"backbone.{original}"
        for ours, original in resnet2d.mmaction(trunk).items()
    }
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}
