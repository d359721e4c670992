"""Where everything lies: what assets and commands ask before they call the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import configs

if TYPE_CHECKING:
    from ops.store.layout import Layout


def layout_of(settings: configs.Settings) -> Layout:
    """All places below the storage root of the settings."""
    from ops.store.layout import Layout

    return Layout(settings.storage)
