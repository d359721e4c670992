"""Names of a UniFormerV2's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.recognition.uniformerv2 import UniFormerV2

_PARTS = {  # in the original's order
    "class_embedding": "class_embedding",
    "positional_embedding": "positional_embedding",
    "embed.": "conv1.",
    "norm_first.": "ln_pre.",
    "video_token": "transformer.temporal_cls_token",
    "balance": "transformer.balance",
    "blocks.": "transformer.resblocks.",
    "positions.": "transformer.dpe.",
    "looks.": "transformer.dec.",
    "norm.": "transformer.norm.",
}


def original_names(model: UniFormerV2) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    keys, names = list(model.state_dict()), dict[str, str]()
    for ours, original in _PARTS.items():
        names |= {
            key: f"backbone.{original}{key.removeprefix(ours)}"
            for key in keys
            if key.startswith(ours)
        }
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}


def image_names(model: UniFormerV2) -> dict[str, str]:
    """Our key -> key of CLIP's image encoder (below `visual.`)."""
    return {
        ours: original.removeprefix("backbone.")
        for ours, original in original_names(model).items()
        if ours in ("class_embedding", "positional_embedding")
        or ours.startswith(("embed.", "norm_first.", "blocks."))
    }
