"""Names of a TANet's tensors in MMAction2's checkpoints."""

from models.keymaps.frames import frames as original_names

__all__ = ["original_names"]
