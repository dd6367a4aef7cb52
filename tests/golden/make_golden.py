#!/usr/bin/env python3
"""Reference results for the tests, computed without a line of this project's Rust.

    python -m venv golden && . golden/bin/activate
    pip install numpy==2.4.6 scipy==1.17.1 onnxruntime==1.31.1 torch==2.15.0 && pip install --no-deps ttach==0.0.3
    python make_golden.py            # rewrites the frames, the results, the *.toml and cases.json in this folder
    python make_golden.py --check    # computes everything again and compares with what is here, writes nothing

numpy does the arithmetic (in float64 after the model), onnxruntime runs the models of ../models, ttach makes the flips and the
d4 set and takes them back. torch is there only because ttach works on its tensors, and as a second opinion on bilinear resizing.

The steps, for each member of the ensemble:
  frame → float: (v / scale − mean) / std, or (clip((v − lo) / (hi − lo)) − mean) / std with an input range; a uint8 input takes
  the pixels as they are → channels in the model's order → np.pad(mode="reflect") at the bottom and right to a multiple of the
  member's own size-multiple (a model of fixed size is not padded) → for each transform: transform, run, take back → an output
  smaller by a factor k is resized bilinearly (half-pixel centres, edge repeated) to the padded size → crop
  → probability domain: activation, then the merge of p; logit domain: the merge of z, then activation. A temperature divides z.
z is the raw score where the model gives one; LogSoftmax's output is its own z; from probabilities it is ln p, for one channel
ln p − ln(1 − p), each term clipped at 1e-7. Labels of a label model count as one-hot probabilities. Weights are normalised to
sum 1 and shared evenly by a member's transforms. The merges are written by their definition, and where ttach has one and the
weights are equal, ttach's Merger has to say the same. Uncertainty is always made from the probabilities of the single passes.

What each model's scores are is written down here in KIND, by hand: this script looks at no rule for finding it out.
"""

import argparse
import hashlib
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
import ttach
from scipy import ndimage

HERE = Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
CLIP = 1e-7

# What comes out of each model: raw (logits; after the colon the activation that its metadata asks for), prob, logprob or label.
KIND = {
    "sigmoid": "prob", "logit1": "raw", "logit1-meta": "raw:sigmoid", "softmax2": "prob", "softmax4": "prob",
    "logits4": "raw", "logits2-meta-sigmoid": "raw:sigmoid", "sigmoid3": "prob", "logsoftmax4": "logprob",
    "deepness": "prob", "deepness1": "prob", "saturated1": "prob", "sigmoid-transpose": "prob", "nhwc": "prob",
    "gray": "prob", "five": "prob", "rgba": "prob", "f16": "prob", "u8": "prob", "u8-nhwc": "prob", "bgr-norm": "prob",
    "label-i64": "label", "label-i64-bare": "label", "label-u8": "label", "multi": "prob", "half": "prob",
    "quarter": "prob", "fixed64": "prob", "fixed-batch4": "prob", "fixed-48x80": "prob", "size-multiple-16": "prob",
    "dropout": "prob", "dropout-f16": "prob", "member-a": "prob", "member-b": "prob", "member-c": "prob", "identity1x1": "prob", "arch-argmax": "label",
    "arch-fcn": "raw:softmax", "arch-unet": "raw:softmax", "arch-segnet": "raw:softmax", "arch-pspnet": "raw:softmax",
    "arch-deeplab": "raw:softmax", "arch-segformer": "raw:softmax",
}  # fmt: skip
LABEL_CLASSES = {"arch-argmax": 3}  # 4 for the others
NHWC = {"nhwc", "u8-nhwc", "member-b"}
FIXED = {"fixed64", "fixed-48x80", "arch-pspnet"}
# Facts from the metadata inside the models.
METADATA = {
    "deepness": {"mean": [0.45, 0.5, 0.55], "std": [0.22, 0.25, 0.28], "threshold": 0.6},
    "deepness1": {"threshold": 0.35},
    "size-multiple-16": {"size-multiple": 16},
    "arch-fcn": {"size-multiple": 32},
    "arch-segnet": {"size-multiple": 4},
    **{f"arch-{name}": {"size-multiple": 8} for name in ("unet", "deeplab", "segformer", "argmax")},
}


# ------------------------------------------------------------------------------------------------------------- frames


def smooth(seed, height, width, channels):
    """Smooth noise with discs, bars and a ramp over it; no symmetry. Values 0…1, shape C × H × W."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    out = np.empty((channels, height, width))
    for c in range(channels):
        n = ndimage.gaussian_filter(rng.standard_normal((height + 16, width + 16)), 1.6)[8 : 8 + height, 8 : 8 + width]
        n = n / 0.18  # about the deviation of white noise after this filter
        out[c] = 0.5 + 0.17 * n + 0.12 * (x / max(width - 1, 1) - 0.5) * (1 if c % 2 else -1)
    for _ in range(3):
        cy, cx, r = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0.1, 0.25) * min(height, width) + 1
        inside = (y - cy) ** 2 + (x - cx) ** 2 < r * r
        out += np.where(inside, rng.uniform(-0.25, 0.25, (channels, 1))[..., None], 0)
    top, left = height // 3, width // 2
    out[:, top : top + max(height // 6, 1), left : left + width // 4] -= 0.2
    return np.clip(out, 0, 1)


def interleave(chw):
    return np.ascontiguousarray(chw.transpose(1, 2, 0))


def u8(x):
    return np.round(x * 255).astype(np.uint8)


RGB = {name: u8(smooth(seed, h, w, 3)) for name, seed, h, w in [
    ("37x53", 1, 37, 53), ("20x45", 2, 20, 45), ("26x17", 3, 26, 17), ("5x9", 4, 5, 9), ("1x7", 5, 1, 7), ("9x1", 6, 9, 1),
    ("64x48", 7, 64, 48), ("64x64", 8, 64, 64), ("48x80", 9, 48, 80), ("33x40", 10, 33, 40), ("96x96", 11, 96, 96),
]}  # fmt: skip
FILL = np.full((1, 37, 53), 99, np.uint8)
FOUR = u8(smooth(20, 26, 37, 4))
GRAY16 = np.round(200 + 2300 * smooth(22, 37, 53, 1)[0]).astype("<u2")

# name: (GStreamer format, array as it lies in memory)
FRAMES = {f"rgb-{k}": ("RGB", interleave(v)) for k, v in RGB.items()}
FRAMES |= {
    "bgr-37x53": ("BGR", interleave(RGB["37x53"][::-1])),
    "rgbx-37x53": ("RGBx", interleave(np.concatenate([RGB["37x53"], FILL]))),
    "xbgr-37x53": ("xBGR", interleave(np.concatenate([FILL, RGB["37x53"][::-1]]))),
    "rgba-26x37": ("RGBA", interleave(FOUR)),
    "argb-26x37": ("ARGB", interleave(FOUR[[3, 0, 1, 2]])),
    "bgra-26x37": ("BGRA", interleave(FOUR[[2, 1, 0, 3]])),
    "gray8-37x53": ("GRAY8", u8(smooth(21, 37, 53, 1)[0])),
    "gray16-37x53": ("GRAY16_LE", GRAY16),
    "gray16-wide-26x37": ("GRAY16_LE", np.round(65535 * smooth(23, 26, 37, 1)[0]).astype("<u2")),
    "planar5-u8-33x40": ("planar5", u8(smooth(24, 33, 40, 5))),
    "planar3-u16-26x17": ("planar3", np.round(10000 * smooth(25, 26, 17, 3)).astype("<u2")),
    "planar1-i16-26x37": ("planar1", np.round(-400 + 900 * smooth(26, 26, 37, 1)).astype("<i2")),
    "planar3-f32-26x17": ("planar3", (4 * smooth(27, 26, 17, 3)).astype("<f4")),
    "interleaved3-u16-26x17": ("interleaved3", interleave(np.round(10000 * smooth(25, 26, 17, 3)).astype("<u2"))),
}


def channels_of(frame, fmt):
    """Frame in memory → C × H × W, in the order R, G, B(, A) for colours, in stored order otherwise."""
    if fmt in ("GRAY8", "GRAY16_LE"):
        return frame[None]
    if fmt.startswith("planar"):
        return frame
    chw = frame.transpose(2, 0, 1)
    if fmt.startswith("interleaved"):
        return chw
    return chw[[fmt.index(c) for c in ("RGBA" if "A" in fmt else "RGB")]]


# ---------------------------------------------------------------------------------------------------------- transforms

NUMPY_TTA = {
    "identity": (lambda a: a, lambda a: a),
    "hflip": (lambda a: a[..., ::-1], lambda a: a[..., ::-1]),
    "vflip": (lambda a: a[..., ::-1, :], lambda a: a[..., ::-1, :]),
    "rot180": (lambda a: np.rot90(a, 2, (-2, -1)), lambda a: np.rot90(a, -2, (-2, -1))),
    "rot90": (lambda a: np.rot90(a, 1, (-2, -1)), lambda a: np.rot90(a, -1, (-2, -1))),
    "rot270": (lambda a: np.rot90(a, 3, (-2, -1)), lambda a: np.rot90(a, -3, (-2, -1))),
    "transpose": (lambda a: np.swapaxes(a, -1, -2), lambda a: np.swapaxes(a, -1, -2)),
    # Mirrored at the other diagonal: its own inverse.
    "antitranspose": (
        lambda a: np.rot90(np.swapaxes(a, -1, -2), 2, (-2, -1)),
        lambda a: np.swapaxes(np.rot90(a, 2, (-2, -1)), -1, -2),
    ),
}
SETS = {
    "none": ["identity"],
    "flip3": ["identity", "hflip", "vflip"],
    "flips": ["identity", "hflip", "vflip", "rot180"],
    "d4": list(NUMPY_TTA),
}
TTACH = {
    "hflip": ttach.aliases.hflip_transform,
    "vflip": ttach.aliases.vlip_transform,  # spelled like this in ttach
    "flips": ttach.aliases.flip_transform,
    "d4": ttach.aliases.d4_transform,
}


def transform_names(tta):
    names = []
    for item in tta.replace("+", ",").split(","):
        names += SETS.get(item.strip(), [item.strip()])
    return ["identity"] + [n for n in dict.fromkeys(names) if n != "identity"]


def numpy_transforms(tta):
    return [NUMPY_TTA[n] for n in transform_names(tta)]


def transforms(tta):
    """Pairs (forward, backward) on C × H × W arrays; ttach's wherever it knows the set."""
    if tta not in TTACH:
        return numpy_transforms(tta)

    def pair(t):
        return (
            lambda a: t.augment_image(torch.from_numpy(np.ascontiguousarray(a))[None])[0].numpy(),
            lambda a: t.deaugment_mask(torch.from_numpy(np.ascontiguousarray(a))[None])[0].numpy(),
        )

    return [pair(t) for t in TTACH[tta]()]


# ---------------------------------------------------------------------------------------------------------- one member


def numbers(value):
    """"1,2" or [1, 2] or 3 → a list of floats; nothing → None."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.split(",")
    return [float(v) for v in (value if isinstance(value, list) else [value])]


def prepare(chw, depth, model, input_dtype, facts):
    """Frame → float32 (or uint8) C × H × W for the model."""
    if facts.get("channel-order") == "bgr":
        chw = chw[::-1]
    if input_dtype == np.uint8:
        assert depth == np.uint8 and not {"mean", "std", "scale", "input-range"} & facts.keys()
        return chw
    x = chw.astype(np.float64)
    if "input-range" in facts:
        lo, hi = numbers(facts["input-range"])
        x = np.clip((x - lo) / (hi - lo), 0, 1)
    elif "scale" in facts:
        x = x / numbers(facts["scale"])[0]
    else:
        assert depth == np.uint8, "only 8-bit pixels have a default"
        x = x / 255
    mean, std = numbers(facts.get("mean")) or [0.0], numbers(facts.get("std")) or [1.0]
    x = (x - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    return x.astype(np.float32)


def pad_to_multiple(x, multiple):
    h, w = x.shape[1:]
    below, right = -h % multiple, -w % multiple
    padded = np.pad(x, ((0, 0), (0, below), (0, right)), mode="reflect")
    # The same by formula, as a check of numpy on sides shorter than the padding.
    def fold(i, n):
        return 0 if n == 1 else (n - 1) - abs((n - 1) - i % (2 * (n - 1)))
    rows, cols = [fold(i, h) for i in range(h + below)], [fold(i, w) for i in range(w + right)]
    assert np.array_equal(padded, x[:, rows][:, :, cols])
    return padded


def enlarge(y, k):
    """Bilinear by an integer factor: half-pixel centres, edges repeated."""
    if k == 1:
        return y
    out = y.astype(np.float64)
    for axis in (1, 2):
        n = out.shape[axis]
        at = np.clip((np.arange(n * k) + 0.5) / k - 0.5, 0, n - 1)
        i = np.floor(at).astype(int)
        j = np.minimum(i + 1, n - 1)
        t = (at - i).reshape([-1 if a == axis else 1 for a in range(3)])
        out = np.take(out, i, axis) * (1 - t) + np.take(out, j, axis) * t
    torchs = torch.nn.functional.interpolate(
        torch.from_numpy(y.astype(np.float64))[None], scale_factor=k, mode="bilinear", align_corners=False
    )
    assert np.allclose(out, torchs[0].numpy(), atol=1e-12)
    return out


SESSIONS = {}


def session(path):
    if path not in SESSIONS:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        SESSIONS[path] = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return SESSIONS[path]


DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


def run(model, x, output):
    """One C × H × W image through the model → C × H × W scores, or H × W labels as 1 × H × W."""
    s = session(MODELS / f"{model}.onnx")
    wanted = s.get_inputs()[0]
    batch = x[None].astype(DTYPES[wanted.type])
    if model in NHWC:
        batch = batch.transpose(0, 2, 3, 1)
    if isinstance(wanted.shape[0], int) and wanted.shape[0] > 1:
        batch = np.repeat(batch, wanted.shape[0], 0)
    names = [o.name for o in s.get_outputs()]
    name = names[int(output)] if output.isdigit() else output or names[0]
    y = s.run([name], {wanted.name: np.ascontiguousarray(batch)})[0][0]
    if model in NHWC:
        y = y.transpose(2, 0, 1)
    return y[None] if y.ndim == 2 else y


PRIME = 2**31 - 1


def drop_mask(shape, rate, draw, node):
    """What Dropout number `node` multiplies by, 0 or 1 / (1 − rate): for element i of the frame, a cubic polynomial of i modulo
    2³¹ − 1 with coefficients from SHA-256 of the draw, highest first; an element below rate · (2³¹ − 1) is dropped."""
    words = b"".join(word.to_bytes(8, "little") for word in [*draw, node])
    digest = hashlib.sha256(b"onnxsegment dropout" + words).digest()
    c = [int.from_bytes(digest[8 * k : 8 * k + 8], "little") % PRIME for k in range(4)]
    i = np.arange(np.prod(shape)).astype(object)  # whole numbers of any size
    y = (c[0] * i**3 + c[1] * i**2 + c[2] * i + c[3]) % PRIME
    kept = (y >= round(rate * PRIME)).astype(np.float32)
    return (kept / np.float32(1 - rate)).reshape(shape)


def run_sampled(model, x, draw):
    """One image through the model with its Dropout as `draw` = (seed, member, transform, sample, frame) says."""
    s = session(MODELS / "dropout-masks.onnx")
    feed = {"image": x[None].astype(np.float32)}
    for node, (channels, rate) in enumerate([(6, 0.3), (5, 0.5)]):
        feed[f"mask{node}"] = drop_mask((channels, *x.shape[1:]), rate, draw, node)[None]
    return s.run(None, feed)[0][0]


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(0, keepdims=True))
    return e / e.sum(0, keepdims=True)


def ln(p):
    return np.log(np.maximum(p, CLIP))


def merged(name, ws, ps):
    """Passes, each C × H × W, by a merge's name."""
    clipped = [np.maximum(p, CLIP) for p in ps]
    if name == "mean":
        out = sum(w * p for w, p in zip(ws, ps))
    elif name == "gmean":
        out = np.exp(sum(w * np.log(p) for w, p in zip(ws, clipped)))
    elif name == "hmean":
        out = 1 / sum(w / p for w, p in zip(ws, clipped))
    elif name == "max":
        out = np.max(ps, 0)
    elif name == "min":
        out = np.min(ps, 0)
    elif name == "tsharpen":
        out = sum(w * np.sqrt(p) for w, p in zip(ws, ps))
    elif name == "vote":
        hard = [(p >= 0.5) if len(p) == 1 else (np.argmax(p, 0)[None] == np.arange(len(p))[:, None, None]) for p in ps]
        out = sum(w * h.astype(np.float64) for w, h in zip(ws, hard))
    else:
        raise ValueError(name)
    if name not in ("hmean", "vote") and np.ptp(ws) < 1e-12:
        theirs = ttach.base.Merger(name, len(ps))
        for p in clipped if name == "gmean" else ps:
            theirs.append(torch.from_numpy(p))
        assert np.allclose(theirs.result.numpy(), out, atol=1e-9), f"ttach's {name} differs"
    return out


def member_passes(model, facts, frame, fmt, tta):
    """All passes of one member: a list of (probabilities, z), both C × H × W, and the activation that turns z into p."""
    kind, _, default = KIND[model].partition(":")
    # The activation names what is still to be applied; "none": the scores are probabilities already.
    activation = facts.get("activation") or default
    if activation == "none":
        kind = "prob"
    assert kind != "raw" or activation, f"nobody says what {model}'s scores are"
    chw = channels_of(frame, fmt)
    h, w = chw.shape[1:]
    dtype = DTYPES[session(MODELS / f"{model}.onnx").get_inputs()[0].type]
    x = prepare(chw, frame.dtype, model, dtype, facts)
    x = pad_to_multiple(x, 1 if model in FIXED else int(facts.get("size-multiple", 32)))

    def scores(pairs):
        out = []
        samples = int(facts.get("samples", 0))
        for k, (forward, backward) in enumerate(pairs):
            image = np.ascontiguousarray(forward(x))
            if samples:
                place = list(NUMPY_TTA).index(transform_names(tta)[k])
                draws = [(int(facts["seed"]), facts["member"], place, sample, 0) for sample in range(samples)]
                out += [backward(run_sampled(model, image, draw))[:, :h, :w].astype(np.float64) for draw in draws]
                continue
            y = backward(run(model, image, facts.get("output-name", "")))
            k = x.shape[1] // y.shape[1]
            assert (y.shape[1] * k, y.shape[2] * k) == x.shape[1:]
            out.append(enlarge(y, k)[:, :h, :w].astype(np.float64))
        return out

    raw = scores(transforms(tta))
    if tta in TTACH and "samples" not in facts:
        ours = scores(numpy_transforms(tta))
        assert len(ours) == len(raw) and np.allclose(np.mean(raw, 0), np.mean(ours, 0), atol=1e-6), "ttach and numpy differ"

    passes = []
    for y in raw:
        if kind == "label":
            p = np.stack([(y[0] == c).astype(np.float64) for c in range(LABEL_CLASSES.get(model, 4))])
            z = ln(p)
        elif kind == "prob":
            p = y
            z = ln(p) - ln(1 - p) if len(p) == 1 else ln(p)
        elif kind == "logprob":
            p, z = np.exp(y), y
        else:
            p, z = (sigmoid(y) if activation == "sigmoid" else softmax(y)), y
        if (temperature := float(facts.get("temperature") or 1)) != 1:
            z = z / temperature
            one_by_one = activation == "sigmoid" if kind == "raw" else len(z) == 1
            p = sigmoid(z) if one_by_one else softmax(z)
        passes.append((p, z))
    if kind != "raw":
        activation = "sigmoid" if len(passes[0][0]) == 1 else "softmax"
    return passes, activation


# ------------------------------------------------------------------------------------------------------- the ensemble


def uncertainty(weights, ps):
    """The four kinds, each H × W, from the passes' probabilities."""
    ps = [np.concatenate([1 - p, p]) if len(p) == 1 else p for p in ps]
    m = sum(w * p for w, p in zip(weights, ps))

    def entropy(p):
        # 0 · ln 0 = 0
        return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), 0) / np.log(len(p))

    total = entropy(m)
    winner = np.argmax(m, 0)[None]
    best = [np.take_along_axis(p, winner, 0)[0] for p in [m, *ps]]
    ranked = np.sort(m, 0)
    return {
        "entropy": total,
        "mutual-information": np.maximum(total - sum(w * entropy(p) for w, p in zip(weights, ps)), 0),
        "variance": 4 * sum(w * (b - best[0]) ** 2 for w, b in zip(weights, best[1:])),
        "margin": 1 - (ranked[-1] - ranked[-2]),
    }


PER_MEMBER = ["mean", "std", "scale", "input-range", "channel-order", "layout", "output-name", "size-multiple", "activation"]


def compute(models, settings, frame, fmt):
    """Scores C × H × W, labels H × W, the threshold in force, the uncertainties and the passes."""
    top, members = dict(settings), [{} for _ in models]
    if "config-file" in settings:
        config = tomllib.loads((HERE / Path(settings["config-file"]).name).read_text())
        members = config.pop("member")
        models = [Path(m["model-file"]).stem for m in members]
        top = config | top
    weights = numbers(top.get("weights")) or [float(m.get("weight", 1)) for m in members]
    activations = str(top.get("activation", "")).split(",")
    if len(activations) == 1:
        activations *= len(models)

    ws, ps, zs, thresholds, counts = [], [], [], [], []
    temperatures = str(top.get("temperature", "")).split(",")
    if len(temperatures) == 1:
        temperatures *= len(models)
    each = zip(models, members, weights, activations, temperatures, strict=True)
    for model, own, weight, activation, temperature in each:
        meta = METADATA.get(model, {})
        # Property, then config file, then metadata.
        facts = {k: v for k, v in (meta | top | own | settings).items() if k in PER_MEMBER}
        facts["activation"] = activation or own.get("activation", "")
        facts["temperature"] = temperature or own.get("temperature", "")
        if "samples" in top:
            facts |= {"samples": top["samples"], "seed": top.get("seed", 0), "member": len(counts)}
        passes, act = member_passes(model, facts, frame, fmt, top.get("tta", "none"))
        thresholds.append(meta.get("threshold"))
        counts.append(len(passes))
        for p, z in passes:
            ws.append(weight / sum(weights) / len(passes))
            ps.append(p)
            zs.append(z)
    assert abs(sum(ws) - 1) < 1e-12
    merge = top.get("merge", "mean")

    if "stacker" in top:
        # Each member's mean over its passes, one after the other, through the second level.
        own = [np.mean(ps[k : k + count], 0) for k, count in zip(np.cumsum([0] + counts), counts)]
        scores = run(Path(top["stacker"]).stem, np.concatenate(own).astype(np.float32), "").astype(np.float64)
        if Path(top["stacker"]).stem == "stack1":
            scores = sigmoid(scores)
    elif top.get("merge-domain", "probability") == "logit":
        z = merged(merge, ws, zs)
        scores = sigmoid(z) if act == "sigmoid" else softmax(z)
    else:
        scores = merged(merge, ws, ps)

    threshold = float(top["threshold"]) if "threshold" in top else thresholds[0]
    each = numbers(top.get("class-thresholds"))
    if each:
        # Pixels near any of them are left out of the comparison by `threshold`, which is one: the cases use one value twice.
        threshold = max(each)
        pair = np.concatenate([1 - scores, scores]) if len(scores) == 1 else scores
        limits = np.array(each)[:, None, None]
        labels = np.argmax(np.where(np.round(pair, 12) < limits, 0, np.round(pair, 12)), 0).astype(np.uint8)
    elif len(scores) == 1:
        threshold = 0.5 if threshold is None else threshold
        labels = (scores[0] >= threshold).astype(np.uint8)
    else:
        decided = np.round(scores, 12)  # so that equal vote counts are ties, whatever order they were summed in
        if threshold is not None:
            decided = np.where(decided < threshold, 0, decided)
        labels = np.argmax(decided, 0).astype(np.uint8)
    return scores, labels + np.uint8(top.get("label-offset", 0)), threshold, uncertainty(ws, ps), (ws, ps, zs)


# -------------------------------------------------------------------------------------------------------------- cases

CASES = []


def case(name, models, frame, uncertainty=False, tolerance=None, toml=None, **settings):
    """A setting `merge_domain` is the property `merge-domain`. With `toml`, the models stand in that file."""
    settings = {k.replace("_", "-"): str(v) for k, v in settings.items()}
    if toml:
        settings["config-file"] = f"tests/golden/{name}.toml"
    models = models.split()
    assert name not in {c["name"] for c in CASES} and not (toml and models)
    CASES.append(
        dict(name=name, models=models, frame=frame, settings=settings, uncertainty=uncertainty, tolerance=tolerance, toml=toml)
    )


# Ways to know what the scores are.
case("act-graph-sigmoid", "sigmoid", "rgb-37x53")
case("act-graph-softmax2", "softmax2", "rgb-37x53")
case("act-graph-softmax4", "softmax4", "rgb-26x17")
case("act-graph-logsoftmax4", "logsoftmax4", "rgb-26x17")
case("act-graph-sigmoid3", "sigmoid3", "rgb-26x17", threshold=0.6)
case("act-walk-back", "sigmoid-transpose", "rgb-37x53")
case("act-property-sigmoid", "logit1", "rgb-37x53", activation="sigmoid")
case("act-property-softmax", "logits4", "rgb-26x17", activation="softmax")
case("act-property-sigmoid-per-class", "logits4", "rgb-26x17", activation="sigmoid")
case("act-property-list", "logit1 deepness1", "rgb-20x45", activation="sigmoid,none", threshold=0.5)
case("act-metadata", "logit1-meta", "rgb-37x53")
case("act-metadata-per-class", "logits2-meta-sigmoid", "rgb-26x17")
case("act-property-over-metadata", "logits2-meta-sigmoid", "rgb-26x17", activation="softmax")
case("act-deepness", "deepness", "rgb-26x17")
case("act-deepness1", "deepness1", "rgb-37x53")
case("deepness-threshold-property", "deepness", "rgb-26x17", threshold=0.45)
case("deepness-mean-std-property", "deepness", "rgb-26x17", mean="0.5,0.5,0.5", std="0.25,0.25,0.25", tta="flips")
case("deepness1-flips-logit", "deepness1", "rgb-20x45", tta="flips", merge_domain="logit")

# Transforms, on frames that are not square; 20×45 is padded to 32×64, and with size-multiple=1 not at all.
for tta in ["none", "hflip", "vflip", "flip3", "flips", "d4"]:
    case(f"tta-{tta}", "sigmoid", "rgb-20x45", tta=tta)
for tta in ["rot90", "rot180", "rot270", "transpose", "antitranspose"]:
    case(f"tta-{tta}", "sigmoid", "rgb-20x45", tta=tta, size_multiple=1)
case("tta-d4-unpadded", "softmax2", "rgb-26x17", tta="d4", size_multiple=1)
case("tta-d4-padded", "softmax4", "rgb-26x17", tta="d4", size_multiple=8)
case("tta-list", "sigmoid", "rgb-20x45", tta="hflip,rot90,transpose")
case("tta-list-plus", "sigmoid", "rgb-26x17", tta="rot270+vflip")
case("tta-list-of-sets", "sigmoid", "rgb-26x17", tta="flip3,rot90,identity,hflip")
case("tta-rot90-nhwc", "nhwc", "rgb-26x17", tta="rot90", size_multiple=4)

# Padding.
case("pad-default", "sigmoid", "rgb-33x40")
case("pad-none-needed", "sigmoid", "rgb-64x48", size_multiple=16)
case("pad-folds", "sigmoid", "rgb-5x9", tta="d4")
case("pad-folds-16", "softmax2", "rgb-5x9", tta="flips", size_multiple=16)
case("pad-side-of-1", "sigmoid", "rgb-1x7", tta="d4", threshold=0.4)
case("pad-side-of-1-tall", "softmax2", "rgb-9x1", tta="d4")
case("pad-metadata-16", "size-multiple-16", "rgb-37x53")
case("pad-metadata-16-d4", "size-multiple-16", "rgb-20x45", tta="d4")
case("pad-property-over-metadata", "size-multiple-16", "rgb-37x53", size_multiple=64)

# Merging.
case("merge-mean-logit-tta-1", "sigmoid-transpose", "rgb-20x45", tta="d4", merge_domain="logit")
case("merge-mean-logit-tta-2", "softmax2", "rgb-26x17", tta="flips", merge_domain="logit")
case("merge-mean-logit-tta-logsoftmax", "logsoftmax4", "rgb-26x17", tta="flips", merge_domain="logit")
case("merge-mean-prob-tta-logsoftmax", "logsoftmax4", "rgb-26x17", tta="flips")
case("merge-mean-logit-raw-1", "logit1", "rgb-20x45", tta="flips", merge_domain="logit", activation="sigmoid")
case("merge-mean-prob-raw-1", "logit1", "rgb-20x45", tta="flips", activation="sigmoid")
case("merge-mean-logit-per-class-sigmoid", "logits4", "rgb-26x17", tta="hflip", merge_domain="logit", activation="sigmoid")
case("merge-logit-saturated", "saturated1", "rgb-20x45", tta="flips", merge_domain="logit", threshold=0.4, tolerance=1e-4)
case("merge-weighted-prob", "sigmoid logit1-meta", "rgb-20x45", weights="1,3", tta="hflip")
case("merge-weighted-logit", "sigmoid logit1-meta", "rgb-20x45", weights="1,3", tta="hflip", merge_domain="logit")
case("merge-mean-three-prob", "softmax2 member-a nhwc", "rgb-26x17", tta="flip3")
case("merge-mean-three-logit", "softmax2 member-a nhwc", "rgb-26x17", tta="flip3", merge_domain="logit")
case("merge-weighted-three-prob", "softmax2 member-a nhwc", "rgb-26x17", tta="vflip", weights="0.5,2,1.25")
case("merge-weighted-three-logit", "softmax2 member-a nhwc", "rgb-26x17", tta="vflip", weights="0.5,2,1.25", merge_domain="logit")
case("merge-zero-weight", "sigmoid logit1-meta", "rgb-20x45", weights="1,0")
for merge in ["gmean", "hmean", "max", "min", "tsharpen", "vote"]:
    case(f"merge-{merge}-1", "sigmoid logit1-meta deepness1", "rgb-20x45", merge=merge, tta="flips", threshold=0.45)
    case(f"merge-{merge}-4", "softmax4 logsoftmax4", "rgb-26x17", merge=merge, tta="d4", uncertainty=True)
    case(f"merge-{merge}-saturated", "saturated1", "rgb-20x45", merge=merge, tta="flips", threshold=0.3, tolerance=1e-4)
for merge in ["gmean", "hmean", "tsharpen", "vote"]:
    case(f"merge-{merge}-weighted", "softmax2 member-a nhwc", "rgb-26x17", merge=merge, tta="hflip", weights="0.5,2,1.25")
# Samples of models with Dropout.
case("samples-1", "dropout", "rgb-26x17", samples=1, seed=5)
case("samples-many", "dropout", "rgb-26x17", samples=6, seed=7, uncertainty=True)
case("samples-tta", "dropout dropout", "rgb-20x45", samples=2, tta="rot90,hflip", weights="1,3", merge="gmean")
case("samples-f16", "dropout-f16", "rgb-26x17", samples=3, tolerance=3e-3)
# A second level over the members.
case("stacker-1", "sigmoid logit1-meta", "rgb-20x45", stacker="tests/models/stack1.onnx", tta="flips", uncertainty=True)
case("stacker-2", "softmax2 member-a nhwc", "rgb-26x17", stacker="tests/models/stack2.onnx", tta="hflip", temperature="2,1,0.5")
case("stacker-labels", "softmax4 label-i64", "rgb-26x17", stacker="tests/models/stack4.onnx", threshold=0.3)
for merge in ["max", "min"]:
    case(f"merge-{merge}-logit-1", "sigmoid logit1-meta", "rgb-20x45", merge=merge, tta="flips", merge_domain="logit", uncertainty=True)
    case(f"merge-{merge}-logit-4", "softmax4 logsoftmax4", "rgb-26x17", merge=merge, tta="hflip", merge_domain="logit")
case("merge-vote-labels", "label-i64 softmax4", "rgb-26x17", merge="vote", tta="flips", weights="1,3", uncertainty=True)
case("temperature-1", "logit1-meta", "rgb-20x45", temperature=1.8, tta="hflip")
case("temperature-of-probabilities", "softmax4", "rgb-26x17", temperature=0.6)
case("temperature-each", "softmax4 logsoftmax4", "rgb-26x17", temperature="2.5,0.7", tta="flips", uncertainty=True)
case("temperature-each-logit", "sigmoid logit1-meta", "rgb-20x45", temperature="3,0.5", merge_domain="logit", tta="hflip")
# The course this work grew from: raw scores of identity, hflip and vflip averaged, argmax, plus one.
case("raw-score-mean-flip3-argmax-plus-1", "logits4", "rgb-37x53", tta="flip3", merge_domain="logit", activation="softmax", label_offset=1)
case("label-offset-binary", "sigmoid", "rgb-26x17", label_offset=7, threshold=0.35)
case("threshold-classes", "softmax4", "rgb-26x17", threshold=0.5, tta="hflip")
case("threshold-classes-two", "softmax2", "rgb-26x17", threshold=0.7)

case("threshold-each-class", "softmax4", "rgb-26x17", class_thresholds="0,0.4,0.4,0", tta="hflip")
case("threshold-each-of-one-channel", "sigmoid", "rgb-20x45", class_thresholds="0,0.6")

# Layouts, element types, outputs, sizes.
case("nhwc", "nhwc", "rgb-37x53")
case("nhwc-layout-property", "nhwc", "rgb-26x17", layout="nhwc", tta="d4", merge_domain="logit")
case("f16", "f16", "rgb-37x53", tolerance=2e-3)
case("f16-d4", "f16", "rgb-20x45", tta="d4", tolerance=2e-3)
case("u8", "u8", "rgb-37x53")
case("u8-d4", "u8", "rgb-20x45", tta="d4")
case("u8-nhwc", "u8-nhwc", "rgb-20x45", tta="rot90,vflip")
case("multi-default", "multi", "rgb-26x17")
case("multi-name", "multi", "rgb-26x17", output_name="main", tta="flips")
case("multi-index", "multi", "rgb-26x17", output_name="1")
case("half", "half", "rgb-37x53", size_multiple=8)
case("half-flips-logit", "half", "rgb-33x40", tta="flips", merge_domain="logit")
case("half-d4", "half", "rgb-26x17", tta="d4")
case("quarter", "quarter", "rgb-37x53")
case("quarter-d4-logit", "quarter", "rgb-20x45", tta="d4", merge_domain="logit")
case("fixed64-d4", "fixed64", "rgb-64x64", tta="d4")
case("fixed64-with-dynamic", "fixed64 sigmoid", "rgb-64x64", tta="hflip")
case("fixed-48x80-flips", "fixed-48x80", "rgb-48x80", tta="flips")
case("fixed-batch4-flip3", "fixed-batch4", "rgb-37x53", tta="flip3")
case("fixed-batch4-d4", "fixed-batch4", "rgb-20x45", tta="d4")
case("identity1x1", "identity1x1", "rgb-26x17", tta="d4")

# The classic architectures.
for name in ["fcn", "unet", "segnet", "deeplab", "segformer", "argmax"]:
    case(f"arch-{name}", f"arch-{name}", "rgb-37x53", tta="flips")
case("arch-pspnet", "arch-pspnet", "rgb-96x96", tta="d4")
case("arch-all", "arch-fcn arch-unet arch-segnet arch-deeplab arch-segformer arch-argmax", "rgb-33x40", tta="hflip", uncertainty=True)

# Pixel formats and scaling.
case("format-bgr", "sigmoid", "bgr-37x53")
case("format-rgbx", "sigmoid", "rgbx-37x53", tta="hflip")
case("format-xbgr", "sigmoid", "xbgr-37x53", tta="vflip")
case("format-rgba", "rgba", "rgba-26x37", tta="flips")
case("format-argb", "rgba", "argb-26x37")
case("format-bgra", "rgba", "bgra-26x37")
case("gray8", "gray", "gray8-37x53", tta="d4")
case("gray16-scale", "gray", "gray16-wide-26x37", scale=65535)
case("gray16-scale-mean-std", "gray", "gray16-37x53", scale=2500, mean="0.1", std="0.9", tta="flips")
case("gray16-input-range", "gray", "gray16-37x53", input_range="400,2300", tta="flip3")
case("gray8-input-range", "gray", "gray8-37x53", input_range="30,220")
case("planar5", "five", "planar5-u8-33x40", scale=255, tta="flips")
case("planar3-u16", "sigmoid", "planar3-u16-26x17", scale=10000)
case("planar1-i16-input-range", "gray", "planar1-i16-26x37", input_range="-350,420")
case("planar3-f32", "sigmoid", "planar3-f32-26x17", scale=4, tta="d4")
case("interleaved3-u16", "sigmoid", "interleaved3-u16-26x17", scale=10000, tta="rot90")
NORM = dict(channel_order="bgr", mean="0.406,0.456,0.485", std="0.225,0.224,0.229")
case("bgr-norm", "bgr-norm", "rgb-37x53", **NORM)
case("bgr-norm-from-bgr-frame", "bgr-norm", "bgr-37x53", **NORM)
case("bgr-norm-d4-logit", "bgr-norm", "rgb-20x45", tta="d4", merge_domain="logit", **NORM)
case("scale-1-mean-std", "bgr-norm", "rgb-26x17", scale=1, mean="123.675,116.28,103.53", std="58.395,57.12,57.375")
case("scale-127.5", "bgr-norm", "rgb-26x17", scale=127.5, mean=1, std=0.5)

# Models that give labels: each pass is a vote.
case("label-single-i64", "label-i64", "rgb-26x17")
case("label-single-u8", "label-u8", "rgb-37x53")
case("label-flips-votes", "label-i64", "rgb-26x17", tta="flips")
case("label-d4-votes", "label-u8", "rgb-26x17", tta="d4")
case("label-ensemble-votes", "label-i64 label-u8 label-i64-bare", "rgb-26x17")
case("label-ensemble-weighted", "label-i64 label-u8 label-i64-bare", "rgb-26x17", weights="2,1,1", tta="hflip")
case("label-with-probabilities", "label-i64 softmax4", "rgb-26x17", tta="hflip")
case("label-bare-with-probabilities", "softmax4 label-i64-bare", "rgb-26x17", weights="3,1")

# Uncertainty.
case("uncertainty-1", "sigmoid logit1-meta", "rgb-20x45", tta="hflip", uncertainty=True)
case("uncertainty-1-d4-weighted", "sigmoid deepness1", "rgb-26x17", tta="d4", weights="1,3", threshold=0.5, uncertainty=True)
case("uncertainty-1-logit", "sigmoid-transpose", "rgb-20x45", tta="flips", merge_domain="logit", uncertainty=True)
case("uncertainty-2", "softmax2 member-a", "rgb-26x17", tta="flips", uncertainty=True)
case("uncertainty-2-weighted", "softmax2 member-a nhwc", "rgb-26x17", tta="hflip", weights="1,2,5", uncertainty=True)
case("uncertainty-4", "softmax4 logsoftmax4", "rgb-26x17", tta="flips", uncertainty=True)
case("uncertainty-4-weighted-logit", "softmax4 logsoftmax4", "rgb-26x17", tta="hflip", weights="3,1", merge_domain="logit", uncertainty=True)
case("uncertainty-4-labels", "label-i64 label-u8", "rgb-26x17", tta="hflip", uncertainty=True)
case("uncertainty-1-single-pass", "sigmoid", "rgb-26x17", uncertainty=True)
case("uncertainty-1-saturated", "saturated1", "rgb-26x17", tta="flips", uncertainty=True)

# Members that differ, from a config file.
MIXED = """\
[[member]]
model-file = "../models/member-a.onnx"
weight = {0}

[[member]]
model-file = "../models/member-b.onnx"
weight = {1}
layout = "nhwc"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[[member]]
model-file = "../models/member-c.onnx"
weight = {2}
channel-order = "bgr"
scale = 127.5
mean = [1.0, 1.0, 1.0]
std = [1.0, 1.0, 1.0]
"""
case("mixed-mean", "", "rgb-26x17", toml='tta = "flips"\n\n' + MIXED.format(1, 1, 1), tolerance=2e-3)
case("mixed-weighted-logit", "", "rgb-26x17", tolerance=2e-3,
     toml='tta = "hflip"\nmerge-domain = "logit"\nthreshold = 0.6\nlabel-offset = 1\n\n' + MIXED.format(1, 2.5, 0.5))
case("mixed-d4-uncertainty", "", "rgb-26x17", toml=MIXED.format(2, 1, 1), tta="d4", uncertainty=True, tolerance=2e-3)
case("mixed-property-over-config", "", "rgb-26x17", tta="vflip", weights="1,1,2", tolerance=2e-3,
     toml='tta = "d4"\n\n' + MIXED.format(7, 7, 7))
case("config-own-padding", "", "rgb-37x53", toml="""\
[[member]]
model-file = "../models/size-multiple-16.onnx"

[[member]]
model-file = "../models/sigmoid.onnx"
size-multiple = 8

[[member]]
model-file = "../models/identity1x1.onnx"
""")
case("config-kinds", "", "rgb-26x17", toml="""\
tta = "flip3"
weights = [1, 1, 2, 4]

[[member]]
model-file = "../models/logits4.onnx"
activation = "softmax"

[[member]]
model-file = "../models/multi.onnx"
output-name = "main"

[[member]]
model-file = "../models/logsoftmax4.onnx"

[[member]]
model-file = "../models/label-u8.onnx"
""")
case("config-kinds-logit", "", "rgb-26x17", tta="hflip", merge_domain="logit", toml="""\
[[member]]
model-file = "../models/softmax4.onnx"

[[member]]
model-file = "../models/logsoftmax4.onnx"

[[member]]
model-file = "../models/logits4.onnx"
activation = "softmax"
""")
case("config-temperature", "", "rgb-26x17", toml="""\
merge = "gmean"

[[member]]
model-file = "../models/logits4.onnx"
activation = "softmax"
temperature = 1.5

[[member]]
model-file = "../models/softmax4.onnx"
""")
case("config-input-range", "", "gray16-37x53", toml="""\
merge-domain = "logit"

[[member]]
model-file = "../models/gray.onnx"
input-range = [400, 2300]

[[member]]
model-file = "../models/gray.onnx"
weight = 3
scale = 2500.0
mean = [0.1]
std = [0.8]
""")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the files here, write nothing")
    check = parser.parse_args().check
    index, wrong = [], 0

    def save(file, array):
        nonlocal wrong
        if not check:
            np.save(HERE / file, np.ascontiguousarray(array))
            return
        there = np.load(HERE / file)
        difference = np.abs(there.astype(np.float64) - array).max() if there.shape == array.shape else np.inf
        if difference > (1e-6 if array.dtype.kind == "f" else 0):
            wrong += 1
            print(f"{file}: differs by {difference:g}", file=sys.stderr)

    if not check:
        for old in [*HERE.glob("*.npy"), *HERE.glob("*.toml")]:
            old.unlink()
    used = {c["frame"] for c in CASES}
    assert used <= FRAMES.keys()
    for name in sorted(used):
        save(f"frame-{name}.npy", FRAMES[name][1])
    for c in CASES:
        name = c["name"]
        if c["toml"] and not check:
            (HERE / f"{name}.toml").write_text(c["toml"])
        fmt, frame = FRAMES[c["frame"]]
        scores, labels, threshold, unc, _ = compute(c["models"], c["settings"], frame, fmt)
        entry = {
            "name": name,
            "models": [f"tests/models/{m}.onnx" for m in c["models"]],
            "settings": c["settings"],
            "frame": f"frame-{c['frame']}.npy",
            "format": fmt,
            "scores": f"{name}.scores.npy",
            "labels": f"{name}.labels.npy",
            "threshold": threshold,
        }
        save(entry["scores"], scores.astype(np.float32))
        save(entry["labels"], labels)
        if c["uncertainty"]:
            entry["uncertainty"] = {kind: f"{name}.{kind}.npy" for kind in unc}
            for kind, file in entry["uncertainty"].items():
                save(file, unc[kind].astype(np.float32))
        if c["tolerance"]:
            entry["tolerance"] = c["tolerance"]
        index.append(entry)
    if check:
        if index != json.loads((HERE / "cases.json").read_text()):
            wrong += 1
            print("cases.json differs", file=sys.stderr)
        print(f"{len(index)} cases, {wrong} files differ")
        sys.exit(wrong > 0)
    (HERE / "cases.json").write_text("[\n" + ",\n".join(json.dumps(e) for e in index) + "\n]\n")
    size = sum(f.stat().st_size for f in HERE.iterdir())
    print(f"{len(index)} cases, {size / 1e6:.2f} MB in this folder")


if __name__ == "__main__":
    main()
