"""Names of a TSM's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.keymaps import resnet2d
from models.recognition.tsm import TSM


def original_names(model: TSM) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names = {f"trunk.{ours}": f"backbone.{original}" for ours, original in resnet2d.mmaction(model.trunk).items()}
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}
