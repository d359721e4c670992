"""The smallest line in the environments that people have: it ends, or says in one line what stands
in its way.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import small_world
from command import KINOGRAPH

pytestmark = pytest.mark.slow  # a Ray starts in each
REPO = Path(__file__).resolve().parents[2]
LINE = REPO / "tests" / "support" / "smallest_line.py"
OURS = ("configs", "models", "ops", "assets", "pipelines")
SHADOWS = (
    *OURS,
    "torch",
    "av",
    "numpy",
    "ray",
    "mlflow",
    "multiprocessing",
    "signal",
    "socket",
    "random",
)
NOBODY = 54321  # a number without a name
# Whoever may read files, and nothing else: the checkout may lie in a folder of root's.
READS = "+dac_read_search"
MAY_READ = [
    "--clear-groups",
    "--inh-caps",
    READS,
    "--ambient-caps",
    READS,
    "--bounding-set",
    f"-all,{READS}",
]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of a few frames."""
    return small_world.write_video(tmp_path_factory.mktemp("film") / "film.mp4", seed=1)


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder whose every package ends the process that takes it."""
    folder = tmp_path_factory.mktemp("working")
    for name in SHADOWS:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(
            f"raise SystemExit('{name} was taken from the working folder')"
        )
    return folder


@pytest.fixture
def roomy() -> Iterator[Path]:
    """A folder with a long name that anybody may write into."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "/".join(["a_folder_as_batch_systems_name_them"] * 3))
        folder.mkdir(parents=True)
        for path in (folder, *folder.parents):
            if path != Path("/tmp") and str(path).startswith(short):
                path.chmod(0o1777)
        yield folder


def run(
    film: Path,
    folder: Path,
    env: dict[str, str],
    *before: str,
    flags: tuple[str, ...] = (),
    **options: Any,
) -> tuple[int, str, str]:
    """The smallest line in this working folder and with this environment and no other."""
    command = [*before, sys.executable, *flags, str(LINE), str(film)]
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, **options
    )
    return done.returncode, done.stdout, done.stderr


def good(answer: tuple[int, str, str]) -> dict[str, Any]:
    """What a line that ended well says. It took no code from elsewhere."""
    status, out, err = answer
    assert status == 0, err[-3000:]
    told = json.loads(out.splitlines()[-1])
    assert told["trained"][0] == "[3, 7]" and told["decoded"][0] == "64x48", told
    for path in (*told["decoded"][1:3], *told["trained"][1:]):
        assert path.startswith(f"{REPO}/"), told
    assert "working" not in told["decoded"][3]
    # where Ray has its files, and its secret
    assert told["closed"] == ["0o700", "0o700"] and told["token"] == "0o600"
    return told


def few_files() -> None:
    """In the new process: the descriptors that macOS grants."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def test_a_working_folder_full_of_packages_a_long_tmpdir_and_no_home(
    film: Path, shadowed: Path, roomy: Path, tmp_path: Path
) -> None:
    env = {
        "KINOGRAPH_HOME": str(tmp_path / "home"),
        "TMPDIR": str(roomy),
        "MPLBACKEND": "module://a.notebook",
        "PYTHONOPTIMIZE": "1",
    }
    empty = dict.fromkeys(
        ("HOME", "RAY_ADDRESS", "MLFLOW_TRACKING_URI", "DAGSTER_HOME", "KINOGRAPH_DECODE_THREADS"),
        "",
    )
    told = good(run(film, shadowed, {**env, **empty}, flags=("-s",), preexec_fn=few_files))
    assert told["TMPDIR"] == str(roomy) and list(roomy.glob("*/*")) == []  # nothing stays


def test_a_number_without_a_name_or_a_home_and_a_proxy(
    film: Path, shadowed: Path, tmp_path: Path
) -> None:
    before: list[str] = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("acting as another user needs setpriv")
        before = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), *MAY_READ]
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o777)
        env = {
            "KINOGRAPH_HOME": f"{place}/home",
            "HOME": "/",
            "TMPDIR": "/no/such/folder",
            "LC_ALL": "C",
            "TZ": "Pacific/Kiritimati",
        }
        proxies = dict.fromkeys(
            ("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY", "grpc_proxy"),
            "http://127.0.0.1:9",
        )
        status, out, err = run(
            film,
            shadowed,
            {**env, **proxies},
            *before,
            "taskset",
            "-c",
            str(min(os.sched_getaffinity(0))),
        )
        told = good((status, out, err))
        assert (
            "kinograph: TMPDIR: /no/such/folder is no folder that can be written; temporary files"
            " go to /tmp" in err
        )
        if before:
            assert (
                told["HOME"] == f"{place}/home/user"
                and Path(place, "home").stat().st_mode & 0o777 == 0o700
            )


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="other mounts and networks need root and unshare",
)
def test_a_machine_without_shared_memory_to_speak_of_a_network_or_a_name(
    film: Path, tmp_path: Path
) -> None:
    env = {"KINOGRAPH_HOME": str(tmp_path / "a b#d%41ü'q"), "PATH": os.environ["PATH"]}
    small = (
        "mount -t tmpfs -o size=64k tmpfs /dev/shm && hostname nowhere && ip link set lo up && exec"
        ' "$@"'
    )
    good(run(film, tmp_path, env, "unshare", "-mnu", "sh", "-c", small, "x"))


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="other mounts and networks need root and unshare",
)
@pytest.mark.parametrize(
    ("flags", "change", "said"),
    [
        ("-m", "mount -t tmpfs -o ro tmpfs /dev/shm", "field '/dev/shm': found 'not writable'"),
        (
            "-n",
            "true",
            (
                "field '127.0.0.1': found 'Network is unreachable'; allowed: a loopback device that"
                " is up"
            ),
        ),
        (
            "-m",
            (
                "for d in /tmp /var/tmp /usr/tmp /dev/shm; do mount -t tmpfs -o ro tmpfs $d; done"
                " 2>/dev/null"
            ),
            "field 'TMPDIR'",
        ),
    ],
)
def test_what_cannot_work_is_one_line_before_anything_is_decoded(
    flags: str, change: str, said: str, film: Path, tmp_path: Path
) -> None:
    env = {"KINOGRAPH_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    status, out, err = run(
        film, Path("/proc"), env, "unshare", flags, "sh", "-c", f'{change}; exec "$@"', "x"
    )
    assert (
        status == 1
        and out == ""
        and len(err.splitlines()) == 1
        and err.startswith("kinograph: ")
        and said in err
    ), err


def test_the_whole_command_there(
    shadowed: Path, roomy: Path, recipe_file, new_home, tmp_path: Path
) -> None:
    made = new_home(tmp_path / "home", tmp_path / "configs")
    world = small_world.SmallWorld(tmp_path / "world", made.configs)
    recipe_file(
        made.configs,
        "small_tsn",
        dataset="kinetics400",
        num_classes=2,
        gate={"registered_model": "s"},
        training={"epochs": 1},
    )
    assert world.root.is_dir()
    env = {
        **made.environment,
        "PATH": os.environ["PATH"],
        "TMPDIR": str(roomy),
        "PYTHONWARNINGS": "ignore",
        "COLUMNS": "140",
    }
    command = [KINOGRAPH, "run", "--dataset", "kinetics400", "--recipe", "small_tsn"]
    done = subprocess.run(
        command, cwd=shadowed, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0 and "Done in" in done.stdout, (
        done.stdout[-1500:] + done.stderr[-3000:]
    )
    assert (made.root / "mlflow.db").stat().st_mode & 0o777 == 0o600


def test_the_tracking_page_opens_there(shadowed: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {"KINOGRAPH_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    command = [KINOGRAPH, "mlflow-ui", "--port", str(port)]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(
            command, cwd=shadowed, env=env, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < until:
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer,
            ):
                assert answer.status == 200
                return
            time.sleep(0.3)
        pytest.fail((tmp_path / "log").read_text()[-2000:])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
