"""Names of a C3D's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.recognition.c3d import C3D


def original_names(model: C3D) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names: dict[str, str] = {}
    for place in model.names:
        index, name = place.split(".")
        names |= {
            f"trunk.{index}.{leaf}": f"backbone.{name}.conv.{leaf}" for leaf in ("weight", "bias")
        }
    for ours, original in (
        ("fc6", "backbone.fc6"),
        ("fc7", "backbone.fc7"),
        ("fc", "cls_head.fc_cls"),
    ):
        names |= {f"{ours}.{leaf}": f"{original}.{leaf}" for leaf in ("weight", "bias")}
    return names
