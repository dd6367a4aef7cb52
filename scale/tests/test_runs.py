"""Real runs on a Ray cluster of this machine that nobody disturbs."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest
from conftest import Cluster, pixels, scene
from driving import CELLS, Watched, line, request

from onnxsegment_ray.metrics import COUNTERS, GAUGES


def test_two_workers_make_the_pixels_of_one_process(tmp_path: Path, expected: bytes, cluster: Cluster) -> None:
    driver = Watched(request(tmp_path / "mask.tif", cluster))
    report = driver.run()
    assert report.is_whole and report.finished_rasters == 1 and report.finished_cells == CELLS
    assert pixels(tmp_path / "mask.tif") == expected
    assert {event.worker for event in report.events} == {"worker 1", "worker 2"}
    assert driver.states[-1].cells == CELLS
    assert not [name for name in os.listdir(tmp_path) if "shared" in name or "parts" in name]


def test_many_scenes_become_many_masks(tmp_path: Path, cluster: Cluster) -> None:
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    for k in range(3):
        cut = ["gdal_translate", "-q", "-srcwin", str(k * 300), "0", "300", "200", scene(), str(scenes / f"{k}.tif")]
        subprocess.run(cut, check=True)
    masks = f"{tmp_path}/masks/"
    report = Watched(request(masks, cluster, inputs=[str(scenes)], workers=1)).run()
    assert report.is_whole and report.finished_rasters == 3
    assert sorted(p.name for p in (tmp_path / "masks").glob("*.tif")) == ["0.tif", "1.tif", "2.tif"]
    # Once more: nothing is left to do.
    assert Watched(request(masks, cluster, inputs=[str(scenes)], workers=1)).run().finished_cells == 0


def test_a_vrt_over_the_parts_needs_no_assembly(tmp_path: Path, expected: bytes, cluster: Cluster) -> None:
    report = Watched(request(tmp_path / "mask.vrt", cluster)).run()
    assert report.is_whole and (tmp_path / "mask.vrt.parts").is_dir()
    assert pixels(tmp_path / "mask.vrt") == expected


def test_the_command_line_tells_programs_in_json_and_draws_the_run(tmp_path: Path, cluster: Cluster) -> None:
    more = ["--json", "--gantt", str(tmp_path / "gantt.png"), "--events", str(tmp_path / "events.json")]
    done = subprocess.run(line(tmp_path / "mask.tif", cluster, *more), capture_output=True, text=True, check=True)
    told = [json.loads(text) for text in done.stdout.splitlines()]
    assert [t["event"] for t in told[:-1]] == ["progress"] * (len(told) - 1)
    assert told[-1]["event"] == "done" and told[-1]["finished_cells"] == CELLS and told[-1]["workers"] == 2
    assert {"cells", "total", "pixels", "left", "alive", "workers", "retries"} <= set(told[0])
    assert (tmp_path / "gantt.png").read_bytes().startswith(b"\x89PNG")
    events = json.loads((tmp_path / "events.json").read_text())["events"]
    assert sum(event["cells"] for event in events if event["how"] == "done") >= CELLS


def test_a_terminal_shows_a_bar_and_ends_with_a_line(tmp_path: Path, cluster: Cluster) -> None:
    terminal, inside = pty.openpty()
    done = subprocess.Popen(line(tmp_path / "mask.tif", cluster), stderr=inside)
    os.close(inside)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
    assert done.wait() == 0
    text = shown.decode()
    assert f"of {CELLS} cells" in text and "MP/s" in text and "of 2 workers" in text and "\r\x1b[K[" in text
    assert text.rstrip().splitlines()[-1].endswith("by 2 workers")


def test_metrics_are_told_to_ray(tmp_path: Path, cluster: Cluster) -> None:
    found: dict[str, float] = {}
    over = threading.Event()

    def read() -> None:
        while not over.wait(0.3):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{cluster.head.metrics}/metrics", timeout=5) as answer:
                    lines = answer.read().decode().splitlines()
            except OSError:
                continue
            for text in lines:
                name, _, rest = text.partition("{")
                if name.startswith("ray_onnxsegment_") and str(tmp_path) in rest:
                    name = name.removeprefix("ray_onnxsegment_").removesuffix("_total")
                    found[name] = max(found.get(name, 0.0), float(rest.split()[-1]))

    reader = threading.Thread(target=read)
    reader.start()
    # Slow enough to be read while it runs.
    slow = ["--tta", "d4", "--tile-size", "64"]
    done = subprocess.run(line(tmp_path / "mask.tif", cluster, *slow), capture_output=True, text=True, check=False)
    over.set()
    reader.join()
    assert done.returncode == 0, done.stderr
    assert {*COUNTERS, *GAUGES} - {"retries", "finishing"} <= set(found), found
    assert 0 < found["cells"] <= CELLS == found["total"] and found["alive"] == found["workers"] == 2.0
    assert 0 < found["pixels"] <= 900 * 900


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "nowhere.invalid:6379"])
def test_a_cluster_that_is_not_there_is_named(tmp_path: Path, address: str, cluster: Cluster) -> None:
    asked = line(tmp_path / "mask.tif", cluster, "--address", address)
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert f"no Ray cluster can be reached at {address} (" in done.stderr and "ray start --head" in done.stderr
    assert len(done.stderr.splitlines()) == 1
