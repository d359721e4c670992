"""Starting weights from a web address: a cache entry for each whole address, with its SHA-256
beside it; no detours, no passwords.

Whoever sits between us and a plain http server decides which weights arrive, and a redirect may
lead to a place that only this machine can reach. So it is https, or this machine itself, unless the
recipe says what the content has to be (`training.init_sha256`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import shutil
import socket
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from configs.schema import ConfigError, Recipe
from ops.files.storage import StorageError, sha256_of

WEB = ("https://", "http://")
TIMEOUT_S = 60.0  # of a server that says nothing


def is_web(uri: str) -> bool:
    """Whether the URI is a web address."""
    return uri.lower().startswith(WEB)


def check_address(recipe: Recipe) -> None:
    """Raise ConfigError for a starting address that holds a password: it would stand in the run,
    the model and every message.
    """
    uri = recipe.training.init_from
    if uri is not None and is_web(uri) and "@" in urlsplit(uri).netloc:
        found = f"{urlsplit(uri).scheme}://...@{urlsplit(uri).hostname}, with a user or password"
        allowed = "an address without one; fetch what needs a login yourself, and name the file"
        raise ConfigError(f"recipe '{recipe.name}'", "training.init_from", found, allowed)


def fetched(uri: str, sha256: str | None, cache: Path) -> Path:
    """The file of this address on this machine, downloaded once.

    Args:
        uri: http or https; plain http only with a `sha256` or of this machine; no user or password.
        sha256: hexadecimal, of the file's content; None takes what comes.
        cache: folder of all downloads; the file gets a folder of its own there.

    Raises:
        StorageError: the address is not taken, cannot be read or gives something else than
            `sha256`; no message has a password.
    """
    place = urlsplit(uri)
    # a token may be in it
    named = place._replace(
        netloc=place.netloc.rpartition("@")[2], query="..." if place.query else ""
    ).geturl()
    if "@" in place.netloc:
        raise StorageError(
            named,
            "the address has a user or password in it; fetch what needs a login yourself, and name"
            " the file",
        )
    if place.scheme.lower() != "https" and sha256 is None and not _is_here(place):
        raise StorageError(
            named,
            "plain http: https is allowed, or training.init_sha256 beside it, or a file of this"
            " machine",
        )
    file = (
        cache / hashlib.sha256(uri.encode()).hexdigest()[:32] / (Path(place.path).name or "weights")
    )
    noted = file.with_name(f"{file.name}.sha256")
    if not (file.is_file() and noted.is_file() and sha256_of(file) == noted.read_text().strip()):
        _download(uri, named, file, free=sha256 is not None)
        noted.write_text(sha256_of(file))
    if sha256 is not None and (found := noted.read_text().strip()) != sha256.lower():
        raise StorageError(named, f"its sha256 is {found}; training.init_sha256 says {sha256}")
    return file


def _download(uri: str, named: str, file: Path, free: bool) -> None:
    opener = urllib.request.build_opener(
        urllib.request.HTTPRedirectHandler() if free else _NoDetours()
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as target, opener.open(uri, timeout=TIMEOUT_S) as source:
            shutil.copyfileobj(source, target)
            wanted = source.headers.get("Content-Length")
            if wanted is not None and target.tell() != int(wanted):
                raise OSError(f"it ended after {target.tell()} of {wanted} bytes")
        os.replace(temporary, file)
    except (OSError, ValueError) as error:  # urllib's own errors are OSErrors
        raise StorageError(named, f"the starting weights cannot be downloaded: {error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


class _NoDetours(urllib.request.HTTPRedirectHandler):
    """Follows a redirect within one server, and from https to https in the open net."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        same = (before.scheme, before.netloc) == (after.scheme, after.netloc)
        if not same and (before.scheme != "https" or after.scheme != "https" or _is_inside(after)):
            where = f"{after.scheme}://{after.hostname}"
            raise urllib.error.URLError(
                f"it redirects to {where}; name that address itself, or give training.init_sha256"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_here(place: SplitResult) -> bool:
    """Whether the address is this machine's own."""
    return place.hostname == "localhost" or (
        _addresses(place) != [] and all(address.is_loopback for address in _addresses(place))
    )


def _is_inside(place: SplitResult) -> bool:
    """Whether the address leads, by any of its numbers, to a place that the open net does not
    see.
    """
    return any(not address.is_global for address in _addresses(place))


def _addresses(place: SplitResult) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    try:
        found = socket.getaddrinfo(place.hostname, place.port or 443, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return []
    return [ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found]
