"""Names of an EVAD model's tensors in the original's checkpoints."""

from __future__ import annotations

from models.detection.evad import EVAD

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
    return {key: original + key.removeprefix(ours) for ours, original in _PARTS for key in keys if key.startswith(ours)}
