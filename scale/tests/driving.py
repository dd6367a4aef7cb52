"""Runs that tests drive and watch."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from conftest import SETTINGS, Cluster, command, model, scene

from onnxsegment_ray.drive import Driver, Request, State

CELLS = 225
"""Of the demo scene, by ``SETTINGS``."""


def request(output: Path | str, cluster: Cluster, **change: Any) -> Request:
    usual: dict[str, Any] = {
        "inputs": [scene()], "output": str(output), "models": [model()], "settings": dict(SETTINGS),
        "command": [command()], "address": cluster.address, "workers": 2, "task_seconds": 2.0,
    }
    return Request(**{**usual, **change})


class Watched(Driver):
    """Counts how often each cell was finished, and keeps what was shown and said."""

    def __init__(self, asked: Request, started: Callable[[Watched], None] = lambda _: None) -> None:
        self.times: Counter[tuple[int, int]] = Counter()
        self.states: list[State] = []
        self.said: list[str] = []
        super().__init__(asked, self.states.append, self.said.append, lambda _: started(self))

    def hold(self, until: float = 60.0) -> None:
        """Stops the workers' processes once each is at a task, so that whatever comes next meets all of them at work,
        however quick they are. To be called from another thread."""
        end = time.monotonic() + until
        calm = 0
        # Twice, since what a process had written before it was stopped is heard after it.
        while calm < 2 and time.monotonic() < end:
            stop(self.processes)
            time.sleep(0.3)
            is_held = all(place.process is not None and place.task is not None for place in self._workers)
            calm = calm + 1 if is_held else 0

    def _hear(self, place: Any, told: dict[str, Any]) -> None:
        if told["event"] == "part" and place.task is not None:
            self.times[place.task.mosaic, told["cell"]] += 1
        super()._hear(place, told)


def stop(processes: Iterable[int]) -> None:
    send(processes, signal.SIGSTOP)


def go_on(processes: Iterable[int]) -> None:
    send(processes, signal.SIGCONT)


def send(processes: Iterable[int], what: signal.Signals) -> None:
    """Sends a signal to those that are still there."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, what)


def line(output: Path, cluster: Cluster, *more: str) -> list[str]:
    """The same run by the command line."""
    settings = [word for name, value in SETTINGS.items() for word in (f"--{name}", value)]
    return [
        sys.executable, "-m", "onnxsegment_ray", "run", scene(), "-o", str(output), "-m", model(), *settings,
        "--address", cluster.address, "--workers", "2", "--task-seconds", "2", "--command", command(), *more,
    ]


def parts(output: Path) -> set[str]:
    """Finished parts of labels."""
    folder = Path(f"{output}.parts")
    return {p.name for p in folder.iterdir() if p.name.startswith("labels_")} if folder.exists() else set()


def wrapper(path: Path, text: str) -> str:
    """A program that stands in for the command."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)
