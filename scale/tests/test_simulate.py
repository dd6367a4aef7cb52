"""The scheduler at scale, with workers that only let time pass."""

from __future__ import annotations

import pytest

from onnxsegment_ray.simulate import World, mosaic, simulate, study


def test_up_to_64_workers_are_used_well_on_ten_thousand_cells() -> None:
    found = study((1, 2, 4, 8, 16, 32, 64), rounds=2)
    assert [row["workers"] for row in found["rows"]] == [1, 2, 4, 8, 16, 32, 64]
    for row in found["rows"]:
        assert row["efficiency"] >= 0.95, found["rows"]
        assert row["set_aside"] == 0


def test_workers_that_die_often_cost_time_and_nothing_else() -> None:
    calm = simulate([mosaic(2000)], 16, World.measured(hours_between_deaths=1e9), seed=3)
    wild = simulate([mosaic(2000)], 16, World.measured(hours_between_deaths=0.1), seed=3)
    assert calm.deaths == 0 and wild.deaths >= 4
    assert wild.set_aside == 0 and calm.seconds < wild.seconds < 2 * calm.seconds


def test_one_straggler_does_not_keep_all_others_waiting() -> None:
    slow = simulate([mosaic(1000)], 8, World.measured(straggler_share=0.05, hours_between_deaths=1e9), seed=5)
    ends: dict[str, float] = {}
    for worker, _, end, _, _ in slow.events:
        ends[worker] = max(end, ends.get(worker, 0.0))
    assert min(ends.values()) > 0.9 * slow.seconds


@pytest.mark.parametrize("workers", [1, 7, 40])
def test_the_same_seed_is_the_same_run(workers: int) -> None:
    one, two = (simulate([mosaic(300)], workers, World.measured(), seed=9) for _ in range(2))
    assert one == two
