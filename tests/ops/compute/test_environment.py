"""The process's surroundings: private folders that nobody can slip in or read, sockets that fit, a
home, no working folder on the path.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from configs.schema import ConfigError
from ops.compute import environment
from ops.compute.environment import (
    check_temporary,
    ended,
    give_home,
    private_folder,
    roomy_folder,
    settle_variables,
)

NOBODY = 65534
SHADOWS = ("ops", "configs", "multiprocessing", "torch")
STARTS_A_PROCESS = """
from ops.compute.environment import workers_context
import process_that_tells
if __name__ == "__main__":
    context = workers_context(["process_that_tells"])
    theirs, ours = context.Pipe()
    process = context.Process(target=process_that_tells.tell, args=(ours,))
    process.start()
    print(theirs.recv(), theirs.recv())
    process.join()
"""
TELLS = """
import os, sys
def tell(pipe):
    import configs, ops
    pipe.send([configs.__file__, ops.__file__])
    pipe.send([path for path in sys.path if os.path.realpath(path or ".") == os.getcwd()])
"""
BREAKS = """
import sys
from ops.compute import pool
import odd_worker
pool.start_worker, pool.PRELOAD = odd_worker.start, odd_worker.PRELOAD
try:
    list(pool.run_jobs(print, [pool.Job(1, "", 9.0)], 1))
except pool.PoolError as error:
    print(error)
"""


LATE = """
import time
from pebble.pool import process
loop = process.task_scheduler_loop
def late(manager):
    time.sleep(2)
    loop(manager)
process.task_scheduler_loop = late
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """temporary(name) -> a short folder for temporary files, with no other place to go to, as a
    process finds it that starts.
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as short:

        def use(name: str, mode: int = 0o1777) -> Path:
            folder = Path(short, name)
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            monkeypatch.setattr(environment, "_folders", {})
            return folder

        monkeypatch.setattr(environment, "SHORT", ())
        yield use


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_private_folder_is_this_users_alone_and_the_same_for_the_whole_process(temporary) -> None:
    place = temporary("t")
    folder = private_folder()
    assert (
        folder.parent == place / f"kino-{os.getuid()}"
        and mode(folder) == mode(folder.parent) == 0o700
    )
    assert private_folder() == roomy_folder() == folder


def test_a_folder_that_somebody_made_beforehand_is_refused(temporary) -> None:
    place = temporary("t")
    parent = place / f"kino-{os.getuid()}"
    parent.mkdir(mode=0o755)
    with pytest.raises(
        ConfigError,
        match=(
            rf"TMPDIR \({parent}\)': found 'mode 0755'; allowed: .* mode 0700: have it removed,"
            r" or set"
        ),
    ):
        private_folder()
    parent.rmdir()
    (place / "elsewhere").mkdir(mode=0o700)
    parent.symlink_to(place / "elsewhere")
    with pytest.raises(ConfigError, match="found 'no folder'"):
        private_folder()
    assert not list((place / "elsewhere").iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_can_neither_prepare_nor_enter_a_private_folder(temporary) -> None:
    place = temporary("t")
    place.parent.chmod(0o755)
    parent = place / f"kino-{os.getuid()}"

    def as_nobody(command: str) -> int:
        return subprocess.run(
            ["sh", "-c", command], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True
        ).returncode

    assert as_nobody(f"mkdir -m 700 {parent}") == 0
    with pytest.raises(ConfigError, match=f"a folder of user {NOBODY}"):
        private_folder()
    shutil.rmtree(parent)
    folder = private_folder()
    (folder / "r").mkdir(mode=0o777)
    (folder / "r").chmod(0o777)  # as Ray opens it
    for attempt in (
        f"ls {folder}/r",
        f"ln -s /etc/passwd {folder}/r/log",
        f"mv {parent} {place}/mine",
        f"rm -r {folder}",
    ):
        assert as_nobody(attempt) != 0, attempt
    assert as_nobody(f"touch {place}/of_nobody") == 0  # it could have


def test_sockets_go_where_there_is_room_and_large_data_stay(
    temporary, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = len(f"/kino-{os.getuid()}/123456/r{environment.LONGEST}")
    short = temporary("s")
    long = temporary("/".join(["l" * 40] * 3))
    with pytest.raises(
        ConfigError,
        match=(
            f"of at most {environment.LIMIT - below} letters: a socket's path may have"
            f" {environment.LIMIT}"
        ),
    ):
        private_folder()
    monkeypatch.setattr(environment, "SHORT", (str(short),))
    assert private_folder().parent.parent == short and roomy_folder().parent.parent == long
    assert len(str(private_folder())) + len("/r" + environment.LONGEST) <= environment.LIMIT


def test_no_socket_lies_where_another_user_could_exchange_its_folder(
    temporary, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, open_to_all = temporary("good"), temporary("open", mode=0o777)
    monkeypatch.setattr(environment, "SHORT", (str(good),))
    assert private_folder().parent.parent == good and not list(open_to_all.iterdir())


def test_what_killed_processes_left_is_cleared_and_what_is_in_use_is_not(
    temporary, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary("t")
    parent = private_folder().parent
    left, used, link = parent / "left", parent / "used", parent / "link"
    (left / "r" / "session").mkdir(parents=True)
    used.mkdir()
    link.symlink_to("/etc")
    holder = os.open(used, os.O_RDONLY)
    fcntl.flock(holder, fcntl.LOCK_EX)
    mine = private_folder()
    # its lock is still held
    monkeypatch.setattr(environment, "_folders", {"elsewhere": environment._folders.popitem()[1]})
    private_folder()
    os.close(holder)
    assert not left.exists() and used.exists() and mine.exists() and Path("/etc/passwd").exists()


def test_a_private_folder_goes_with_its_process(tmp_path: Path) -> None:
    code = "from ops.compute.environment import private_folder; print(private_folder())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "kino-" in done.stdout and not Path(done.stdout.strip()).exists()


def test_empty_variables_are_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "KINOGRAPH_HOME",
        "MLFLOW_TRACKING_URI",
        "RAY_ADDRESS",
        "TMPDIR",
        "HOME",
        "AWS_ENDPOINT_URL",
        "SOMEBODY_ELSES",
    ):
        monkeypatch.setenv(name, " ")
    monkeypatch.setenv("KINOGRAPH_CONFIGS", "kept")
    monkeypatch.delenv("PATH")
    monkeypatch.setenv("MPLBACKEND", "module://of.some.notebook")
    settle_variables()
    assert (
        os.environ["KINOGRAPH_CONFIGS"] == "kept"
        and os.environ["SOMEBODY_ELSES"] == " "
        and os.environ["PATH"] == os.defpath
    )
    assert os.environ["MPLBACKEND"] == "agg"
    assert not {
        "KINOGRAPH_HOME",
        "MLFLOW_TRACKING_URI",
        "RAY_ADDRESS",
        "TMPDIR",
        "HOME",
        "AWS_ENDPOINT_URL",
    } & set(os.environ)


def test_a_tmpdir_that_is_gone_is_told_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert check_temporary() is None and os.environ["TMPDIR"] == str(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    said = check_temporary()
    assert said is not None and said.startswith(
        f"TMPDIR: {tmp_path}/gone is no folder that can be written; temporary files go to"
    )
    assert os.environ["TMPDIR"] == tempfile.gettempdir()


@pytest.mark.parametrize("home", [None, "/", "", "/no/such/folder", "relative", "{file}"])
def test_a_home_that_cannot_be_used_is_replaced_by_ours(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/no/such/folder/.cache")
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr("pwd.getpwuid", lambda number: (_ for _ in ()).throw(KeyError(number)))
        for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
            monkeypatch.delenv(name, raising=False)
    else:
        monkeypatch.setenv("HOME", home.format(file=tmp_path / "file"))
    give_home(tmp_path / "ours")
    assert (
        os.environ["HOME"] == str(tmp_path / "ours")
        and mode(tmp_path / "ours") == 0o700
        and "XDG_CACHE_HOME" not in os.environ
    )
    if home is None:
        assert os.environ.pop("LOGNAME") == f"uid{os.getuid()}"


def test_a_home_that_can_be_used_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    give_home(tmp_path / "ours")
    assert os.environ["HOME"] == str(tmp_path) and not (tmp_path / "ours").exists()


def test_credentials_of_a_home_that_cannot_be_written_stay_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"
    (old / ".aws").mkdir(parents=True)
    (old / ".aws" / "credentials").touch()
    monkeypatch.setenv("HOME", str(old))
    monkeypatch.delenv("AWS_SHARED_CREDENTIALS_FILE", raising=False)
    real = os.access  # root may write everywhere
    monkeypatch.setattr(
        os,
        "access",
        lambda path, kind: real(path, kind) and not (kind & os.W_OK and str(path) == str(old)),
    )
    give_home(tmp_path / "ours")
    assert os.environ["HOME"] == str(tmp_path / "ours")
    assert os.environ.pop("AWS_SHARED_CREDENTIALS_FILE") == str(old / ".aws" / "credentials")


def test_worker_processes_find_their_code_whatever_lies_in_the_working_folder(
    tmp_path: Path,
) -> None:
    folder, tests = tmp_path / "working", tmp_path / "tests"
    tests.mkdir()
    (tests / "process_that_tells.py").write_text(TELLS)
    # as the command is started: its own folder is on the path, not this one
    (tests / "start.py").write_text(STARTS_A_PROCESS)
    for name in SHADOWS:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            "raise SystemExit('taken from the working folder')"
        )
    done = subprocess.run(
        [sys.executable, str(tests / "start.py")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    repo = Path(environment.__file__).parents[2]
    assert done.stdout.strip() == f"['{repo}/configs/__init__.py', '{repo}/ops/__init__.py'] []", (
        done.stderr
    )


@pytest.mark.parametrize(
    ("preload", "start", "said"),
    [
        (
            "[]",
            "print('no room for it', file=sys.stderr, flush=True), os._exit(7)",
            r"exit code 7.*: no room for it",
        ),
        ("[]", "os.kill(os.getpid(), 9)", r"signal 9 \(SIGKILL\)"),
        ("['dies_at_once']", "None", "did not start.*: no PATH at all"),
    ],
)
def test_a_pool_that_breaks_says_how_its_processes_ended(
    preload: str, start: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "odd_worker.py").write_text(
        f"import os, sys\nPRELOAD = {preload}\ndef start(*arguments):\n    {start}\n"
    )
    (tmp_path / "dies_at_once.py").write_text(
        "import os, sys\nprint('no PATH at all', file=sys.stderr, flush=True)\nos._exit(1)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", BREAKS],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.startswith("the worker pool broke 3 times: its processes "), done.stderr
    assert re.search(said, done.stdout) and "memory" not in done.stdout, done.stdout


@pytest.mark.slow
def test_a_pool_that_breaks_before_a_worker_has_taken_the_job_is_no_wait_for_ever(
    tmp_path: Path,
) -> None:
    (tmp_path / "odd_worker.py").write_text(
        "import os\nPRELOAD = []\ndef start(*arguments):\n    os._exit(7)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LATE + BREAKS],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.startswith(
        "the worker pool broke 3 times: its processes ended with exit code 7"
    ), done.stderr


def test_endings_have_the_names_of_their_signals() -> None:
    assert [ended(code) for code in (0, 3, -9, -11, -64)] == [
        "exit code 0",
        "exit code 3",
        "signal 9 (SIGKILL)",
        "signal 11 (SIGSEGV)",
        "signal 64 (SIGRTMAX)",
    ]
