"""Names of an X3D's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.recognition.x3d import X3D

_PARTS = {
    "stem_image.": "conv1_s.conv.",
    "stem_time.": "conv1_t.",
    "stages.": "",
    "last.": "conv5.",
}


def original_names(model: X3D) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names: dict[str, str] = {}
    for key in model.state_dict():
        for ours, original in _PARTS.items():
            if key.startswith(ours):
                names[key] = (
                    "backbone."
                    + original
                    + key.removeprefix(ours).replace(".weigh.", ".se_module.")
                )
    return names | {
        "fc1.weight": "cls_head.fc1.weight",
        "fc.weight": "cls_head.fc2.weight",
        "fc.bias": "cls_head.fc2.bias",
    }
