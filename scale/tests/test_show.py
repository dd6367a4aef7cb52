"""What is shown of runs, in words and pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import command, scene

from onnxsegment_ray import show
from onnxsegment_ray.cli import main, settings
from onnxsegment_ray.drive import Event, State

STATE = State(
    seconds=10.0, cells=5, total=20, pixels=30_000_000, left=95.4, alive=2, workers=3, retries=0, finishing=0
)


def test_a_state_in_words() -> None:
    assert show.words(STATE) == "5 of 20 cells, 3.00 MP/s, 1:35 to go, 2 of 3 workers"
    assert show.words(replace(STATE, left=None, retries=1)).endswith("3.00 MP/s, 2 of 3 workers, 1 retry")
    assert "2 rasters are being made, " in show.words(replace(STATE, finishing=2, cells=20))
    assert show.clock(3725) == "1:02:05"


def test_pictures_are_drawn_of_every_kind_of_event(tmp_path: Path) -> None:
    events = [Event(f"worker {k + 1}", 1.0 * k, 5.0 + k, 0, 3, how) for k, how in enumerate(show.HOW)]
    show.gantt(events, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    few = ["--cells", "200", "--workers", "1,4", "--rounds", "1"]
    assert main(["simulate", *few, "--plot", str(tmp_path / "b.png")]) == 0
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("onnxsegment_ray.cli.can_draw", lambda: False)
    assert main(["run", "nothing.tif", "-o", str(tmp_path / "m.tif"), "-m", "m.onnx", "--gantt", "g.png"]) == 1
    assert "--gantt needs matplotlib: pip install" in capsys.readouterr().err


def test_a_wrong_setting_is_said_in_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    line = ["run", scene(), "-o", str(tmp_path / "m.tif"), "-m", "m.onnx", "--command", command(), "--ttaa", "d4"]
    assert main(line) == 1
    said = capsys.readouterr().err
    assert "unexpected argument '--ttaa' found" in said and "'--tta'" in said and "Usage" not in said


def test_settings_are_all_words_that_are_no_options_of_this_program() -> None:
    assert settings(["--tta", "d4", "--cog=false", "--bbox", "-1,2,3,4"]) == {
        "tta": "d4", "cog": "false", "bbox": "-1,2,3,4",
    }
    with pytest.raises(SystemExit, match="needs a value"):
        settings(["--tta"])
    with pytest.raises(SystemExit, match="stray: is no setting"):
        settings(["stray"])
