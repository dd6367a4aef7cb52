"""How far a run is, on a terminal, in a log or for a program; and pictures of runs."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from .drive import Event, State

PAUSE = 10.0
"""Seconds between two lines of a log."""
COLOURS = {
    "done": "#3b7dd8", "finish": "#2f9e44", "lost": "#d6336c", "death": "#d6336c", "failed": "#e8590c",
    "dropped": "#adb5bd",
}


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class Progress:
    """Shows states: a bar where somebody looks on, else a line now and then, or JSON."""

    def __init__(self, as_json: bool, quiet: bool = False) -> None:
        self._json = as_json
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
            print(json.dumps({"event": "progress", **vars(state)}), flush=True)
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
        parts.append(f"{state.finishing} rasters being made")
    elif state.left is not None and state.cells < state.total:
        parts.append(f"{clock(state.left)} to go")
    parts.append(f"{state.alive} of {state.workers} workers")
    if state.retries:
        parts.append(f"{state.retries} retries")
    return ", ".join(parts)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit(
            "onnxsegment-ray: pictures need matplotlib: pip install 'onnxsegment-ray[plots]'"
        ) from error
    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def gantt(events: Sequence[Event], path: str) -> None:
    """Who was at what when."""
    pyplot = _pyplot()
    names = sorted({event.worker for event in events}, key=lambda name: int(name.split()[-1]))
    figure, axes = pyplot.subplots(figsize=(10, max(1.8, 0.9 + 0.28 * len(names))), layout="constrained")
    seen: set[str] = set()
    for event in events:
        label = {"death": "lost"}.get(event.how, event.how)
        axes.barh(
            names.index(event.worker), event.end - event.begin, left=event.begin, height=0.8, linewidth=0.4,
            edgecolor="white", color=COLOURS.get(event.how, "#868e96"), label=None if label in seen else label,
        )
        seen.add(label)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds since the begin")
    axes.spines[["top", "right"]].set_visible(False)
    if seen:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(seen), frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def efficiency(study: dict[str, Any], path: str) -> None:
    """A study of :func:`onnxsegment_ray.simulate.study`: time and efficiency by workers."""
    pyplot = _pyplot()
    rows = study["rows"]
    workers = [row["workers"] for row in rows]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot(workers, [row["seconds"] / 60 for row in rows], "o-", color="#3b7dd8", label="simulated")
    first = rows[0]["seconds"] * workers[0] / 60
    left.plot(workers, [first / n for n in workers], "--", color="#868e96", label="one worker's time over N")
    left.set(xscale="log", yscale="log", xlabel="workers", ylabel="minutes", title=f"{study['cells']:,} cells")
    right.plot(workers, [row["efficiency"] for row in rows], "o-", color="#3b7dd8", label="of one worker's speed × N")
    right.plot(
        workers, [row["of_one_process"] for row in rows], "s-", color="#e8590c",
        label="of one undisturbed process that runs every tile once",
    )
    right.axhline(0.95, color="#868e96", linestyle=":", linewidth=1)
    right.set(xscale="log", xlabel="workers", ylim=(0, 1.05), title="efficiency")
    for axes in (left, right):
        axes.set_xticks(workers, [str(n) for n in workers])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="lower left")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
