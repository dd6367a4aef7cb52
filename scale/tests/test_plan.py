"""Cells, the tiles that they need, and their order."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from onnxsegment_ray.plan import Axis, Mosaic, hilbert, ranges
from onnxsegment_ray.simulate import mosaic


def small(cores: bool = False) -> Mosaic:
    region = (70, 30, 500, 310)
    return Mosaic(
        "a.tif", "b.tif", "", region, (64, 48), Axis(700, 96, 32), Axis(400, 96, 32), cores, 64,
        empty=frozenset({3}), done=frozenset({0, 63}),
    )


def test_cells_tile_the_region() -> None:
    plan = small()
    seen = set()
    for cell in range(plan.cells):
        left, top, right, bottom = plan.rect(cell)
        for place in ((x, y) for x in range(left, right) for y in range(top, bottom)):
            assert place not in seen
            seen.add(place)
    assert len(seen) == 500 * 310 == sum(plan.pixels(cell) for cell in range(plan.cells))


@pytest.mark.parametrize("cores", [False, True])
def test_a_cell_needs_the_tiles_that_reach_into_it(cores: bool) -> None:
    plan = small(cores)
    halo = 0 if cores else plan.x.overlap // 2
    columns, rows = -(-700 // 64), -(-400 // 64)
    for cell in range(plan.cells):
        left, top, right, bottom = plan.rect(cell)
        found = {
            row * columns + column
            for row in range(rows)
            for column in range(columns)
            if column * 64 - halo < right and (column + 1) * 64 + halo > left
            and row * 64 - halo < bottom and (row + 1) * 64 + halo > top
        }
        assert set(plan.tiles(cell)) == found


def test_only_cells_that_are_open_are_to_do() -> None:
    plan = small()
    assert sorted(plan.to_do()) == [k for k in range(64) if k not in (0, 3, 63)]


def test_hilberts_curve_visits_every_place_by_single_steps() -> None:
    order = sorted(((x, y) for x in range(16) for y in range(16)), key=lambda p: hilbert(16, *p))
    assert {hilbert(16, x, y) for x, y in order} == set(range(256))
    assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(order))


def test_pieces_of_the_order_share_more_tiles_than_rows_do() -> None:
    plan = mosaic(4000)
    order = plan.to_do()
    pieces = sum(plan.cost(order[k : k + 80]) for k in range(0, 4000, 80))
    rows = sum(plan.cost(range(k, k + 80)) for k in range(0, 4000, 80))
    assert pieces < 0.75 * rows


def test_ranges_are_those_of_the_element() -> None:
    assert ranges([5, 0, 1, 2, 9, 8]) == "0-2,5,8-9"
    places = random.Random(1).sample(range(100), 30)
    text = ranges(places)
    found = [k for item in text.split(",") for k in range(int(item.split("-")[0]), int(item.split("-")[-1]) + 1)]
    assert found == sorted(places)
