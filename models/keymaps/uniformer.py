"""Names of a UniFormer's tensors in MMAction2's checkpoints."""

from __future__ import annotations

import re

from models.recognition.uniformer import UniFormer

IN_THE_MIDDLE = True  # of time is where a kernel of the image network goes


def image_names(model: UniFormer) -> dict[str, str]:
    """Our key -> key of the authors' image network of the same size."""
    return {
        ours: key.removeprefix("backbone.")
        for ours, key in original_names(model).items()
        if not ours.startswith("fc.")
    }


def original_names(model: UniFormer) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names: dict[str, str] = {}
    for key in model.state_dict():
        key_of_trunk = re.sub(
            r"^embeddings\.(\d)", lambda found: f"patch_embed{int(found[1]) + 1}", key
        )
        key_of_trunk = re.sub(
            r"^stages\.(\d)", lambda found: f"blocks{int(found[1]) + 1}", key_of_trunk
        )
        names[key] = (
            key.replace("fc.", "cls_head.fc_cls.")
            if key.startswith("fc.")
            else f"backbone.{key_of_trunk}"
        )
    return names
