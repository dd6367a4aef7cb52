#!/usr/bin/env python3
"""Reference soups for the tests, computed without a line of this project's Rust.

    python -m venv golden && . golden/bin/activate
    pip install numpy==2.4.6 onnx==1.23.2 onnxruntime==1.31.1 torch==2.15.0 ml_dtypes==0.6.0
    python make_soup.py            # rewrites soup/
    python make_soup.py --check    # computes everything again and compares with what is here, writes nothing

Into soup/ go three models of one graph with weights of every type and in every place that a soup averages (a.onnx, b.onnx, c.onnx),
and b.onnx once more with its weights in a file beside it (external.onnx); their averages by numpy.average in float64 (mean.onnx,
weighted.onnx: 1, 2, 0.5); and norm.json: what the statistics of the BatchNormalization layers of mean.onnx are on tiles of frames
that lie here, by PyTorch.

For norm.json the tiles are cut in numpy, smaller frames reflected by np.pad. A PyTorch twin of the network, whose output has to be
ONNX Runtime's, runs in training mode, batch by batch; each layer's input gives its mean and population variance per batch, which
are combined as the mean and variance of all values. torch.optim.swa_utils.update_bn runs besides: its means have to be the same, and
its variances the plain mean over batches of n / (n - 1) times those here.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto as T
from onnx import helper, numpy_helper

GOLDEN = Path(__file__).resolve().parent
SHARES = {"mean": [1, 1, 1], "weighted": [1, 2, 0.5]}
FRAMES = ["frame-rgb-96x96", "frame-rgb-37x53", "frame-rgb-20x45"]
SIDE, BATCH = 32, 4
EPSILON = 1e-3


def initial(seed):
    """The weights of one member, by name."""
    rng = np.random.default_rng(seed)
    # One basin: a common part, and little of its own.
    common = np.random.default_rng(7)

    def of(*shape, scale=1.0):
        return scale * (common.standard_normal(shape) + 0.2 * rng.standard_normal(shape))

    f32 = lambda *shape, **more: of(*shape, **more).astype(np.float32)  # noqa: E731
    return {
        "conv1.weight": f32(6, 3, 3, 3, scale=0.4),
        "bn1.weight": 1 + f32(6, scale=0.1),
        "bn1.bias": f32(6, scale=0.1),
        "bn1.running_mean": f32(6, scale=0.3),
        "bn1.running_var": np.abs(1 + f32(6, scale=0.2)),
        "conv2.weight": f32(4, 6, 3, 3, scale=0.2),
        "bn2.weight": 1 + f32(4, scale=0.1),
        "bn2.bias": f32(4, scale=0.1),
        "bn2.running_mean": f32(4, scale=0.3),
        "bn2.running_var": np.abs(1 + f32(4, scale=0.2)),
        "head.weight": f32(1, 4, 1, 1),
        "gain": of(1, 1, 1, 1).astype(np.float16) + np.float16(2),
        "shift": of(1, 1, 1, 1).astype(np.float64),
        "tilt": of(1, 1, 1, 1).astype(ml_dtypes.bfloat16),
        "offset": f32(1),
        "floor": np.array([-np.inf], np.float32),
        "axis": np.array([1], np.int64),
        "always": np.array(True),
    }


def tensor(name, array, raw):
    """Some weights as raw bytes, others in the fields of their type, unless all shall be raw."""
    if not raw and name in ("bn1.bias", "gain", "shift", "tilt", "axis"):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        return helper.make_tensor(name, kind, array.shape, array.flatten().tolist())
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def graph(weights, metadata, raw=False):
    node = helper.make_node
    norm = lambda x, bn, y: node(  # noqa: E731
        "BatchNormalization", [x, *(f"{bn}.{w}" for w in ("weight", "bias", "running_mean", "running_var"))], [y], epsilon=EPSILON
    )
    inner = {"offset": weights["offset"]}
    branch = lambda name, op: helper.make_graph(  # noqa: E731
        [node(op, ["tilted", "offset"], [name])],
        name,
        [],
        [helper.make_tensor_value_info(name, T.FLOAT, None)],
        [tensor(k, v, raw) for k, v in inner.items()],
    )
    nodes = [
        node("Conv", ["image", "conv1.weight"], ["t1"], pads=[1, 1, 1, 1]),
        norm("t1", "bn1", "t2"),
        node("Relu", ["t2"], ["t3"]),
        node("Conv", ["t3", "conv2.weight"], ["t4"], pads=[1, 1, 1, 1]),
        norm("t4", "bn2", "t5"),
        node("Relu", ["t5"], ["t6"]),
        node("Conv", ["t6", "head.weight"], ["t7"]),
        node("Cast", ["gain"], ["gain32"], to=T.FLOAT),
        node("Mul", ["t7", "gain32"], ["gained"]),
        node("Cast", ["shift"], ["shift32"], to=T.FLOAT),
        node("Add", ["gained", "shift32"], ["shifted"]),
        node("Cast", ["tilt"], ["tilt32"], to=T.FLOAT),
        node("Add", ["shifted", "tilt32"], ["tilted"]),
        node("If", ["always"], ["moved"], then_branch=branch("then", "Add"), else_branch=branch("else", "Sub")),
        node("Max", ["moved", "floor"], ["above"]),
        node("ReduceMax", ["above", "axis"], ["reduced"], keepdims=1),
        node("Sigmoid", ["reduced"], ["scores"]),
    ]
    dims = ["batch", 3, "height", "width"]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", T.FLOAT, dims)],
        [helper.make_tensor_value_info("scores", T.FLOAT, ["batch", 1, "height", "width"])],
        [tensor(k, v, raw) for k, v in weights.items() if k not in inner],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8, producer_name="onnxsegment-tests")
    helper.set_model_props(model, {k: json.dumps(v) for k, v in metadata.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def average(members, shares):
    def one(arrays):
        if arrays[0].dtype.kind in "ib" or all(np.array_equal(a, arrays[0]) for a in arrays):
            return arrays[0]
        wide = [a.astype(np.float64) for a in arrays]
        return np.average(wide, axis=0, weights=shares).astype(arrays[0].dtype)

    return {name: one([m[name] for m in members]) for name in members[0]}


# ------------------------------------------------------------------------------------------------------ BatchNormalization


def twin(weights):
    """The network up to the head, in PyTorch."""
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(6, eps=EPSILON),
        torch.nn.ReLU(),
        torch.nn.Conv2d(6, 4, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(4, eps=EPSILON),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 1, 1, bias=False),
    )
    with torch.no_grad():
        for layer, name in ((net[0], "conv1"), (net[1], "bn1"), (net[3], "conv2"), (net[4], "bn2"), (net[6], "head")):
            for part in ("weight", "bias", "running_mean", "running_var"):
                if f"{name}.{part}" in weights:
                    getattr(layer, part).copy_(torch.from_numpy(weights[f"{name}.{part}"]))
    return net.double().eval()


def starts(length, tile):
    count = -(-length // tile)
    return [0] if count == 1 else [k * (length - tile) // (count - 1) for k in range(count)]


def tiles():
    found = []
    for name in FRAMES:
        frame = np.load(GOLDEN / f"{name}.npy")
        height, width = min(SIDE, frame.shape[0]), min(SIDE, frame.shape[1])
        for y in starts(frame.shape[0], height):
            for x in starts(frame.shape[1], width):
                cut = frame[y : y + height, x : x + width].astype(np.float32) / 255
                cut = np.pad(cut, ((0, SIDE - height), (0, SIDE - width), (0, 0)), "reflect")
                found.append(cut.transpose(2, 0, 1))
    return np.stack(found)


def statistics(weights, model):
    inputs = tiles()
    net = twin(weights)

    # The twin is the model.
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(model, f"{folder}/m.onnx")
        session = onnxruntime.InferenceSession(f"{folder}/m.onnx")
    [scores] = session.run(None, {"image": inputs})
    logits = net(torch.from_numpy(inputs).double()).detach().numpy()
    logits = logits * float(weights["gain"].item()) + weights["shift"].item() + float(weights["tilt"].item()) + weights["offset"].item()
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-logits)), atol=1e-5)

    batches = torch.from_numpy(inputs).double().split(BATCH)
    seen = {1: [], 4: []}
    for index in seen:
        net[index].register_forward_pre_hook(lambda _, args, index=index: seen[index].append(args[0].detach()))
    net.train()
    for batch in batches:
        net(batch)
    result = {}
    for index, name in ((1, "bn1"), (4, "bn2")):
        sizes = np.array([len(x) for x in seen[index]], float)
        means = np.stack([x.mean((0, 2, 3)).numpy() for x in seen[index]])
        variances = np.stack([x.var((0, 2, 3), unbiased=False).numpy() for x in seen[index]])
        mean = np.average(means, axis=0, weights=sizes)
        variance = np.average(variances + (means - mean) ** 2, axis=0, weights=sizes)
        # All batches have as many values per tile: this is the mean and variance of all values together.
        together = torch.cat(seen[index])
        np.testing.assert_allclose(mean, together.mean((0, 2, 3)).numpy(), rtol=1e-9)
        np.testing.assert_allclose(variance, together.var((0, 2, 3), unbiased=False).numpy(), rtol=1e-9)
        result[f"{name}.running_mean"], result[f"{name}.running_var"] = mean.tolist(), variance.tolist()
        seen[index] = (means, variances, sizes)

    # What PyTorch's own function makes of whole batches.
    whole = [b for b in batches if len(b) == BATCH]
    other = twin(weights)
    torch.optim.swa_utils.update_bn(whole, other)
    for index in (1, 4):
        means, variances, _ = seen[index]
        n = BATCH * SIDE * SIDE
        np.testing.assert_allclose(other[index].running_mean.numpy(), means[: len(whole)].mean(0), rtol=1e-9)
        np.testing.assert_allclose(other[index].running_var.numpy(), variances[: len(whole)].mean(0) * n / (n - 1), rtol=1e-9)
    return {"frames": FRAMES, "side": SIDE, "batch": BATCH, "tiles": len(inputs), "statistics": result}


def make():
    members = [initial(seed) for seed in (1, 2, 3)]
    windows = {"validation_windows": [[0, 0, 8, 8]], "size_multiple": 1, "class_names": {"0": "no", "1": "yes"}}
    files = {}
    for name, member in zip("abc", members):
        files[f"{name}.onnx"] = graph(member, windows | {"run": name})
    for name, shares in SHARES.items():
        averaged = average(members, shares)
        files[f"{name}.onnx"] = graph(averaged, windows, raw=True)
        if name == "mean":
            files["norm.json"] = statistics(averaged, files["mean.onnx"])
    written = {
        name: json.dumps(what, indent=1) + "\n" if name.endswith(".json") else what.SerializeToString(deterministic=True)
        for name, what in files.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        # Tensors in the fields of their type stay in the model.
        path = Path(folder) / "external.onnx"
        onnx.save_model(files["b.onnx"], path, save_as_external_data=True, location="external.data", size_threshold=0)
        return written | {name: (Path(folder) / name).read_bytes() for name in ("external.onnx", "external.data")}


def main():
    parser = argparse.ArgumentParser(description="Make the reference soups.")
    parser.add_argument("--check", action="store_true", help="compare with what is here; write nothing")
    check = parser.parse_args().check
    wrong = []
    for name, what in make().items():
        what = what.encode() if isinstance(what, str) else what
        path = GOLDEN / "soup" / name
        if not check:
            path.write_bytes(what)
        elif name.endswith(".json"):
            here, now = json.loads(path.read_text()), json.loads(what)
            for key, values in now.pop("statistics").items():
                if not np.allclose(here["statistics"][key], values, rtol=1e-9):
                    wrong.append(f"{name}: {key}")
            if {k: v for k, v in here.items() if k != "statistics"} != now:
                wrong.append(name)
        elif path.read_bytes() != what:
            wrong.append(name)
    if wrong:
        sys.exit("not as made again: " + ", ".join(wrong))


if __name__ == "__main__":
    main()
