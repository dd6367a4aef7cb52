#!/usr/bin/env python3
"""Reference scores for models that say by a card how they are used; the models and cards are those of ../models/cards.

    pip install numpy==2.4.6 onnxruntime==1.32.0
    python make_cards.py            # rewrites cards/
    python make_cards.py --check    # computes everything again and compares with what is here, writes nothing

How each is scaled and activated is written down here by hand, from the texts of the conventions; no card is read. numpy does the
arithmetic in float64, onnxruntime runs the models.

  Deepness    x = (v / 255 − mean) / std; what comes out is activated already
  STAC MLM    z-score (v − mean) / stddev, min-max (v − minimum) / (maximum − minimum), scale v / value, offset v − value,
              clip min(max(v, minimum), maximum), null v
  .modelinfo  v · (max − min) / 255 + min
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

HERE = Path(__file__).resolve().parent / "cards"
MODELS = HERE.parent.parent / "models" / "cards"
# Multiples of what models are padded to, so that nothing is.
HEIGHT, WIDTH = 32, 32


def frame():
    """Bytes from 0 to 255, no two channels alike."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    ramps = np.stack([x / WIDTH, y / HEIGHT, (x + y) / (HEIGHT + WIDTH)])
    return np.round(255 * np.clip(ramps + 0.2 * rng.standard_normal(ramps.shape), 0, 1)).astype(np.uint8)


def each(*values):
    return np.array(values, np.float64).reshape(3, 1, 1)


def softmax(z):
    e = np.exp(z - z.max(0, keepdims=True))
    return e / e.sum(0, keepdims=True)


def as_is(p):
    return p


def deepness(mean=(0, 0, 0), std=(1, 1, 1)):
    return lambda v: (v / 255 - each(*mean)) / each(*std)


MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
LOW, HIGH = each(-1, 0, -2), each(1, 2.5, 0.5)


def mixed(v):
    return np.stack([(v[0] - 10) / (200 - 10), v[1] / 128, v[2] - 100.5])


# name: (model, item to name or None, pixels to input, output to probabilities)
CASES = {
    "zoo-full": ("zoo-full", None, deepness((0.45, 0.5, 0.55), (0.22, 0.25, 0.28)), as_is),
    **{name: (name, None, deepness(), as_is) for name in ("zoo-tiles-size", "zoo-names", "zoo-outputs", "zoo-bare", "zoo-one")},
    "z-score": ("bare", "z-score", lambda v: (v - each(*MEAN)) / each(*STD), softmax),
    # The model sees blue first.
    "bgr": ("bare", "bgr", lambda v: (v[::-1] - each(*MEAN[::-1])) / each(*STD[::-1]), softmax),
    "min-max": ("bare", "min-max", lambda v: v / 255, softmax),
    "min-max-each": ("bare", "min-max-each", mixed, softmax),
    "clip": ("bare", "clip", lambda v: np.clip(v, 60, 180), softmax),
    "null": ("bare", "null", lambda v: v, softmax),
    "silent": ("bare", "silent", lambda v: v / 255, softmax),
    # The item beside it, and not the metadata.
    "beside": ("beside", None, lambda v: (v - each(*MEAN)) / each(*STD), softmax),
    "modelinfo": ("modelinfo", None, lambda v: v * (HIGH - LOW) / 255 + LOW, as_is),
}  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    HERE.mkdir(exist_ok=True)
    results, listed, wrong = {"frame": frame()}, [], []
    for name, (model, card, scale, activate) in CASES.items():
        session = ort.InferenceSession(MODELS / f"{model}.onnx", providers=["CPUExecutionProvider"])
        image = scale(results["frame"].astype(np.float64)).astype(np.float32)[None]
        scores = session.run(None, {"image": image})[0][0].astype(np.float64)
        results[name] = activate(scores).astype(np.float32)
        listed.append({"name": name, "model": model, "card": card and f"card-{card}.json"})
    for name, array in results.items():
        file = HERE / f"{name}.npy"
        if not check:
            np.save(file, array)
        elif not np.allclose(np.load(file), array, atol=1e-6, rtol=0):
            wrong.append(name)
    text = "[\n" + ",\n".join(json.dumps(case) for case in listed) + "\n]\n"
    if not check:
        (HERE / "cases.json").write_text(text)
    elif (HERE / "cases.json").read_text() != text:
        wrong.append("cases.json")
    sys.exit(f"differs: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
