"""The lock files, the script that installs from them, and the platforms that they hold for."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import small_world

REPO = Path(__file__).resolve().parent.parent
OURS = ("configs", "models", "ops", "assets", "pipelines")
BUILT = (*OURS, "pyproject.toml", "README.md", "LICENSE")
KINDS = (".py", ".yaml", ".typed")
PARTS = ("run", "dev")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "manylinux x86_64": ("linux", "x86_64"),
    "manylinux aarch64": ("linux", "aarch64"),
    "macosx arm64": ("darwin", "arm64"),
}


def _install() -> ModuleType:
    """The script, loaded from its file: `requirements` is a folder and no package."""
    spec = importlib.util.spec_from_file_location(
        "install", REPO / ".ci" / "requirements" / "install.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = _install()
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _locked(*parts: str) -> dict[str, str]:
    """{name==version: block} of the locks, torch with it."""
    pins = {
        pin: block
        for part in parts
        for pin, block in install.blocks(REPO / ".ci" / "requirements" / f"{part}.txt").items()
    }
    return {**pins, install.torch_pin(): install.torch_pin()}


def _markers(*parts: str) -> dict[str, str]:
    """The marker of each locked package that not every platform and Python needs."""
    lines = {pin.split("==")[0]: block.splitlines()[0] for pin, block in _locked(*parts).items()}
    return {
        name: line.partition(" ; ")[2].rstrip(" \\")
        for name, line in lines.items()
        if " ; " in line
    }


def _versions(*parts: str) -> dict[str, str]:
    return {name: version for name, version in (pin.split("==") for pin in _locked(*parts))}


def _walk(asked: list[str], versions: dict[str, str]) -> tuple[list[str], set[str]]:
    """(requirements that the versions do not meet, packages seen) from what is asked down to the
    last need, on this machine.

    A package's own needs are read where it is installed. CUDA's libraries are the affair of the
    build of torch.
    """
    todo, seen, unmet = (
        [("kinograph", "", line) for line in asked],
        set[tuple[str, str]](),
        list[str](),
    )
    while todo:
        by, extra, line = todo.pop()
        wanted = Requirement(line)
        name = canonicalize_name(wanted.name)
        if (wanted.marker and not wanted.marker.evaluate({"extra": extra})) or (
            name != "torch" and install.TORCH.match(f"{name}==")
        ):
            continue
        if name not in versions or not wanted.specifier.contains(versions[name], prereleases=True):
            unmet.append(f"{by} needs {line}; the lock has {versions.get(name, 'nothing')}")
            continue
        for part in {"", *wanted.extras} - {extra for other, extra in seen if other == name}:
            seen.add((name, part))
            if name == "torch" or _found(name) == versions[name]:
                todo += [(name, part, need) for need in importlib.metadata.requires(name) or []]
    return unmet, {name for name, _ in seen}


def _found(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_the_lock_names_all_that_is_needed_and_no_more() -> None:
    """No resolver runs, so a package that the lock forgot would be missing only when somebody
    imports it.
    """
    unmet, needed = _walk(PROJECT["dependencies"], versions := _versions("run"))
    assert not unmet
    build = {"pip", "setuptools"}
    # What another platform needs is not seen from here; what is of another version here may need
    # something else.
    same = all(
        _found(name) == version
        for name, version in versions.items()
        if name != "torch" and _found(name)
    )
    markers = {name: Marker(text) for name, text in _markers("run").items()}
    here = {name for name in versions if name not in markers or markers[name].evaluate()}
    assert not same or {name for name in here if _found(name)} <= needed | build
    unmet, _ = _walk(
        PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"], _versions(*PARTS)
    )
    assert not unmet


def test_a_run_needs_nothing_of_the_tests_and_every_package_has_hashes() -> None:
    run, dev = _locked("run"), install.blocks(REPO / ".ci" / "requirements" / "dev.txt")
    assert not run.keys() & dev.keys()
    everything = {**install.blocks(REPO / ".ci" / "requirements" / "run.txt"), **dev}
    assert len({pin.split("==")[0] for pin in everything}) == len(everything), (
        "one version of each package for all Pythons"
    )
    assert not [pin for pin, block in everything.items() if "--hash=sha256:" not in block]
    assert not [pin for pin in everything if install.TORCH.match(pin)], (
        "the build of torch is the machine's choice"
    )


def test_the_pythons_of_the_script_are_those_of_the_project() -> None:
    start = "Programming Language :: Python :: "
    run = [line.removeprefix(start) for line in PROJECT["classifiers"] if line.startswith(start)]
    assert run == list(PYTHONS)[: len(run)], "those on which the suite was run"
    assert [f"3.{minor}" for minor in range(install.OLDEST[1], install.NEWEST[1] + 1)] == list(
        PYTHONS
    ), "those that it installs on"
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def test_an_install_that_was_cut_off_is_mended(tmp_path: Path) -> None:
    """What has no RECORD or INSTALLER was being written when the install stopped; pip would take it
    for installed.
    """
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "with blank")], check=True
    )
    environment = install.Environment(tmp_path / "with blank", None)
    site = next(environment.folder.glob("lib/python3.*/site-packages"))
    for path in (
        "whole-1.dist-info/INSTALLER",
        "whole-1.dist-info/RECORD",
        "half-1.dist-info/RECORD",
        "~ld/old.py",
    ):
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).touch()
    environment.make()
    assert {path.name for path in site.iterdir()} >= {"whole-1.dist-info", "pip"}
    assert not (site / "half-1.dist-info").exists() and not (site / "~ld").exists()


def test_an_old_python_says_which_one_is_needed(tmp_path: Path) -> None:
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    old = next(
        (
            path
            for minor in (6, 8, 9, 10)
            for path in sorted(folder.glob(f"3.{minor}.*/bin/python"))
        ),
        None,
    )
    if old is None:
        pytest.skip("no Python older than 3.11 on this machine")
    command = [
        str(old),
        str(REPO / ".ci" / "requirements" / "install.py"),
        str(tmp_path / "venv"),
        "run",
    ]
    done = subprocess.run(
        command,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (
        done.returncode == 1
        and done.stderr.startswith("Python 3.11 to 3.14 is needed;")
        and len(done.stderr.splitlines()) == 1
    )


def _settings(platform: str, python: str) -> tuple[list[str], dict[str, str]]:
    """pip's options and the markers' values of a platform: manylinux up to 2.28 (Debian 10, RHEL 8
    and later), macOS up to 14.
    """
    system, machine = PLATFORMS[platform]
    tags = [f"manylinux_2_{glibc}_{machine}" for glibc in range(28, 4, -1)] + [
        f"manylinux2014_{machine}",
        f"linux_{machine}",
    ]
    chosen = tags if system == "linux" else [f"macosx_14_0_{machine}"]
    values = {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    values.update(
        platform_system=system.title(),
        implementation_name="cpython",
        platform_python_implementation="CPython",
    )
    return [option for tag in chosen for option in ("--platform", tag)] + [
        "--python-version",
        python,
    ], values


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where pip reaches no index: it does not even find a pure wheel that every machine can
    take.
    """
    where = [
        "--target",
        str(tmp_path_factory.mktemp("index") / "none"),
        f"packaging=={_versions('run')['packaging']}",
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        *where,
    ]
    if subprocess.run(command, capture_output=True, timeout=600, check=False).returncode:
        pytest.skip("no package index is reachable")


@pytest.mark.slow
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_locked_package_has_a_wheel(platform: str, python: str, tmp_path: Path) -> None:
    """pip finds a wheel of every package for the platform, and its hash is in the lock; nothing is
    installed.
    """
    options, values = _settings(platform, python)
    pins = {}
    for pin, block in _locked(*PARTS).items():
        _, _, marker = block.split("\\")[0].partition(";")
        if not marker or Marker(marker).evaluate(values):  # pip would ask this machine
            pins[pin] = block
    if (platform, python) == ("macosx arm64", "3.14"):
        pins = {
            pin: block for pin, block in pins.items() if pin.split("==")[0] not in install.SOURCES
        }
    (tmp_path / "pins.txt").write_text("\n".join(pins))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--only-binary",
        ":all:",
    ]
    where = [
        "--target",
        str(tmp_path / "none"),
        "--report",
        str(tmp_path / "report.json"),
        "-r",
        str(tmp_path / "pins.txt"),
    ]
    done = subprocess.run(
        [*command, *options, *where], capture_output=True, text=True, timeout=1100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "report.json").read_text())["install"]
    strange = []
    for each in found:
        digest = each["download_info"]["archive_info"]["hashes"]["sha256"]
        name = canonicalize_name(each["metadata"]["name"])
        if name != "torch" and digest not in pins[f"{name}=={each['metadata']['version']}"]:
            strange.append(each["download_info"]["url"])
    assert len(found) == len(pins) and not strange


@pytest.mark.slow
@pytest.mark.usefixtures("index")
def test_an_install_that_is_killed_goes_on_and_makes_a_whole_environment(tmp_path: Path) -> None:
    """`make` in a folder with a blank, killed in the middle and run again; then nothing is left to
    do, and everything imports.
    """
    home = tmp_path / "a folder"
    home.mkdir()
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPO / name, home)
    for name in (".ci", "configs", "models", "ops", "assets", "pipelines"):
        shutil.copytree(REPO / name, home / name)
    command = ["make", f"PYTHON={os.path.realpath(sys.executable)}", ".venv/.installed"]
    started = subprocess.Popen(
        command,
        cwd=home,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    site = home / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    while started.poll() is None and len(list(site.glob("*.dist-info"))) < 40:
        time.sleep(0.2)
    os.killpg(started.pid, 9)
    started.communicate()
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert (
        "up to date"
        in subprocess.run(command, cwd=home, capture_output=True, text=True, check=True).stdout
    )
    code = (
        "import torch, ray.train, mlflow, dagster_webserver, zarr, decord, av, s3fs, obstore,"
        " ops.store, pipelines.main"
    )
    subprocess.run([home / ".venv" / "bin" / "python", "-c", code], cwd=tmp_path, check=True)
    subprocess.run(
        [home / ".venv" / "bin" / "kinograph", "--help"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )


@pytest.mark.slow  # a Ray starts
def test_a_wheel_is_whole_and_takes_its_own_code_whatever_lies_in_the_working_folder(
    tmp_path: Path,
) -> None:
    """Built here, unpacked into another environment; command, decode worker, Ray worker and its
    loader process start from there.
    """
    copy = tmp_path / "copy"  # a build leaves folders behind
    shutil.copytree(
        REPO,
        copy,
        ignore=lambda folder, names: set(names) - set(BUILT) if folder == str(REPO) else (),
    )
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    shutil.rmtree(copy)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "elsewhere")], check=True
    )
    site = next((tmp_path / "elsewhere").glob("lib/python3.*/site-packages"))
    shutil.unpack_archive(wheel, site, "zip")
    # what is needed beside it; .pth files there are not followed
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    working = tmp_path / "working"
    for name in OURS:
        (working / name).mkdir(parents=True)
        (working / name / "__init__.py").write_text(
            f"raise SystemExit('{name} was taken from the working folder')"
        )
    line = REPO / "tests" / "support" / "smallest_line.py"
    film = small_world.write_video(tmp_path / "film.mp4", seed=1)
    env = {"KINOGRAPH_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [tmp_path / "elsewhere" / "bin" / "python", "-P", *arguments],
            cwd=working,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    told = json.loads(run(str(line), str(film)).splitlines()[-1])
    for path in (*told["decoded"][1:3], *told["trained"][1:]):
        assert path.startswith(f"{site}/"), told
    listed = run("-c", "from pipelines.main import main; main(['recipes'])")
    assert "recipe   tsn_tiny_figures" in listed
    files = [
        path.relative_to(REPO)
        for name in OURS
        for path in (REPO / name).rglob("*")
        if path.suffix in KINDS
    ]
    assert not [path for path in files if not (site / path).exists()]
