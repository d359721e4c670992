"""Makes the environment from the lock files beside this script: `python3
.ci/requirements/install.py .venv run dev`.

Standard library only, and no annotations: an old Python can at least read it, and says which Python
is needed. No resolver runs: the locks name every package with its version and the hashes of its
wheels. torch alone is locked by version and not by hash, and always comes through pip: pip's own
settings say whether it is a build for CUDA, for the CPU or for ROCm.
"""

import argparse
import contextlib
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# below: syntax of ours; above: packages that publish no wheels yet
OLDEST, NEWEST = (3, 11), (3, 14)
FITS = f"import sys; sys.exit(not {OLDEST} <= sys.version_info[:2] <= {NEWEST})"
# No bytecode ahead of time for what nothing here loads, or a few files of it: Python makes theirs
# when it first loads them.
SELDOM = (
    "sympy|mpmath|scipy|sklearn|networkx|narwhals|fontTools|moto|cfnlint|databricks|playwright|pip|setuptools|mypyc?|"
    "torch/(_inductor|_dynamo|onnx|ao)|ray/(rllib|serve|llm)|numpy/(f2py|distutils)|pygments/lexers|pydantic/v1"
)
UNCOMPILED = f"/site-packages/(({SELDOM})/|.*/(tests|testing)/)"
QUIET = ("--quiet", "--disable-pip-version-check")
# may be built from its source, hashed like the wheels: no wheel for Python 3.14 on macOS
SOURCES = {"watchdog"}
WHERE = """
Packages have wheels for Linux with glibc 2.28 or newer (x86-64, aarch64) and for macOS 14 or newer (Apple silicon)."""  # noqa: E501
TORCH = re.compile(r"(torch|triton|(nvidia|cuda)-.+)==")  # what a build of torch decides for itself


def blocks(lock):
    """{name==version: the lines of its block, hashes and marker with it} of a lock file."""
    text = "\n".join(
        line for line in lock.read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    )
    return {block.split()[0]: block for block in re.split(r"\n(?=\S)", text.strip())}


def torch_pin():
    """`torch==VERSION`, which the lock of `run` holds in a comment."""
    return re.search(
        r"^# (torch==\S+)", (HERE / "run.txt").read_text(encoding="utf-8"), re.MULTILINE
    ).group(1)


def does(command):
    """Whether a command can be started and ends well within a minute; what it prints is thrown
    away.
    """
    try:
        return (
            subprocess.call(
                list(map(str, command)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=60,
            )
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def fits(python):
    """Whether an interpreter starts and is of a version for which every package has wheels."""
    return does([python, "-I", "-c", FITS])


def interpreter(uv):
    """A Python of a fitting version: this one, else one of the PATH, else one that uv has."""
    named = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    for python in [sys.executable, *filter(None, map(shutil.which, named))]:
        if fits(python):
            return python
    if uv:
        with contextlib.suppress(subprocess.CalledProcessError):
            return subprocess.check_output(
                [uv, "python", "find", f">=3.{OLDEST[1]},<3.{NEWEST[1] + 1}"],
                universal_newlines=True,
            ).strip()
    found = ".".join(map(str, sys.version_info[:2]))
    sys.exit(
        f"Python 3.{OLDEST[1]} to 3.{NEWEST[1]} is needed; {sys.executable} is {found}, and the"
        " PATH has no other. Install one and name it: make PYTHON=/path/to/python3.13"
    )


class Environment:
    """A virtual environment: `uv`, where it is at hand, or pip put packages in it.

    Arguments: its folder; the path of uv or None.
    """

    def __init__(self, folder, uv):
        self.folder, self.uv, self.python = folder, uv, folder / "bin" / "python"
        self.pip = [str(self.python), "-I", "-m", "pip"]
        # Without the settings that would send packages elsewhere than into the environment, and
        # without what setuptools advises.
        told = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX")
        }
        self.settings = {"env": {**told, "PYTHONWARNINGS": "ignore"}, "stdin": subprocess.DEVNULL}

    def make(self):
        """Makes it, or makes it again where its Python is gone, of another version, or was never
        finished.
        """
        if not fits(self.python):
            base = interpreter(self.uv)
            if self.uv:
                self.run(
                    [self.uv, "venv", "--quiet", "--clear", "--python", base, str(self.folder)]
                )
            elif not does([base, "-I", "-c", "import ensurepip, venv"]):
                sys.exit(
                    f"{base} lacks venv or ensurepip. On Debian and Ubuntu: apt-get install"
                    " python3-venv. Anywhere: install uv."
                )
            else:
                self.run([base, "-I", "-m", "venv", "--clear", str(self.folder)])
        for path in self.folder.glob("lib/python3.*/site-packages/*"):
            # An install that was cut off: pip and uv write these two files last, and set what they
            # replace aside as `~name`.
            half = path.name.endswith(".dist-info") and not all(
                (path / name).is_file() for name in ("INSTALLER", "RECORD")
            )
            if half or path.name.startswith("~"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not self.uv and not does([*self.pip, "--version"]):
            self.run([str(self.python), "-I", "-m", "ensurepip"])

    def run(self, command):
        """Runs a command to its end; one that fails shows its words and ends the install, which
        goes on from there the next time.
        """
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **self.settings
        )
        if done.returncode:
            sys.exit(
                done.stdout.decode(errors="replace")
                + "The install stopped in: "
                + " ".join(command)
                + WHERE
            )

    def at_once(self, commands):
        """Runs commands side by side; one that fails, say by a hiccup of the network, runs once
        more by itself.
        """
        with tempfile.TemporaryFile() as words, contextlib.ExitStack() as stack:
            start = functools.partial(subprocess.Popen, stdout=words, stderr=words, **self.settings)
            started = [(command, stack.enter_context(start(command))) for command in commands]
        for command, process in started:
            if process.returncode:
                self.run(command)

    def installer(self, *arguments):
        """The command that puts packages as the arguments say: never a dependency, never a
        build.
        """
        if self.uv:
            return [
                self.uv,
                "pip",
                "install",
                "--quiet",
                "--python",
                str(self.python),
                "--no-deps",
                *arguments,
            ]
        return [*self.pip, "install", *QUIET, "--no-compile", "--no-deps", *arguments]

    def installed(self):
        """Names of all that is installed, normalised."""
        code = (
            "import importlib.metadata as m; print(*(d.metadata['Name'] for d in"
            " m.distributions()))"
        )
        names = subprocess.check_output(
            [str(self.python), "-I", "-c", code], universal_newlines=True
        ).split()
        return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def put(environment, packages, torch):
    """Installs locked packages and torch; pip in three processes, since each keeps one processor
    busy with unpacking.
    """
    with tempfile.TemporaryDirectory() as scratch:

        def some(name, chosen):
            binary = [
                f"--only-binary {block.split('==')[0]}"
                for block in chosen
                if block.split("==")[0] not in SOURCES
            ]
            path = Path(scratch) / name
            path.write_text("\n".join([*binary, *chosen]) + "\n", encoding="utf-8")
            return environment.installer("--require-hashes", "-r", str(path))

        if environment.uv and packages:
            if (
                subprocess.call(some("all.txt", list(packages.values())), **environment.settings)
                == 0
            ):
                packages = {}
            else:
                print("uv could not; pip does it.", flush=True)
                does([environment.python, "-I", "-m", "ensurepip"])
        environment.uv = None  # from here on it is pip's, which the lock brought
        pip = [block for pin, block in packages.items() if pin.startswith("pip==")]
        if pip:  # first by itself: the pip that comes with Python is slower by half
            environment.run(some("pip.txt", pip))
        rest = [block for block in packages.values() if block not in pip]
        commands = [
            some(f"{number}.txt", rest[number::2]) for number in range(2) if rest[number::2]
        ]
        environment.at_once([*commands, environment.installer(torch)])


def orphans(environment, stamps, wanted):
    """Names that an earlier lock put here and that no lock names now: two packages may bring the
    same module (decord, decord2).
    """
    there, before = environment.installed(), set()
    for stamp in filter(Path.is_file, stamps):
        before.update(pin.split("==")[0] for pin in stamp.read_text().split()[1:])
        if not stamp.stat().st_size:  # of a time before the locks
            before.update(there)
    keep = {pin.split("==")[0] for pin in wanted} | {"kinograph", "wheel"}
    return sorted(name for name in before & there - keep if not TORCH.match(name + "=="))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the environment")
    parser.add_argument("parts", nargs="+", choices=("run", "dev"))
    arguments = parser.parse_args()
    start, parts = time.monotonic(), arguments.parts
    environment = Environment(arguments.folder.absolute(), shutil.which("uv"))
    print(
        f"Installing into {arguments.folder} with {'uv' if environment.uv else 'pip'} (the first"
        " time takes minutes)",
        flush=True,
    )
    environment.make()
    locks = {part: blocks(HERE / (part + ".txt")) for part in ("run", "dev")}
    stamps = {
        "run": environment.folder / ".installed",
        "dev": environment.folder / ".installed-dev",
    }
    # What a finished install leaves: the lock in short. Where it says the same, that part is whole.
    said = {
        part: "\n".join([hashlib.sha256(str(lock).encode()).hexdigest(), *sorted(lock)]) + "\n"
        for part, lock in locks.items()
    }
    todo = [
        part
        for part in parts
        if not stamps[part].is_file() or stamps[part].read_text() != said[part]
    ]
    gone = orphans(environment, stamps.values(), [pin for lock in locks.values() for pin in lock])
    if gone:
        environment.run([*environment.pip, "uninstall", *QUIET, "--yes", *gone])
    made = time.monotonic()
    torch = torch_pin()
    put(environment, {pin: block for part in todo for pin, block in locks[part].items()}, torch)
    # What this build of torch needs beyond the lock, at the versions that it names: the libraries
    # of CUDA, or nothing.
    environment.run([*environment.pip, "install", *QUIET, "--no-compile", torch])
    unpacked = time.monotonic()
    # All processors at once, where pip would use one. Without it every process compiles anew where
    # Python may not write bytecode.
    compiling = [
        str(environment.python),
        "-I",
        "-m",
        "compileall",
        "-qq",
        "-j",
        "0",
        "-x",
        UNCOMPILED,
    ]
    subprocess.call(
        [*compiling, *map(str, environment.folder.glob("lib/python3.*/site-packages"))],
        stdout=subprocess.DEVNULL,
    )
    compiled = time.monotonic()
    # What an older setuptools left beside the code would be taken for this project's metadata.
    shutil.rmtree(HERE.parent.parent / "kinograph.egg-info", ignore_errors=True)
    environment.run(
        [
            *environment.pip,
            "install",
            *QUIET,
            "--no-deps",
            "--no-build-isolation",
            "--editable",
            str(HERE.parent.parent),
        ]
    )
    for part in parts:
        stamps[part].write_text(said[part])
    end = time.monotonic()
    phases = {
        "environment": made - start,
        "packages": unpacked - made,
        "bytecode": compiled - unpacked,
        "this project": end - compiled,
    }
    print(
        f"Installed in {end - start:.0f} s:",
        ", ".join(f"{name} {seconds:.0f}" for name, seconds in phases.items()),
        flush=True,
    )


if __name__ == "__main__":
    main()
