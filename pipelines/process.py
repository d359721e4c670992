"""The `kinograph` command as a process: signals, standard streams and the environment of what it
starts, all put back afterwards.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import configs
from pipelines.home import prepare_home

STOPPED = "stopped; run the same command again to go on from here"
# descriptors that a run may want; a soft limit of 256 or 1024 is a leftover of older days
FILES = 65536
TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def guarded(command: Callable[[], int], reads: bool = False) -> int:
    """Run a command in a prepared process, and give its exit status; with `reads` it makes nothing
    in the home.

    A user's mistake, and a store or a disk that refuses, are 1 with one line on the standard error;
    a signal that stops it is 128 and its number. A programmer's mistake shows its stack.
    """
    from ops.files.mistakes import mistakes

    open_streams()  # first: what is opened next would take their numbers
    with signals.handled():
        try:
            status, said = _run(command, reads), ""
        except BrokenPipeError:
            return reader_gone()
        except KeyboardInterrupt:
            status, said = 128 + signal.SIGINT, STOPPED
        except Exception as error:
            if not (isinstance(error, mistakes()) or signals.came):
                raise
            status, said = 1, str(error)
        if status and signals.came:  # what was under way may have made an error of its own of it
            status, said = 128 + signals.came, STOPPED
        if said:
            with suppress(OSError):
                print(f"kinograph: {said}", file=sys.stderr)
        return status


def _run(command: Callable[[], int], reads: bool) -> int:
    from ops.compute.environment import HOME, check_locks, check_loopback, give_home

    with prepared():
        settings = configs.settings()
        if not reads:
            check_locks()
            check_loopback()
        prepare_home(settings, reads=reads)
        give_home(settings.home / HOME)
        status = command()
        sys.stdout.flush()
        return status


class Signals:
    """SIGTERM and SIGHUP do what Ctrl-C does; `came` is the number of the one that did, whoever
    handled it.
    """

    _reader: socket.socket
    _came = 0

    @property
    def came(self) -> int:
        """The last of the three that came since the block began, 0 where none did."""
        with suppress(BlockingIOError):
            self._came = (
                [self._came] + [number for number in self._reader.recv(4096) if number in TOLD]
            )[-1]
        return self._came

    @contextmanager
    def handled(self) -> Iterator[None]:
        """In the block. What was ignored when the process started (`nohup`) stays ignored."""
        before = {number: signal.getsignal(number) for number in TOLD}
        self._came, (self._reader, writer) = 0, socket.socketpair()
        for end in (self._reader, writer):
            end.setblocking(False)
        # Dagster and Ray put handlers of their own for a while; the interpreter writes every number
        # here all the same.
        kept = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in TOLD[1:]:
            if before[number] == signal.SIG_DFL:
                signal.signal(number, _as_interrupt)
        try:
            yield
        finally:
            signal.set_wakeup_fd(kept)
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            self._reader.close()
            writer.close()


signals = Signals()  # of this process


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    """Does what Ctrl-C would do now: Dagster, within a step, ends the step first."""
    handler = signal.getsignal(signal.SIGINT)
    # a shell script's background command does not hear Ctrl-C; this one it does
    if not callable(handler):
        raise KeyboardInterrupt
    handler(signal.SIGINT, frame)


@contextmanager
def prepared() -> Iterator[None]:
    """The environment in which commands run: what is empty is unset, temporary files have a place,
    nothing is imported from the working folder by processes that are started. Raises
    KinographError, naming the variable at fault.
    """
    from ops.compute.environment import check_temporary, private_folder, safe_path, settle_variables
    from ops.store.threads import threads_by_environment

    settle_variables()
    raise_file_limit()
    if said := check_temporary():
        print(f"kinograph: {said}", file=sys.stderr)
    threads_by_environment()
    private_folder()
    with safe_path():
        yield


def open_streams() -> None:
    """Give closed standard streams an end that swallows all, and those that know few letters a sign
    for the others.

    A database would be opened as number 1 else, and printed into.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if (
            hasattr(stream, "reconfigure")
            and stream.errors == "strict"
            and stream.encoding.lower().replace("-", "") != "utf8"
        ):
            stream.reconfigure(errors="replace")


def raise_file_limit() -> None:
    """Take as many file descriptors as the machine's hard limit grants."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def reader_gone() -> int:
    """The exit status where whoever read our output has closed it (`| head -1`), as a shell tells
    it; nothing is written any more.
    """
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        with suppress(OSError, ValueError):
            os.dup2(nothing, stream.fileno())
    return 128 + signal.SIGPIPE
