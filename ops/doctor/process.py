"""The process that checks run in: python -m ops.doctor.process FD; reads what to do from its input,
writes JSON lines to the descriptor.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

from configs.settings import Settings
from ops.doctor.finding import Check, Finding


def main(descriptor: int) -> None:
    """Run the checks of the order on the standard input."""
    order = json.load(sys.stdin)
    settings = Settings.model_validate(order["settings"])
    with os.fdopen(descriptor, "w", encoding="utf-8", buffering=1) as out:

        def say(kind: str, value: Any) -> None:
            out.write(json.dumps([kind, value]) + "\n")
            out.flush()

        for index, fields in enumerate(order["checks"]):
            check = Check(**{**fields, "remedies": tuple(fields["remedies"])})
            say("start", index)
            for finding in findings(check, settings):
                say("finding", asdict(finding))
        say("end", None)


def findings(check: Check, settings: Settings) -> Iterable[Finding]:
    """What the check finds, with the seconds that it took; an exception is a finding too."""
    module, _, name = check.function.partition(":")
    began = time.perf_counter()
    try:
        for finding in getattr(import_module(module), name)(settings, **check.arguments):
            took = time.perf_counter() - began
            yield finding if finding.seconds is not None else replace(finding, seconds=took)
            began = time.perf_counter()
    except Exception as error:
        reason = " ".join(str(error).split())[:500] or "no message"
        # those of ours and of the system say what to do
        known = isinstance(error, (ValueError, OSError))
        advice = (
            "mend what the message names"
            if known
            else "the check did not expect this; the message is all that is known"
        )
        yield Finding(
            check.name,
            "wrong",
            f"{type(error).__name__}: {reason}",
            advice,
            time.perf_counter() - began,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]))
    sys.stdout.flush()
