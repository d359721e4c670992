"""Names of an I3D's tensors in MMAction2's checkpoints."""

from models.keymaps.resnet3d import pooled as original_names

__all__ = ["original_names"]
