"""Names of an OmniSource model's tensors in MMAction2's checkpoints."""

from __future__ import annotations

import re

from models.recognition.omnisource import OmniSource

_HEAD = {
    "image_norm": "fc2d.2",
    "image_fc": "fc2d.4",
    "fc1": "fc3d.2",
    "norm": "fc3d.3",
    "fc": "fc3d.6",
}
_BLOCK = re.compile(r"(layer\d\.\d+)\.(conv(\d)|downsample)\.(conv|bn)\.(\w+)")


def original_names(model: OmniSource) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order (a block's
    convolutions, then its norms).
    """
    names = {f"trunk.{key}": f"backbone.{_trunk(key)}" for key in model.trunk.state_dict()}
    ordered = sorted(names, key=lambda ours: _place(names[ours]))
    result = {ours: names[ours] for ours in ordered}
    for key in model.state_dict():
        part, _, leaf = key.partition(".")
        if part in _HEAD:
            result[key] = f"cls_head.{_HEAD[part]}.{leaf}"
    return result


def _trunk(key: str) -> str:
    found = _BLOCK.fullmatch(key)
    if found is None:
        return key.replace("stem.conv.", "conv1.").replace("stem.bn.", "bn1.")
    block, unit, number, kind, leaf = found.groups()
    if unit == "downsample":
        return f"{block}.downsample.{0 if kind == 'conv' else 1}.{leaf}"
    return f"{block}.{kind}{number}.{leaf}"


def _place(original: str) -> tuple[int, int, int]:
    """Where a key stands: layer and block, then convolutions, norms, downsample."""
    found = re.match(r"backbone\.layer(\d)\.(\d+)\.(conv|bn|downsample)", original)
    if found is None:
        return 0, 0, 0
    return int(found[1]), int(found[2]), ("conv", "bn", "downsample").index(found[3])
