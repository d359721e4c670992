"""Names of a Video Swin's tensors in MMAction2's checkpoints."""

from __future__ import annotations

from models.recognition.videoswin import VideoSwin


def original_names(model: VideoSwin) -> dict[str, str]:
    """Our key -> original key, for every tensor of the model, in the original's order."""
    names: dict[str, str] = {}
    for kind, original in (("embed", "patch_embed.proj"), ("embed_norm", "patch_embed.norm")):
        names |= {f"{kind}.{leaf}": f"backbone.{original}.{leaf}" for leaf in ("weight", "bias")}
    swin = model.swin
    for stage, (blocks, merge) in enumerate(zip(swin.stages, swin.merges, strict=True)):
        for key in blocks.state_dict():
            original = key.replace(".fc1.", ".mlp.fc1.").replace(".fc2.", ".mlp.fc2.")
            names[f"swin.stages.{stage}.{key}"] = f"backbone.layers.{stage}.blocks.{original}"
        for key in sorted(merge.state_dict(), key=lambda key: key.startswith("norm")):
            names[f"swin.merges.{stage}.{key}"] = f"backbone.layers.{stage}.downsample.{key}"
    names |= {
        f"swin.norm.{leaf}": f"backbone.norm{len(swin.stages) - 1}.{leaf}"
        for leaf in ("weight", "bias")
    }
    return names | {"fc.weight": "cls_head.fc_cls.weight", "fc.bias": "cls_head.fc_cls.bias"}


def image_names(model: VideoSwin) -> dict[str, str]:
    """Our key -> key of the image Swin of the same size. Its indices of distances are another
    window's: ours stay.
    """
    names: dict[str, str] = {}
    for ours, original in original_names(model).items():
        if not ours.endswith("relative_position_index") and not ours.startswith("fc."):
            plain = original.removeprefix("backbone.")
            names[ours] = (
                plain.replace(f"norm{len(model.swin.stages) - 1}.", "norm.")
                if ours.startswith("swin.norm.")
                else plain
            )
    return names
