"""Names of an EVAD model's tensors in the original's checkpoints, and of its encoder's in those of
VideoMAE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.blocks.vit import sine_positions
from models.checkpoints import PublishedWeightsError
from models.detection.evad import EVAD
from models.weights import Report, fit, mismatch_message

# In the original's order.
_PARTS = (
    ("encoder.embed.", "patch_embed.proj."),
    ("encoder.blocks.", "blocks."),
    ("encoder.norm.", "norm."),
    ("head.actions.mask_token", "det_head.mask_token"),
    ("head.stages.", "det_head.s0_headseries."),
    ("head.actions.encoder_to_decoder.", "det_head.encoder_to_decoder."),
    ("head.actions.blocks.", "det_head.decoder.blocks."),
    *(
        (f"pyramid.{ours}.{level}.", f"fpn_{original}{level + 2}.")
        for level in range(4)
        for ours, original in (("laterals", "lateral"), ("outputs", "output"))
    ),
    ("proposal_features.", "init_proposal_features."),
    ("proposal_boxes.", "init_proposal_boxes."),
    ("class_weights", "criterion.empty_weight"),
)


def original_names(model: EVAD) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    keys = list(model.state_dict())
    return {
        key: original + key.removeprefix(ours)
        for ours, original in _PARTS
        for key in keys
        if key.startswith(ours)
    }


_POSITIONS = "pos_embed"
# How the encoder's parts are called: by VideoMAE and V2, by MMAction2 (below `backbone.`), and by
# the recognition family here.
_SYNONYMS = (
    (r"^patch_embed\.(proj|projection)\.", "embed."),
    (r"\.mlp\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.mlp\.layers\.1\.", ".mlp.fc2."),
    (r"^positions$", _POSITIONS),
)
# Pretraining's decoder, classifiers, and the norm after averaging all tokens, which EVAD does not
# do.
_NOT_USED = re.compile(
    r"^(decoder|encoder_to_decoder|mask_token|head|fc_norm|fc|cls_head|fc_dropout)(\.|$)"
)


def init_from(model: EVAD, found: Mapping[str, Any], source: str) -> Report:
    """Starts a model from a published detector, whole; or its encoder from a VideoMAE or VideoMAE
    V2 checkpoint, of the pretraining or fine-tuned, of the official code, of MMAction2 or of the
    recognition family `videomae`.

    Every tensor of the encoder's blocks and embedding must be there and fit. The final norm is
    taken from a pretraining checkpoint and stays fresh with a fine-tuned one, whose norm is over
    the mean of all tokens. A table of positions must be the fixed one, of any size: the encoder
    makes its own for every clip size.

    Args:
        model: takes the weights; unchanged where anything does not fit.
        found: the checkpoint, key to tensor.
        source: where it is, for the report.

    Raises:
        PublishedWeightsError: with all that does not fit.
    """
    if any(re.search(r"(^|\.)det_head\.", key) for key in found):
        return fit(model, found, original_names(model), source=source)
    # our name of each of the checkpoint's tensors
    keys = {f"encoder.{_canonical(key)}": key for key in found}
    positions = keys.pop(f"encoder.{_POSITIONS}", None)
    if positions is not None and (problem := _positions_that_differ(found[positions])):
        raise PublishedWeightsError(mismatch_message(source, model, [], [], [problem]))
    names = {
        ours: keys.get(ours, ours.removeprefix("encoder."))
        for ours in model.state_dict()
        if ours.startswith("encoder.")
    }
    optional = {
        ours: "the checkpoint has no norm over tokens"
        for ours in names
        if ours.startswith("encoder.norm.")
    }
    optional |= {ours: "not in VideoMAE" for ours in model.state_dict() if ours not in names}
    kind = "a VideoMAE for the encoder"
    return fit(
        model, found, names, source=source, kind=kind, optional=optional,
        unused=lambda key: key == positions or _NOT_USED.match(_canonical(key)),
    )  # fmt: skip


def _canonical(original: str) -> str:
    """The encoder's name of a checkpoint's tensor."""
    key = original.removeprefix("backbone.").removeprefix("encoder.")
    for pattern, ours in _SYNONYMS:
        key = re.sub(pattern, ours, key)
    return key


def _positions_that_differ(table: Any) -> str | None:
    """What is wrong with a checkpoint's position table: anything but sines of any number of
    places.
    """
    if not isinstance(table, Tensor) or table.ndim != 3 or len(table) != 1:
        return (
            f"{_POSITIONS}: found"
            f" {tuple(table.shape) if isinstance(table, Tensor) else type(table).__name__},"
            " expected (1, places, C)"
        )
    if torch.allclose(
        table.float().cpu(), sine_positions(table.shape[1], table.shape[2]), atol=1e-4
    ):
        return None
    return (
        f"{_POSITIONS}: found learned positions {tuple(table.shape)}; the encoder has fixed ones"
        " (sines), as VideoMAE has"
    )
