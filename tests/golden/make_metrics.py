#!/usr/bin/env python3
"""Reference scores of masks, computed without a line of this project's Rust.

    python -m venv golden && . golden/bin/activate
    pip install numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
    python make_metrics.py            # rewrites metrics/: the masks and cases.json
    python make_metrics.py --check    # computes everything again and compares with what is here, writes nothing

Pixel scores are scikit-learn's. Boundary IoU follows the paper's formula with scipy's erosion, objects are scipy's connected
components, matched greedily in the order of the predictions as SpaceNet's evaluation does, calibration is numpy's digitize. Intervals
come from numpy's random numbers, which are not ours: they agree as far as 20 000 draws do.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn import metrics as sk

HERE = Path(__file__).resolve().parent / "metrics"
NODATA = 65535
DRAWS = 20_000

# ----------------------------------------------------------------------------------------------------------- masks


def smooth(seed, height, width, sigma):
    """Noise of mean 0 and deviation 1 with details of about `sigma` pixels."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), sigma, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def binary(seed, height, width, sigma=3, error=0.5, above=0.8):
    """A truth, a prediction that errs, and each pixel's probability of its predicted class."""
    field = smooth(seed, height, width, sigma)
    found = field + error * smooth(seed + 1, height, width, 2)
    p = 1 / (1 + np.exp(-3 * (found - above)))
    predicted = (p >= 0.5).astype(np.uint16)
    return predicted, (field > above).astype(np.uint16), np.maximum(p, 1 - p).astype(np.float32)


def classes(seed, height, width, values, share=0.7):
    """Several classes; some pixels are nodata in the truth, others in the prediction."""
    rng = np.random.default_rng(seed)
    fields = np.stack([smooth(seed + 10 + k, height, width, 4) for k in range(len(values))])
    truth = np.asarray(values, np.uint16)[fields.argmax(0)]
    noisy = fields + (1 - share) * np.stack([smooth(seed + 40 + k, height, width, 2) for k in range(len(values))])
    scores = np.exp(2 * noisy)
    scores /= scores.sum(0)
    predicted = np.asarray(values, np.uint16)[scores.argmax(0)]
    confidence = scores.max(0).astype(np.float32)
    truth[:, : width // 8] = NODATA
    predicted[smooth(seed + 80, height, width, 3) > 1.6] = NODATA
    truth[rng.random((height, width)) < 0.01] = NODATA
    return predicted, truth, confidence


def speckle(seed, height, width):
    """Many small objects, half of them moved by a pixel or eaten away."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((height, width), np.uint16)
    predicted = np.zeros((height, width), np.uint16)
    for _ in range(60):
        h, w = rng.integers(1, 5, 2)
        y, x = rng.integers(0, height - h), rng.integers(0, width - w)
        truth[y : y + h, x : x + w] = 1
        dy, dx = rng.integers(0, 2, 2)
        if rng.random() < 0.8:
            predicted[y + dy : y + dy + h, x + dx : x + dx + w] = 1
    return predicted, truth, None


def cases():
    yield "binary", binary(1, 60, 80), {}
    yield "binary-far", binary(5, 90, 120, sigma=5), {"boundary": 6, "block": 20}
    yield "classes", classes(2, 70, 64, [0, 1, 2, 4]), {"block": 16, "boundary": 2}
    yield "classes-16-bit", classes(3, 40, 50, [1, 260]), {"block": 11, "background": -1, "connectivity": 8}
    yield "speckle", speckle(4, 50, 61), {"boundary": 1}
    yield "speckle-8", speckle(4, 50, 61), {"boundary": 1, "connectivity": 8, "min_area": 4}
    yield "row", binary(6, 1, 57, sigma=2), {"boundary": 1}
    full = np.ones((9, 11), np.uint16)
    yield "all-of-one-class", (full, full, None), {"boundary": 1}
    yield "all-wrong", (full, full * 0, None), {"boundary": 1}


# ---------------------------------------------------------------------------------------------------------- scores


def boundary(mask, distance):
    return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)


def objects(mask, connectivity, min_area):
    labelled, count = ndimage.label(mask, np.ones((3, 3)) if connectivity == 8 else None)
    every = [labelled == k for k in range(1, count + 1)]
    return [o for o in every if o.sum() >= min_area]


def match(predicted, truth):
    """SpaceNet's: each prediction takes the best true object that is left, if their IoU is at least a half."""
    left = list(truth)
    found = 0
    for p in predicted:
        ious = [(p & t).sum() / (p | t).sum() for t in left]
        if ious and max(ious) >= 0.5:
            del left[int(np.argmax(ious))]
            found += 1
    return {"true_positive": found, "false_positive": len(predicted) - found, "false_negative": len(left)}


def calibration(confidence, right, bins=15):
    edges = np.linspace(0, 1, bins + 1)
    at = np.clip(np.digitize(confidence, edges, right=True), 1, bins)
    gaps, ece = [], 0.0
    for k in range(1, bins + 1):
        inside = at == k
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].astype(np.float64).mean())
            gaps.append(gap)
            ece += inside.mean() * gap
    return {"expected_error": float(ece), "maximum_error": float(max(gaps))}


def interval(counts):
    """Of the mean IoU over the classes that a draw holds, from blocks × classes × (TP, FP, FN)."""
    draws = np.random.default_rng(0).integers(len(counts), size=(DRAWS, len(counts)))
    sums = counts[draws].sum(1)
    union = sums.sum(-1)
    with np.errstate(invalid="ignore"):
        means = np.nanmean(np.where(union > 0, sums[..., 0] / union, np.nan), axis=1)
    return np.percentile(means, [2.5, 97.5]).tolist()


def block_counts(predicted, truth, number, side):
    counts = []
    for y in range(0, truth.shape[0], side):
        for x in range(0, truth.shape[1], side):
            p, t = (m[y : y + side, x : x + side] for m in (predicted, truth))
            valid = (p != NODATA) & (t != NODATA)
            row = [((p == c) & (t == c), (p == c) & (t != c), (p != c) & (t == c)) for c in range(number)]
            counts.append([[int((m & valid).sum()) for m in triple] for triple in row])
    return np.array(counts)


def evaluate(predicted, truth, confidence, settings):
    valid = (predicted != NODATA) & (truth != NODATA)
    p, t = predicted[valid], truth[valid]
    number = int(max(p.max(), t.max())) + 1
    present = sorted(set(p.tolist()) | set(t.tolist()))
    every = {"labels": present, "average": None, "zero_division": 0}
    scores = {
        "iou": sk.jaccard_score(t, p, **every),
        "dice": sk.f1_score(t, p, **every),
        "precision": sk.precision_score(t, p, **every),
        "recall": sk.recall_score(t, p, **every),
    }
    diagonal = float(np.hypot(*truth.shape))
    distance = settings.get("boundary") or max(1, int(round(0.02 * diagonal)))
    result = []
    for k, c in enumerate(present):
        found, wanted = valid & (predicted == c), valid & (truth == c)
        near_found, near_wanted = boundary(found, distance), boundary(wanted, distance)
        one = {"index": c} | {name: float(values[k]) for name, values in scores.items()}
        near = (near_found | near_wanted).sum()
        one["boundary_iou"] = float((near_found & near_wanted).sum() / near)
        if c != settings.get("background", 0):
            of = [objects(m, settings.get("connectivity", 4), settings.get("min_area", 0)) for m in (found, wanted)]
            one["objects"] = match(*of)
            total = len(of[0]) + len(of[1])
            one["object_f1"] = 2 * one["objects"]["true_positive"] / total if total else None
        result.append(one)
    kappa = float(sk.cohen_kappa_score(t, p)) if len(present) > 1 else None
    return {
        "distance": distance,
        "pixels": int(valid.sum()),
        "ignored_pixels": int((~valid).sum()),
        "number_of_classes": number,
        "classes": result,
        "accuracy": float(sk.accuracy_score(t, p)),
        "kappa": kappa,
        "confusion": sk.confusion_matrix(t, p, labels=present).tolist(),
        "calibration": calibration(confidence[valid], p == t) if confidence is not None else None,
        "mean_iou_interval": interval(block_counts(predicted, truth, number, settings.get("block", 75))),
    }


# ------------------------------------------------------------------------------------------------------------ files


def main():
    parser = argparse.ArgumentParser(description="Reference scores for the tests.")
    parser.add_argument("--check", action="store_true", help="compare with what is here, write nothing")
    check = parser.parse_args().check
    table = []
    for name, (predicted, truth, confidence), settings in cases():
        table.append({"name": name, "settings": settings, **evaluate(predicted, truth, confidence, settings)})
        arrays = {"predicted": predicted, "truth": truth} | ({} if confidence is None else {"confidence": confidence})
        path = HERE / f"{name}.npz"
        if check:
            with np.load(path) as stored:
                if sorted(stored) != sorted(arrays) or any((stored[k] != a).any() for k, a in arrays.items()):
                    sys.exit(f"{path} holds other arrays than this script makes")
        else:
            np.savez_compressed(path, **arrays)
    text = json.dumps(table, indent=1) + "\n"
    if check:
        if (HERE / "cases.json").read_text() != text:
            sys.exit("cases.json holds other scores than this script computes")
        print(f"{len(table)} cases agree")
    else:
        HERE.mkdir(exist_ok=True)
        (HERE / "cases.json").write_text(text)
        print(f"{len(table)} cases written")


if __name__ == "__main__":
    main()
