"""Workers as Ray actors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from .process import CommandError, Work, WorkerDied, shared_file, unlike

PATIENCE = 10.0
"""Seconds in which the head of a cluster has to take a connection."""
STARTS = 3
"""How often Ray is tried on this machine: a busy one may be too slow for its patience."""

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}


class ClusterError(Exception):
    """A cluster that cannot be reached, or that has no place for workers."""


class Worker:
    """Keeps an ``onnxsegment work`` process, with its models, for one job after another. Runs in an actor."""

    def __init__(self, command: Sequence[str], here: dict[str, Any], token: tuple[list[str], str]) -> None:
        self._command = list(command)
        self._here = here
        self._token = token
        self._work: Work | None = None

    def hello(self) -> dict[str, Any]:
        """Who this is. ``refused`` says why it is not to work."""
        host = socket.gethostname()
        told: dict[str, Any] = {"host": host, "actor": os.getpid()}
        paths, text = self._token
        for path in paths:
            wrong = shared_file(path, text)
            if wrong:
                share = "outputs have to be on a path that all machines share"
                return {**told, "refused": f"worker {host} {wrong}; {share}"}
        try:
            work = self._start()
        except CommandError as error:
            return {**told, "refused": f"worker {host}: {error}"}
        refused = unlike(self._here, work.ready, f"worker {host}")
        return {**told, **work.ready, **({"refused": refused} if refused else {})}

    def _start(self) -> Work:
        if self._work is None or not self._work.is_alive:
            self._work = Work(self._command)
        return self._work

    def run(self, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Does a job. The last that is told of it is ``done``, ``failed`` or ``died``."""
        try:
            work = self._start()
            yield {"event": "process", "process": work.process}
            yield from work.job(job)
        except (WorkerDied, CommandError) as error:
            self._work = None
            yield {"event": "died", "log": str(error)}

    def cancel(self, job: str) -> None:
        """Stops a job. Runs beside ``run``, in a thread of its own."""
        if self._work is not None:
            self._work.cancel(job)


def first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def answers(address: str) -> str | None:
    """What is wrong with a cluster's address, before Ray tries it, which goes on trying for a quarter of an hour; None
    where somebody listens there."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if address in ("auto", "local"):
        return None
    if not colon or not port.isdigit():
        return "it is not HOST:PORT"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        return first_line(error)
    return None


def connect(address: str | None, cpus: float, workers: int | None) -> None:
    """Joins the cluster at ``address``, or at RAY_ADDRESS, as Ray's own programs do; else starts one on this machine.

    Raises ``ClusterError``."""
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        return start(cpus, workers)
    wrong = answers(address)
    if wrong is None:
        # One try of Ray's takes forty seconds, and twenty are its default.
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
        try:
            ray.init(address=address, **QUIET)
            return
        # Ray raises what its parts raise, and leaves the program where it should leave that to others.
        except (Exception, SystemExit) as error:
            ray.shutdown()
            wrong = first_line(error)
    raise ClusterError(
        f"no Ray cluster can be reached at {address} ({wrong}); start one by `ray start --head` and see `ray status`, "
        "or leave --address out for one on this machine"
    )


def start(cpus: float, workers: int | None) -> None:
    """A cluster of this machine alone, which ends with the program."""
    need = max(1, int(cpus * workers + 0.999)) if workers else None
    # A machine may be given more workers than it has cores: they are shared then.
    for left in reversed(range(STARTS)):
        try:
            # Not one that happens to run here.
            ray.init(address="local", num_cpus=max(need or 0, os.cpu_count() or 1), **QUIET)
            return
        except Exception as error:  # Ray raises what its parts raise
            ray.shutdown()
            if left == 0:
                raise ClusterError(
                    f"Ray does not start on this machine ({first_line(error)}); see /tmp/ray/session_latest/logs"
                ) from error


def places(cpus: float, gpus: float) -> int:
    """How many workers the cluster has room for."""
    have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    by_cpu = have.get("CPU", 0.0) / cpus if cpus > 0 else float("inf")
    by_gpu = have.get("GPU", 0.0) / gpus if gpus > 0 else float("inf")
    found = min(by_cpu, by_gpu)
    if found < 1:
        raise ClusterError(
            f"a worker needs {cpus:g} CPUs and {gpus:g} GPUs, and the whole cluster has {have.get('CPU', 0.0):g} and "
            f"{have.get('GPU', 0.0):g}; lower --cpus-per-worker or --gpus-per-worker, or add machines"
        )
    return int(found)


def actor(cpus: float, gpus: float, *arguments: Any) -> Any:
    """A worker somewhere in the cluster. It comes back when it dies, on another machine where its own is gone; what it
    was at is given out anew by the scheduler, which has to know of the death, and not by Ray."""
    remote = ray.remote(Worker).options(
        num_cpus=cpus, num_gpus=gpus, max_restarts=-1, max_task_retries=3, max_concurrency=2
    )
    return remote.remote(*arguments)
