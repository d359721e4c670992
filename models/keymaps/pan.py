"""Names of a PAN's tensors in its authors' checkpoints. The branches of a fusion have their own
files there; a joined checkpoint has `rgb.`, `pa.` or `lite.` before each file's keys.
"""

from __future__ import annotations

from models.keymaps import resnet2d
from models.recognition.pan import PAN, Branch


def original_names(model: PAN) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    joined = len(model.branches) > 1
    names: dict[str, str] = {}
    for name, branch in model.branches.items():
        assert isinstance(branch, Branch)
        before = f"{name}." if joined else ""
        names |= {
            f"branches.{name}.{ours}": before + original
            for ours, original in _branch(branch).items()
        }
    return names


def _branch(branch: Branch) -> dict[str, str]:
    names: dict[str, str] = {}
    if branch.PA is not None:
        names |= {f"PA.{key}": f"PA.{key}" for key in branch.PA.state_dict()}
    wrapped = {
        ours: ".net." in original for ours, original in resnet2d.mmaction(branch.trunk).items()
    }
    for ours, original in resnet2d.torchvision(branch.trunk).items():
        original = (
            original.replace(".conv1.weight", ".conv1.net.weight") if wrapped[ours] else original
        )
        names[f"trunk.{ours}"] = f"base_model.{original}"
    return names | {f"vap.{key}": f"base_model.fc.{key}" for key in branch.vap.state_dict()}
