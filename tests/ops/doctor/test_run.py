"""Checks in processes that die, hang, raise and find nothing: each is named, and the rest go on."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

import configs
from configs.schema import ConfigError
from ops.doctor.checks import DEMO, GROUPS, checks
from ops.doctor.finding import Check
from ops.doctor.run import run

ODD = """
import os, subprocess, sys, time
from ops.doctor.finding import good, note, wrong
def sound(settings): yield good("sound", settings.storage)
def two(settings): yield good("one", "1"); yield note("two", "2")
def nothing(settings): yield from ()
def dies(settings):
    yield good("first", "still here")
    print("corrupted double-linked list", file=sys.stderr, flush=True)
    os.abort()
def leaves(settings): print("noise"); sys.stdout.flush(); os._exit(3)
def hangs(settings, notes):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    open(notes, "w").write(str(child.pid))
    time.sleep(600); yield good("never", "")
def raises(settings): raise ValueError("storage: found x; allowed: y")
def mended(settings): yield good("m", "") if os.environ.get("MENDED") == "2" else wrong("m", "off", "what to do.")
"""  # noqa: E501


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> configs.Settings:
    (tmp_path / "odd_checks.py").write_text(ODD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return configs.Settings(
        storage=str(tmp_path / "storage"),
        tracking_uri=f"sqlite:///{tmp_path}/m.db",
        home=tmp_path / "home",
    )


def odd(name: str, group: str = "odd", **more) -> Check:
    return Check(group, name, f"odd_checks:{name}", **more)


def test_what_dies_or_raises_is_named_and_the_rest_goes_on(settings) -> None:
    started: list[str] = []
    names = ("sound", "dies", "two", "leaves", "raises", "nothing")
    found = list(
        run([odd(name) for name in names], settings, lambda check: started.append(check.name))
    )
    assert started == list(names)
    said = [(check.name, finding.name, finding.state) for check, finding in found]
    assert said == [
        ("sound", "sound", "good"),
        ("dies", "first", "good"),
        ("dies", "dies", "wrong"),
        ("two", "one", "good"),
        ("two", "two", "note"),
        ("leaves", "leaves", "wrong"),
        ("raises", "raises", "wrong"),
    ]
    by_name = {finding.name: finding for _, finding in found}
    assert by_name["sound"].found == settings.storage
    assert (
        "killed by SIGABRT" in by_name["dies"].found
        and "corrupted double-linked list" in by_name["dies"].found
    )
    assert "ended with status 3" in by_name["leaves"].found and by_name["dies"].advice
    assert by_name["raises"].found == "ValueError: storage: found x; allowed: y"


def test_what_hangs_is_killed_with_all_that_it_started(settings, tmp_path) -> None:
    began = time.monotonic()
    hanging = odd("hangs", arguments={"notes": str(tmp_path / "pid")}, deadline_s=2.0)
    (_, hung), (_, after) = list(run([hanging, odd("sound")], settings))
    assert hung.state == "wrong" and "not done after 2 s" in hung.found and after.state == "good"
    assert time.monotonic() - began < 30
    child = int((tmp_path / "pid").read_text())
    if psutil.pid_exists(child):  # its own parent may be slow to bury it
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(child)
            assert process.status() == psutil.STATUS_ZOMBIE or process.wait(5) is not None


def test_an_environment_that_mends_it_is_named(settings, monkeypatch) -> None:
    check = odd("mended", remedies=({"MENDED": "1"}, {"MENDED": "2"}))
    ((_, finding),) = run([check], settings)
    assert (
        finding.state == "wrong"
        and finding.advice
        == "it is right with MENDED=2 in the environment: set it and run again. what to do."
    )
    monkeypatch.setenv("MENDED", "2")
    assert [finding.state for _, finding in run([check], settings)] == ["good"]


def test_the_list(settings) -> None:
    listed = checks(settings)
    assert sorted({check.group for check in listed}) == sorted(GROUPS)
    assert (
        {check.arguments["name"] for check in listed if check.group == "arithmetic"}
        == set(DEMO)
        <= set(configs.names())
    )
    assert not [check for check in listed if check.name == "S3"]
    remote = settings.model_copy(update={"storage": "s3://bucket/prefix"})
    assert [check.name for check in checks(remote, groups=["storage"])][0] == "S3"
    assert len(checks(settings, catalogue=True, groups=["arithmetic"])) > 2 * 25
    for names in ({"groups": ["arithmetics"]}, {"recipes": ["no_recipe"]}):
        with pytest.raises(ConfigError, match="arithmetics|no_recipe"):
            checks(settings, **names)
