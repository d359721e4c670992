"""What a web server says: of a file, and on a folder's page."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from ops.files.errors import http_status

HREF = re.compile(r"""(?is)<a\s(?:[^>]*?\s)?href\s*=\s*(?:(["'])(.*?)\1|([^\s"'>]+))""")


def asked(system: Any, uri: str) -> dict[str, Any]:
    """What a web server says of a file. Its library calls every failure a missing file."""
    try:
        return dict(system.info(uri))
    except FileNotFoundError as error:
        if error.__cause__ is not None and http_status(error.__cause__) not in (404, 410):
            raise error.__cause__ from None
        raise


def links_of(folder: str, page: str) -> list[str]:
    """What the page of a folder links to below it, as the server writes it: "a%20b.mp4", "deeper/".
    A link may be relative, begin at the server's root or be whole.
    """
    place, found = urlsplit(folder), list[str]()
    inside = unquote(place.path)
    for _, quoted, bare in HREF.findall(page):
        try:
            there = urlsplit(urljoin(folder, html.unescape(quoted or bare)))
        except ValueError:
            continue
        # how letters are quoted differs; the number of slashes does not
        raw = "/".join(there.path.split("/")[place.path.count("/") :])
        sorts = there.query or there.fragment
        here = there.hostname == place.hostname and unquote(there.path).startswith(inside)
        if here and raw and not sorts:
            found.append(raw)
    return found
