"""What the machine is: limits of control groups, versions that do not fit, folders that cannot be
used.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

import configs
from ops.doctor import folders, machine, versions
from ops.doctor.limits import cpu_quota, memory_limit


def one(findings, name: str):
    return next(finding for finding in findings if finding.name == name)


def group_tree(tmp_path: Path, files: dict[str, str], membership: str) -> tuple[Path, Path]:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "membership").write_text(membership)
    return tmp_path / "cgroup", tmp_path / "membership"


@pytest.mark.parametrize(
    ("files", "membership", "cpus", "memory"),
    [
        ({}, "", None, None),
        ({"cpu.max": "max 100000\n", "memory.max": "max\n"}, "0::/\n", None, None),
        (
            {"cpu.max": "150000 100000\n", "memory.max": "2000000000\n"},
            "0::/\n",
            1.5,
            2_000_000_000,
        ),
        (
            {
                "a/cpu.max": "200000 100000",
                "a/b/cpu.max": "max 1",
                "a/b/memory.max": "7000",
                "a/memory.max": "5000",
            },
            "0::/a/b\n",
            2.0,
            5000,
        ),
        (
            {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
            "1:cpu:/\n",
            None,
            None,
        ),
        (
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/x/cpu.cfs_period_us": "100000",
            },
            "1:cpu,cpuacct:/x\n",
            0.5,
            None,
        ),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, "1:memory:/\n", None, None),
        ({"memory/memory.limit_in_bytes": "3000"}, "1:memory:/gone\n", None, 3000),
    ],
    ids=["none", "open", "v2", "v2 nested", "v1 open", "v1", "v1 memory open", "v1 of a container"],
)
def test_control_groups(tmp_path, files, membership, cpus, memory) -> None:
    root, member = group_tree(tmp_path, files, membership)
    assert cpu_quota(root, member) == cpus
    assert memory_limit(root, member) == memory


def test_little_memory_and_less_than_a_cpu_are_wrong(tmp_path, monkeypatch) -> None:
    settings = configs.settings()
    monkeypatch.setattr(machine, "memory_limit", lambda: 10**9)
    monkeypatch.setattr(machine, "cpu_quota", lambda: 0.5)
    assert one(machine.memory(settings), "memory").state == "wrong"
    assert one(machine.processor(settings), "CPUs").state == "wrong"
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    assert one(machine.processor(settings), "CPUs").state == "good"


def test_instruction_sets_are_those_that_the_libraries_name(monkeypatch) -> None:
    said = {finding.name: finding.found for finding in machine.instructions(configs.settings())}
    assert "threads" in said["torch kernels"] and said["oneDNN"]


def test_a_variable_that_is_set_to_nothing_is_noted(monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "")
    finding = one(machine.switches(configs.settings()), "environment")
    assert finding.state == "note" and "RAY_ADDRESS: set to nothing" in finding.advice


def test_dependencies_beside_what_is_pinned(monkeypatch) -> None:
    settings = configs.settings()
    assert [finding.name for finding in versions.dependencies(settings)] == ["packages"]
    wanted = [
        "numpy<1",
        "torch>=2",
        "no-such-package==3",
        'pytest<1; extra == "dev"',
        'numpy<1; sys_platform == "plan9"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    found = {finding.name: finding for finding in versions.dependencies(settings)}
    assert set(found) == {"numpy", "no-such-package", "packages"}
    assert (
        metadata.version("numpy") in found["numpy"].found
        and "pip install 'numpy<1'" == found["numpy"].advice
    )
    assert (
        found["no-such-package"].found == "not installed"
        and "1 as pinned: torch" in found["packages"].found
    )
    monkeypatch.setattr(versions, "_required_python", lambda: ">=4")
    assert one(versions.python(settings), "Python").state == "wrong"


def test_folders_are_tried_and_left_as_they_were(tmp_path) -> None:
    settings = configs.Settings(
        storage=str(tmp_path / "a" / "b"),
        tracking_uri="sqlite:///x.db",
        home=tmp_path / "a" / "home",
    )
    for check in (
        folders.storage,
        folders.home,
        folders.temporary,
        folders.sockets,
        folders.processes,
        folders.user,
    ):
        assert all(finding.state == "good" for finding in check(settings)), check
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("stays")
    list(folders.storage(settings))
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    settings = configs.Settings(
        storage=f"{tmp_path}/file/below",
        tracking_uri="sqlite:///x.db",
        home=Path("/proc/kinograph"),
    )
    for check, name, variable in (
        (folders.storage, "storage", "KINOGRAPH_STORAGE"),
        (folders.home, "home", "KINOGRAPH_HOME"),
    ):
        finding = one(check(settings), name)
        assert finding.state == "wrong" and variable in finding.advice


def test_a_machine_that_cannot_talk_to_itself_is_named(tmp_path, monkeypatch) -> None:
    def refused(*arguments, **options):
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.create_connection", refused)
    finding = one(folders.processes(configs.settings()), "loopback")
    assert finding.state == "wrong" and "lo up" in finding.advice


def test_too_little_room_is_wrong(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(folders, "LITTLE_GB", 1e9)
    settings = configs.Settings(storage=str(tmp_path), tracking_uri="sqlite:///x.db", home=tmp_path)
    assert "free some space" in one(folders.storage(settings), "storage").advice


def test_a_temporary_folder_too_long_for_sockets_is_named(tmp_path, monkeypatch) -> None:
    import multiprocessing.util
    import tempfile

    long = tmp_path / ("t" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setitem(multiprocessing.process.current_process()._config, "tempdir", None)
    finding = one(folders.sockets(configs.settings()), "sockets")
    assert finding.state == "wrong" and "TMPDIR" in finding.advice and str(long) in finding.found
