"""What a large area costs, by arithmetic that can be done by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from onnxsegment_ray.cli import main
from onnxsegment_ray.cost import PLANS, Work, cost, number, size, table, time
from onnxsegment_ray.plan import Axis, Mosaic


def test_a_plan_is_what_one_counts_by_hand() -> None:
    # 1024 km² at 1 m are 1024 million pixels, 1024 of a thousand by a thousand; tiles of 1000 without overlap.
    found = cost(
        Work(
            1024, 1.0, 10.0, passes=6, workers=4, efficiency=1.0, tile=1000, overlap=0, side=32_000, cell=(4000, 500),
            assembly=512.0, source_bytes=3.0, price=2.0,
        )
    )
    assert found["pixels"] == found["inferred"] == 1024e6 and found["mosaics"] == 1.0
    assert found["tiles"] == 1024 and found["cells"] == 8 * 64 == found["put_parts"]
    assert found["inference_seconds"] == pytest.approx(1024 * 6 / 10)
    assert found["assembly_seconds"] == 2.0
    assert found["seconds"] == pytest.approx((614.4 + 2.0) / 4) and found["source_bytes"] == 3 * 1024e6
    assert found["price"] == pytest.approx((614.4 + 2.0) / 3600 * 2.0)


def test_tiles_and_cells_are_those_of_the_lattice() -> None:
    side, tile, overlap = 12_000, 1024, 64
    axis = Axis(side, tile, overlap)
    mosaic = Mosaic("", "", "", (0, 0, side, side), (4096, 512), axis, axis, False, 3 * 24)
    found = cost(Work(side * side / 1e6, 1.0, 1.0, side=side, tile=tile, overlap=overlap))
    assert round(found["tiles"]) == mosaic.cost(range(mosaic.cells)) == 169
    assert round(found["cells"]) == mosaic.cells
    # BENCHMARKS.md: 144.0 million pixels, 164.7 million inferred.
    assert round(found["inferred"] / 1e6, 1) == 164.7


def test_figures_are_written_for_people() -> None:
    assert [number(n) for n in (0.5, 12.34, 12_345, 4.1e6, 1.49e12)] == [
        "0.5", "12.3", "12,345", "4.1 million", "1.49 × 10¹²",
    ]
    assert [size(n) for n in (900, 2.5e9, 6e12)] == ["900 B", "2.5 GB", "6 TB"]
    assert [time(n) for n in (30, 3600, 3 * 86_400, 3e8)] == ["30 seconds", "60 minutes", "3 days", "9.51 years"]


def test_the_page_has_the_plans_as_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--plans"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == table(PLANS) and printed in (ROOT / "docs" / "scale.md").read_text()


def test_the_command_takes_the_readers_own_rates(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["cost", "--area", "1e6", "--resolution", "0.5", "--rate", "100", "--models", "3", "--transforms", "8"]
    assert main([*line, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pixels"] == 4e12
    assert main(["cost", "--area", "1", "--resolution", "0", "--rate", "1"]) == 1
    assert "--resolution 0.0: use a number above 0" in capsys.readouterr().err


def test_the_kubernetes_example_mounts_one_volume_everywhere_and_has_the_tested_ray() -> None:
    cluster, claim = yaml.safe_load_all((ROOT / "scale" / "raycluster.yaml").read_text())
    spec = cluster["spec"]
    pods = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    assert cluster["kind"] == "RayCluster" and claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods:
        inside = pod["template"]["spec"]
        (volume,) = inside["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        assert [mount["mountPath"] for mount in inside["containers"][0]["volumeMounts"]] == ["/data"]
    tested = (Path(ROOT) / "scale" / "requirements.txt").read_text().splitlines()
    assert f"ray=={spec['rayVersion']}" in tested
