"""How far a run is, as metrics of the Ray cluster: for its dashboard, and for whatever reads Prometheus's format.

They are there where Ray is installed as ``ray[default]``; elsewhere nobody hears of them, and nothing fails.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from .drive import State

COUNTERS = {
    "cells": "Cells finished by the run.",
    "pixels": "Pixels of these cells.",
    "retries": "Tasks that were given out again.",
}
GAUGES = {
    "total": "Cells that the run has to do.",
    "alive": "Workers that are at work or ready for it.",
    "workers": "Workers that the run wants.",
    "finishing": "Rasters that are being made from their parts.",
}


class Metrics:
    """Tells Ray of states, each metric tagged with the run's output. To be shown only while Ray is connected."""

    def __init__(self, output: str) -> None:
        self._output = output
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._told = dict.fromkeys(COUNTERS, 0)

    def show(self, state: State) -> None:
        if not self._counters:
            tags = {"output": self._output}
            for name, text in COUNTERS.items():
                self._counters[name] = Counter(f"onnxsegment_{name}", text, ("output",))
                self._counters[name].set_default_tags(tags)
            for name, text in GAUGES.items():
                self._gauges[name] = Gauge(f"onnxsegment_{name}", text, ("output",))
                self._gauges[name].set_default_tags(tags)
        for name, counter in self._counters.items():
            now = getattr(state, name)
            if now > self._told[name]:
                counter.inc(now - self._told[name])
                self._told[name] = now
        for name, gauge in self._gauges.items():
            gauge.set(getattr(state, name))
