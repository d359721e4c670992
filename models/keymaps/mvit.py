"""Names of an MViTv2's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.recognition.mvit import MViT


def original_names(model: MViT) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names = {"first": "backbone.cls_token"}
    names |= {
        f"embed.{leaf}": f"backbone.patch_embed.projection.{leaf}" for leaf in ("weight", "bias")
    }
    names |= {key: f"backbone.{key}" for key in model.state_dict() if key.startswith("blocks.")}
    names |= {
        f"norm.{leaf}": f"backbone.norm{len(model.config.halvings)}.{leaf}"
        for leaf in ("weight", "bias")
    }
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}
