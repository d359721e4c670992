"""Names of a TRN's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.keymaps.frames import frames
from models.recognition.trn import TRN


def original_names(model: TRN) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names = frames(model)
    last = {key: names.pop(key) for key in ("fc.weight", "fc.bias")}
    for key in model.heads.state_dict():
        index, layer, leaf = key.split(".")
        names[f"heads.{key}"] = (
            f"cls_head.consensus.fc_fusion_scales.{index}.{1 if layer == 'fc1' else 3}.{leaf}"
        )
    return names | last
