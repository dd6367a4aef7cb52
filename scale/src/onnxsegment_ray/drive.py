"""Runs mosaics over a cluster: plans them, gives out their cells, and has the rasters made."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from . import process
from .cluster import ClusterError, Worker, actor, connect, places
from .plan import Mosaic
from .process import CommandError
from .schedule import Aside, Fault, Scheduler, Task

TICK = 0.5
"""Seconds between two looks at the clock."""
PLACING = 120.0
"""Seconds in which a first worker has to be there."""


@dataclass
class Request:
    """What a user asks for."""

    inputs: list[str]
    output: str
    models: list[str]
    settings: dict[str, str]
    command: list[str]
    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    assemble: bool = True
    task_seconds: float = 60.0


@dataclass
class Event:
    """A task of a worker, for the picture of the run. Times are seconds from its begin."""

    worker: str
    begin: float
    end: float
    mosaic: int
    cells: int
    how: str


@dataclass
class Report:
    """What came of a run."""

    mosaics: int
    cells: int
    """Cells that were to be done."""
    done_before: int
    empty: int
    seconds: float = 0.0
    finished_cells: int = 0
    finished_rasters: int = 0
    pixels: int = 0
    tiles: int = 0
    workers: int = 0
    retries: int = 0
    repeated_cells: int = 0
    aside: list[Aside] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    interrupted: bool = False
    assembly_seconds: float = 0.0
    """The last raster's, from its last part on."""

    @property
    def is_whole(self) -> bool:
        return not self.aside and not self.interrupted


@dataclass
class State:
    """How far a run is, for whoever shows it."""

    seconds: float
    cells: int
    total: int
    pixels: int
    left: float | None
    alive: int
    workers: int
    retries: int
    finishing: int


@dataclass
class _Place:
    """A worker and what it is at."""

    name: str
    actor: Any
    hello: Any = None
    """The answer that is waited for; None while it works or is idle."""
    host: str = ""
    task: Task | None = None
    stream: Any = None
    since: float = 0.0
    cancelled: bool = False
    process: int | None = None

    @property
    def is_idle(self) -> bool:
        return self.hello is None and self.task is None


def absolute(name: str) -> str:
    """A path as every machine sees it; what is no file here is left to GDAL."""
    is_here = os.path.exists(name) or any(c in name for c in "*?[")
    return os.path.abspath(name) if is_here and not in_store(name) else name


def in_store(name: str) -> bool:
    """Whether a path is one of GDAL's, such as ``/vsis3/bucket/mask.tif``, and no file to this machine."""
    return name.startswith("/vsi")


class Driver:
    """One run. ``show`` hears how far it is, ``say`` what users ought to know."""

    def __init__(
        self, request: Request, show: Callable[[State], None], say: Callable[[str], None],
        started: Callable[[Driver], None] = lambda _: None,
    ) -> None:
        self.request = request
        self._show = show
        self._say = say
        self._started = started
        self._workers: list[_Place] = []
        self.scheduler: Scheduler
        self.report: Report
        self._begin = 0.0
        self._tokens: list[str] = []
        self._warned: set[str] = set()

    @property
    def processes(self) -> list[int]:
        """The workers' processes, as far as they are on this machine."""
        return [place.process for place in self._workers if place.process is not None]

    def run(self) -> Report:
        """Does all of it.

        Raises ``CommandError`` and ``ClusterError`` for what keeps it from being begun."""
        mosaics = self._plan()
        self.scheduler = Scheduler(
            mosaics, self.request.workers or 1, self.request.task_seconds, self.request.assemble
        )
        self.report = Report(
            mosaics=len(mosaics), cells=self.scheduler.total,
            done_before=sum(len(mosaic.done) for mosaic in mosaics), empty=sum(len(mosaic.empty) for mosaic in mosaics),
        )
        self._begin = time.monotonic()
        try:
            self._put_tokens(mosaics)
            connect(self.request.address, self.request.cpus, self.request.workers)
            self._place_workers(mosaics[0].versions)
            self._started(self)
            while not self.scheduler.is_over:
                self._give()
                self._listen()
                self._show(self._state())
        except KeyboardInterrupt:
            self.report.interrupted = True
        finally:
            self._end(mosaics)
        return self.report

    # ---- before the first task

    def _plan(self) -> list[Mosaic]:
        request = self.request
        models = [absolute(model) for model in request.models]
        request.models = models
        if "config-file" in request.settings:
            request.settings["config-file"] = os.path.abspath(request.settings["config-file"])
        if not in_store(request.output):
            request.output = os.path.abspath(request.output) + ("/" if request.output.endswith("/") else "")
        arguments = [absolute(name) for name in request.inputs] + ["-o", request.output, "--begin", "--format", "tif"]
        for model in models:
            arguments += ["-m", model]
        arguments += [f"--{name}={value}" for name, value in request.settings.items()]
        found = [Mosaic.read(told) for told in process.plan(request.command, arguments)]
        if not found:
            raise CommandError("onnxsegment plan named nothing to do; please report it")
        return found

    def _put_tokens(self, mosaics: Sequence[Mosaic]) -> None:
        """Files that workers have to see, so that nobody writes parts where the others do not look. In a store the
        manifest of the parts is such a file: see ``_start``."""
        self._token = secrets.token_hex(16)
        outputs = [mosaic.output for mosaic in mosaics if not in_store(mosaic.output)]
        for folder in sorted({os.path.dirname(output) for output in outputs}):
            path = os.path.join(folder, f".onnxsegment-shared-{self._token[:8]}")
            with open(path, "w", encoding="utf-8") as file:
                file.write(self._token)
            self._tokens.append(path)

    def _place_workers(self, here: dict[str, Any]) -> None:
        request = self.request
        room = places(request.cpus, request.gpus)
        count = request.workers or room
        if count > room:
            self._say(f"the cluster has room for {room} of {count} workers now; the others wait for machines")
        self.scheduler.workers = count
        self.report.workers = count
        for k in range(count):
            remote = actor(request.cpus, request.gpus, request.command, here, (self._tokens, self._token))
            self._workers.append(_Place(f"worker {k + 1}", remote, remote.hello.remote()))
        ready, _ = ray.wait([place.hello for place in self._workers], num_returns=1, timeout=PLACING)
        if not ready:
            raise ClusterError(f"no worker was there after {PLACING:g} s; see `ray status` for what the cluster lacks")

    # ---- the run

    def _now(self) -> float:
        return time.monotonic() - self._begin

    def _give(self) -> None:
        for place in self._workers:
            if place.is_idle:
                task = self.scheduler.next_task(place.name, self._now())
                if task is not None:
                    self._start(place, task)

    def _start(self, place: _Place, task: Task) -> None:
        mosaic = self.scheduler.mosaics[task.mosaic]
        threads = {"threads": str(max(1, int(self.request.cpus)))} if self.request.gpus == 0 else {}
        # The plan has begun the run, and a worker that sees nothing of it looks into another store.
        begun = {"resume": "true"} if in_store(mosaic.output) else {}
        job = {
            "job": str(task.number), "input": mosaic.input, "output": mosaic.output, "models": self.request.models,
            "settings": {**threads, **self.request.settings, **begun}, "cells": list(task.cells), "finish": task.finish,
        }
        place.task, place.since, place.cancelled = task, self._now(), False
        # Not tried again by Ray, which would not tell of the death.
        place.stream = place.actor.run.options(num_returns="streaming", max_task_retries=0).remote(job)

    def _listen(self) -> None:
        """Waits for what happens next, and hears all that has happened."""
        waited: dict[Any, _Place] = {}
        for place in self._workers:
            thing = place.hello if place.hello is not None else place.stream
            if thing is not None:
                waited[thing] = place
        if not waited:
            time.sleep(min(TICK, self.scheduler.wait(self._now()) or TICK))
            return
        ready, _ = ray.wait(list(waited), num_returns=len(waited), timeout=0)
        if not ready:
            ready, _ = ray.wait(list(waited), num_returns=1, timeout=TICK)
        for thing in ready:
            place = waited[thing]
            try:
                if place.hello is not None:
                    told = ray.get(place.hello)
                    place.hello = None
                    self._greet(place, told)
                else:
                    self._hear(place, ray.get(next(place.stream)))
            except StopIteration:
                self._lose(place, "the worker's answer broke off")
            except RayError as error:
                gone = "its machine or its actor is gone" if isinstance(error, RayActorError) else str(error)
                self._lose(place, f"{place.name} on {place.host or 'a machine'} died: {gone}")
                # Ray brings it back, here or elsewhere.
                place.process = None
                place.hello = place.actor.hello.remote()

    def _greet(self, place: _Place, told: dict[str, Any]) -> None:
        place.host = told["host"]
        place.process = told.get("process")
        if "refused" in told:
            raise ClusterError(told["refused"])

    def _hear(self, place: _Place, told: dict[str, Any]) -> None:
        task, now = place.task, self._now()
        if task is None:
            return
        match told["event"]:
            case "process":
                place.process = told["process"]
            case "part":
                self.scheduler.cell_finished(task.number, told["cell"], now)
            case "warning":
                if told["text"] not in self._warned:
                    self._warned.add(told["text"])
                    self._say(told["text"])
            case "done":
                self.report.tiles += told["tiles"]
                if told["stopped"]:
                    self.scheduler.task_dropped(task.number)
                    self._over(place, "dropped")
                    return
                finished = told["end"] == "finished"
                tiles = told["tiles"] - told["tiles-without-data"]
                others = self.scheduler.task_finished(task.number, now, finished, tiles)
                if finished:
                    self.report.finished_rasters += 1
                self._over(place, "finish" if task.finish and not task.cells else "done")
                self._drop(others)
            case "failed":
                self.scheduler.task_failed(task.number, now, Fault(told["fault"]), told["error"])
                if told["fault"] == Fault.SOURCE.value:
                    self._say(f"{told['error']}; it is tried again")
                self._over(place, "failed")
            case "died":
                self._lose(place, f"{place.name} on {place.host}: {told['log']}")

    def _drop(self, numbers: Sequence[int]) -> None:
        for place in self._workers:
            if place.task is not None and place.task.number in numbers and not place.cancelled:
                place.cancelled = True
                place.actor.cancel.remote(str(place.task.number))

    def _lose(self, place: _Place, log: str) -> None:
        if place.task is not None:
            self.scheduler.task_lost(place.task.number, self._now(), log)
            self._over(place, "lost")

    def _over(self, place: _Place, how: str) -> None:
        task = place.task
        if task is None:
            return
        event = Event(place.name, place.since, self._now(), task.mosaic, len(task.cells), how)
        self.report.events.append(event)
        if how == "finish":
            self.report.assembly_seconds = event.end - event.begin
        place.task = place.stream = None

    def _state(self) -> State:
        scheduler = self.scheduler
        tasks = [place.task for place in self._workers if place.task is not None]
        return State(
            seconds=self._now(), cells=scheduler.finished_cells, total=scheduler.total,
            pixels=scheduler.finished_pixels, left=scheduler.left(self._now()),
            alive=sum(place.hello is None for place in self._workers), workers=len(self._workers),
            retries=scheduler.retries, finishing=sum(task.finish and not task.cells for task in tasks),
        )

    # ---- after the last

    def _end(self, mosaics: Sequence[Mosaic]) -> None:
        for path in self._tokens:
            with contextlib.suppress(OSError):
                os.remove(path)
        if ray.is_initialized():
            ray.shutdown()
        report, scheduler = self.report, self.scheduler
        report.seconds = self._now()
        report.finished_cells, report.pixels = scheduler.finished_cells, scheduler.finished_pixels
        report.retries, report.repeated_cells = scheduler.retries, scheduler.repeated
        report.aside = scheduler.aside


def expand(inputs: Sequence[str]) -> list[str]:
    """Inputs with patterns replaced by the files that they name."""
    found: list[str] = []
    for name in inputs:
        is_pattern = any(c in name for c in "*?[") and not os.path.exists(name)
        # What a pattern means in a store, onnxsegment knows.
        files = sorted(glob.glob(name)) if is_pattern and not in_store(name) else [name]
        if not files:
            raise CommandError(f"{name}: no file has such a name")
        found += files
    return found


__all__ = ["ClusterError", "CommandError", "Driver", "Event", "Report", "Request", "State", "Worker", "expand"]
