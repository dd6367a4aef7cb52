"""``onnxsegment-ray``: ``run``, ``simulate`` and ``cost``."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from . import __version__
from .cost import Work

INCOMPLETE = 3
INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="onnxsegment-ray", description="Segment mosaics and folders of scenes by onnxsegment over a Ray cluster."
    )
    top.add_argument("--version", action="version", version=f"onnxsegment-ray {__version__}")
    verbs = top.add_subparsers(dest="verb", required=True)

    # Settings of the elements have names of their own, which must not be taken for short forms of the options here.
    run = verbs.add_parser(
        "run", help="segment rasters over a cluster", allow_abbrev=False,
        epilog="Every other --NAME VALUE is a setting of the elements, as `onnxsegment run --help` lists them: "
        "--tta d4, --merge gmean, --blend crop, --execution-provider cuda, ...",
    )
    run.add_argument("inputs", metavar="INPUT", nargs="+", help="rasters that GDAL opens, patterns, or folders")
    run.add_argument("-o", "--output", metavar="OUT", required=True, help="NAME.tif, or a folder for many inputs")
    run.add_argument(
        "-m", "--model", metavar="MODEL", nargs="+", action="extend", default=[], help="ONNX files or patterns"
    )
    run.add_argument(
        "--address",
        help="of a running cluster, such as auto or HOST:6379 (default: RAY_ADDRESS, else a cluster on this machine)",
    )
    run.add_argument("--workers", metavar="N", type=int, help="workers (default: as many as the cluster has room for)")
    run.add_argument("--cpus-per-worker", metavar="N", type=float, default=1.0, help="(default: 1)")
    run.add_argument("--gpus-per-worker", metavar="N", type=float, default=0.0, help="(default: 0; 0.5 shares one)")
    run.add_argument("--no-assemble", action="store_true", help="leave the parts, and write NAME.vrt over them")
    run.add_argument("--task-seconds", metavar="S", type=float, default=60.0, help="how long a task is (default: 60)")
    run.add_argument("--command", default="onnxsegment", help="the command on all machines (default: onnxsegment)")
    run.add_argument("--gantt", metavar="PNG", help="draw who did what when")
    run.add_argument("--events", metavar="JSON", help="write the same as JSON")
    run.add_argument("--json", action="store_true", help="print progress and the report as JSON, one object a line")
    run.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")

    simulate = verbs.add_parser("simulate", help="how a run would scale, without running it")
    simulate.add_argument("--cells", type=int, default=10_000, help="(default: 10000)")
    simulate.add_argument("--workers", metavar="N,N,...", default="1,2,4,8,16,32,64,128,256")
    simulate.add_argument("--tile-seconds", type=float, help="seconds of a tile (default: as measured)")
    simulate.add_argument("--rounds", type=int, default=3, help="runs that are averaged (default: 3)")
    simulate.add_argument("--plot", metavar="PNG", help="draw it")
    simulate.add_argument("--json", action="store_true", help="print it as JSON")

    cost = verbs.add_parser(
        "cost", help="hours, storage and requests of a large area, from your own rates",
        epilog="Inferred pixels x passes / rate is the time of a worker. `onnxsegment bench MODEL` prints the rate of "
        "a machine: MP/s, for one model and no transform. Bytes are those of a pixel as it is stored.",
    )
    usual = Work(1.0, 1.0, 1.0)
    cost.add_argument("--area", metavar="KM2", type=float, help="square kilometres")
    cost.add_argument("--resolution", metavar="M", type=float, help="metres of a pixel")
    cost.add_argument("--rate", metavar="MP/S", type=float, help="a worker's million pixels a second, one pass")
    cost.add_argument("--plans", action="store_true", help="print the plans of docs/scale.md instead")
    cost.add_argument("--models", metavar="N", type=int, default=1, help="(default: 1)")
    cost.add_argument("--transforms", metavar="N", type=int, default=1, help="flips 4, d4 8 (default: 1)")
    cost.add_argument("--workers", metavar="N", type=int, default=usual.workers, help="(default: %(default)s)")
    cost.add_argument("--efficiency", type=float, default=usual.efficiency, help="(default: %(default)s)")
    cost.add_argument("--tile", type=int, default=usual.tile, help="(default: %(default)s)")
    cost.add_argument("--overlap", type=int, default=usual.overlap, help="(default: %(default)s)")
    cost.add_argument("--side", type=int, default=usual.side, help="of a mosaic, in pixels (default: %(default)s)")
    for name in ("source", "part", "mask"):
        own = getattr(usual, f"{name}_bytes")
        cost.add_argument(f"--{name}-bytes", metavar="B", type=float, default=own, help="(default: %(default)s)")
    cost.add_argument(
        "--assembly", metavar="MP/S", type=float, default=usual.assembly, help="making rasters (default: %(default)s)"
    )
    cost.add_argument("--price", type=float, help="of a worker's hour")
    cost.add_argument("--json", action="store_true", help="print it as JSON")
    return top


def settings(words: Sequence[str]) -> dict[str, str]:
    """``--name value`` and ``--name=value`` as a dictionary."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise SystemExit(f"onnxsegment-ray: {word}: is no setting; inputs come first, before -m")
        name, equals, value = word[2:].partition("=")
        if not equals:
            if not rest:
                raise SystemExit(f"onnxsegment-ray: --{name} needs a value")
            value = rest.pop(0)
        found[name] = value
    return found


def can_draw() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def main(arguments: Sequence[str] | None = None) -> int:
    known, others = parser().parse_known_args(arguments)
    for name in ("gantt", "plot"):
        if getattr(known, name, None) and not can_draw():
            return fail(f"--{name} needs matplotlib: pip install './scale[plots]', or leave it out")
    if known.verb != "run":
        if others:
            parser().error(f"unrecognized arguments: {' '.join(others)}")
        return simulate(known) if known.verb == "simulate" else cost(known)
    return run(known, settings(others))


def run(known: argparse.Namespace, others: dict[str, str]) -> int:
    from .cluster import ClusterError
    from .drive import Driver, Request, State, expand
    from .metrics import Metrics
    from .process import CommandError
    from .show import Progress, gantt

    progress = Progress(known.json, known.quiet)
    output = known.output
    for name in ("shard", "cells", "finish", "window" if len(known.inputs) > 1 else "shard"):
        if name in others:
            return fail(f"--{name} is not for runs over a cluster, which cut the work themselves")
    if known.workers is not None and known.workers < 1:
        return fail(f"--workers {known.workers}: use 1 or more")
    if known.no_assemble:
        if not output.endswith((".tif", ".tiff", ".vrt")):
            return fail("--no-assemble is for one mosaic, -o NAME.vrt; scenes are small enough to be made whole")
        output = output.rsplit(".", 1)[0] + ".vrt"
    driver = None
    try:
        request = Request(
            inputs=expand(known.inputs), output=output, models=known.model, settings=others,
            command=shlex.split(known.command), address=known.address, workers=known.workers,
            cpus=known.cpus_per_worker, gpus=known.gpus_per_worker, task_seconds=known.task_seconds,
        )
        metrics = Metrics(output)

        def show(state: State) -> None:
            progress.show(state)
            metrics.show(state)

        driver = Driver(request, show, progress.say)
        progress.wait("planning, and looking for workers …")
        # Ray tells of every death there, in words that are not for users, and not for programs that read JSON.
        with open(os.devnull, "w") as nobody, contextlib.redirect_stdout(nobody):
            report = driver.run()
    except (CommandError, ClusterError) as error:
        progress.end()
        return fail(str(error))
    except KeyboardInterrupt:
        progress.end()
        print("onnxsegment-ray: stopped before anything was begun", file=sys.stderr)
        return INTERRUPTED
    progress.end()
    if known.gantt and report.events:
        gantt(report.events, known.gantt)
    told: dict[str, Any] = {**vars(report), "aside": [vars(a) for a in report.aside]}
    events = [vars(event) for event in told.pop("events")]
    if known.events:
        with open(known.events, "w", encoding="utf-8") as file:
            json.dump({"report": told, "events": events}, file, indent=1)
    if known.json:
        print(json.dumps({"event": "done", **told}), flush=True)
    for aside in report.aside:
        mosaic = driver.scheduler.mosaics[aside.mosaic]
        cells = f"cell {aside.cells[0]}" if len(aside.cells) == 1 else f"{len(aside.cells)} cells"
        print(f"onnxsegment-ray: {mosaic.input}: {cells} left out: {aside.why}", file=sys.stderr)
        for line in aside.log.splitlines():
            print(f"    {line}", file=sys.stderr)
    if report.interrupted:
        print(
            f"onnxsegment-ray: stopped; {report.done_before + report.empty + report.finished_cells} of "
            f"{report.done_before + report.empty + report.cells} cells are finished and kept beside {output}: run the "
            "same command again to go on",
            file=sys.stderr,
        )
        return INTERRUPTED
    if report.aside:
        print(
            f"onnxsegment-ray: {report.finished_rasters} of {report.mosaics} rasters were made; finished parts are "
            "kept: run the same command again to try the rest",
            file=sys.stderr,
        )
        return INCOMPLETE
    if not (known.json or known.quiet):
        what = output if report.mosaics == 1 else f"{report.finished_rasters} rasters in {output}"
        print(summary(what, report), file=sys.stderr)
    return 0


def summary(what: str, report: Any) -> str:
    from .show import clock

    text = f"{what}: {report.finished_cells} cells, {report.pixels / 1e6:.2f} MP in {clock(report.seconds)}"
    text += " by 1 worker" if report.workers == 1 else f" by {report.workers} workers"
    if report.done_before:
        text += f"; {report.done_before} were there before"
    if report.empty:
        text += f"; {report.empty} without data"
    if report.retries:
        tasks = "1 task" if report.retries == 1 else f"{report.retries} tasks"
        cells = {0: "no cell", 1: "1 cell"}.get(report.repeated_cells, f"{report.repeated_cells} cells")
        text += f"; {tasks} given out again, {cells} done twice"
    return text


def simulate(known: argparse.Namespace) -> int:
    from .simulate import World, study

    try:
        counts = [int(n) for n in known.workers.split(",")]
    except ValueError:
        return fail(f"--workers {known.workers}: use whole numbers joined by commas")
    if min(counts) < 1 or known.cells < 1 or known.rounds < 1:
        return fail("--workers, --cells and --rounds are numbers from 1 on")
    changes: dict[str, Any] = {"tile_seconds": (known.tile_seconds,)} if known.tile_seconds else {}
    found = study(counts, known.cells, World.measured(**changes), known.rounds)
    if known.plot:
        from .show import efficiency

        efficiency(found, known.plot)
    if known.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{found['cells']:,} cells; a tile takes {found['world']['tile_seconds']['mean']:.3g} s on average")
    print("workers   minutes  efficiency  of one process   tasks  copies  deaths")
    for row in found["rows"]:
        print(
            f"{row['workers']:7} {row['seconds'] / 60:9.1f} {row['efficiency']:11.3f} {row['of_one_process']:15.3f} "
            f"{row['tasks']:7.0f} {row['copies']:7.0f} {row['deaths']:7.1f}"
        )
    return 0


def cost(known: argparse.Namespace) -> int:
    from .cost import PLANS, cost, table

    if known.plans:
        print(table(PLANS))
        return 0
    numbers = ("area", "resolution", "rate", "models", "transforms", "workers", "efficiency", "side", "assembly")
    for name in numbers:
        if getattr(known, name) is None:
            return fail(f"cost needs --{name}")
        if not getattr(known, name) > 0:
            return fail(f"--{name} {getattr(known, name)}: use a number above 0")
    if not 0 <= known.overlap < known.tile:
        return fail(f"--overlap {known.overlap}: has to be below --tile, {known.tile}")
    work = Work(
        known.area, known.resolution, known.rate, known.models * known.transforms, known.workers, known.efficiency,
        known.tile, known.overlap, side=known.side, source_bytes=known.source_bytes, part_bytes=known.part_bytes,
        mask_bytes=known.mask_bytes, assembly=known.assembly, price=known.price,
    )
    print(json.dumps(cost(work), indent=1) if known.json else table({"plan": work}))
    return 0


def fail(text: str) -> int:
    print(f"onnxsegment-ray: {text}", file=sys.stderr)
    return 1
