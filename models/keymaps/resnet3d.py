"""Names of a 3D ResNet's tensors in MMAction2's checkpoints. The keys on the left are ours."""

from __future__ import annotations

import re

from torch import nn

from models.blocks.nonlocal_block import NonLocalBlock

# in the original's order
_NONLOCAL = {"value": "g.0", "out": "conv_out", "bn": "conv_out", "query": "theta", "key": "phi.0"}


def mmaction(trunk: nn.Module) -> dict[str, str]:
    """Our key -> MMAction2's key below `backbone.`."""
    blocks = {name for name, module in trunk.named_modules() if isinstance(module, NonLocalBlock)}
    names: dict[str, str] = {}
    for key in trunk.state_dict():
        block = f"{key.rpartition('.after.')[0]}.after"
        if block not in blocks:
            names[key] = re.sub(r"^stem\.", "conv1.", key)
        elif f"{block}.out.weight" not in names:
            names |= {
                f"{block}.{ours}": f"{block.removesuffix('.after')}.{theirs}"
                for ours, theirs in nonlocal_block(trunk, block).items()
            }
    return names


def nonlocal_block(trunk: nn.Module, block: str) -> dict[str, str]:
    """Our key -> the original's, both below the place of a non-local block."""
    own = trunk.get_submodule(block).state_dict()
    ordered = sorted(own, key=lambda key: list(_NONLOCAL).index(key.partition(".")[0]))
    kinds = {key: "bn" if key.startswith("bn.") else "conv" for key in ordered}
    return {
        key: (
            f"non_local_block.{_NONLOCAL[key.partition('.')[0]]}.{kinds[key]}.{key.partition('.')[2]}"
        )
        for key in ordered
    }


def pooled(model: nn.Module) -> dict[str, str]:
    """Our key -> original key of a `PooledClassifier` on a 3D ResNet, in the original's order."""
    names = {
        f"trunk.{ours}": f"backbone.{original}"
        for ours, original in mmaction(model.trunk).items()  # type: ignore[arg-type]
    }
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}
