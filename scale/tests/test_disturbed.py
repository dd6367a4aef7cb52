"""Real runs on a Ray cluster of this machine: killed at random moments, short of something, or with the wrong workers.

``ONNXSEGMENT_KILLS`` says how many workers are killed (3 if it is not set; drivers: a quarter of it, at least one).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import Cluster, command, pixels, scene
from driving import CELLS, Watched, go_on, line, parts, request, stop, wrapper

from onnxsegment_ray import schedule
from onnxsegment_ray.cluster import ClusterError
from onnxsegment_ray.drive import Driver

KILLS = int(os.environ.get("ONNXSEGMENT_KILLS", "3"))


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def when(is_so: object, then: object) -> None:
    """Does something, in another thread, as soon as something is so."""
    assert callable(is_so) and callable(then)

    def wait() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end and not is_so():
            time.sleep(0.02)
        then()

    threading.Thread(target=wait, daemon=True).start()


# ---- deaths


def test_workers_killed_at_random_moments_cost_their_open_cells_only(
    tmp_path: Path, expected: bytes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "HELP", float("inf"))
    # So many deaths on so few cells are the test's, not the cells'.
    monkeypatch.setattr(schedule, "STRIKES", 1000)
    draw = random.Random(1)
    killed, rounds, retries = 0, 0, 0
    while killed < KILLS:
        output = tmp_path / f"mask-{rounds}.tif"
        over = threading.Event()
        hits: list[int] = []
        left = KILLS - killed

        def kill(driver: Driver, over: threading.Event = over, hits: list[int] = hits, left: int = left) -> None:
            def one_after_another() -> None:
                while not over.is_set() and len(hits) < left:
                    time.sleep(draw.uniform(0.2, 2.0))
                    processes = driver.processes
                    if not processes or over.is_set():
                        continue
                    victim = draw.choice(processes)
                    try:
                        # Now the process that computes, now the actor that holds it.
                        os.kill(victim if draw.random() < 0.7 else parent(victim), signal.SIGKILL)
                        hits.append(victim)
                    except (ProcessLookupError, FileNotFoundError):
                        pass

            threading.Thread(target=one_after_another, daemon=True).start()

        driver = Watched(request(output, cluster), kill)
        report = driver.run()
        over.set()
        killed, rounds, retries = killed + len(hits), rounds + 1, retries + report.retries
        assert report.is_whole, report.aside
        assert pixels(output) == expected
        assert report.finished_cells == CELLS
        # A part that was there when its worker died may not have been told of; no other came twice.
        assert max(driver.times.values()) == 1 and len(driver.times) >= CELLS - 4 * len(hits)
        assert report.repeated_cells == 0
    print(f"\n{killed} workers killed in {rounds} runs: {retries} tasks given out again, no cell computed twice")


def workers_of_the_tests() -> list[int]:
    """Processes of ``onnxsegment work`` on the tests' own cluster."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_worker = (process / "cmdline").read_bytes().endswith(b"\0work\0")
            if is_worker and os.environ["RAY_AUTH_TOKEN"].encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def test_programs_that_read_json_hear_nothing_else_when_an_actor_dies(tmp_path: Path, cluster: Cluster) -> None:
    output = tmp_path / "mask.tif"
    driver = subprocess.Popen(line(output, cluster, "--json", "--workers", "1"), stdout=subprocess.PIPE, text=True)
    killed: list[int] = []

    def kill() -> None:
        workers = workers_of_the_tests()
        stop(workers)
        # Had it just ended a task, it is given another one meanwhile.
        time.sleep(0.5)
        killed.append(parent(workers[0]))
        os.kill(killed[0], signal.SIGKILL)

    when(lambda: len(parts(output)) > 5, kill)
    said, _ = driver.communicate(timeout=120)
    told = [json.loads(text) for text in said.splitlines()]
    assert killed and driver.returncode == 0
    assert told[-1]["event"] == "done" and told[-1]["retries"] >= 1


def test_a_killed_actor_comes_back(tmp_path: Path, expected: bytes, cluster: Cluster) -> None:
    actors: list[int] = []

    def kill(driver: Watched) -> None:
        def one() -> None:
            driver.hold()
            actors.append(parent(driver.processes[0]))
            os.kill(actors[0], signal.SIGKILL)

        when(lambda: driver.processes and len(parts(tmp_path / "mask.tif")) > 5, one)

    driver = Watched(request(tmp_path / "mask.tif", cluster, workers=1), kill)
    report = driver.run()
    # There is one worker: without it the run would not end.
    assert report.is_whole and report.retries >= 1 and pixels(tmp_path / "mask.tif") == expected
    assert actors and not Path(f"/proc/{actors[0]}").exists()
    assert 0 in {state.alive for state in driver.states} and driver.states[-1].alive == 1


def test_a_machine_that_is_lost_costs_its_open_cells_only(tmp_path: Path, expected: bytes, cluster: Cluster) -> None:
    node = cluster.add("--num-cpus=3")
    output = tmp_path / "mask.tif"

    def lose(driver: Watched) -> None:
        def one() -> None:
            driver.hold()
            processes = driver.processes
            node.kill()
            go_on(processes)

        when(lambda: len(parts(output)) > 5, one)

    # Of the three cores that a worker wants, each machine has room for one.
    driver = Watched(request(output, cluster, cpus=3.0), lose)
    report = driver.run()
    assert report.is_whole and report.retries >= 1 and pixels(output) == expected
    assert max(driver.times.values()) == 1 and report.repeated_cells == 0
    assert driver.states[-1].alive == 1
    assert {event.worker for event in report.events} == {"worker 1", "worker 2"}


def test_a_driver_that_is_killed_goes_on_when_it_is_started_again(
    tmp_path: Path, expected: bytes, cluster: Cluster
) -> None:
    draw = random.Random(2)
    output = tmp_path / "mask.tif"
    kept: set[str] = set()
    kills = max(1, KILLS // 4)
    for k in range(kills):
        driver = subprocess.Popen(line(output, cluster, "-q"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Not before it has workers, which takes longer than all the rest; and so that some is left for the others.
        until = len(kept) + draw.randrange(1, max(2, (CELLS - len(kept)) // (kills - k + 1)))
        end = time.monotonic() + 120
        while time.monotonic() < end and driver.poll() is None and len(parts(output)) < until:
            time.sleep(0.02)
        assert driver.poll() is None, "it ended by itself"
        driver.kill()
        driver.wait()
        settle(output)
        now = parts(output)
        assert kept < now, "what was there is kept"
        kept = now
    done = subprocess.run(line(output, cluster, "--json"), capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["event"] == "done" and told["finished_cells"] == CELLS - len(kept)
    assert pixels(output) == expected
    print(f"\n{kills} drivers killed: {len(kept)} of {CELLS} parts were there before the last, which did the others")


def settle(output: Path) -> None:
    """Waits until the workers of a killed driver have gone too."""
    before = -1
    while len(parts(output)) != before:
        before = len(parts(output))
        time.sleep(2)


def test_ctrl_c_leaves_parts_and_says_how_to_go_on(tmp_path: Path, expected: bytes, cluster: Cluster) -> None:
    output = tmp_path / "mask.tif"
    driver = subprocess.Popen(line(output, cluster), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while time.monotonic() < end and len(parts(output)) < 5:
        time.sleep(0.02)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "cells are finished and kept" in said and "run the same command again to go on" in said
    assert "Traceback" not in said
    settle(output)
    kept = len(parts(output))
    assert 5 <= kept < CELLS
    again = Watched(request(output, cluster)).run()
    assert again.is_whole and again.finished_cells == CELLS - kept and pixels(output) == expected


def test_a_cell_that_kills_three_workers_is_set_aside_with_its_log(
    tmp_path: Path, expected: bytes, cluster: Cluster
) -> None:
    bad, output = 100, tmp_path / "mask.tif"
    deadly = wrapper(
        tmp_path / "deadly",
        f"""#!{sys.executable}
import json, os, signal, subprocess, sys
if sys.argv[1:] != ["work"]:
    os.execv({command()!r}, [{command()!r}, *sys.argv[1:]])
inner = subprocess.Popen([{command()!r}, "work"], stdin=subprocess.PIPE, text=True)
for job in sys.stdin:
    if {bad} in json.loads(job).get("cells", []):
        print("a pixel of cell {bad} is cursed", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    inner.stdin.write(job)
    inner.stdin.flush()
""",
    )
    driver = Watched(request(output, cluster, command=[deadly]))
    report = driver.run()
    assert not report.is_whole and not output.exists()
    (aside,) = report.aside
    assert aside.cells == (bad,) and aside.why == "killed 3 workers"
    assert "was killed by signal 11" in aside.log and f"a pixel of cell {bad} is cursed" in aside.log
    assert report.finished_cells == CELLS - 1 and report.repeated_cells == 0
    again = Watched(request(output, cluster)).run()
    assert again.is_whole and again.finished_cells == 1 and pixels(output) == expected


# ---- what is not there, or not for long


def test_a_source_that_cannot_be_read_for_a_while_is_tried_again(
    tmp_path: Path, expected: bytes, cluster: Cluster
) -> None:
    source, output, away = tmp_path / "scene.tif", tmp_path / "mask.tif", tmp_path / "away.tif"
    source.write_bytes(Path(scene()).read_bytes())

    def take_away() -> None:
        source.rename(away)
        time.sleep(3)
        away.rename(source)

    driver = Watched(
        request(output, cluster, inputs=[str(source)], task_seconds=0.5),
        lambda _: when(lambda: len(parts(output)) > 5, take_away),
    )
    report = driver.run()
    assert report.is_whole and report.retries >= 1 and pixels(output) == expected
    assert report.repeated_cells == 0
    assert [said for said in driver.said if "scene.tif" in said and "it is tried again" in said], driver.said


def mount(folder: Path, size: str) -> None:
    """A small file system, which root alone can make."""
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if subprocess.run(line, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can make a small file system")


def test_no_space_is_named_and_the_rest_is_done_once_there_is_some(
    tmp_path: Path, expected: bytes, cluster: Cluster
) -> None:
    small = tmp_path / "small"
    mount(small, "400k")
    try:
        output = small / "mask.tif"
        done = subprocess.run(line(output, cluster), capture_output=True, text=True, check=False)
        assert done.returncode == 3, done.stderr
        assert "No space left on device" in done.stderr or "no space" in done.stderr, done.stderr
        assert "run the same command again" in done.stderr and "Traceback" not in done.stderr
        kept = len(parts(output))
        assert 0 < kept < CELLS and not output.exists()
        subprocess.run(["mount", "-o", "remount,size=20m", small], check=True)
        again = Watched(request(output, cluster)).run()
        assert again.is_whole and again.finished_cells == CELLS - kept and pixels(output) == expected
    finally:
        subprocess.run(["umount", small], check=False)


def test_an_output_that_workers_do_not_share_is_refused(tmp_path: Path, cluster: Cluster) -> None:
    out = tmp_path / "out"
    out.mkdir()
    # A machine that has something else at the same path.
    apart = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(out))
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can make a machine with other files")
    node = cluster.add("--num-cpus=3", before=apart)
    try:
        with pytest.raises(ClusterError, match=f"has a folder {out}, but another one.*a path that all machines share"):
            Watched(request(out / "mask.tif", cluster, cpus=3.0)).run()
    finally:
        node.kill()
    assert not [name for name in os.listdir(out) if "shared" in name]


@pytest.mark.parametrize(
    ("instead", "said"),
    [
        ("exec /nowhere/onnxsegment work", r"worker \S+: onnxsegment work ended with status 127.*not found"),
        ("ORT_DYLIB_PATH=/nowhere/ort.so exec {command} work", r"worker \S+: onnxsegment work ended.*/nowhere/ort\.so"),
        (
            'echo \'{{"event":"ready","onnxsegment":"9.9.9-x","onnxruntime":"1.0.0","providers":[]}}\'; cat',
            r"worker \S+ has onnxsegment 9\.9\.9-x where this machine has .*ONNX Runtime 1\.0\.0.*install the same",
        ),
    ],
    ids=["without the command", "without ONNX Runtime", "of another version"],
)
def test_workers_that_could_not_do_the_same_are_refused(
    tmp_path: Path, cluster: Cluster, instead: str, said: str
) -> None:
    # The plan is this machine's, the worker another one's.
    as_here = f'[ "$1" = work ] || exec {command()} "$@"'
    other = wrapper(tmp_path / "other", f"#!/bin/sh\n{as_here}\n{instead.format(command=command())}\n")
    with pytest.raises(ClusterError, match=f"(?s){said}"):
        Watched(request(tmp_path / "mask.tif", cluster, workers=1, command=[other])).run()
