"""Running checks in a process that can be killed: one that hangs has a deadline, one that dies is
named, and the rest go on.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import groupby
from typing import IO, Any

import psutil  # type: ignore[import-untyped]

from configs.settings import Settings
from ops.doctor.finding import Check, Finding, wrong

START_S = 60.0  # an interpreter that is not up by then is no check's fault
END_S = 5.0
SAID_CHARS = 300  # of what a process wrote before it died
OnStart = Callable[[Check], None]


def run(
    checks: Sequence[Check], settings: Settings, on_start: OnStart = lambda check: None
) -> Iterator[tuple[Check, Finding]]:
    """Findings as they come, with their check. `on_start` hears of each check that begins.

    Checks of one group share a process as long as it lives. Ending the iteration kills what runs.
    """
    for _, group in groupby(checks, key=lambda check: check.group):
        waiting = list(group)
        while waiting:
            reached = 0
            for index, finding in _in_one_process(waiting, settings, {}, on_start):
                check, reached = waiting[index], index
                if finding is not None:
                    yield (
                        check,
                        (
                            _with_remedy(check, finding, settings)
                            if finding.state == "wrong"
                            else finding
                        ),
                    )
            waiting = waiting[reached + 1 :]


def _with_remedy(check: Check, finding: Finding, settings: Settings) -> Finding:
    for environment in check.remedies:
        if environment.items() <= os.environ.items():
            continue
        again = [
            found
            for _, found in _in_one_process([check], settings, environment, lambda check: None)
            if found is not None
        ]
        if any(found.name == finding.name for found in again) and all(
            found.state != "wrong" for found in again
        ):
            words = " ".join(f"{name}={value}" for name, value in environment.items())
            return replace(
                finding,
                advice=(
                    f"it is right with {words} in the environment: set it and run again."
                    f" {finding.advice}".strip()
                ),
            )
    return finding


def _in_one_process(
    checks: Sequence[Check], settings: Settings, environment: Mapping[str, str], on_start: OnStart
) -> Iterator[tuple[int, Finding | None]]:
    """(place of a check, what it finds), None as it begins, until all are done or the process has
    ended; the last finding says how.
    """
    order = {
        "settings": settings.model_dump(mode="json"),
        "checks": [asdict(check) for check in checks],
    }
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as said, os.fdopen(reading, "rb", buffering=0) as pipe:
        process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", "ops.doctor.process", str(writing)],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            env={**os.environ, **environment},
            pass_fds=(writing,),
            start_new_session=True,
        )
        os.close(writing)
        try:
            yield from _followed(process, order, pipe, checks, said, on_start)
        finally:
            _kill(process)


def _followed(
    process: subprocess.Popen,
    order: dict[str, Any],
    pipe: IO[bytes],
    checks: Sequence[Check],
    said: IO[bytes],
    on_start: OnStart,
) -> Iterator[tuple[int, Finding | None]]:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(order).encode())
        process.stdin.close()
    except BrokenPipeError:  # it died at once; its last words follow
        pass
    current, began, limit, buffer = 0, time.monotonic(), START_S, b""
    while True:
        left = began + limit - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            yield current, _hung(checks[current], limit)
            return
        data = pipe.read(65536)
        if not data:
            yield current, _died(checks[current], process, time.monotonic() - began, said)
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            kind, value = json.loads(line)
            if kind == "start":
                current, began, limit = value, time.monotonic(), checks[value].deadline_s
                on_start(checks[value])
                yield current, None
            elif kind == "finding":
                yield current, Finding(**value)
            else:  # all done; Python tidies up
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=END_S)
                return


def _hung(check: Check, limit: float) -> Finding:
    return wrong(
        check.name,
        f"not done after {limit:.0f} s; stopped",
        "see what keeps it: a full or slow machine, a dead address",
        limit,
    )


def _died(check: Check, process: subprocess.Popen, seconds: float, said: IO[bytes]) -> Finding:
    code = process.wait(timeout=10)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    said.seek(max(0, said.seek(0, os.SEEK_END) - 4096))
    words = [
        line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()
    ]
    told = next(
        (line for line in words if "rror" in line or "orrupt" in line or "Fatal" in line),
        words[-1] if words else "",
    )
    text = f"the process {how} after {seconds:.1f} s" + (f": {told[:SAID_CHARS]}" if told else "")
    return wrong(
        check.name, text, "what this check does cannot be done on this machine as it is", seconds
    )


def _kill(process: subprocess.Popen) -> None:
    """End the process and all that it has started (Ray's own among them)."""
    try:
        tree = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        tree = []
    for end in (lambda: os.killpg(process.pid, signal.SIGKILL), *(child.kill for child in tree)):
        try:
            end()
        # gone already; macOS refuses a group of the dead
        except (ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            continue
    process.wait()
