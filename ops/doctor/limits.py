"""What control groups (containers, services, batch systems) grant of CPU time and memory; the
tightest of the groups above counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
NO_LIMIT = 2**60  # version 1 writes a number beyond for none


def cpu_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """CPUs whose time is granted; None is no limit."""
    found = []
    for folder in _folders("cpu", root, membership):
        words = _read(folder / "cpu.max").split()
        # version 1
        words = words or [
            word
            for name in ("quota", "period")
            for word in _read(folder / f"cpu.cfs_{name}_us").split()
        ]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def memory_limit(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that are granted; None is no limit."""
    names = ("memory.max", "memory.limit_in_bytes")
    texts = [
        _read(folder / name).strip()
        for folder in _folders("memory", root, membership)
        for name in names
    ]
    return min(
        (int(text) for text in texts if text.isdigit() and int(text) < NO_LIMIT), default=None
    )


def _folders(controller: str, root: Path, membership: Path) -> Iterator[Path]:
    """Folders of this process's group and of those above it; of a container that sees its own group
    as the root that one alone.
    """
    for line in [*_read(membership).splitlines(), "0::/", f"0:{controller}:/"]:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = (
            root / controllers
            if controllers and (root / controllers).is_dir()
            else root / controller
            if controllers
            else root
        )
        own = base / path.lstrip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(base):
                break
            yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
