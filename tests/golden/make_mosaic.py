#!/usr/bin/env python3
"""Reference mosaics for the tests, computed without a line of this project's Rust.

    python -m venv golden && . golden/bin/activate
    pip install numpy==2.4.6 scipy==1.17.1 onnxruntime==1.31.1 torch==2.15.0 && pip install --no-deps ttach==0.0.3 monai==1.6.1
    python make_mosaic.py            # rewrites mosaic/: the rasters, the results and cases.json
    python make_mosaic.py --check    # computes everything again and compares with what is here, writes nothing

A tile's scores come from make_golden.py. Around them, here, in float64: cutting the raster into tiles, nodata, windows, blending,
the decision. Where the raster's sides are multiples of the tiles' step, `gaussian` is MONAI's own sliding_window_inference on
np.pad(raster, h, "reflect"), and this file's blending has to agree with it. `gaussian-nnunet` follows nnU-Net's recipe: scipy's
Gaussian filter over a tile that is 1 at T // 2 and 0 elsewhere, divided by its maximum, zeros raised to the smallest other value.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from scipy.ndimage import gaussian_filter

import make_golden as golden

HERE = Path(__file__).resolve().parent / "mosaic"

# Sizes that models insist on (height, width), and what the metadata says of tiles.
FIXED = {"fixed64": (64, 64), "fixed-48x80": (48, 80)}
PREFERRED = {"deepness": (64, 0.10)}


# ---------------------------------------------------------------------------------------------------------- rasters


def smooth(seed, bands, height, width):
    return golden.smooth(seed, height, width, bands)


def holes(seed, height, width, share):
    """True where there shall be no data: blobs, of which some touch the border, and single pixels."""
    rng = np.random.default_rng(seed)
    noise = gaussian_filter(rng.standard_normal((height, width)), 3, mode="reflect")
    return (noise > np.quantile(noise, 1 - share)) | (rng.random((height, width)) < 0.01)


def u8(x):
    """1…255: 0 is left for nodata."""
    return np.round(1 + x * 254).astype(np.uint8)


def u16(x):
    return np.round(300 + 2300 * x).astype("<u2")


RASTERS = {}
for name, seed, h, w in [
    ("37x53", 101, 37, 53), ("64x96", 102, 64, 96), ("28x42", 103, 28, 42), ("1x1", 104, 1, 1), ("1x7", 105, 1, 7),
    ("9x1", 106, 9, 1), ("2x3", 107, 2, 3), ("5x9", 108, 5, 9), ("13x17", 109, 13, 17), ("80x72", 110, 80, 72), ("20x96", 123, 20, 96),
]:  # fmt: skip
    RASTERS[f"rgb-{name}"] = {"pixels": u8(smooth(seed, 3, h, w))}
RASTERS["five-29x41"] = {"pixels": u16(smooth(111, 5, 29, 41))}
RASTERS["two-29x41"] = {"pixels": u16(smooth(117, 2, 29, 41))}
RASTERS["gray16-31x23"] = {"pixels": u16(smooth(112, 1, 31, 23))}
RASTERS["gray8-31x23"] = {"pixels": u8(smooth(118, 1, 31, 23))}


def with_holes(name, seed, pixels, nodata, share=0.3, some_bands=True):
    pixels = pixels.copy()
    bands, h, w = pixels.shape
    pixels[:, holes(seed, h, w, share)] = nodata
    if some_bands:
        # Pixels of which only one band is missing have data.
        pixels[0, holes(seed + 1, h, w, 0.05)] = nodata
    RASTERS[name] = {"pixels": pixels, "nodata": nodata}


with_holes("rgb-holes", 201, u8(smooth(113, 3, 41, 59)), 0)
with_holes("rgb-holes-255", 211, np.minimum(u8(smooth(119, 3, 41, 59)), 254), 255)
with_holes("five-holes", 202, u16(smooth(114, 5, 47, 31)), 65535)
with_holes("float-holes", 203, (smooth(115, 1, 33, 29) * 3 - 1).astype("<f4"), np.nan, some_bands=False)
with_holes("int16-holes", 204, np.round(smooth(116, 3, 31, 43) * 4000 - 1000).astype("<i2"), -9999)
# Large holes: tiles without any data in the middle, at a border and at a corner.
islands = u8(smooth(120, 3, 70, 90))
islands[:, 0:30, 55:90] = 0
islands[:, 34:70, 20:64] = 0
RASTERS["rgb-islands"] = {"pixels": islands, "nodata": 0}
RASTERS["rgb-nothing"] = {"pixels": np.zeros((3, 20, 33), np.uint8), "nodata": 0}
# Alpha: 0 is no data, all else is data. Pixels without data are 0 in all bands.
alpha = np.concatenate([u8(smooth(121, 3, 35, 45)), np.full((1, 35, 45), 255, np.uint8)])
alpha[3, holes(206, 35, 45, 0.1)] = 90
alpha[:, holes(205, 35, 45, 0.3)] = 0
RASTERS["rgba-alpha"] = {"pixels": alpha, "alpha": True}
RASTERS["rgba-four"] = {"pixels": u16(smooth(122, 4, 33, 27))}


# -------------------------------------------------------------------------------------------------------------- tiles


def along(length, tile, overlap, multiple, fixed):
    """The tiles of one axis: (first pixel, number of pixels)."""
    step, halo = tile - overlap, overlap // 2
    out = []
    for k in range(-(-length // step)):
        start = k * step - halo
        needed = length + halo - start
        out.append((start, tile if fixed else min(tile, -(-needed // multiple) * multiple)))
    return out


def mirrored(raster, halo, beyond):
    """C × H × W with `halo` more pixels before and `beyond` more after each side."""
    return np.pad(raster, ((0, 0), (halo[0], beyond[0]), (halo[1], beyond[1])), mode="reflect")


def ramp(tile, overlap):
    i = np.arange(tile)
    if overlap == 0:
        return np.ones(tile)
    return np.minimum(1, np.minimum((i + 0.5) / overlap, (tile - i - 0.5) / overlap))


def window(blend, tile, overlap):
    """Weights H × W of a whole tile; `tile` and `overlap` are pairs (vertical, horizontal)."""
    r = [ramp(t, o) for t, o in zip(tile, overlap)]
    if blend == "linear":
        return np.outer(*r)
    if blend == "hann":
        return np.outer(*(np.sin(np.pi * a / 2) ** 2 for a in r))
    if blend == "gaussian":
        g = [np.exp(-((np.arange(t) - (t - 1) / 2) ** 2) / (2 * (0.125 * t) ** 2)) for t in tile]
        return np.maximum(np.outer(*g), 1e-3)
    if blend == "gaussian-nnunet":
        point = np.zeros(tile)
        point[tile[0] // 2, tile[1] // 2] = 1
        g = gaussian_filter(point, [t / 8 for t in tile], 0, mode="constant", cval=0)
        g /= g.max()
        g[g == 0] = g[g > 0].min()
        return g
    # crop: the core alone
    w = np.zeros(tile)
    (t, o), (u, p) = zip(tile, overlap)
    w[o // 2 : t - o // 2, p // 2 : u - p // 2] = 1
    return w


# ------------------------------------------------------------------------------------------------------------- mosaics


def fills(case, bands):
    """Per band, the pixel value that the model sees as 0."""
    s = case["settings"]
    mean = golden.numbers(s.get("mean")) or golden.METADATA.get(case["models"][0], {}).get("mean") or [0.0]
    mean = mean * bands if len(mean) == 1 else mean
    if "input-range" in s:
        lo, hi = golden.numbers(s["input-range"])
        return [lo + m * (hi - lo) for m in mean]
    scale = golden.numbers(s["scale"])[0] if "scale" in s else 255.0
    return [m * scale for m in mean]


def prepared(case):
    """What the models see, and which pixels have data."""
    raster = RASTERS[case["raster"]]
    pixels = raster["pixels"]
    if raster.get("alpha"):
        return pixels[:3], pixels[3] != 0
    if "bands" in case:
        pixels = pixels[[int(b) - 1 for b in case["bands"].split(",")]]
    if "nodata" not in raster:
        return pixels, np.ones(pixels.shape[1:], bool)
    nodata = raster["nodata"]
    missing = np.isnan(pixels) if np.isnan(nodata) else pixels == nodata
    pixels = pixels.copy()
    for band, gone, fill in zip(pixels, missing, fills(case, len(pixels))):
        if nodata != 0:
            assert pixels.dtype.kind == "f" or fill == round(fill), f"{case['name']}: {fill} is no whole number"
            band[gone] = fill
    return pixels, ~missing.all(0)


def grid(case, height, width):
    """(tile, overlap, multiple, fixed) for each axis, by the rules of the grid."""
    s, model = case["settings"], case["models"][0]
    multiple = max(int(s.get("size-multiple", golden.METADATA.get(m, {}).get("size-multiple", 32))) for m in case["models"])
    if model in FIXED:
        return [(t, case["overlap"], 1, True) for t in FIXED[model]]
    if "tile" in case:
        return [(case["tile"], case["overlap"], multiple, False)] * 2
    tile, share = PREFERRED[model]
    unit = 2 * multiple
    overlap = min(-(-round(tile * share) // unit) * unit, tile // 2 // unit * unit)
    return [(tile, overlap, multiple, False)] * 2


def tile_result(case, tile):
    """Scores (merged logits in the logit domain) and uncertainty of one tile, float64."""
    settings = dict(case["settings"])
    scores, _, threshold, uncertainty, (ws, _, zs) = golden.compute(case["models"], settings, tile, f"planar{len(tile)}")
    if settings.get("merge-domain") == "logit":
        scores = sum(w * z for w, z in zip(ws, zs))
    kind = settings.get("uncertainty-kind", "entropy")
    return scores, threshold, uncertainty[kind]


def link(case, channels):
    """What turns logits into probabilities."""
    names = [case["settings"].get("activation", "")] + [golden.KIND[m].partition(":")[2] for m in case["models"]]
    return next((n for n in names if n), "sigmoid" if channels == 1 else "softmax")


def activated(case, blended):
    """Probabilities from blended scores."""
    if case["settings"].get("merge-domain") != "logit":
        return blended
    return golden.sigmoid(blended) if link(case, len(blended)) == "sigmoid" else golden.softmax(blended)


def mosaic(case):
    pixels, valid = prepared(case)
    height, width = valid.shape
    axes = grid(case, height, width)
    rows, columns = (along(n, *axis) for n, axis in zip((height, width), axes))
    halo = [o // 2 for _, o, _, _ in axes]
    beyond = [max(start + size for start, size in tiles) - n for tiles, n in zip((rows, columns), (height, width))]
    whole = mirrored(pixels, halo, [max(b, 0) for b in beyond])
    weights = window(case["blend"], tuple(a[0] for a in axes), tuple(a[1] for a in axes))

    total = total_u = None
    norm = np.zeros((height, width))
    for top, h in rows:
        for left, w in columns:
            tile = whole[:, top + halo[0] : top + halo[0] + h, left + halo[1] : left + halo[1] + w]
            assert tile.shape[1:] == (h, w)
            scores, threshold, uncertainty = tile_result(case, tile)
            if total is None:
                total, total_u = np.zeros((len(scores), height, width)), np.zeros((height, width))
            y0, y1, x0, x1 = max(top, 0), min(top + h, height), max(left, 0), min(left + w, width)
            inside = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
            here = np.s_[y0:y1, x0:x1]
            # A cut tile has the beginning of a whole tile's window.
            part = weights[:h, :w][inside]
            total[(slice(None), *here)] += scores[(slice(None), *inside)] * part
            total_u[here] += uncertainty[inside] * part
            norm[here] += part
    assert (norm > 0).all(), case["name"]
    if case["blend"] in ("linear", "hann", "crop"):
        # Sums to 1 wherever there is a tile on either side.
        inner = [slice(h, len(tiles) * (a[0] - a[1]) - h) for a, h, tiles in zip(axes, halo, (rows, columns))]
        assert np.allclose(norm[tuple(inner)], 1), case["name"]
    blended, uncertainty = total / norm, total_u / norm

    steps = [t - o for t, o, _, _ in axes]
    if case["blend"] == "gaussian" and height % steps[0] == 0 and width % steps[1] == 0:
        monai = by_monai(case, mirrored(pixels, halo, halo), axes, halo)
        assert np.abs(monai - blended).max() < 3e-6, f"{case['name']}: MONAI and numpy differ"
        blended = monai
        case["monai"] = True

    scores = activated(case, blended)
    if len(scores) == 1:
        threshold = 0.5 if threshold is None else threshold
        labels = (scores[0] >= threshold).astype(np.uint8)
    else:
        decided = np.round(scores, 12)
        if threshold is not None:
            decided = np.where(decided < threshold, 0, decided)
        labels = np.argmax(decided, 0).astype(np.uint8)
    labels = labels + np.uint8(case["settings"].get("label-offset", 0))
    labels[~valid] = 255
    scores[:, ~valid] = np.nan
    uncertainty[~valid] = np.nan
    return scores, labels, threshold, uncertainty


def by_monai(case, padded, axes, halo):
    def predictor(batch):
        return torch.from_numpy(np.stack([tile_result(case, t)[0] for t in batch.numpy().astype(padded.dtype)]).astype(np.float32))

    out = sliding_window_inference(
        torch.from_numpy(padded.astype(np.float32))[None],
        roi_size=[t for t, _, _, _ in axes],
        sw_batch_size=1,
        predictor=predictor,
        overlap=[o / t - 1e-9 for t, o, _, _ in axes],
        mode="gaussian",
    )[0].numpy().astype(np.float64)
    (a, b), (h, w) = halo, out.shape[1:]
    return out[:, a : h - a, b : w - b]


# --------------------------------------------------------------------------------------------------------------- cases

CASES = []
BLENDS = ["crop", "linear", "hann", "gaussian", "gaussian-nnunet"]


def case(name, models, raster, tile=None, overlap=None, blend="linear", bands=None, uncertainty=False, **settings):
    """A setting `merge_domain` is onnxsegment's property `merge-domain`."""
    c = {"name": name, "models": models.split(), "raster": raster, "blend": blend, "uncertainty": uncertainty}
    c |= {k: v for k, v in [("tile", tile), ("overlap", overlap), ("bands", bands)] if v is not None}
    c["settings"] = {k.replace("_", "-"): str(v) for k, v in settings.items()}
    assert name not in {c["name"] for c in CASES}
    CASES.append(c)


for b in BLENDS:
    # A U-Net with a wide view, two by three tiles, every pixel in an overlap; sides are multiples of S = 32.
    case(f"unet-{b}", "size-multiple-16", "rgb-64x96", 64, 32, b)
    # Cut tiles, primes.
    case(f"sigmoid-{b}", "sigmoid", "rgb-37x53", 16, 4, b, size_multiple=1)
# Several classes; MONAI again (S = 14), and a widest overlap.
case("classes-gaussian", "softmax4", "rgb-28x42", 20, 6, "gaussian", size_multiple=1)
case("classes-wide-core-gaussian", "softmax4", "rgb-28x42", 18, 4, "gaussian", size_multiple=1)
case("classes-half-overlap-hann", "softmax4", "rgb-28x42", 16, 8, "hann", size_multiple=4)
case("classes-half-overlap-nnunet", "softmax4", "rgb-28x42", 16, 8, "gaussian-nnunet", size_multiple=4)
case("fixed-gaussian", "fixed-48x80", "rgb-80x72", None, 8, "gaussian")
case("fixed-crop", "fixed64", "rgb-80x72", None, 16, "crop")
case("fixed-smaller-than-a-tile", "fixed64", "rgb-13x17", None, 16, "linear")
for b in ("linear", "gaussian", "crop"):
    case(f"no-overlap-{b}", "sigmoid", "rgb-13x17", 8, 0, b, size_multiple=4)
# What metadata says of tiles, threshold and scaling.
case("metadata", "deepness", "rgb-20x96", size_multiple=1)
case("metadata-default-multiple", "deepness", "rgb-20x96", blend="hann")
# Bands and samples.
case("five-bands", "five", "five-29x41", 16, 4, "linear", size_multiple=2, input_range="300,2600")
case("five-bands-nnunet", "five", "five-29x41", 20, 8, "gaussian-nnunet", size_multiple=2, scale=2600, mean="0.5", std="0.25")
case("four-bands", "rgba", "rgba-four", 16, 8, "hann", size_multiple=4, input_range="300,2600")
case("bands-chosen", "sigmoid", "five-29x41", 16, 4, "linear", bands="4,2,5", size_multiple=2, input_range="300,2600")
case("bands-repeated", "sigmoid", "two-29x41", 16, 4, "gaussian", bands="2,1,2", size_multiple=2, input_range="300,2600")
case("gray16", "gray", "gray16-31x23", 12, 4, "hann", size_multiple=2, input_range="300,2600")
case("gray8", "gray", "gray8-31x23", 12, 4, "gaussian", size_multiple=2)
# Outputs smaller than inputs, labels for scores, a label offset.
case("half", "half", "rgb-37x53", 16, 4, "linear", size_multiple=2)
case("quarter", "quarter", "rgb-37x53", 24, 8, "gaussian", size_multiple=4)
case("labels-as-scores", "label-u8", "rgb-28x42", 16, 4, "linear", size_multiple=2)
case("label-offset", "softmax4", "rgb-13x17", 12, 4, "linear", size_multiple=2, label_offset=1, threshold=0.6)
# Ensembles, transforms, domains; tiles that are cut are not square.
case("d4", "sigmoid", "rgb-37x53", 24, 8, "linear", size_multiple=4, tta="d4")
case("d4-unet", "size-multiple-16", "rgb-37x53", 64, 32, "hann", tta="d4")
case("logit-domain-1", "logit1-meta", "rgb-37x53", 24, 8, "gaussian", size_multiple=4, tta="d4", merge_domain="logit")
case("logit-domain-4", "logits4", "rgb-13x17", 12, 4, "linear", size_multiple=2, tta="flips", merge_domain="logit", activation="softmax")
case("logit-domain-nodata", "logit1-meta", "rgb-holes", 16, 6, "linear", size_multiple=1, merge_domain="logit")
case("weights", "sigmoid logit1-meta", "rgb-28x42", 20, 6, "gaussian", size_multiple=1, weights="1,3", tta="hflip")
case("three-members", "softmax2 member-a", "rgb-13x17", 12, 4, "hann", size_multiple=2, weights="2,1", tta="d4")
case("uncertainty", "sigmoid", "rgb-37x53", 16, 4, "linear", size_multiple=1, tta="d4", uncertainty=True)
case("uncertainty-classes", "softmax4", "rgb-28x42", 20, 6, "gaussian", size_multiple=1, tta="flips", uncertainty=True,
     uncertainty_kind="mutual-information")
case("uncertainty-nodata", "logit1-meta", "rgb-holes", 16, 6, "hann", size_multiple=1, uncertainty=True, merge_domain="logit")
# Sizes.
for size in ("1x1", "1x7", "9x1", "2x3", "5x9", "13x17"):
    case(f"size-{size}", "sigmoid", f"rgb-{size}", 8, 4, "linear", size_multiple=2)
    case(f"size-{size}-one-tile", "sigmoid", f"rgb-{size}", 64, 0, "hann")
case("size-1x7-gaussian", "softmax2", "rgb-1x7", 4, 2, "gaussian", size_multiple=1, tta="d4")
case("size-5x9-unet", "size-multiple-16", "rgb-5x9", 64, 32, "gaussian-nnunet")
# nodata.
for b in ("crop", "linear", "gaussian"):
    case(f"nodata-0-{b}", "sigmoid", "rgb-holes", 16, 6, b, size_multiple=1)
case("nodata-0-mean", "sigmoid", "rgb-holes", 16, 6, "linear", size_multiple=1, mean="0.2,0.4,0.6", std="0.25")
case("nodata-255-mean", "sigmoid", "rgb-holes-255", 16, 6, "linear", size_multiple=1, mean="0.2,0.4,0.6", std="0.25")
case("nodata-255", "softmax4", "rgb-holes-255", 16, 6, "hann", size_multiple=1)
case("nodata-65535", "five", "five-holes", 16, 4, "linear", size_multiple=2, input_range="300,2600")
case("nodata-65535-mean", "five", "five-holes", 20, 8, "gaussian-nnunet", size_multiple=2, input_range="300,2300", mean="0.5", std="0.3")
case("nodata-nan", "gray", "float-holes", 12, 4, "linear", size_multiple=2, input_range="-1,2")
case("nodata-nan-mean", "gray", "float-holes", 12, 4, "gaussian", size_multiple=2, scale=2, mean="0.25", std="0.3")
case("nodata-int16", "sigmoid", "int16-holes", 16, 6, "hann", size_multiple=1, input_range="-1000,3000")
case("alpha", "sigmoid", "rgba-alpha", 16, 6, "linear", size_multiple=1)
case("islands", "sigmoid", "rgb-islands", 16, 4, "linear", size_multiple=2)
case("islands-gaussian-d4", "softmax2", "rgb-islands", 16, 8, "gaussian", size_multiple=4, tta="d4")
case("nothing", "sigmoid", "rgb-nothing", 16, 4, "linear", size_multiple=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the files here, write nothing")
    check = parser.parse_args().check
    HERE.mkdir(exist_ok=True)
    index, wrong = [], 0

    def save(file, **arrays):
        nonlocal wrong
        if not check:
            np.savez_compressed(HERE / file, **arrays)
            return
        there = np.load(HERE / file)
        for name, array in arrays.items():
            if there[name].shape != array.shape:
                difference = np.inf
            else:
                both_nan = np.isnan(there[name]) & np.isnan(array) if array.dtype.kind == "f" else False
                difference = np.abs(np.where(both_nan, 0, there[name].astype(np.float64) - array)).max()
            if not difference <= (1e-6 if array.dtype.kind == "f" else 0):
                wrong += 1
                print(f"{file}: {name} differs by {difference:g}", file=sys.stderr)

    if not check:
        for old in HERE.glob("*.npz"):
            old.unlink()
    for name in sorted({c["raster"] for c in CASES}):
        save(f"raster-{name}.npz", pixels=RASTERS[name]["pixels"])
    monai = 0
    for c in CASES:
        scores, labels, threshold, uncertainty = mosaic(c)
        monai += c.pop("monai", False)
        arrays = {"scores": scores.astype(np.float32), "labels": labels}
        if c["uncertainty"]:
            arrays["uncertainty"] = uncertainty.astype(np.float32)
        save(f"{c['name']}.npz", **arrays)
        raster = RASTERS[c["raster"]]
        nodata = raster.get("nodata")
        index.append({
            **c,
            "models": [f"tests/models/{m}.onnx" for m in c["models"]],
            "type": {"|u1": "u8", "<u2": "u16", "<i2": "i16", "<f4": "f32"}[raster["pixels"].dtype.str],
            "nodata": None if nodata is None else "nan" if np.isnan(nodata) else str(nodata),
            "alpha": raster.get("alpha", False),
            "link": link(c, len(scores)),
            "threshold": threshold,
        })  # fmt: skip
    if check:
        if index != json.loads((HERE / "cases.json").read_text()):
            wrong += 1
            print("cases.json differs", file=sys.stderr)
        print(f"{len(index)} cases, {wrong} files differ")
        sys.exit(wrong > 0)
    (HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(e) for e in index) + "\n]\n")
    size = sum(f.stat().st_size for f in HERE.iterdir())
    print(f"{len(index)} cases, {monai} of them by MONAI, {size / 1e6:.2f} MB in {HERE.name}/")


if __name__ == "__main__":
    main()
