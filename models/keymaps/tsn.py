"""Names of a TSN's tensors in MMAction2's checkpoints."""

from models.keymaps.frames import frames as original_names
from models.keymaps.frames import settled

__all__ = ["original_names", "settled"]
