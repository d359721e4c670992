"""Names of a VideoMAE model's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.recognition.videomae import VideoMAE

_WHOLE = {"positions": "backbone.pos_embed"}
_PARTS = {
    "embed.": "backbone.patch_embed.projection.",
    "norm.": "backbone.fc_norm.",
    "fc.": "cls_head.fc_cls.",
}


def original_names(model: VideoMAE) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names: dict[str, str] = {}
    for key in model.state_dict():
        if key.startswith("blocks."):
            names[key] = "backbone." + key.replace(".mlp.fc1.", ".mlp.layers.0.0.").replace(
                ".mlp.fc2.", ".mlp.layers.1."
            )
        elif key in _WHOLE:
            names[key] = _WHOLE[key]
        else:
            part = next(part for part in _PARTS if key.startswith(part))
            names[key] = _PARTS[part] + key.removeprefix(part)
    return names


def init_names(
    model: VideoMAE,
) -> list[tuple[str, dict[str, str], tuple[str, ...], tuple[str, ...]]]:
    """Our key -> key in the files of VideoMAE's authors, of fine-tuned networks and (below
    `encoder.`) of pre-trained ones.

    These have no table of positions, which is computed, and pre-trained ones no norm behind the
    mean of the tokens.
    """
    parts = {"embed.": "patch_embed.proj.", "norm.": "fc_norm.", "fc.": "head."}
    keys: dict[str, str] = {}
    for key in model.state_dict():
        if key not in _WHOLE:
            part = next((part for part in parts if key.startswith(part)), "")
            keys[key] = parts.get(part, "") + key.removeprefix(part)
    return [("a network of the VideoMAE authors", keys, ("norm.",), ("", "encoder.", "backbone."))]
