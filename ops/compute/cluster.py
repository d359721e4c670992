"""Ray for this process: an existing cluster, or a local one that lives as long as the process and
may serve several trainings.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.job_config import JobConfig

import configs
import models
import ops
from configs.schema import ConfigError, Scale
from configs.settings import Settings, variable
from ops.compute.environment import HOME, RAY, give_home, private_folder, roomy_folder, safe_path
from ops.store.threads import usable_cpus

KNOCK_S = 10.0  # Ray itself takes minutes to find that nobody is there
OBJECT_STORE_BYTES = 256 * 2**20  # trainings pass nothing large through it
# no secret among them: nodes have their own
PASSED_ON = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")
ENVIRONMENT = {
    # threads that spin while they wait cost a busy machine several times the work itself
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # an epoch's report waits for the next of these looks; Ray's own 2 s would add up
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}


def connect(settings: Settings, scale: Scale) -> None:
    """Start or join Ray unless this process has it already.

    A local Ray listens on the loopback device, has no dashboard and sends no worker output here:
    what matters of it is shown by `ops.training.progress`. Its files and its token lie in a folder
    of this process that no other user can enter. On an existing cluster the code travels with the
    job.

    Args:
        settings: `ray_address` names the cluster to join; None there starts a local one.
        scale: what the training needs; a local Ray of this process that is too small starts anew.

    Raises:
        ConfigError: the cluster is not there or too small.
    """
    give_home(settings.home / HOME)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not ray.is_initialized():
        _join(settings.ray_address) if settings.ray_address else _start(scale)
    elif settings.ray_address is None and _lacks(scale):
        ray.shutdown()  # ours, and too small for this training
        _start(scale)
    if lacking := _lacks(scale):
        name, found, wanted = lacking
        raise ConfigError(
            "recipe",
            f"scale ({name})",
            f"{wanted:g} for {scale.num_workers} workers",
            f"at most {found:g} on this cluster",
        )


def _start(scale: Scale) -> None:
    # Ray's switch for machines without a cluster network, off by default on Linux; read when ray is
    # imported, and by its processes.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
    # one process less: nobody preempts this machine
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    _own_token()
    with safe_path(), interrupt_handler_kept():
        ray.init(
            address="local",
            num_cpus=max(usable_cpus(), math.ceil(scale.num_workers * scale.cpus_per_worker)),
            object_store_memory=OBJECT_STORE_BYTES,
            object_spilling_directory=str(roomy_folder()),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            job_config=_Job(),
            _node_ip_address="127.0.0.1",
            # Ray opens it to everybody; the folder above it is closed
            _temp_dir=str(private_folder() / RAY),
            _plasma_directory=_shared_memory(),
        )


def _own_token() -> None:
    """Have Ray take its token from a file that only this user can read, unless the environment
    names one: its own is open, in HOME.
    """
    if any(variable(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")):
        return
    path = private_folder() / "token"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def _shared_memory() -> str | None:
    """Where Ray's objects lie: its own choice, or a folder on disk where the machine's shared
    memory is missing or too small.
    """
    with suppress(OSError):
        about = os.statvfs("/dev/shm")
        if (
            os.access("/dev/shm", os.W_OK | os.X_OK)
            and about.f_bavail * about.f_frsize > OBJECT_STORE_BYTES
        ):
            return None
    return None if sys.platform == "darwin" else str(roomy_folder())


class _Job(JobConfig):
    """What workers get for a search path is what the driver has. Ray adds the working folder, where
    anything may lie.
    """

    def _get_proto_job_config(self) -> Any:
        self._py_driver_sys_path = [path for path in self._py_driver_sys_path if path in sys.path]
        return super()._get_proto_job_config()


def _knock(address: str) -> None:
    """Raises ConfigError for an address of host and port where nobody answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # "auto" and the like
        return
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()
    except OSError as error:
        raise ConfigError(
            "environment", "RAY_ADDRESS", address, f"the address of a running Ray cluster ({error})"
        ) from error


def _join(address: str) -> None:
    _knock(address)
    environment: dict[str, Any] = {
        "py_modules": [
            str(Path(package.__file__ or "").parent) for package in (configs, models, ops)
        ],
        "env_vars": {name: os.environ[name] for name in PASSED_ON if name in os.environ},
    }
    try:
        with interrupt_handler_kept():
            ray.init(
                address=address,
                runtime_env=environment,
                job_config=_Job(),
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            "environment",
            "RAY_ADDRESS",
            address,
            f"the address of a running Ray cluster ({reason})",
        ) from error


def _lacks(scale: Scale) -> tuple[str, float, float] | None:
    """(resource, found, wanted) of the first resource that the cluster has too little of."""
    wanted = {
        "CPU": scale.num_workers * scale.cpus_per_worker,
        "GPU": float(scale.num_workers if scale.use_gpu else 0),
    }
    found = ray.cluster_resources()
    return next(
        (
            (name, found.get(name, 0.0), number)
            for name, number in wanted.items()
            if found.get(name, 0.0) < number
        ),
        None,
    )


@contextmanager
def interrupt_handler_kept() -> Iterator[None]:
    """Put the process's handlers of Ctrl-C and SIGTERM back after the block: Ray leaves its own
    behind, which end the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
