"""The command as a process: how a signal, a closed stream and a variable that cannot be used are
told.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command import KINOGRAPH
from pipelines.main import main
from pipelines.process import STOPPED

GO_ON = f"kinograph: {STOPPED}"
# `kind` is what was under way makes of the interrupt: Dagster and Ray turn it into errors of their
# own.
WAITS = """
import signal, sys, time
from pipelines.process import guarded
def command():
    print("up", flush=True)
    kind = sys.argv[1]
    if kind == "other handler":
        signal.signal(signal.SIGINT, lambda number, frame: sys.exit("an interrupt of somebody else's"))
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        time.sleep(30)
    except BaseException as error:
        if kind == "error":
            raise RuntimeError("the training was stopped") from error
        if kind == "status" or kind == "other handler":
            return 1
        raise
    return 0
sys.exit(guarded(command, reads=True))
"""  # noqa: E501
WRITES = """
import os, sys
from pipelines.process import guarded
def command():
    for _ in range(20000):
        print("a line")
    return 0
sys.exit(guarded(command, reads=True))
"""


def start(code: str, *arguments: str, ignored: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    """The code as a process that ignores these signals and no other, whatever ignores them here (a
    suite in the background).
    """

    def settle() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=settle
    )


@pytest.mark.parametrize("kind", ["as it is", "error", "status", "other handler"])
def test_signals_are_told_as_ctrl_c_is(kind: str) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    processes = [start(WAITS, kind) for _ in numbers]
    for process, number in zip(processes, numbers, strict=True):
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(number)
    for process, number in zip(processes, numbers, strict=True):
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err.strip()) == (128 + number, GO_ON)


def test_what_was_ignored_at_the_start_stays_ignored() -> None:
    process = start(WAITS, "as it is", ignored=(signal.SIGHUP,))  # as nohup does
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_a_reader_that_has_gone_ends_the_command_without_a_word() -> None:
    process = start(WRITES)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (128 + signal.SIGPIPE, "")


def test_closed_streams_swallow_what_is_written(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pipelines.main import main; status = main(['recipes']);"
        " os.write(int(sys.argv[1]), b'%d %d' % (status, os.open('/', 0)))"
    )
    reading, writing = os.pipe()
    command = [sys.executable, "-c", code, str(writing)]
    subprocess.run(
        command,
        pass_fds=[writing],
        preexec_fn=lambda: os.closerange(0, 3),
        timeout=60,
        cwd=tmp_path,
    )
    os.close(writing)
    status, next_file = os.read(reading, 100).split()
    # no database is ever opened where the standard error was
    assert status == b"0" and int(next_file) > 2


def test_letters_that_the_terminal_does_not_know_are_no_error(tmp_path: Path) -> None:
    env = {
        **os.environ,
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "KINOGRAPH_CONFIGS": str(tmp_path),
    }
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.yaml").write_text(
        "title: Fußgänger 人\nlicence: mine\nroot: /x\n", encoding="utf-8"
    )
    done = subprocess.run(
        [KINOGRAPH, "recipes"], env=env, capture_output=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 0 and b"Fu?g?nger" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "KINOGRAPH_DECODE_THREADS",
            "many",
            r"KINOGRAPH_DECODE_THREADS: found 'many'; allowed: a number of threads from 1 on",
        ),
        (
            "KINOGRAPH_HOME",
            "{file}",
            (
                r"'KINOGRAPH_HOME': found '\S+/file'; allowed: a folder that can be written \(File"
                r" exists\)"
            ),
        ),
        (
            "KINOGRAPH_HOME",
            "{file}/below",
            r"'KINOGRAPH_HOME': found '\S+/file/below'; allowed: .* \(Not a directory\)",
        ),
        (
            "KINOGRAPH_HOME",
            "/proc/mine",
            r"'KINOGRAPH_HOME': found '/proc/mine'; allowed: a folder that can be written",
        ),
        ("KINOGRAPH_HOME", "/proc", r"'KINOGRAPH_HOME': found '/proc"),
        (
            "KINOGRAPH_HOME",
            "{file}/what?",
            r"'KINOGRAPH_HOME': found '\S+/file/what\?'; allowed: a path without '\?'",
        ),
        (
            "KINOGRAPH_HOME",
            "~no_such_user/home",
            r"'KINOGRAPH_HOME': found '~no_such_user/home'; allowed: an absolute path",
        ),
        (
            "KINOGRAPH_STORAGE",
            "{file}",
            r"'KINOGRAPH_STORAGE': found '\S+/file'; allowed: a folder that can be written",
        ),
        (
            "KINOGRAPH_STORAGE",
            "ftp://there",
            (
                r"'KINOGRAPH_STORAGE': found 'ftp://there'; allowed: a local path, file://, s3://,"
                r" gs:// or az://"
            ),
        ),
        ("KINOGRAPH_STORAGE", "s3://", r"'KINOGRAPH_STORAGE': found 's3:'; allowed: a local path"),
        (
            "DAGSTER_HOME",
            "{file}",
            r"'DAGSTER_HOME': found '\S+/file'; allowed: a folder that can be written",
        ),
        (
            "MLFLOW_TRACKING_URI",
            "me:secret@host/mlruns",
            r"'MLFLOW_TRACKING_URI': found 'host/mlruns'; allowed: sqlite:///<file>, ",
        ),
        (
            "KINOGRAPH_CONFIGS",
            "{file}",
            r"'KINOGRAPH_CONFIGS': found '\S+/file'; allowed: an existing folder that can be read",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line_with_its_name(
    name: str,
    value: str,
    said: str,
    home,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    # as a training leaves it in this process: the variable is read all the same
    monkeypatch.setattr("ops.store.threads._chosen", 1)
    monkeypatch.setenv(name, value.format(file=tmp_path / "file"))
    if name == "KINOGRAPH_HOME":
        monkeypatch.delenv("DAGSTER_HOME")
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert main(["run", "--dataset", "figures"]) == 1
    err = capfd.readouterr().err
    assert re.match(f"kinograph: .*{said}", err) and len(err.splitlines()) == 1, err


def test_a_disk_without_room_for_the_databases_is_told(
    home, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipelines.home.LEAST_BYTES", 2**60)
    assert main(["run"]) == 1
    err = capfd.readouterr().err
    assert re.match(
        r"kinograph: environment: field 'KINOGRAPH_HOME': found '.* MB free'; allowed: a folder on"
        r" a disk with",
        err,
    ), err


def test_empty_variables_count_as_unset_and_reading_makes_no_home(
    home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "KINOGRAPH_HOME",
        "KINOGRAPH_STORAGE",
        "KINOGRAPH_CONFIGS",
        "DAGSTER_HOME",
        "MLFLOW_TRACKING_URI",
        "RAY_ADDRESS",
    ):
        monkeypatch.setenv(name, "")
    assert main(["recipes"]) == 0
    assert (
        os.environ["KINOGRAPH_HOME"]
        == os.environ["KINOGRAPH_STORAGE"]
        == str(tmp_path / ".kinograph")
    )
    assert (
        os.environ["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/.kinograph/mlflow.db"
        and "RAY_ADDRESS" not in os.environ
    )
    assert not (tmp_path / ".kinograph").exists()


def test_a_new_home_and_its_databases_are_their_owners_alone(
    home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ops.tracking.connect import private_file

    new = tmp_path / "new"
    monkeypatch.setenv("KINOGRAPH_HOME", str(new))
    monkeypatch.delenv("DAGSTER_HOME")
    before = os.umask(0)
    try:
        assert main(["run", "--dataset", "nowhere"]) == 1
        private_file(new / "mlflow.db")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (new, new / "dagster", new / "mlflow.db")] == [
        0o700,
        0o700,
        0o600,
    ]
