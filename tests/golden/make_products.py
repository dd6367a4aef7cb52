#!/usr/bin/env python3
"""Reference footprints and run-length rows of masks, computed without a line of this project's Rust.

    python -m venv golden && . golden/bin/activate
    pip install numpy scipy shapely rasterio pyproj pillow
    python make_products.py MASK PROBABILITY TRUTH   # rewrites products/ from the demo scene's rasters
    python make_products.py                          # rewrites products/cases.json from the masks in products/

Polygons are rasterio's (GDALPolygonize), regions and the means of probabilities scipy's, matches at IoU 0.5 and lengths shapely's, areas
on the ellipsoid pyproj's, rows those of the encoder that Kaggle's notebooks share.

demo-*.png: what models/fold0…2.onnx with tta=d4 make of the demo scene, and its truth. They are derived from SpaceNet imagery and labels,
CC BY-SA 4.0 (see models/README.md).
"""

import json
import sys
from pathlib import Path

import numpy as np
import rasterio.features
from PIL import Image
from pyproj import Geod, Transformer
from scipy import ndimage
from shapely.geometry import shape

HERE = Path(__file__).resolve().parent / "products"
EIGHT = np.ones((3, 3))
# CRS and geotransform of the ground on which the masks lie.
PLACES = {"utm": (32616, [733601.0, 0.5, 0.0, 3725139.0, 0.0, -0.5]), "degrees": (4326, [10.0, 5e-6, 0.0, 60.0, 0.0, -5e-6])}


def rle_encode(mask):
    """Kaggle's, as its notebooks have it: 1 - mask, 0 - background; start length, column by column."""
    pixels = mask.flatten(order="F")
    pixels = np.concatenate([[0], pixels, [0]])
    runs = np.where(pixels[1:] != pixels[:-1])[0] + 1
    runs[1::2] -= runs[::2]
    return " ".join(str(x) for x in runs)


def noise(seed, height, width, classes):
    """Regions of all sizes: holes, holes within holes, corners that touch."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.normal(size=(height, width)), sigma) for sigma in np.linspace(0.7, 2.5, classes + 1)]
    return np.stack([f / f.std() for f in fields]).argmax(0).astype(np.uint8)


def first_pixel(region):
    row, column = np.argwhere(region)[0]
    return int(column), int(row)


def ellipsoid(polygon, epsg, g, steps=20):
    """Square metres, with points along each edge."""
    to_degrees = Transformer.from_crs(epsg, 4326, always_xy=True)
    geod = Geod(ellps="WGS84")

    def ring(points):
        points = np.asarray(points)
        t = np.arange(steps)[:, None] / steps
        points = np.concatenate([a + (b - a) * t for a, b in zip(points[:-1], points[1:])])
        c, r = points.T
        lon, lat = to_degrees.transform(g[0] + c * g[1] + r * g[2], g[3] + c * g[4] + r * g[5])
        return abs(geod.polygon_area_perimeter(lon, lat)[0])

    return ring(polygon.exterior.coords) - sum(ring(hole.coords) for hole in polygon.interiors)


def polygons(mask, probability):
    found = []
    for value, name in ((v, str(v)) for v in np.unique(mask) if v):
        of_class = (mask == value).astype(np.uint8)
        shapes = [shape(s) for s, v in rasterio.features.shapes(of_class, mask=of_class.astype(bool), connectivity=4)]
        labels, count = ndimage.label(of_class)
        assert count == len(shapes), (count, len(shapes))
        for polygon in shapes:
            region = rasterio.features.rasterize([polygon], out_shape=mask.shape).astype(bool)
            # One region of scipy's, all of it.
            assert np.array_equal(region, labels == labels[region][0])
            column, row = first_pixel(region)
            found.append({
                "class": int(name), "column": column, "row": row,
                "pixels": int(region.sum()), "length": polygon.length,
                "mean": None if probability is None else float(probability[region].mean()),
                **{place: ellipsoid(polygon, *PLACES[place]) for place in PLACES},
            })
    return sorted(found, key=lambda p: (p["class"], p["row"], p["column"]))


def spacenet(predicted, truth):
    """From prediction to prediction, the best true polygon that is left, at IoU 0.5 or more."""
    shapes = [[shape(s).buffer(0) for s, v in rasterio.features.shapes(m, mask=m.astype(bool), connectivity=4)] for m in (predicted, truth)]
    left = list(shapes[1])
    hits = 0
    for p in shapes[0]:
        scores = [p.intersection(t).area / p.union(t).area for t in left]
        if scores and max(scores) >= 0.5:
            left.pop(int(np.argmax(scores)))
            hits += 1
    return {"true_positive": hits, "false_positive": len(shapes[0]) - hits, "false_negative": len(left)}


def masks(arguments):
    HERE.mkdir(exist_ok=True)
    save = lambda name, array: Image.fromarray(array).save(HERE / f"{name}.png", optimize=True)
    # The last band of the probabilities is that of buildings.
    mask, probability, truth = (rasterio.open(path).read(band) for path, band in zip(arguments, (1, 2, 1)))
    save("demo-mask", (mask == 1).astype(np.uint8) * 255)
    # Only where the mask is: the rest has no part in a mean, and would be large.
    save("demo-probability", np.where(mask == 1, probability, 0))
    save("demo-truth", (truth > 0).astype(np.uint8) * 255)
    save("noise", noise(1, 60, 90, 3))
    save("noise-probability", np.random.default_rng(2).integers(0, 256, (60, 90), dtype=np.uint8))


def main():
    if len(sys.argv) > 1:
        masks(sys.argv[1:])
    read = lambda name: np.asarray(Image.open(HERE / f"{name}.png"))
    cases = []
    for name, classes in (("noise", read("noise")), ("demo-mask", read("demo-mask") // 255), ("demo-truth", read("demo-truth") // 255)):
        probability = None if name == "demo-truth" else read(name.replace("-mask", "") + "-probability") / 255
        eight = sum(ndimage.label(classes == v, EIGHT)[1] for v in np.unique(classes) if v)
        rows = {str(v): rle_encode((classes == v).astype(np.uint8)) for v in ((1, 2, 3, 9) if name == "noise" else (1,))}
        cases.append({"mask": name, "polygons": polygons(classes, probability), "eight_connected": eight, "rows": rows})
    f1 = spacenet(read("demo-mask") // 255, read("demo-truth") // 255)
    (HERE / "cases.json").write_text(json.dumps({"cases": cases, "f1": f1, "places": PLACES}, separators=(",", ":")) + "\n")
    print(f1, [len(c["polygons"]) for c in cases], [c["eight_connected"] for c in cases])


if __name__ == "__main__":
    main()
