"""A picture made small enough to travel inside an event or a page."""

from __future__ import annotations

import io

from PIL import Image


def jpeg_preview(png: bytes, width: int) -> bytes:
    """The picture as JPEG, at most `width` pixels wide, sides in proportion; transparency is
    dropped.
    """
    with Image.open(io.BytesIO(png)) as image:
        rgb = image.convert("RGB")
    if rgb.width > width:
        rgb = rgb.resize((width, round(rgb.height * width / rgb.width)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    rgb.save(out, "JPEG", quality=85)
    return out.getvalue()
