"""Names of a SlowFast's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.keymaps import resnet3d
from models.recognition.slowfast import SlowFast


def original_names(model: SlowFast) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names: dict[str, str] = {}
    names |= {
        f"slow.{ours}": f"backbone.slow_path.{original}"
        for ours, original in resnet3d.mmaction(model.slow).items()
    }
    for key in model.lateral.state_dict():
        index, _, leaf = key.partition(".")
        before = "conv1" if index == "0" else f"layer{index}"
        names[f"lateral.{key}"] = (
            f"backbone.slow_path.{before}_lateral.{leaf if model.config.fusion_norm else 'conv.' + leaf}"  # noqa: E501
        )
    names |= {
        f"fast.{ours}": f"backbone.fast_path.{original}"
        for ours, original in resnet3d.mmaction(model.fast).items()
    }
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}
