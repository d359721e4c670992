"""Names of a DETR's tensors in the original authors' checkpoints. The keys on the left are ours."""

from __future__ import annotations

from torch import nn

from models.blocks.resnet2d import ResNet2d
from models.keymaps.resnet2d import torchvision


def original_names(model: nn.Module) -> dict[str, str]:
    """Our key -> original key, for every tensor of a DETR, in the original's order."""
    names = shared_names(model)
    first = {key: name for key, name in names.items() if name.startswith("transformer.")}
    heads = {f"classify.{leaf}": f"class_embed.{leaf}" for leaf in ("weight", "bias")}
    heads |= {f"box.{key}": f"bbox_embed.{key}" for key in model.box.state_dict()}  # type: ignore[union-attr]
    return first | heads | {key: name for key, name in names.items() if key not in first}


def shared_names(model: nn.Module) -> dict[str, str]:
    """Those of the scene, the decoder and the queries, which other families have too."""
    scene, decoder = model.scene, model.decoder
    names = {f"scene.encoder.{key}": f"transformer.encoder.{key}" for key in _layers(scene.encoder)}  # type: ignore[arg-type, union-attr]
    names |= {f"decoder.{key}": f"transformer.decoder.{key}" for key in _layers(decoder)}  # type: ignore[arg-type]
    names["queries.weight"] = "query_embed.weight"
    names |= {f"scene.project.{leaf}": f"input_proj.{leaf}" for leaf in ("weight", "bias")}
    if isinstance(scene.trunk, ResNet2d):  # type: ignore[union-attr]
        names |= {
            f"scene.trunk.{ours}": f"backbone.0.body.{original}"
            for ours, original in torchvision(scene.trunk).items()  # type: ignore[union-attr]
        }
    return names | {
        f"scene.positions.{key}": f"backbone.1.{key}"
        for key in scene.positions.state_dict()  # type: ignore[union-attr]
    }


def _layers(stack: nn.Module) -> list[str]:
    """Keys of a stack of layers in the original's order: attention, linear layers, norms; then the
    stack's own norm.
    """
    order = ("self_attn", "multihead_attn", "linear1", "linear2", "norm1", "norm2", "norm3")
    keys = list(stack.state_dict())
    inner = [key for key in keys if key.startswith("layers.")]
    inner.sort(key=lambda key: (int(key.split(".")[1]), order.index(key.split(".")[2])))
    return inner + [key for key in keys if not key.startswith("layers.")]
