"""VideoMAE's weights as a start for EVAD's encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from models.blocks.vit import sine_positions
from models.checkpoints import PublishedWeightsError, read_checkpoint
from models.detection._encoder import Encoder
from models.starting import StartReport
from models.weights import complaint, misfit, unwrap

_POSITIONS = "pos_embed"
# How the encoder's parts are called: by VideoMAE and V2, by MMAction2 (below `backbone.`), and by the recognition family here.
_SYNONYMS = (
    (r"^patch_embed\.(proj|projection)\.", "embed."),
    (r"\.mlp\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
    (r"^positions$", _POSITIONS),
)
# Pretraining's decoder, classifiers, and the norm after averaging all tokens, which EVAD does not do.
_NOT_USED = re.compile(r"^(decoder|encoder_to_decoder|mask_token|head|fc_norm|fc|cls_head|fc_dropout)(\.|$)")


class HasEncoder(Protocol):
    """EVAD, as far as its encoder's weights are concerned."""

    encoder: Encoder


def load_videomae(model: HasEncoder, source: Mapping[str, Any] | str | Path) -> StartReport:
    """Starts the encoder from a VideoMAE or VideoMAE V2 checkpoint, of the pretraining or fine-tuned, of the official code, of MMAction2
    or of the recognition family `videomae`; a mapping of key to tensor or a .pth, .pt or .safetensors file.

    Every tensor of the encoder's blocks and embedding must be there and fit, or nothing is loaded. The final norm is taken from a
    pretraining checkpoint and stays fresh with a fine-tuned one, whose norm is over the mean of all tokens. A table of positions
    must be the fixed one, of any size: the encoder makes its own for every clip size. The report says what stayed fresh and what was
    not used. Raises PublishedWeightsError with all that is missing, unexpected or misshapen; FileNotFoundError.
    """
    where = str(source) if isinstance(source, (str, Path)) else "mapping"
    found, names = _encoder_tensors(read_checkpoint(source) if isinstance(source, (str, Path)) else source)
    state = model.encoder.state_dict()
    wrong = _positions_that_differ(found.pop(_POSITIONS, None))
    missing = [key for key in state if key not in found and not key.startswith("norm.")]
    unexpected = [names[key] for key in found if key not in state and not _NOT_USED.match(key)]
    wrong += [problem for key, value in found.items() if key in state and (problem := misfit(names[key], value, state[key]))]
    if missing or unexpected or wrong:
        raise PublishedWeightsError(complaint(where, "EVAD's encoder as a VideoMAE checkpoint", missing, unexpected, wrong))
    used = {key: value for key, value in found.items() if key in state}
    model.encoder.load_state_dict(used, strict=False)
    fresh = {f"encoder.{key}": "the checkpoint has no norm over tokens" for key in state if key not in used}
    return StartReport(where, "VideoMAE's encoder", len(used), fresh, tuple(name for key, name in names.items() if key not in used))


def _encoder_tensors(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A checkpoint's tensors by the encoder's names (others by their own), and the checkpoint's names of them."""
    tensors, names = {}, {}
    for original, value in unwrap(found).items():
        key = original.removeprefix("backbone.").removeprefix("encoder.")
        for pattern, ours in _SYNONYMS:
            key = re.sub(pattern, ours, key)
        tensors[key], names[key] = value, original
    return tensors, names


def _positions_that_differ(table: Any) -> list[str]:
    """What is wrong with a checkpoint's position table: anything but sines of any number of places."""
    if table is None:
        return []
    if not isinstance(table, Tensor) or table.ndim != 3 or len(table) != 1:
        return [f"{_POSITIONS}: found {tuple(table.shape) if isinstance(table, Tensor) else type(table).__name__}, expected (1, places, C)"]
    if torch.allclose(table.float().cpu(), sine_positions(table.shape[1], table.shape[2]), atol=1e-4):
        return []
    return [f"{_POSITIONS}: found learned positions {tuple(table.shape)}; the encoder has fixed ones (sines), as VideoMAE has"]
