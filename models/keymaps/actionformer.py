"""Names of an ActionFormer's tensors in its authors' checkpoints."""

from __future__ import annotations

import re

from models.localization.actionformer import ActionFormer

# Convolutions are wrapped there, attention's linear maps and the perceptrons are not. In order; the
# first that fits.
_RULES = (
    (r"^embed\.projections\.(\d+)\.", r"backbone.proj.\1.conv."),
    (r"^embed\.tower\.convs\.(\d+)\.", r"backbone.embd.\1.conv."),
    (r"^embed\.tower\.norms\.", "backbone.embd_norm."),
    (r"^((?:stem|branch)\..*\.(?:query|key|value)_conv)\.", r"backbone.\1.conv."),
    (r"^((?:stem|branch)\..*\.mlp)\.fc1\.", r"backbone.\1.0."),
    (r"^((?:stem|branch)\..*\.mlp)\.fc2\.", r"backbone.\1.3."),
    (r"^((?:stem|branch)\.)", r"backbone.\1"),
    (r"^neck\.norms\.", "neck.fpn_norms."),
    (r"^neck\.laterals\.(\d+)\.", r"neck.lateral_convs.\1.conv."),
    (r"^neck\.convs\.(\d+)\.", r"neck.fpn_convs.\1.conv."),
    (r"^(classify|regress)\.tower\.convs\.(\d+)\.", r"\1.head.\2.conv."),
    (r"^(classify|regress)\.tower\.norms\.", r"\1.norm."),
    (r"^classify\.last\.", "classify.cls_head.conv."),
    (r"^regress\.last\.", "regress.offset_head.conv."),
    (r"^scales\.(\d+)$", r"regress.scale.\1.scale"),
)
_HEADS = {"classify.": "cls_head.", "regress.": "reg_head."}


def original_names(model: ActionFormer) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names = {key: _original(key) for key in model.state_dict()}
    # There the scales stand before the last convolution of the regression head.
    last = {key: name for key, name in names.items() if key.startswith("regress.last.")}
    return {key: name for key, name in names.items() if key not in last} | last


def _original(key: str) -> str:
    name = key
    for pattern, replacement in _RULES:
        name, hits = re.subn(pattern, replacement, key)
        if hits:
            break
    for ours, theirs in _HEADS.items():
        name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
    return name
