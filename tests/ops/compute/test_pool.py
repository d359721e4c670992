from __future__ import annotations

import importlib
import signal
import sys
import time

import pytest

from ops.compute.memory_watch import CEILING_MB
from ops.compute.pool import Job, Outcome, run_jobs

FUNCTION = """
import ctypes, os, time

C = ctypes.PyDLL(None)  # its functions keep the interpreter's lock: nothing else runs in this process meanwhile
C.malloc.restype, C.memset.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)

def act(payload, attempt):
    kind, value = payload
    if kind == "die" or (kind == "die once" and not attempt):
        os.kill(os.getpid(), value)
    if kind == "hang":
        time.sleep(60)
    if kind == "hang in C":
        C.sleep(60)
    if kind == "fill in C" or (kind == "fill once" and not attempt):
        C.memset(C.malloc(value << 20), 1, value << 20)
        C.sleep(60)
    if kind == "fill":
        bytearray(value << 20)
    if kind == "raise":
        raise KeyError(value)
    return os.environ.get(value) if kind == "environment" else attempt
"""  # noqa: E501


@pytest.fixture(autouse=True)
def act(tmp_path, monkeypatch):
    """The function that workers run, in a module that they can import."""
    (tmp_path / "pool_test_function.py").write_text(FUNCTION)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("pool_test_function", None)


def outcomes(*payloads, deadline_s=30.0, workers=2, ceiling_mb=CEILING_MB) -> dict[str, Outcome]:
    act = importlib.import_module("pool_test_function").act
    jobs = [Job(kind, (kind, value), deadline_s) for kind, value in payloads]
    return {
        outcome.job.key: outcome
        for outcome in run_jobs(act, jobs, workers, ceiling_mb=ceiling_mb)
        if outcome is not None
    }


def test_a_dead_worker_costs_its_job_only_and_after_a_second_try():
    found = outcomes(("die", signal.SIGKILL), ("die once", signal.SIGSEGV), ("fine", 0))
    assert found["die"].failure == "decoder process died (signal 9)"
    assert (found["die once"].failure, found["die once"].value) == (None, "signal 11")
    assert (found["fine"].failure, found["fine"].value) == (None, "")


def test_a_hung_worker_is_ended_at_its_deadline():
    start = time.monotonic()
    found = outcomes(("hang", 0), ("fine", 0), deadline_s=1.0)
    assert (
        found["hang"].failure == "decoder did not finish within 1 s"
        and found["fine"].failure is None
    )
    assert time.monotonic() - start < 25


def test_a_worker_that_sleeps_in_c_is_ended_at_its_deadline():
    found = outcomes(("hang in C", 0), ("fine", 0), deadline_s=1.0)
    assert (
        found["hang in C"].failure == "decoder did not finish within 1 s"
        and found["fine"].failure is None
    )


def test_a_worker_that_allocates_in_c_is_ended_at_the_ceiling():
    start = time.monotonic()
    found = outcomes(("fill in C", 500), ("fill once", 500), ("fine", 0), ceiling_mb=300)
    assert found["fill in C"].failure == "decoder used more than 300 MB"
    assert (found["fill once"].failure, found["fill once"].value) == (None, "memory")
    assert found["fine"].failure is None
    assert time.monotonic() - start < 25


def test_more_than_any_decoder_may_take_is_refused_by_the_kernel():
    found = outcomes(("fill", 4000), ("fine", 0), ceiling_mb=300)
    assert (
        found["fill"].failure == "decoder used more than 300 MB" and found["fine"].failure is None
    )


def test_what_the_function_raises_ends_the_run():
    with pytest.raises(KeyError, match="mine"):
        outcomes(("raise", "mine"))


def test_workers_see_the_environment_of_now(monkeypatch):
    for value in ("one", "two"):  # the fork server may have started with another one
        monkeypatch.setenv("AWS_ENDPOINT_URL", value)
        assert outcomes(("environment", "AWS_ENDPOINT_URL"))["environment"].value == value


def test_no_jobs_start_no_process():
    assert list(run_jobs(print, [])) == []
