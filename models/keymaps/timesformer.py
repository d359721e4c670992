"""Names of a TimeSformer's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.recognition.timesformer import TimeSformer

_ATTENTION = {
    "qkv.weight": "in_proj_weight",
    "qkv.bias": "in_proj_bias",
    "proj.weight": "out_proj.weight",
    "proj.bias": "out_proj.bias",
}
_NETWORK = {"fc1": "layers.0.0", "fc2": "layers.1"}
_DIVIDED = (  # ours and the original's parts of a block, in its order
    ("time_norm", "attentions.0.norm"),
    ("time_attn", "attentions.0.attn"),
    ("time_fc", "attentions.0.temporal_fc"),
    ("space_norm", "attentions.1.norm"),
    ("space_attn", "attentions.1.attn"),
    ("mlp", "ffns.0"),
    ("mlp_norm", "ffns.0.norm"),
)
_JOINT = (
    ("attn", "attentions.0.attn"),
    ("mlp", "ffns.0"),
    ("norm1", "norms.0"),
    ("norm2", "norms.1"),
)
_WHOLE = {"first": "cls_token", "positions": "pos_embed", "times": "time_embed"}


def original_names(model: TimeSformer) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names = {
        ours: f"backbone.{original}"
        for ours, original in _WHOLE.items()
        if ours in model.state_dict()
    }
    for ours, original in (("embed", "patch_embed.projection"), ("norm", "norm")):
        names |= {f"{ours}.{leaf}": f"backbone.{original}.{leaf}" for leaf in ("weight", "bias")}
    for index, block in enumerate(model.blocks):
        place = f"backbone.transformer_layers.layers.{index}"
        for part, original in _DIVIDED if model.config.attention == "divided" else _JOINT:
            for key in block.get_submodule(part).state_dict():
                names[f"blocks.{index}.{part}.{key}"] = f"{place}.{original}.{_leaf(part, key)}"
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}


def _leaf(part: str, key: str) -> str:
    if part.endswith("attn"):
        return _ATTENTION[key]
    layer, _, leaf = key.partition(".")
    return f"{_NETWORK[layer]}.{leaf}" if part == "mlp" else key


def image_names(model: TimeSformer) -> dict[str, str]:
    """Our key -> timm's key of an image transformer; attention along time starts as attention over
    the image does.
    """
    divided = model.config.attention == "divided"
    parts = {
        "norm1": ["space_norm", "time_norm"],
        "attn": ["space_attn", "time_attn"],
        "norm2": ["mlp_norm"],
        "mlp": ["mlp"],
    }
    names = {"first": "cls_token", "positions": "pos_embed"}
    for ours, original in (("embed", "patch_embed.proj"), ("norm", "norm")):
        names |= {f"{ours}.{leaf}": f"{original}.{leaf}" for leaf in ("weight", "bias")}
    for index, block in enumerate(model.blocks):
        for original, own in parts.items():
            for part in own if divided else [original]:
                for key in block.get_submodule(part).state_dict():
                    names[f"blocks.{index}.{part}.{key}"] = f"blocks.{index}.{original}.{key}"
    return names
