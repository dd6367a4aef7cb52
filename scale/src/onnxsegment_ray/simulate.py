"""A run that is not run: the driver's own scheduler, with workers that only let time pass.

A worker's time is what was measured of real ones (``measured.json``) and what a stated distribution adds: tiles differ,
machines differ, some tasks straggle, and workers die and come back. Nothing of it knows how the scheduler decides.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

from .plan import Axis, Mosaic
from .schedule import TASK_SECONDS, Scheduler, Task


@dataclass(frozen=True)
class World:
    """What workers are like. Times in seconds."""

    tile_seconds: tuple[float, ...]
    """Measured times of tiles, drawn from with replacement."""
    task_overhead: float
    """Measured: from a task's arrival to its first tile, with models loaded."""
    start: float
    """Measured: from a worker's start to its first task; also after a death."""
    machine_spread: float = 0.05
    """Standard deviation of the logarithm of a machine's speed."""
    straggler_share: float = 0.01
    """Share of tasks that straggle: their time is multiplied by a Pareto variable of shape 1.5 from 2 on, at most
    20."""
    hours_between_deaths: float = 8.0
    """Mean of the exponential time to a worker's death."""
    back_after: float = 30.0
    """From a death to the new worker's start."""

    @staticmethod
    def measured(**changes: Any) -> World:
        """As measured by a real run, which ``measured.json`` tells of."""
        found = json.loads(files("onnxsegment_ray").joinpath("measured.json").read_text())
        times = {name: found[name] for name in ("task_overhead", "start")}
        return World(**{"tile_seconds": tuple(found["tile_seconds"]), **times, **changes})


@dataclass
class Outcome:
    """A simulated run."""

    workers: int
    seconds: float
    tasks: int = 0
    tiles: int = 0
    """Tiles that were run, those of deaths and repeats included."""
    deaths: int = 0
    copies: int = 0
    repeated_cells: int = 0
    set_aside: int = 0
    lived: float = 0.0
    """Seconds that workers spent on tiles."""
    events: list[tuple[str, float, float, int, str]] = field(default_factory=list)
    """Worker, begin, end, cells, how it ended."""


def mosaic(cells: int = 10_000, columns: int = 40, tile: int = 1024, overlap: int = 64) -> Mosaic:
    """A mosaic of so many cells of 4096 x 512 pixels."""
    rows = -(-cells // columns)
    width, height = columns * 4096, rows * 512
    return Mosaic(
        "simulated.tif", "simulated-mask.tif", "", (0, 0, width, height), (4096, 512),
        Axis(width, tile, overlap), Axis(height, tile, overlap), False, rows * columns,
    )


def simulate(
    mosaics: Sequence[Mosaic], workers: int, world: World, seed: int = 1, seconds: float = TASK_SECONDS
) -> Outcome:
    """Runs ``mosaics`` on so many workers."""
    draw = random.Random(seed)
    scheduler = Scheduler(mosaics, workers, seconds, assemble=False)
    slowness = [draw.lognormvariate(0.0, world.machine_spread) for _ in range(workers)]
    outcome = Outcome(workers, 0.0)
    # When, in what order, who: (time, count, kind, worker, task, generation).
    events: list[tuple[float, int, str, int, Task | None, int]] = []
    count = 0
    generation = [0] * workers
    """Deaths and cancellations make what was foretold of a worker's task untrue."""
    idle: set[int] = set()
    begun: dict[int, tuple[int, float]] = {}

    def at(time: float, kind: str, worker: int, task: Task | None = None) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (time, count, kind, worker, task, generation[worker]))

    def give(worker: int, now: float) -> bool:
        task = scheduler.next_task(str(worker), now)
        if task is None:
            idle.add(worker)
            return False
        idle.discard(worker)
        outcome.tasks += 1
        outcome.copies += task.copy_of is not None
        begun[task.number] = (worker, now)
        factor = slowness[worker]
        if draw.random() < world.straggler_share:
            factor *= min(20.0, 2.0 * draw.paretovariate(1.5))
        each = [draw.choice(world.tile_seconds) * factor for _ in range(task.cost)]
        time = world.task_overhead + sum(each)
        # A cell is there when its last tile is: spread over the task.
        foretold[task.number] = deque(
            (now + time * (k + 1) / len(task.cells), cell) for k, cell in enumerate(task.cells)
        )
        death = draw.expovariate(1.0 / (world.hours_between_deaths * 3600.0))
        outcome.tiles += task.cost
        if death < time:
            at(now + death, "death", worker, task)
        else:
            at(now + time, "done", worker, task)
        return True

    foretold: dict[int, deque[tuple[float, int]]] = {}

    def settle(until: float) -> None:
        for number, cells in foretold.items():
            while cells and cells[0][0] <= until:
                when, cell = cells.popleft()
                scheduler.cell_finished(number, cell, when)

    def note(task: Task, now: float, how: str) -> None:
        worker, since = begun.pop(task.number)
        outcome.lived += now - since
        outcome.events.append((f"worker {worker}", since, now, len(task.cells), how))

    for worker in range(workers):
        at(world.start, "ready", worker)
    now = 0.0
    while events:
        now, _, kind, worker, task, of = heapq.heappop(events)
        if of != generation[worker]:
            continue
        settle(now)
        if kind == "ready":
            give(worker, now)
        elif task is not None and kind == "done":
            foretold.pop(task.number, None)
            dropped = scheduler.task_finished(task.number, now, tiles=task.cost)
            note(task, now, "done")
            for number in dropped:
                other, _ = begun[number]
                running = scheduler.running_of(str(other))
                if running is not None:
                    foretold.pop(number, None)
                    scheduler.task_dropped(number)
                    note(running, now, "dropped")
                    generation[other] += 1
                    idle.add(other)
            give(worker, now)
        elif task is not None and kind == "death":
            foretold.pop(task.number, None)
            scheduler.task_lost(task.number, now)
            note(task, now, "death")
            outcome.deaths += 1
            at(now + world.back_after + world.start, "ready", worker)
        for other in sorted(idle):
            give(other, now)
        if scheduler.is_over:
            break
        if idle and not any(e[5] == generation[e[3]] for e in events):
            wait = scheduler.wait(now)
            at(now + (wait or 1.0), "ready", min(idle))
        elif idle:
            # Somebody may be slow enough by then to be helped.
            at(now + 5.0, "look", min(idle))
    outcome.seconds = now
    outcome.repeated_cells = scheduler.repeated
    outcome.set_aside = sum(len(aside.cells) for aside in scheduler.aside)
    return outcome


def study(
    counts: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128, 256), cells: int = 10_000, world: World | None = None,
    rounds: int = 3,
) -> dict[str, Any]:
    """Times and efficiencies by the number of workers.

    ``efficiency``: the time of one worker under the same scheduler, over the time of N workers times N.
    ``of_one_process``: the time that all tiles of the mosaic take when each is run once, on one machine that neither
    starts nor dies, over the same: what scaling out costs altogether.
    """
    world = world or World.measured()
    of_all = mosaic(cells)
    mean = sum(world.tile_seconds) / len(world.tile_seconds)
    once = len({tile for cell in range(of_all.cells) for tile in of_all.tiles(cell)}) * mean
    rows: list[dict[str, Any]] = []
    one: float | None = None
    for workers in counts:
        outcomes = [simulate([of_all], workers, world, seed) for seed in range(1, rounds + 1)]
        seconds = sum(outcome.seconds for outcome in outcomes) / rounds
        one = one if one is not None else seconds * workers
        rows.append(
            {
                "workers": workers,
                "seconds": round(seconds, 1),
                "efficiency": round(one / (seconds * workers), 4),
                "of_one_process": round(once / (seconds * workers), 4),
                "deaths": sum(outcome.deaths for outcome in outcomes) / rounds,
                "copies": sum(outcome.copies for outcome in outcomes) / rounds,
                "tasks": sum(outcome.tasks for outcome in outcomes) / rounds,
                "set_aside": sum(outcome.set_aside for outcome in outcomes),
            }
        )
    told = asdict(world)
    told["tile_seconds"] = {"n": len(world.tile_seconds), "mean": round(mean, 4)}
    return {"cells": of_all.cells, "world": told, "rows": rows}
