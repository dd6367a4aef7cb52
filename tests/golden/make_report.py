#!/usr/bin/env python3
"""Masks and the areas of their classes, by numpy and pyproj: report/*.tif and report/areas.json.

    pip install numpy==2.4.6 pyproj==3.7.2 rasterio==1.4.4
    python tests/golden/make_report.py [--check]

The area of a pixel is that of the polygon of its borders on the ellipsoid of WGS 84: each side is cut into pieces, whose
ends are joined by geodesics (pyproj's Geod.polygon_area_perimeter), so that sides along parallels are followed. The masks
are synthetic.
"""

import json
import sys
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from pyproj import Geod, Transformer

HERE = Path(__file__).parent / "report"
GEOD = Geod(ellps="WGS84")
PIECES = 32

CASES = {
    # Degrees, far north: a pixel at the bottom covers a fifth more than one on top.
    "degrees": (4326, Affine(0.1, 0, 10.0, 0, -0.1, 64.0), (40, 30), "uint8"),
    # Over the antimeridian and the equator, pixels of two degrees.
    "antimeridian": (4326, Affine(2.0, 0, 170.0, 0, -2.0, 10.0), (12, 10), "uint8"),
    # UTM, beyond the edge of the zone, in 16 bits.
    "utm": (32633, Affine(30.0, 0, 850000.0, 0, -30.0, 5300000.0), (60, 50), "uint16"),
    # Rotated.
    "rotated": (32616, Affine(0.5, 0.2, 733601.0, 0.2, -0.5, 3725139.0), (50, 40), "uint8"),
    # Web Mercator: metres of the map are not metres of the ground.
    "mercator": (3857, Affine(10000.0, 0, 500000.0, 0, -10000.0, 9000000.0), (70, 60), "uint8"),
    # More columns and rows than the lattice of areas has nodes.
    "wide": (32633, Affine(60.0, 0, 200000.0, 0, -60.0, 5300000.0), (700, 3), "uint8"),
    # No place at all.
    "nowhere": (None, Affine.identity(), (20, 10), "uint8"),
}


def labels(width, height, dtype):
    """Classes 0 to 2, class 2 towards the right, and a corner without data."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    classes = ((x // 3 + y // 2) % 2).astype(dtype)
    classes[x > 0.7 * width + 0.1 * y] = 2
    classes[(x < 3) & (y < 2)] = np.iinfo(dtype).max
    return classes


def pixel_area(to_degrees, affine, column, row):
    t = np.arange(PIECES) / PIECES
    zero, one = np.zeros(PIECES), np.ones(PIECES)
    c = column + np.concatenate([t, one, 1 - t, zero])
    r = row + np.concatenate([zero, t, one, 1 - t])
    lon, lat = to_degrees.transform(*(affine * (c, r)))
    return abs(GEOD.polygon_area_perimeter(lon, lat)[0])


def main():
    check = "--check" in sys.argv
    HERE.mkdir(exist_ok=True)
    all_cases = {}
    for name, (epsg, affine, (width, height), dtype) in CASES.items():
        values = labels(width, height, dtype)
        nodata = int(np.iinfo(dtype).max)
        profile = dict(driver="GTiff", width=width, height=height, count=1, dtype=dtype, nodata=nodata, compress="deflate")
        if epsg:
            profile |= dict(crs=f"EPSG:{epsg}", transform=affine)
        path = HERE / f"{name}.tif"
        if not check:
            with rasterio.open(path, "w", **profile) as out:
                out.write(values, 1)
        with rasterio.open(path) as found:
            assert (found.read(1) == values).all(), name
        areas = None
        if epsg:
            to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
            areas = np.array([[pixel_area(to_degrees, affine, c, r) for c in range(width)] for r in range(height)])
        classes = [
            {
                "value": value,
                "pixels": int((values == value).sum()),
                "area": None if areas is None else float(areas[values == value].sum()),
            }
            for value in range(3)
        ]
        all_cases[name] = {"classes": classes, "nodata": int((values == nodata).sum())}
    text = json.dumps(all_cases, indent=1) + "\n"
    golden = HERE / "areas.json"
    if check:
        before = json.loads(golden.read_text())
        for name, case in all_cases.items():
            for a, b in zip(before[name]["classes"], case["classes"]):
                assert a["pixels"] == b["pixels"], (name, a, b)
                assert a["area"] == b["area"] or abs(a["area"] / b["area"] - 1) < 1e-9, (name, a, b)
    else:
        golden.write_text(text)


main()
