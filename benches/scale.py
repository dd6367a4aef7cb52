"""What runs over a cluster cost, measured on this machine, from the demo scene (`make setup SCALE=1`, `make build`).

    .cache/scale/bin/python benches/scale.py measure     tiles, tasks and starts of workers, into scale/…/measured.json
    .cache/scale/bin/python benches/scale.py start       starts of workers alone, into the same
    .cache/scale/bin/python benches/scale.py assembly    the final raster's time beside the run's, by size
    .cache/scale/bin/python benches/scale.py overhead    a cluster of two workers beside one process of two threads

Rasters are kept in .cache/scale-rasters. ONNXSEGMENT names another command than target/release/onnxsegment.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import ray

from onnxsegment_ray.cluster import actor, connect
from onnxsegment_ray.drive import Driver, Report, Request
from onnxsegment_ray.process import Work, plan

ROOT = Path(__file__).resolve().parent.parent
COMMAND = os.environ.get("ONNXSEGMENT", str(ROOT / "target/release/onnxsegment"))
SCENE = ROOT / "out/scene.tif"
RASTERS = ROOT / ".cache/scale-rasters"
MODEL = str(ROOT / "models/fold0.onnx")
MEASURED = ROOT / "scale/src/onnxsegment_ray/measured.json"
TILE, OVERLAP = 1024, 64


def raster(side: int) -> Path:
    """The demo scene, repeated to ``side`` by ``side`` pixels, as a tiled and compressed GeoTIFF."""
    path = RASTERS / f"{side}.tif"
    if path.exists():
        return path
    RASTERS.mkdir(parents=True, exist_ok=True)
    scene = 900
    vrt = [f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}"><GeoTransform>0, 0.5, 0, 0, 0, -0.5</GeoTransform>']
    for band in (1, 2, 3):
        vrt.append(f'<VRTRasterBand dataType="Byte" band="{band}">')
        for y in range(0, side, scene):
            for x in range(0, side, scene):
                wide, high = min(scene, side - x), min(scene, side - y)
                vrt.append(
                    f"<SimpleSource><SourceFilename>{SCENE}</SourceFilename><SourceBand>{band}</SourceBand>"
                    f'<SrcRect xOff="0" yOff="0" xSize="{wide}" ySize="{high}"/>'
                    f'<DstRect xOff="{x}" yOff="{y}" xSize="{wide}" ySize="{high}"/></SimpleSource>'
                )
        vrt.append("</VRTRasterBand>")
    source, new = RASTERS / f"{side}.vrt", RASTERS / f"{side}.new.tif"
    source.write_text("\n".join([*vrt, "</VRTDataset>"]))
    options = ["-co", "TILED=YES", "-co", "COMPRESS=DEFLATE", "-co", "BLOCKXSIZE=512", "-co", "BLOCKYSIZE=512"]
    subprocess.run(["gdal_translate", "-q", *options, "-co", "NUM_THREADS=ALL_CPUS", source, new], check=True)
    new.rename(path)
    return path


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else f"{os.cpu_count()} cores"


def fresh(name: str) -> Path:
    """An empty folder for what a run writes."""
    folder = RASTERS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# ---- what the simulation replays


def measure() -> None:
    """Tiles one by one: cells that are the cores of tiles, by a worker of one thread."""
    source, folder = raster(12_288), fresh("measure")
    step = TILE - OVERLAP
    settings = {
        "tile-size": str(TILE), "overlap": str(OVERLAP), "blend": "crop", "part-size": f"{step},{step}", "threads": "1",
    }
    output = folder / "mask.tif"
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    (told,) = plan([COMMAND], [str(source), "-o", str(output), "-m", MODEL, "--begin", *arguments])
    columns = -(-12_288 // step)
    # Whole tiles alone: those at the right and lower border are cut.
    whole = [row * columns + column for row in range(columns - 1) for column in range(columns - 1)]
    tiles: list[float] = []
    overheads: list[float] = []
    loads: list[float] = []
    for _ in range(3):
        work = Work([COMMAND])
        for first in (True, False, False):
            cells, whole = whole[:16], whole[16:]
            job = {
                "job": "1", "input": str(source), "output": str(output), "models": [MODEL], "settings": settings,
                "cells": cells,
            }
            given, times = time.monotonic(), []
            for event in work.job(job):
                if event["event"] == "part":
                    times.append(time.monotonic())
                elif event["event"] == "failed":
                    sys.exit(event["error"])
            ended = time.monotonic()
            each = [b - a for a, b in pairwise(times)]
            tiles += each
            # All of the task but its tiles: the first one's is taken for a usual one.
            spent = (ended - given) - (times[-1] - times[0]) - statistics.median(each)
            if first:  # loads the models
                loads.append(spent)
            else:
                overheads.append(spent)
        work.close()
    found: dict[str, Any] = {
        "measured": {
            "by": "benches/scale.py measure",
            "machine": machine(),
            "onnxsegment": told["versions"]["onnxsegment"],
            "onnxruntime": told["versions"]["onnxruntime"],
            "what": f"models/fold0.onnx, one pass, one thread; tiles of {TILE} pixels that overlap by {OVERLAP}",
        },
        "task_overhead": round(statistics.median(overheads), 4),
        "start": round(actors() + statistics.median(loads), 4),
        "tile_seconds": [round(t, 4) for t in tiles],
    }
    write(found)
    print(
        f"{len(tiles)} tiles: median {statistics.median(tiles):.3f} s, {min(tiles):.3f} to {max(tiles):.3f}; a task "
        f"costs {found['task_overhead']:.3f} s more, a worker's start {found['start']:.2f} s"
    )


def start() -> None:
    """A worker's start alone: its actor, and the models that its first task loads."""
    found = json.loads(MEASURED.read_text())
    source, output = raster(8192), fresh("start") / "mask.tif"
    spent = []
    for run_of in (0, 1):
        work = Work([COMMAND])
        job = {"job": "1", "input": str(source), "output": str(output), "models": [MODEL], "settings": {}, "cells": [0]}
        for again in (False, True):
            begin = time.monotonic()
            list(work.job({**job, "cells": [2 * run_of + again]}))
            spent.append(time.monotonic() - begin)
        work.close()
    # Two like tasks, of which only the first loads the models.
    loading = max(0.0, statistics.mean(spent[0::2]) - statistics.mean(spent[1::2]))
    found["start"] = round(actors() + loading, 4)
    write(found)
    print(f"a worker's start: {found['start']:.2f} s")


def write(found: dict[str, Any]) -> None:
    text = json.dumps(found, indent=1)
    head, _, numbers = text.partition('"tile_seconds": [')
    MEASURED.write_text(f'{head}"tile_seconds": [{" ".join(numbers.split())}\n')


def actors() -> float:
    """From asking Ray for a worker to its greeting: Ray's process, and the command in it."""
    work = Work([COMMAND])
    versions = {name: work.ready[name] for name in ("onnxsegment", "onnxruntime")}
    work.close()
    connect(None, 1.0, 4)
    times = []
    for _ in range(4):
        begin = time.monotonic()
        worker = actor(1.0, 0.0, [COMMAND], versions, ([], ""))
        told = ray.get(worker.hello.remote())
        assert "refused" not in told, told
        times.append(time.monotonic() - begin)
    ray.shutdown()
    return statistics.median(times)


# ---- whole runs


def run(source: Path, output: Path, model: str, workers: int = 2, **settings: str) -> Report:
    asked = Request(
        inputs=[str(source)], output=str(output), models=[model],
        settings={"tile-size": str(TILE), "overlap": str(OVERLAP), **settings}, command=[COMMAND], workers=workers,
    )
    return Driver(asked, lambda _: None, lambda _: None).run()


def assembly() -> None:
    """How long the last raster takes from its last part on."""
    folder = fresh("assembly")
    print("| pixels | output | run, s | of which making the raster, s | million pixels/s of that | tiles | size |")
    print("|---|---|---|---|---|---|---|")
    for side in (8192, 16_384):
        for name in ("mask.tif", "mask.vrt"):
            report = run(raster(side), folder / name, MODEL)
            assert report.is_whole, report.aside
            files = [f for f in (folder / f"{name}.parts").glob("*.tif")] or [folder / name]
            size = sum(f.stat().st_size for f in files) / 1e6
            print(
                f"| {side} × {side} | `{name}` | {report.seconds:.1f} | {report.assembly_seconds:.2f} | "
                f"{report.pixels / 1e6 / report.assembly_seconds:.0f} | {report.tiles} | {size:.2f} MB |",
                flush=True,
            )
            shutil.rmtree(folder)
            folder.mkdir()


def overhead() -> None:
    """A cluster of two workers with one thread each, and one process with two threads, turn by turn."""
    folder = fresh("overhead")
    source = raster(8192)
    times: dict[str, list[float]] = {"cluster": [], "process": []}
    for k in range(3):
        report = run(source, folder / f"a{k}.tif", MODEL)
        assert report.is_whole
        times["cluster"].append(report.seconds)
        begin = time.monotonic()
        line = ["run", str(source), "-o", str(folder / f"b{k}.tif"), "-m", MODEL, "-q", "--threads", "2"]
        subprocess.run([COMMAND, *line, "--tile-size", str(TILE), "--overlap", str(OVERLAP)], check=True)
        times["process"].append(time.monotonic() - begin)
    for name, seconds in times.items():
        print(f"{name}: median {statistics.median(seconds):.1f} s, {min(seconds):.1f} to {max(seconds):.1f}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    verbs = {"measure": measure, "start": start, "assembly": assembly, "overhead": overhead}
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        sys.exit(__doc__)
    verbs[sys.argv[1]]()
