"""The command as a process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SETTINGS, command, model, scene

from onnxsegment_ray.process import CommandError, Work, WorkerDied, plan, shared_file, unlike


def job(output: Path, cells: list[int], **more: object) -> dict[str, object]:
    return {
        "job": "1", "input": scene(), "output": str(output), "models": [model()], "settings": SETTINGS, "cells": cells,
        **more,
    }


def test_cells_are_done_and_told_of(tmp_path: Path) -> None:
    work = Work([command()])
    assert work.ready["event"] == "ready" and "cpu" in work.ready["providers"]
    assert work.ready["onnxruntime"][0].isdigit()
    told = list(work.job(job(tmp_path / "m.tif", [0, 1, 40])))
    assert sorted(t["cell"] for t in told if t["event"] == "part") == [0, 1, 40]
    assert told[-1]["event"] == "done" and told[-1]["parts"] == 3
    # Once more: they are there.
    assert not [t for t in work.job(job(tmp_path / "m.tif", [0, 1])) if t["event"] == "part"]
    work.close()


def test_what_is_wrong_with_a_job_is_told_and_the_process_lives_on(tmp_path: Path) -> None:
    work = Work([command()])

    def failure(**change: object) -> tuple[str, str]:
        *_, last = work.job({**job(tmp_path / "m.tif", [0]), **change})
        return last["fault"], last["error"]

    assert failure(input="nothing.tif")[0] == "source"
    assert failure(output="/nowhere/m.tif")[0] == "output"
    assert "--tile-siz" in failure(settings={"tile-siz": "9"})[1]
    assert "there is no cell 999" in failure(cells=[999])[1]
    assert "unknown field `cell`" in failure(cell=3)[1]
    assert failure(models=["nothing.onnx"])[0] in ("models", "settings")
    assert work.is_alive
    work.close()


def test_a_process_that_is_killed_is_told_of(tmp_path: Path) -> None:
    work = Work([command()])
    told = work.job(job(tmp_path / "m.tif", list(range(100))))
    next(told)
    os.kill(work.process, signal.SIGKILL)
    with pytest.raises(WorkerDied, match="killed by signal 9"):
        list(told)
    assert not work.is_alive


def test_the_process_dies_with_its_parent() -> None:
    script = (
        "import sys; from onnxsegment_ray.process import Work\n"
        "w = Work([sys.argv[1]]); print(w.process, flush=True); input()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, command()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("it lives on")


def test_versions_that_differ_are_named() -> None:
    here = {"onnxsegment": "0.1.0-abc", "onnxruntime": "1.31.1", "providers": ["cpu"]}
    assert unlike(here, {**here, "providers": ["cuda", "cpu"]}, "worker x") is None
    said = unlike(here, {**here, "onnxruntime": "1.22.0"}, "worker x")
    assert said and said.startswith("worker x has ONNX Runtime 1.22.0 where this machine has 1.31.1")
    said = unlike(here, {**here, "onnxsegment": "0.2.0-abc"}, "worker x")
    assert said and "onnxsegment 0.2.0-abc where this machine has 0.1.0-abc" in said


def test_a_folder_that_is_not_shared_is_found_out(tmp_path: Path) -> None:
    token = tmp_path / "token"
    said = shared_file(str(token), "x")
    assert said and "but another one" in said
    token.write_text("x")
    assert shared_file(str(token), "x") is None
    assert "but another one" in (shared_file(str(token), "y") or "")
    assert "has no folder" in (shared_file(str(tmp_path / "no" / "token"), "x") or "")


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(CommandError, match="onnxsegment-nowhere cannot be run"):
        plan(["onnxsegment-nowhere"], [])
    with pytest.raises(CommandError, match="onnxsegment-nowhere cannot be run"):
        Work(["onnxsegment-nowhere"])


def test_what_the_plan_refuses_is_said_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nothing\.tif: cannot be opened"):
        plan([command()], ["nothing.tif", "-o", str(tmp_path / "m.tif"), "-m", model()])
