"""How far a run is, on a terminal, in a log or for a program; and pictures of runs."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from .drive import Event, State

PAUSE = 10.0
"""Seconds between two lines of a log."""
BLUE, GREEN, RED, ORANGE, GREY = "#3b7dd8", "#2f9e44", "#d6336c", "#e8590c", "#adb5bd"
HOW = {
    "done": ("cells finished", BLUE),
    "finish": ("raster made", GREEN),
    "lost": ("worker died (×)", RED),
    "failed": ("source or output failed", ORANGE),
    "dropped": ("others were first", GREY),
}
"""What became of a task: words and a colour."""


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Shows states: a bar where somebody looks on, else a line now and then, or JSON."""

    def __init__(self, as_json: bool, quiet: bool = False) -> None:
        self._json = as_json
        # Where it is now: while a run goes on, Ray's own words are kept from it.
        self._output = sys.stdout
        self._quiet = quiet
        self._bar = not as_json and sys.stderr.isatty()
        self._last = 0.0
        self._is_open = False

    def show(self, state: State) -> None:
        pause = 0.5 if self._bar else 1.0 if self._json else PAUSE
        if self._quiet or time.monotonic() - self._last < pause:
            return
        self._last = time.monotonic()
        if self._json:
            print(json.dumps({"event": "progress", **vars(state)}), file=self._output, flush=True)
            return
        text = words(state)
        if not self._bar:
            print(f"onnxsegment-ray: {text}", file=sys.stderr, flush=True)
            return
        width = shutil.get_terminal_size().columns
        room = max(0, min(30, width - len(text) - 4))
        filled = int(room * state.cells / max(1, state.total))
        bar = f"[{'#' * filled}{'.' * (room - filled)}] " if room >= 5 else ""
        print(f"\r\x1b[K{bar}{text[: width - len(bar) - 1]}", end="", file=sys.stderr, flush=True)
        self._is_open = True

    def wait(self, text: str) -> None:
        """Shows what is going on before there is anything to count."""
        if self._bar and not self._quiet:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self._is_open = True

    def say(self, text: str) -> None:
        self.end()
        print(f"onnxsegment-ray: {text}", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._is_open:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._is_open = False


def words(state: State) -> str:
    speed = state.pixels / 1e6 / state.seconds if state.seconds > 0 else 0.0
    parts = [f"{state.cells} of {state.total} cells", f"{speed:.2f} MP/s"]
    if state.finishing:
        parts.append("a raster is being made" if state.finishing == 1 else f"{state.finishing} rasters are being made")
    elif state.left is not None and state.cells < state.total:
        parts.append(f"{clock(state.left)} to go")
    parts.append(f"{state.alive} of {state.workers} workers")
    if state.retries:
        parts.append("1 retry" if state.retries == 1 else f"{state.retries} retries")
    return ", ".join(parts)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def gantt(events: Sequence[Event], path: str) -> None:
    """Who was at what when."""
    pyplot = _pyplot()
    names = sorted({event.worker for event in events}, key=lambda name: int(name.split()[-1]))
    high = max(2.2, 1.5 + 0.22 * len(names))
    figure, axes = pyplot.subplots(figsize=(10, high), layout="constrained")
    seen = [how for how in HOW if any(event.how == how for event in events)]
    for event in events:
        row, (_, colour) = names.index(event.worker), HOW[event.how]
        long = event.end - event.begin
        axes.barh(row, long, left=event.begin, height=0.7, linewidth=0.6, edgecolor="white", color=colour)
        if event.how == "lost":
            axes.plot(event.end, row, marker="x", color="black", markersize=6, markeredgewidth=1.5, clip_on=False)
    axes.set_yticks(range(len(names)), names, fontsize=9 if len(names) <= 40 else 5)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds since the begin")
    axes.tick_params(left=False)
    axes.grid(axis="x", color="#e9ecef", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    patches = [pyplot.Rectangle((0, 0), 1, 1, color=HOW[how][1]) for how in seen]
    words = [HOW[how][0] for how in seen]
    if seen:
        axes.legend(
            patches, words, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(seen), frameon=False, fontsize=9,
            borderaxespad=0.2, handlelength=1.2,
        )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def efficiency(study: dict[str, Any], path: str) -> None:
    """A study of :func:`onnxsegment_ray.simulate.study`: time and efficiency by workers."""
    pyplot = _pyplot()
    rows, world = study["rows"], study["world"]
    workers = [row["workers"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    left.plot(workers, [row["seconds"] / 60 for row in rows], "o-", color=BLUE, label="simulated run")
    first = rows[0]["seconds"] * workers[0] / 60
    left.plot(workers, [first / n for n in workers], "--", color=GREY, label="the first one's time, divided evenly")
    left.set(xscale="log", yscale="log", ylabel="minutes", title="Time")
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    right.plot(workers, [row["efficiency"] for row in rows], "o-", color=BLUE, label="of one worker's speed × N")
    right.plot(
        workers, [row["of_one_process"] for row in rows], "s-", color=ORANGE,
        label="of one process that runs every tile once, undisturbed",
    )
    right.axhline(0.95, color=GREY, linestyle=":", linewidth=1)
    right.annotate("0.95", (workers[0], 0.95), textcoords="offset points", xytext=(-4, 4), fontsize=8, color="#495057")
    low = min(row["of_one_process"] for row in rows)
    high = max(row["efficiency"] for row in rows)
    right.set(xscale="log", ylabel="efficiency", ylim=(max(0.0, math.floor(low * 10 - 0.5) / 10), high + 0.03))
    right.set_title("Efficiency (the axis does not begin at 0)" if right.get_ylim()[0] > 0 else "Efficiency")
    for axes in (left, right):
        axes.set_xlabel("workers")
        axes.set_xticks(workers, [str(n) for n in workers])
        axes.minorticks_off()
        axes.grid(color="#e9ecef", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8.5, loc="lower left")
    hours = world["hours_between_deaths"]
    figure.suptitle(
        f"{study['cells']:,} cells of 4096 × 512 pixels; tiles of {world['tile_seconds']['mean']:.2g} s as measured, "
        f"{world['straggler_share']:.0%} of tasks straggle, a worker dies every {hours:g} hours",
        fontsize=9.5,
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
