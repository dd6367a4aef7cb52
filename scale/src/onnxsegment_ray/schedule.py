"""Who does which cells next.

No clock, no process and no Ray in here: the driver and the simulation hand in what happens and when, and ask what to
do.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from .plan import Mosaic

TASK_SECONDS = 60.0
"""How long a task is to take, at least: long beside what it costs to begin one."""
BORDER = 160
"""Tiles of a task at least, however long they take, where there is work enough: those on its border are run by its
neighbours too, and of fewer tiles more lie there. The loss of a worker costs no more, since finished cells are kept."""
STRIKES = 3
"""How many workers a cell may take with it."""
READS = 6
"""How often a source that cannot be read is tried, at doubling distances from one second on."""
HELP = 5.0
"""An idle worker takes cells of another one's task that has so many seconds to go."""
SHARES = 0.4
"""Towards the end, an equal share of what is left over a task."""
LEAST = 8
"""Cells of a task at least, since few cells share few tiles."""
FULL = 0.6, 1.25
"""A task is as long as is wanted, times what lies between these: it ends where its cells share most tiles."""
RECENT = 50
"""Tasks that the speed is measured on."""


class Fault(Enum):
    """What is at fault when a task fails, as ``onnxsegment work`` has it."""

    SOURCE = "source"
    OUTPUT = "output"
    SETTINGS = "settings"
    MODELS = "models"
    OTHER = "other"


@dataclass(frozen=True)
class Task:
    """Cells of one mosaic for one worker."""

    number: int
    mosaic: int
    cells: tuple[int, ...]
    cost: int
    """Tiles."""
    finish: bool = False
    """Make the raster as well, since no other part is missing."""
    tries: int = 0
    """How often its source could not be read."""
    copy_of: int | None = None


@dataclass
class Aside:
    """Cells that are not done in this run, and why."""

    mosaic: int
    cells: tuple[int, ...]
    why: str
    log: str = ""


@dataclass
class _Group:
    """Cells that come again."""

    mosaic: int
    cells: tuple[int, ...]
    ready: float
    tries: int = 0
    finish: bool = False


@dataclass
class _Running:
    task: Task
    worker: str
    since: float
    open: set[int]
    helped: set[int] = field(default_factory=set)
    """Cells of it that others were given too."""
    done: int = 0
    """Cells that this worker itself has finished."""
    heard: float | None = None
    """When it last did."""


@dataclass
class _State:
    """How far a mosaic is."""

    queue: deque[int]
    open: set[int]
    """Cells that are neither finished nor set aside."""
    cost: float
    """Tiles that the queue still needs, roughly."""
    finished: bool = False
    given_up: bool = False
    strikes: dict[int, int] = field(default_factory=dict)
    finish_strikes: int = 0
    finishing: bool = False


class Scheduler:
    """Hands out tasks of about ``seconds``, the largest first: towards the end they become smaller, so that all workers
    end together."""

    def __init__(
        self, mosaics: Sequence[Mosaic], workers: int, seconds: float = TASK_SECONDS, assemble: bool = True
    ) -> None:
        self.mosaics = list(mosaics)
        self.workers = max(1, workers)
        self.seconds = seconds
        self.assemble = assemble
        self.aside: list[Aside] = []
        self.retries = 0
        """Tasks that had to be given out again, in whole or in part."""
        self.repeated = 0
        """Cells that were finished a second time."""
        self.finished_cells = 0
        self.finished_pixels = 0
        self._next = 0
        self._running: dict[int, _Running] = {}
        self._again: list[_Group] = []
        self._speeds: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._states = []
        for mosaic in self.mosaics:
            cells = mosaic.to_do()
            # What cells need together, from a sample of neighbours, since counting all takes long.
            sample = cells[:256]
            each = mosaic.cost(sample) / len(sample) if sample else 0.0
            self._states.append(_State(deque(cells), set(cells), each * len(cells)))
        self.total = sum(len(state.open) for state in self._states)
        order = range(len(self.mosaics))
        self._order = deque(sorted(order, key=lambda k: -self._states[k].cost))
        self._left = sum(state.cost for state in self._states)
        self._to_finish = deque(k for k in order if not self._states[k].open) if assemble else deque()

    # ---- what there is

    @property
    def speed(self) -> float | None:
        """Tiles that one worker does in a second; None before any was measured."""
        tiles = sum(tiles for tiles, _ in self._speeds)
        seconds = sum(seconds for _, seconds in self._speeds)
        return tiles / seconds if tiles > 0 and seconds > 0 else None

    @property
    def is_over(self) -> bool:
        """Nothing is left to be given out or waited for."""
        return not self._running and not self._again and not self._to_finish and not self._order

    def left(self, now: float) -> float | None:
        """Seconds to the end with all workers, as far as it can be told."""
        speed = self.speed
        if speed is None:
            return None
        running = sum(max(0.0, r.task.cost / speed - (now - r.since)) for r in self._running.values())
        again = sum(self.mosaics[group.mosaic].cost(group.cells[:64]) for group in self._again) / speed
        return (self._left / speed + running + again) / self.workers

    def running_of(self, worker: str) -> Task | None:
        return next((r.task for r in self._running.values() if r.worker == worker), None)

    def wait(self, now: float) -> float | None:
        """Seconds until a group that waits can be tried again; None where none waits."""
        return max(0.0, min(group.ready for group in self._again) - now) if self._again else None

    # ---- what to do

    def next_task(self, worker: str, now: float) -> Task | None:
        """What an idle worker is to do; None where there is nothing for it now."""
        while self._to_finish:
            mosaic = self._to_finish.popleft()
            state = self._states[mosaic]
            if not (state.finished or state.given_up or state.finishing):
                state.finishing = True
                return self._begin(Task(self._number(), mosaic, (), 0, finish=True), worker, now)
        while self._order:
            mosaic = self._order[0]
            state = self._states[mosaic]
            if state.queue and not state.given_up:
                return self._begin(self._cut(mosaic, state), worker, now)
            self._order.popleft()
        for k, group in enumerate(self._again):
            if self._states[group.mosaic].given_up:
                continue
            if group.ready <= now:
                del self._again[k]
                cost = self.mosaics[group.mosaic].cost(group.cells)
                task = Task(self._number(), group.mosaic, group.cells, cost, group.finish, group.tries)
                return self._begin(task, worker, now)
        self._again = [group for group in self._again if not self._states[group.mosaic].given_up]
        return self._help(worker, now)

    def _cut(self, mosaic: int, state: _State) -> Task:
        """The next cells of a mosaic's queue."""
        plan = self.mosaics[mosaic]
        speed = self.speed
        high = max(1, round(plan.part[0] / plan.part[1]))
        if speed is None:
            # A square, to measure by.
            most, at_least = 0.0, high
        else:
            each = self._left / self.workers
            most = min(max(self.seconds * speed, min(BORDER, each / 2)), each / SHARES)
            at_least = min(high, LEAST)
        tiles: set[int] = set()
        # What is left over would not be worth a task.
        whole = speed is not None and state.cost <= 1.25 * most
        before = len(state.queue)
        # How many cells, and their tiles. The queue's curve fills square after square: at their ends, cells share most.
        count, cost, best = 0, 0, math.inf
        for k, cell in enumerate(state.queue, 1):
            tiles.update(plan.tiles(cell))
            if whole or k <= at_least or len(tiles) < FULL[0] * most:
                count, cost = k, len(tiles)
                continue
            if len(tiles) > FULL[1] * most:
                break
            each = len(tiles) / k
            if each < best or (each == best and len(tiles) <= most):
                count, cost, best = k, len(tiles), each
        cells = [state.queue.popleft() for _ in range(count)]
        used = state.cost * len(cells) / before
        state.cost -= used
        self._left = max(0.0, self._left - used)
        # Of a mosaic that is one task, one worker does all.
        finish = self.assemble and len(cells) == len(state.open)
        state.finishing |= finish
        return Task(self._number(), mosaic, tuple(sorted(cells)), cost, finish)

    def _help(self, worker: str, now: float) -> Task | None:
        """Cells that another worker has, but will not come to for long: the last half of them. Whoever is first with a
        cell, its pixels are the same."""
        best: tuple[float, _Running, list[int]] | None = None
        for running in self._running.values():
            own = sorted(running.open - running.helped)
            remaining = self._remaining(running, now) * len(own) / max(1, len(running.open))
            if own and remaining > HELP and (best is None or remaining > best[0]):
                best = remaining, running, own
        if best is None:
            return None
        _, running, own = best
        cells = tuple(own[len(own) // 2 :])
        running.helped.update(cells)
        mosaic = running.task.mosaic
        cost = self.mosaics[mosaic].cost(cells)
        return self._begin(Task(self._number(), mosaic, cells, cost, copy_of=running.task.number), worker, now)

    def _remaining(self, running: _Running, now: float) -> float:
        """Seconds that a task still takes: by what it has done, and before that by what others took."""
        speed, elapsed = self.speed, now - running.since
        silent = now - (running.heard if running.heard is not None else running.since)
        if running.done > 0.1 * len(running.task.cells):
            return max(elapsed / running.done * len(running.open), silent)
        return max(running.task.cost / speed - elapsed, elapsed) if speed else 0.0

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _begin(self, task: Task, worker: str, now: float) -> Task:
        open_cells = {cell for cell in task.cells if cell in self._states[task.mosaic].open}
        self._running[task.number] = _Running(task, worker, now, open_cells)
        return task

    # ---- what happened

    def cell_finished(self, number: int, cell: int, now: float) -> None:
        """A part is there."""
        running = self._running.get(number)
        if running is None:
            return
        running.open.discard(cell)
        running.done += 1
        running.heard = now
        state = self._states[running.task.mosaic]
        if cell not in state.open:
            self.repeated += 1
            return
        state.open.discard(cell)
        self.finished_cells += 1
        self.finished_pixels += self.mosaics[running.task.mosaic].pixels(cell)
        # Whoever else does it need not be waited for.
        for other in self._running.values():
            if other.task.mosaic == running.task.mosaic:
                other.open.discard(cell)

    def task_finished(self, number: int, now: float, finished: bool = False, tiles: int | None = None) -> list[int]:
        """A worker is through with a task. ``finished``: the raster is there. Returns the tasks that others need not go
        on with."""
        running = self._running.pop(number, None)
        if running is None:
            return []
        task, state = running.task, self._states[running.task.mosaic]
        seconds = now - running.since
        if task.cells and seconds > 0 and (tiles is None or tiles > 0):
            self._speeds.append((tiles if tiles is not None else task.cost, seconds))
        # A part may have been there already, of which nobody tells.
        for cell in list(running.open):
            if cell in state.open:
                state.open.discard(cell)
                self.finished_cells += 1
                self.finished_pixels += self.mosaics[task.mosaic].pixels(cell)
        if task.finish:
            state.finishing = False
            state.finished = finished
            if not finished:
                state.finish_strikes += 1
                if state.finish_strikes >= STRIKES:
                    self._give_up(task.mosaic, "parts are missing that were there; run again", "")
        self._look_for_end(task.mosaic)
        return [r.task.number for r in self._running.values() if r.task.cells and not (r.open & state.open)
                and r.task.mosaic == task.mosaic and not r.task.finish]

    def task_dropped(self, number: int) -> None:
        """A worker has stopped a task that another has done."""
        running = self._running.pop(number, None)
        if running is not None:
            self._look_for_end(running.task.mosaic)

    def task_lost(self, number: int, now: float, log: str = "") -> None:
        """The worker of a task died, for which any of its open cells may be to blame: they come again in smaller
        groups, and after that one by one, until one is known for certain."""
        running = self._running.pop(number, None)
        if running is None:
            return
        task, state = running.task, self._states[running.task.mosaic]
        self.retries += 1
        self._unhelp(task)
        if task.finish:
            state.finishing = False
        cells = [cell for cell in task.cells if cell in state.open]
        if not cells:
            if task.finish:
                state.finish_strikes += 1
                if state.finish_strikes >= STRIKES:
                    self._give_up(task.mosaic, f"making the raster of its parts killed {STRIKES} workers", log)
            self._look_for_end(task.mosaic)
            return
        again: list[int] = []
        for cell in cells:
            state.strikes[cell] = state.strikes.get(cell, 0) + 1
            if state.strikes[cell] >= STRIKES and len(cells) == 1:
                state.open.discard(cell)
                self.aside.append(Aside(task.mosaic, (cell,), f"killed {state.strikes[cell]} workers", log))
            else:
                again.append(cell)
        # What somebody else is at need not come again.
        elsewhere = {c for r in self._running.values() if r.task.mosaic == task.mosaic for c in r.open}
        again = [cell for cell in again if cell not in elsewhere]
        first = max((state.strikes[cell] for cell in again), default=0) <= 1
        size = math.isqrt(len(again) - 1) + 1 if first and again else 1
        for k in range(0, len(again), size):
            self._again.append(_Group(task.mosaic, tuple(again[k : k + size]), now))
        self._look_for_end(task.mosaic)

    def task_failed(self, number: int, now: float, fault: Fault, error: str) -> None:
        """A task ended by an error that its worker survived."""
        running = self._running.get(number)
        if running is None:
            return
        if fault is Fault.OTHER:
            return self.task_lost(number, now, error)
        del self._running[number]
        task, state = running.task, self._states[running.task.mosaic]
        self._unhelp(task)
        if task.finish:
            state.finishing = False
        cells = tuple(cell for cell in task.cells if cell in state.open)
        if fault is Fault.SOURCE and task.tries + 1 < READS:
            self.retries += 1
            if cells or task.finish:
                state.finishing = task.finish and not cells
                group = _Group(task.mosaic, cells, now + 2.0**task.tries, task.tries + 1, state.finishing)
                self._again.append(group)
                return
        elif cells or task.finish:
            self._give_up(task.mosaic, error, "")
        self._look_for_end(task.mosaic)

    def _unhelp(self, task: Task) -> None:
        """Help that came to nothing may be given again."""
        if task.copy_of is not None and task.copy_of in self._running:
            self._running[task.copy_of].helped.difference_update(task.cells)

    def _give_up(self, mosaic: int, why: str, log: str) -> None:
        state = self._states[mosaic]
        if not state.given_up:
            self.aside.append(Aside(mosaic, tuple(sorted(state.open)), why, log))
        state.given_up = True
        self._left = max(0.0, self._left - state.cost)
        state.open.clear()
        state.queue.clear()

    def _look_for_end(self, mosaic: int) -> None:
        """Has a mosaic finished when its last part is there. One of which cells were set aside lacks them."""
        state = self._states[mosaic]
        lacks = any(aside.mosaic == mosaic for aside in self.aside)
        is_through = not (state.open or state.finished or state.finishing or state.given_up or lacks)
        if self.assemble and is_through and mosaic not in self._to_finish:
            self._to_finish.append(mosaic)

    def is_finished(self, mosaic: int) -> bool:
        """Whether the raster is there."""
        return self._states[mosaic].finished

    def open_cells(self, mosaic: int) -> int:
        return len(self._states[mosaic].open)
