"""Real runs on a Ray cluster of this machine: two workers, undisturbed and killed at random moments.

``ONNXSEGMENT_KILLS`` says how many workers are killed (3 if it is not set; drivers: a quarter of it, at least one).
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import SETTINGS, Cluster, command, model, pixels, scene

from onnxsegment_ray import schedule
from onnxsegment_ray.cluster import ClusterError
from onnxsegment_ray.drive import Driver, Report, Request, State

KILLS = int(os.environ.get("ONNXSEGMENT_KILLS", "3"))
CELLS = 225


@pytest.fixture(autouse=True)
def _at(cluster: Cluster) -> None:
    """All runs are on the tests' own cluster."""
    os.environ["ONNXSEGMENT_TEST_CLUSTER"] = cluster.address


def request(output: Path, **change: object) -> Request:
    settings = change.pop("settings", SETTINGS)
    assert isinstance(settings, dict)
    inputs = change.pop("inputs", [scene()])
    return Request(
        inputs=inputs, output=str(output), models=[model()], settings=dict(settings),  # type: ignore[arg-type]
        command=[command()], **{"workers": 2, "task_seconds": 2.0, "address": os.environ["ONNXSEGMENT_TEST_CLUSTER"], **change},  # type: ignore[arg-type]
    )


class Watched(Driver):
    """Counts how often each cell was finished."""

    def __init__(self, asked: Request, started: object = None) -> None:
        self.times: Counter[tuple[int, int]] = Counter()
        self.states: list[State] = []
        self.said: list[str] = []
        if callable(started):
            super().__init__(asked, self.states.append, self.said.append, started)
        else:
            super().__init__(asked, self.states.append, self.said.append)

    def _hear(self, place, told) -> None:  # type: ignore[no-untyped-def]
        if told["event"] == "part" and place.task is not None:
            self.times[place.task.mosaic, told["cell"]] += 1
        super()._hear(place, told)


def words(output: Path, *more: str) -> list[str]:
    settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    return [
        sys.executable, "-m", "onnxsegment_ray", "run", scene(), "-o", str(output), "-m", model(), *settings,
        "--address", os.environ["ONNXSEGMENT_TEST_CLUSTER"], "--workers", "2", "--task-seconds", "2", "--command", command(), "--json", *more,
    ]


def parts(output: Path) -> set[str]:
    folder = Path(f"{output}.parts")
    return {p.name for p in folder.iterdir() if p.name.startswith("labels_")} if folder.exists() else set()


def test_two_workers_make_the_pixels_of_one_process(tmp_path: Path, expected: bytes) -> None:
    driver = Watched(request(tmp_path / "mask.tif"))
    report = driver.run()
    assert report.is_whole and report.finished_rasters == 1 and report.finished_cells == CELLS
    assert pixels(tmp_path / "mask.tif") == expected
    assert {event.worker for event in report.events} == {"worker 1", "worker 2"}
    assert driver.states[-1].cells == CELLS
    assert not [name for name in os.listdir(tmp_path) if "shared" in name or "parts" in name]


def test_workers_killed_at_random_moments_cost_their_open_cells_only(
    tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "HELP", float("inf"))
    # So many deaths on so few cells are the test's, not the cells'.
    monkeypatch.setattr(schedule, "STRIKES", 1000)
    draw = random.Random(1)
    killed, rounds = 0, 0
    while killed < KILLS:
        output = tmp_path / f"mask-{rounds}.tif"
        over = threading.Event()
        hits: list[int] = []

        def kill(driver: Driver, over: threading.Event = over, hits: list[int] = hits, left: int = KILLS - killed) -> None:
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

        driver = Watched(request(output), kill)
        report = driver.run()
        over.set()
        killed, rounds = killed + len(hits), rounds + 1
        assert report.is_whole, report.aside
        assert pixels(output) == expected
        assert report.finished_cells == CELLS
        # A part that was there when its worker died may not have been told of; no other came twice.
        assert max(driver.times.values()) == 1 and len(driver.times) >= CELLS - 4 * len(hits)
        assert report.repeated_cells == 0
        print(f"{len(hits)} kills: {report.retries} tasks given out again, no cell twice")
    assert killed >= KILLS


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_driver_that_is_killed_goes_on_when_it_is_started_again(tmp_path: Path, expected: bytes) -> None:
    draw = random.Random(2)
    output = tmp_path / "mask.tif"
    kept: set[str] = set()
    kills = max(1, KILLS // 4)
    begun = 0
    for _ in range(kills):
        driver = subprocess.Popen(words(output), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        # Not before it has workers, which takes longer than all the rest.
        end = time.monotonic() + 120
        while time.monotonic() < end and driver.poll() is None and len(parts(output)) <= len(kept):
            time.sleep(0.05)
        time.sleep(draw.uniform(0.0, 0.8))
        driver.kill()
        driver.wait()
        begun += 1
        if output.exists():
            break
        settle(output)
        now = parts(output)
        assert kept < now, "what was there is kept"
        kept = now
    done = subprocess.run(words(output), capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["event"] == "done" and told["finished_cells"] == CELLS - len(kept)
    assert pixels(output) == expected
    print(f"{begun} drivers killed; {len(kept)} of {CELLS} parts were there before the last")


def settle(output: Path) -> None:
    """Waits until the workers of a killed driver have gone too."""
    before = -1
    while len(parts(output)) != before:
        before = len(parts(output))
        time.sleep(3)


def test_ctrl_c_leaves_parts_and_says_how_to_go_on(tmp_path: Path) -> None:
    output = tmp_path / "mask.tif"
    driver = subprocess.Popen(words(output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while time.monotonic() < end and len(parts(output)) < 5:
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == 130
    assert "cells are finished and kept" in said and "run the same command again to go on" in said
    assert 5 <= len(parts(output)) < CELLS


def test_many_scenes_become_many_masks_and_one_that_is_broken_keeps_none_from_it(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for k in range(3):
        cut = ["gdal_translate", "-q", "-srcwin", str(k * 300), "0", "300", "200", scene(), str(scenes / f"{k}.tif")]
        subprocess.run(cut, check=True)
    driver = Watched(request(tmp_path / "masks" / "", inputs=[str(scenes)], workers=1))
    driver.request.output += "/"
    report = driver.run()
    assert report.is_whole and report.finished_rasters == 3
    assert sorted(p.name for p in (tmp_path / "masks").glob("*.tif")) == ["0.tif", "1.tif", "2.tif"]
    # Once more: nothing is left to do.
    driver = Watched(request(tmp_path / "masks" / "", inputs=[str(scenes)], workers=1))
    driver.request.output += "/"
    assert driver.run().finished_cells == 0


def test_a_vrt_over_the_parts_needs_no_assembly(tmp_path: Path, expected: bytes) -> None:
    report: Report = Watched(request(tmp_path / "mask.vrt")).run()
    assert report.is_whole and (tmp_path / "mask.vrt.parts").is_dir()
    assert pixels(tmp_path / "mask.vrt") == expected


def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"no Ray cluster can be reached at 127\.0\.0\.1:1"):
        Watched(request(tmp_path / "mask.tif", address="127.0.0.1:1")).run()


def test_a_worker_of_another_version_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.sh"
    # The plan is this version's, the worker another's.
    other.write_text(
        f"#!/bin/sh\n[ \"$1\" = work ] || exec {command()} \"$@\"\n"
        'echo \'{"event":"ready","onnxsegment":"9.9.9-x","onnxruntime":"1.0.0","providers":["cpu"],"process":1}\'; cat\n'
    )
    other.chmod(0o755)
    asked = request(tmp_path / "mask.tif", workers=1)
    asked.command = [str(other)]
    with pytest.raises(ClusterError, match=r"has onnxsegment 9\.9\.9-x where this machine has .*install the same"):
        Watched(asked).run()
