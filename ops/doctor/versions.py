"""Python, and the versions that are installed beside those that the project pins."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from configs.settings import Settings
from ops.doctor.finding import Finding, good, wrong

PROJECT = "kinograph"


def python(settings: Settings) -> Iterator[Finding]:
    """The interpreter, and whether the project allows it."""
    found = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    wanted = SpecifierSet(_required_python())
    if platform.python_version() not in wanted:
        yield wrong("Python", found, f"{PROJECT} needs Python {wanted}")
    else:
        yield good("Python", found)


def _required_python() -> str:
    about = metadata.metadata(PROJECT)
    return about["Requires-Python"] if "Requires-Python" in about else ""  # noqa: SIM401


def dependencies(settings: Settings) -> Iterator[Finding]:
    """Every dependency that this platform needs: one line for those that fit, one for each that is
    absent or of another version.
    """
    fit = []
    for line in metadata.requires(PROJECT) or []:
        required = Requirement(line)
        if required.marker is not None and not required.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(required.name)
        except metadata.PackageNotFoundError:
            yield wrong(
                required.name, "not installed", f"pip install '{required.name}{required.specifier}'"
            )
            continue
        if required.specifier.contains(found, prereleases=True):
            fit.append(f"{required.name} {found}")
        else:
            text = f"{found}, where {required.specifier} is pinned"
            yield wrong(required.name, text, f"pip install '{required.name}{required.specifier}'")
    yield good("packages", f"{len(fit)} as pinned: {', '.join(fit)}")
