"""Names of a TSN's tensors in MMAction2's checkpoints."""

from models.keymaps.frames import canonical_keys
from models.keymaps.frames import frames as original_names

__all__ = ["canonical_keys", "original_names"]
