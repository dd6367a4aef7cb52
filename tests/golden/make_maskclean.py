#!/usr/bin/env python3
"""Reference masks for maskclean, computed with SciPy and scikit-image.

    python -m venv golden && . golden/bin/activate
    pip install numpy==2.4.6 scipy==1.17.1 scikit-image==0.26.0 tifffile==2026.3.3
    python make_maskclean.py            # rewrites maskclean/: the masks, the results and cases.json
    python make_maskclean.py --check    # computes everything again and compares with what is here, writes nothing

Each operation is the library's own on the mask of one class, and what classes have to say to each other is written out here in a
few lines. Where a second library, or another function, computes the same, both have to agree. The mask `demo` is a part of what
`make demo` writes to out/mosaic.tif; it is taken from maskclean/ where that file is not there.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage as ndi
from skimage import morphology as sk

HERE = Path(__file__).resolve().parent / "maskclean"
SCENE = Path(__file__).resolve().parents[2] / "out" / "mosaic.tif"

# ------------------------------------------------------------------------------------------------------------ masks


def smooth(seed, height, width, sigma):
    rng = np.random.default_rng(seed)
    noise = ndi.gaussian_filter(rng.standard_normal((height, width)), sigma, mode="reflect")
    return noise / noise.std() + 0.15 * rng.standard_normal((height, width))


def binary(seed, height, width, sigma):
    return (smooth(seed, height, width, sigma) > 0.3).astype(np.uint8)


def classes(seed, height, width, labels, dtype=np.uint8):
    planes = np.stack([smooth(seed + k, height, width, 2.0) for k in range(len(labels))])
    return np.array(labels, dtype=dtype)[planes.argmax(0)]


def without_data(seed, mask, nodata):
    """Blobs, of which some touch the border, and single pixels."""
    rng = np.random.default_rng(seed)
    height, width = mask.shape
    gone = (smooth(seed, height, width, 3.0) > 1.2) | (rng.random((height, width)) < 0.01)
    return np.where(gone, np.array(nodata, mask.dtype), mask)


def demo():
    if not SCENE.exists():
        return np.load(HERE / "masks.npz")["demo"]
    import tifffile

    return tifffile.imread(SCENE, key=0)[80:280, 360:570]


MASKS = {
    "demo": demo(),
    "blots": binary(1, 61, 47, 2.0),
    "noise": (np.random.default_rng(2).random((40, 67)) < 0.45).astype(np.uint8),
    "fine": binary(3, 53, 129, 1.0),
    "classes": classes(10, 57, 71, [0, 0, 1, 2, 7]),
    "classes-nodata": without_data(20, classes(30, 64, 50, [0, 0, 1, 2]), 255),
    "wide": without_data(40, classes(50, 43, 66, [0, 300, 5000, 65534], np.uint16), 65535),
    "blots-nodata": without_data(60, binary(61, 59, 48, 2.0), 255),
    "one": np.ones((1, 1), np.uint8),
    "row": binary(70, 1, 29, 1.0),
    "column": binary(71, 31, 1, 1.0),
}

# ------------------------------------------------------------------------------------------------------- operations


class Cleaner:
    def __init__(self, mask, settings):
        self.nodata = np.iinfo(mask.dtype).max
        self.background = settings.get("background", 0)
        self.shape = settings.get("shape", "disk")
        self.eight = settings.get("connectivity", 4) == 8
        listed = settings.get("classes")
        self.listed = None if listed is None else [int(c) for c in listed.split(",")]

    def is_class(self, label):
        return label not in (self.background, self.nodata) and (self.listed is None or label in self.listed)

    def classes(self, mask):
        return [c for c in np.unique(mask) if self.is_class(c)]

    def footprint(self, radius):
        side = 2 * radius + 1
        found = {"disk": sk.disk, "diamond": sk.diamond, "square": lambda r: sk.footprint_rectangle((side, side))}
        found = found[self.shape](radius).astype(bool)
        if self.shape == "diamond":
            cross = ndi.generate_binary_structure(2, 1)
            assert (found == ndi.iterate_structure(cross, radius)).all()
        return found

    def structure(self):
        return ndi.generate_binary_structure(2, 2 if self.eight else 1)

    def median(self, mask, radius):
        size = 2 * radius + 1
        part = [c for c in np.unique(mask) if c == self.background or self.is_class(c)]
        out = mask.copy()
        for c in part:
            most = ndi.median_filter((mask == c).astype(np.uint8), size=size, mode="reflect") == 1
            out[most & np.isin(mask, part)] = c
        if set(np.unique(mask)) <= {0, 1} and len(part) == 2:
            assert (out == ndi.median_filter(mask, size=size, mode="reflect")).all()
        return out

    def opening(self, mask, radius):
        out = mask.copy()
        for c in self.classes(mask):
            out[(mask == c) & ~ndi.binary_opening(mask == c, self.footprint(radius))] = self.background
        return out

    def closing(self, mask, radius):
        out = mask.copy()
        # What a class of smaller value takes, no other gets.
        for c in sorted(self.classes(mask), reverse=True):
            # SciPy alone erodes what touches the border.
            padded = np.pad(mask == c, 2 * radius)
            closed = ndi.binary_closing(padded, self.footprint(radius))
            assert (closed == sk.closing(padded, self.footprint(radius))).all()
            inner = slice(2 * radius, -2 * radius)
            out[(mask == self.background) & closed[inner, inner]] = c
        return out

    def hole_area(self, mask, most):
        structure = self.structure()
        labels, count = ndi.label(mask == self.background, structure)
        out = mask.copy()
        for k in range(1, count + 1):
            region = np.pad(labels == k, 1)
            around = ndi.binary_dilation(region, structure) & ~region
            # Beyond the border lies what is no class.
            beside = np.unique(np.pad(mask, 1, constant_values=self.nodata)[around])
            if region.sum() <= most and len(beside) == 1 and self.is_class(beside[0]):
                out[labels == k] = beside[0]
        if set(np.unique(mask)) <= {0, 1} and self.is_class(1):
            m = mask == 1
            filled = ndi.binary_fill_holes(m, structure)
            small = sk.remove_small_holes(m, max_size=most, connectivity=2 if self.eight else 1)
            assert ((out == 1) == (filled & small)).all()
        return out

    def min_area(self, mask, least):
        out = mask.copy()
        for c in self.classes(mask):
            labels, _ = ndi.label(mask == c, self.structure())
            areas = np.bincount(labels.ravel())
            small = (labels > 0) & (areas[labels] < least)
            kept = sk.remove_small_objects(mask == c, max_size=least - 1, connectivity=2 if self.eight else 1)
            assert (((mask == c) & ~small) == kept).all()
            out[small] = self.background
        return out


ORDER = ["median", "opening", "closing", "hole-area", "min-area"]


def clean(mask, settings):
    cleaner = Cleaner(mask, settings)
    for name in ORDER:
        if name in settings:
            mask = getattr(cleaner, name.replace("-", "_"))(mask, settings[name])
    return mask


CASES = [
    ("demo", {"median": 2}),
    ("demo", {"opening": 2}),
    ("demo", {"closing": 3}),
    ("demo", {"hole-area": 400}),
    ("demo", {"min-area": 50}),
    ("demo", {"median": 1, "opening": 1, "closing": 2, "hole-area": 40, "min-area": 60, "connectivity": 8}),
    ("blots", {"median": 1}),
    ("blots", {"median": 5}),
    ("blots", {"opening": 1, "shape": "diamond"}),
    ("blots", {"opening": 2, "shape": "square"}),
    ("blots", {"opening": 3, "shape": "disk"}),
    ("blots", {"opening": 4, "shape": "diamond"}),
    ("blots", {"closing": 1, "shape": "square"}),
    ("blots", {"closing": 2, "shape": "diamond"}),
    ("blots", {"closing": 4, "shape": "disk"}),
    ("blots", {"opening": 1, "closing": 1}),
    ("blots", {"opening": 30}),
    ("blots", {"closing": 30, "shape": "square"}),
    ("blots", {"median": 40}),
    ("fine", {"hole-area": 1}),
    ("fine", {"hole-area": 12, "connectivity": 8}),
    ("fine", {"hole-area": 100000}),
    ("fine", {"min-area": 9}),
    ("fine", {"min-area": 9, "connectivity": 8}),
    ("fine", {"min-area": 100000}),
    ("noise", {"min-area": 12}),
    ("noise", {"min-area": 12, "connectivity": 8}),
    ("noise", {"hole-area": 7}),
    ("noise", {"median": 1, "hole-area": 5, "min-area": 6}),
    ("classes", {"median": 2}),
    ("classes", {"opening": 1, "shape": "square"}),
    ("classes", {"closing": 2}),
    ("classes", {"hole-area": 10}),
    ("classes", {"min-area": 20, "connectivity": 8}),
    ("classes", {"median": 1, "opening": 1, "closing": 1, "hole-area": 20, "min-area": 15}),
    ("classes", {"median": 2, "opening": 1, "closing": 2, "hole-area": 20, "min-area": 15, "classes": "2,7"}),
    ("classes", {"closing": 2, "min-area": 25, "background": 7}),
    ("classes-nodata", {"median": 2}),
    ("classes-nodata", {"opening": 1, "closing": 2, "hole-area": 15, "min-area": 12}),
    ("blots-nodata", {"median": 1}),
    ("blots-nodata", {"opening": 2}),
    ("blots-nodata", {"closing": 2}),
    ("blots-nodata", {"hole-area": 25}),
    ("blots-nodata", {"min-area": 30}),
    ("wide", {"median": 1, "opening": 1, "closing": 2, "shape": "square", "hole-area": 15, "min-area": 12}),
    ("wide", {"closing": 3, "hole-area": 20, "classes": "5000"}),
    ("one", {"median": 3}),
    ("one", {"opening": 1}),
    ("one", {"closing": 2, "min-area": 2}),
    ("row", {"median": 2}),
    ("row", {"closing": 2, "min-area": 3}),
    ("column", {"median": 2}),
    ("column", {"closing": 2, "hole-area": 3, "min-area": 3}),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    cases, results = [], {}
    for k, (mask, settings) in enumerate(CASES):
        name = f"{k:02}-{mask}"
        results[name] = clean(MASKS[mask], settings)
        text = {key: str(value) for key, value in settings.items()}
        cases.append({"name": name, "mask": mask, "settings": text})
    # Operations that do nothing test nothing.
    idle = [c["name"] for c in cases if (results[c["name"]] == MASKS[c["mask"]]).all()]
    print("unchanged:", ", ".join(idle))
    if check:
        there, masks = np.load(HERE / "results.npz"), np.load(HERE / "masks.npz")
        same = json.loads((HERE / "cases.json").read_text()) == cases and set(there.files) == set(results)
        same = same and all((there[name] == result).all() for name, result in results.items())
        same = same and all((masks[name] == mask).all() for name, mask in MASKS.items())
        sys.exit(None if same else "maskclean/ differs")
    HERE.mkdir(exist_ok=True)
    np.savez_compressed(HERE / "masks.npz", **MASKS)
    np.savez_compressed(HERE / "results.npz", **results)
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    (HERE / "cases.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
