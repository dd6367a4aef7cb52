"""Decisions of the scheduler, one by one."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from onnxsegment_ray import schedule
from onnxsegment_ray.plan import Axis, Mosaic
from onnxsegment_ray.schedule import READS, Fault, Scheduler, Task
from onnxsegment_ray.simulate import mosaic


def grid(columns: int, rows: int, name: str = "a") -> Mosaic:
    """Cells that are tiles, which do not overlap: a cell costs one tile."""
    width, height = columns * 64, rows * 64
    return Mosaic(
        f"{name}.tif", f"{name}-mask.tif", name, (0, 0, width, height), (64, 64), Axis(width, 64, 0),
        Axis(height, 64, 0), True, columns * rows,
    )


def do(scheduler: Scheduler, task: Task, now: float) -> None:
    for cell in task.cells:
        scheduler.cell_finished(task.number, cell, now)
    scheduler.task_finished(task.number, now, finished=task.finish)


def take(scheduler: Scheduler, now: float = 0.0, worker: str = "w") -> Task:
    task = scheduler.next_task(worker, now)
    assert task is not None
    return task


def test_every_cell_is_given_once_and_then_the_raster_is_made() -> None:
    scheduler = Scheduler([grid(20, 10)], 1)
    given: list[int] = []
    now = 0.0
    while (task := scheduler.next_task("w", now)) is not None:
        given += task.cells
        last = task
        now += task.cost
        do(scheduler, task, now)
    assert sorted(given) == list(range(200))
    assert last.finish and scheduler.is_finished(0) and scheduler.is_over


def test_tasks_take_as_long_as_wanted_and_become_smaller_towards_the_end() -> None:
    scheduler = Scheduler([grid(100, 100)], 4, seconds=120.0)
    sizes = []
    now = 0.0
    while (task := scheduler.next_task("w", now)) is not None:
        if task.cells:
            sizes.append(len(task.cells))
        now += 0.5 * task.cost
        do(scheduler, task, now)
    assert all(size == 240 for size in sizes[1:35]), sizes
    assert sizes[-1] < 10 and all(a >= b for a, b in pairwise(sizes[1:-1]))


def test_tasks_end_where_their_cells_share_most_tiles() -> None:
    plan = mosaic(4000)
    scheduler = Scheduler([plan], 1, assemble=False)
    now, costs = 0.0, []
    while (task := scheduler.next_task("w", now)) is not None:
        now += 0.4 * task.cost
        do(scheduler, task, now)
        costs.append(task.cost)
    # Squares of 157 tiles, whose border goes through tiles, have (1 + 1 / 12.5)² = 1.17 times as many as they need.
    assert scheduler.finished_cells == 4000 and sum(costs) < 1.23 * plan.cost(range(4000))


def test_a_slow_worker_is_helped_by_what_it_has_done_itself() -> None:
    scheduler = Scheduler([grid(20, 1)], 2, seconds=1000.0, assemble=False)
    do(scheduler, take(scheduler, 0.0, "fast"), 1.0)
    slow = take(scheduler, 1.0, "slow")
    last = slow.cells[0]
    now, mine = 2.0, set(slow.cells)
    # Others do all but one of its cells in no time, which says nothing of its own speed.
    while mine != {last}:
        task = take(scheduler, now + 100.0, "fast")
        for cell in task.cells:
            if cell != last:
                scheduler.cell_finished(task.number, cell, now)
                mine.discard(cell)
        if last in task.cells:
            scheduler.task_lost(task.number, now)
            break
        scheduler.task_finished(task.number, now + 0.1)
    assert take(scheduler, now + 200.0, "fast").cells == (last,)


def test_a_small_scene_is_one_task_raster_included_and_the_largest_come_first() -> None:
    scheduler = Scheduler([grid(2, 2, "s"), grid(40, 40, "l"), grid(3, 2, "m")], 1)
    now, seen = 0.0, []
    while (task := scheduler.next_task("w", now)) is not None:
        now += task.cost
        do(scheduler, task, now)
        seen.append(task)
    assert seen[0].mosaic == 1
    small = [task for task in seen if task.mosaic != 1]
    assert {(task.mosaic, len(task.cells), task.finish) for task in small} == {(2, 6, True), (0, 4, True)}


def test_a_cell_that_kills_three_workers_is_set_aside_and_all_others_are_done() -> None:
    for bad in (0, 57, 99):
        scheduler = Scheduler([grid(10, 10)], 1, seconds=1000.0)
        deaths, now = 0, 0.0
        while (task := scheduler.next_task("w", now)) is not None:
            now += 1.0
            if bad in task.cells:
                before = [cell for cell in task.cells if cell < bad][:2]
                for cell in before:
                    scheduler.cell_finished(task.number, cell, now)
                scheduler.task_lost(task.number, now, f"signal 11 {deaths}")
                deaths += 1
            else:
                do(scheduler, task, now)
        assert deaths == 3
        assert scheduler.finished_cells == 99 and scheduler.repeated == 0
        assert [(a.cells, a.log) for a in scheduler.aside] == [((bad,), "signal 11 2")]
        assert not scheduler.is_finished(0) and scheduler.is_over


def test_a_lost_task_costs_its_open_cells_only() -> None:
    scheduler = Scheduler([grid(10, 1)], 1, seconds=1000.0)
    do(scheduler, take(scheduler), 1.0)
    task = take(scheduler, 1.0)
    done = task.cells[:3]
    for cell in done:
        scheduler.cell_finished(task.number, cell, 1.5)
    scheduler.task_lost(task.number, 2.0)
    again: list[int] = []
    while (given := scheduler.next_task("w", 2.0)) is not None:
        again += given.cells
        do(scheduler, given, 3.0)
    assert not set(done) & set(again)
    assert scheduler.finished_cells == 10 and scheduler.repeated == 0


def test_a_source_that_cannot_be_read_is_tried_later_and_then_given_up() -> None:
    scheduler = Scheduler([grid(1, 1)], 1)
    now, waits = 0.0, []
    for _ in range(READS):
        task = take(scheduler, now)
        scheduler.task_failed(task.number, now, Fault.SOURCE, "location=a.tif: timeout")
        if scheduler.wait(now) is not None:
            assert scheduler.next_task("w", now) is None
            waits.append(scheduler.wait(now))
            now += waits[-1] or 0.0
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert scheduler.is_over or scheduler.next_task("w", now) is None
    assert [a.why for a in scheduler.aside] == ["location=a.tif: timeout"]


def test_an_error_of_one_scene_leaves_the_others() -> None:
    scheduler = Scheduler([grid(2, 2, "a"), grid(2, 2, "b")], 1)
    first = take(scheduler)
    scheduler.task_failed(first.number, 1.0, Fault.OUTPUT, "no space")
    now = 1.0
    while (task := scheduler.next_task("w", now)) is not None:
        now += 1.0
        do(scheduler, task, now)
    assert [a.mosaic for a in scheduler.aside] == [first.mosaic]
    assert scheduler.is_finished(1 - first.mosaic)


def test_idle_workers_take_cells_of_one_that_is_slow() -> None:
    scheduler = Scheduler([grid(20, 1)], 2, seconds=1000.0)
    do(scheduler, take(scheduler, 0.0, "fast"), 1.0)
    slow = take(scheduler, 1.0, "slow")
    now = 1.0
    while (task := scheduler.next_task("fast", now)) is not None and task.copy_of is None:
        now += 1.0
        do(scheduler, task, now)
    if task is None:
        now += 100.0
    helped = task or take(scheduler, now, "fast")
    assert helped.copy_of == slow.number and set(helped.cells) < set(slow.cells)
    do(scheduler, helped, now + 1.0)
    assert scheduler.next_task("fast", now + 100.0) is not None


def test_a_task_whose_cells_others_have_done_is_dropped() -> None:
    scheduler = Scheduler([grid(8, 1)], 2, seconds=1000.0, assemble=False)
    do(scheduler, take(scheduler, 0.0, "fast"), 1.0)
    slow = take(scheduler, 1.0, "slow")
    now = 1000.0
    dropped: list[int] = []
    while not dropped:
        task = take(scheduler, now, "fast")
        for cell in task.cells:
            scheduler.cell_finished(task.number, cell, now)
        dropped = scheduler.task_finished(task.number, now + 0.1)
        now += 100.0
    assert dropped == [slow.number] and scheduler.finished_cells == 8
    scheduler.task_dropped(slow.number)
    assert scheduler.next_task("fast", now) is None and scheduler.is_over


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_every_cell_is_done_or_set_aside(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "STRIKES", 1000)
    draw = random.Random(seed)
    mosaics = [grid(draw.randrange(1, 30), draw.randrange(1, 20), str(k)) for k in range(4)]
    scheduler = Scheduler(mosaics, 3, seconds=draw.choice([2.0, 20.0]))
    running: dict[str, Task] = {}
    now = 0.0
    for _ in range(100_000):
        now += draw.random() * 5.0
        for worker in ("a", "b", "c"):
            if worker not in running and (task := scheduler.next_task(worker, now)) is not None:
                running[worker] = task
        if not running:
            if scheduler.is_over:
                break
            continue
        worker = draw.choice(sorted(running))
        task = running.pop(worker)
        some = [cell for cell in task.cells if draw.random() < 0.5]
        match draw.randrange(6):
            case 0:
                for cell in some:
                    scheduler.cell_finished(task.number, cell, now)
                scheduler.task_lost(task.number, now)
            case 1 if task.tries < 3:
                scheduler.task_failed(task.number, now, Fault.SOURCE, "later")
            case _:
                do(scheduler, task, now)
    assert scheduler.is_over and not scheduler.aside
    assert scheduler.finished_cells == sum(mosaic.cells for mosaic in mosaics)
    assert all(scheduler.is_finished(k) for k in range(4))
