#!/usr/bin/env python3
"""Write the tiny ONNX models that the tests run on.

    python make_models.py                 # rewrites every tests/models/*.onnx
    python make_models.py --list          # prints each model's signature
    python make_models.py --unet u.onnx   # only the 2-million-parameter U-Net for the benchmark (8 MB, not committed)

Needs numpy and onnx, nothing else (made with numpy 2.4.6, onnx 1.23.2). Weights come from fixed seeds, one per model, so a
rerun writes the same bytes. The models are not trained: their kernels are random, hence asymmetric in space, so that a transform
that is applied or undone wrongly gives a clearly different answer; their last layer is scaled so that scores stay unsaturated
(logits with a standard deviation of about 1.5).
"""

import argparse
import json
import math
import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

HERE = Path(__file__).resolve().parent
OPSET = 17
IR_VERSION = 8


# ---------------------------------------------------------------------------------------------------------- graph writing


class Graph:
    """A list of nodes and weights, with names counted up."""

    def __init__(self, half=False):
        self.nodes, self.weights, self.count = [], [], 0
        self.half = half

    def const(self, array, as_is=False):
        array = np.asarray(array)
        if array.dtype.kind == "f" and not as_is:
            array = array.astype(np.float16 if self.half else np.float32)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array if as_is else np.ascontiguousarray(array), name))
        return name

    def op(self, kind, *inputs, out=None, **attributes):
        self.count += 1
        out = out or f"t{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=f"{kind}_{self.count}", **attributes))
        return out

    def model(self, inputs, outputs, metadata=None):
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info(*i) for i in inputs],
            [helper.make_tensor_value_info(*o) for o in outputs],
            self.weights,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="onnxsegment-tests",
        )
        if metadata:
            helper.set_model_props(model, {k: json.dumps(v) for k, v in metadata.items()})
        onnx.checker.check_model(model, full_check=True)
        return model


# ------------------------------------------------------------------------------------------------------- small networks


def rng_for(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def smooth_image(rng, channels, size=48):
    """Smooth noise, mean 0.5, standard deviation 0.2: what the last layer is scaled on."""
    x = rng.standard_normal((channels, size, size))
    for _ in range(3):
        for axis in (1, 2):
            x = (np.roll(x, 1, axis) + x + np.roll(x, -1, axis)) / 3
    x -= x.mean((1, 2), keepdims=True)
    x /= x.std((1, 2), keepdims=True)
    return np.clip(0.5 + 0.2 * x, 0, 1)


def conv2d(x, w, b, stride, pad):
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    k = w.shape[-1]
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride]
    return np.einsum("chwij,ocij->ohw", windows, w) + b[:, None, None]


def net(name, cin, cout, hidden=(6,), strides=None, kernel=3, pad=None, mean=0.5, std=0.25):
    """Layers (w, b, stride, pad): random kernels, the last layer scaled to logits of mean 0 and deviation 1.5.

    `mean` and `std` say where the model's input will lie once it has been scaled: 0.5 and 0.25 for pixels in 0…1.
    """
    rng = rng_for(name)
    sizes = [cin, *hidden, cout]
    strides = strides or [1] * (len(sizes) - 1)
    pad = kernel // 2 if pad is None else pad
    x = (smooth_image(rng, cin) - 0.5) / 0.25 * std + mean
    layers = []
    for i, (a, b, stride) in enumerate(zip(sizes, sizes[1:], strides)):
        w = rng.standard_normal((b, a, kernel, kernel)) / (std if i == 0 else 1) / math.sqrt(a * kernel)
        bias = -w.sum((1, 2, 3)) * mean if i == 0 else np.zeros(b)
        z = conv2d(x, w, bias, stride, pad)
        if i == len(sizes) - 2:
            spread = 1.5 / z.std((1, 2))
            w, bias = w * spread[:, None, None, None], (bias - z.mean((1, 2))) * spread
        else:
            bias = bias + 0.3 * rng.standard_normal(b)
            x = np.maximum(conv2d(x, w, bias, stride, pad), 0)
        # Rounded, so that the bytes do not hang on the last bit of a sum.
        layers.append((np.round(w, 4), np.round(bias, 4), stride, pad))
    return layers


def apply(g, x, layers, final_relu=False):
    for i, (w, b, stride, pad) in enumerate(layers):
        k = w.shape[-1]
        x = g.op("Conv", x, g.const(w), g.const(b), kernel_shape=[k, k], strides=[stride, stride], pads=[pad] * 4)
        if i < len(layers) - 1 or final_relu:
            x = g.op("Relu", x)
    return x


def dims(channels, layout="nchw", n="N", h="H", w="W"):
    return [n, channels, h, w] if layout == "nchw" else [n, h, w, channels]


def simple(
    name,
    cin,
    cout,
    head,
    *,
    layout="nchw",
    dtype=T.FLOAT,
    n="N",
    h="H",
    w="W",
    out_h=None,
    out_w=None,
    metadata=None,
    head_last=True,
    **net_args,
):
    """One input, one output. `head`: none, sigmoid, softmax or logsoftmax.

    In the NHWC layout the head comes after the transpose (`head_last`, as TensorFlow exports) or before it.
    """
    g = Graph(half=dtype == T.FLOAT16)
    x = "image"
    if dtype in (T.UINT8, T.INT32):
        x = g.op("Cast", x, to=T.FLOAT)
        x = g.op("Div", x, g.const(np.float32(255)))
    if layout == "nhwc":
        x = g.op("Transpose", x, perm=[0, 3, 1, 2])
    x = apply(g, x, net(name, cin, cout, **net_args))
    if layout == "nhwc" and head_last:
        x = g.op("Transpose", x, perm=[0, 2, 3, 1])
    axis = 3 if layout == "nhwc" and head_last else 1
    if head == "sigmoid":
        x = g.op("Sigmoid", x)
    elif head == "softmax":
        x = g.op("Softmax", x, axis=axis)
    elif head == "logsoftmax":
        x = g.op("LogSoftmax", x, axis=axis)
    if layout == "nhwc" and not head_last:
        x = g.op("Transpose", x, perm=[0, 2, 3, 1])
    g.nodes[-1].output[0] = "scores"
    out_type = dtype if dtype in (T.FLOAT, T.FLOAT16) else T.FLOAT
    out_h, out_w = out_h or h, out_w or w
    return g.model(
        [("image", dtype, dims(cin, layout, n, h, w))], [("scores", out_type, dims(cout, layout, n, out_h, out_w))], metadata
    )


# ------------------------------------------------------------------------------------------------------- the odd ones

CLASSES4 = {"0": "_background", "1": "building", "2": "road", "3": "water"}


def deepness():
    """Softmax written out (Exp ÷ Sum), so that only the Deepness keys tell what the numbers are."""
    g = Graph()
    z = apply(g, "image", net("deepness", 3, 3, mean=0.0, std=1.0))
    e = g.op("Exp", z)
    g.op("Div", e, g.op("ReduceSum", e, g.const(np.array([1], np.int64)), keepdims=1), out="scores")
    return g.model(
        [("image", T.FLOAT, dims(3))],
        [("scores", T.FLOAT, dims(3))],
        {
            "model_type": "Segmentor",
            "class_names": {"0": "_background", "1": "building", "2": "road"},
            "resolution": 50,
            "tile_size": 64,
            "tiles_size": 64,
            "tiles_overlap": 10,
            "standardization_mean": [0.45, 0.5, 0.55],
            "standardization_std": [0.22, 0.25, 0.28],
            "seg_thresh": 0.6,
        },
    )


def deepness1():
    """The same for one channel: 1 ÷ (1 + exp(−z))."""
    g = Graph()
    z = apply(g, "image", net("deepness1", 3, 1))
    e = g.op("Exp", g.op("Neg", z))
    one = g.const(np.float32(1))
    g.op("Div", one, g.op("Add", e, one), out="scores")
    return g.model(
        [("image", T.FLOAT, dims(3))],
        [("scores", T.FLOAT, dims(1))],
        {"model_type": "Segmentor", "class_names": {"0": "_background", "1": "building"}, "seg_thresh": 0.35},
    )


def saturated1():
    """One channel of probabilities that are exactly 0 or 1 over large areas: tries the clip of the logit."""
    g = Graph()
    z = apply(g, "image", net("saturated1", 3, 1))
    p = g.op("Add", g.op("Mul", z, g.const(np.float32(0.4))), g.const(np.float32(0.5)))
    g.op("Clip", p, g.const(np.float32(0)), g.const(np.float32(1)), out="scores")
    return g.model([("image", T.FLOAT, dims(3))], [("scores", T.FLOAT, dims(1))], {"model_type": "Segmentor"})


def sigmoid_transpose():
    """Sigmoid, then operators that only move or copy values: the activation has to be looked for further back."""
    g = Graph()
    x = apply(g, "image", net("sigmoid-transpose", 3, 1))
    x = g.op("Transpose", x, perm=[0, 2, 3, 1])
    x = g.op("Sigmoid", x)
    x = g.op("Transpose", x, perm=[0, 3, 1, 2])
    x = g.op("Identity", x)
    g.op("Cast", x, to=T.FLOAT, out="scores")
    return g.model([("image", T.FLOAT, dims(3))], [("scores", T.FLOAT, dims(1))])


def label(name, kind, metadata):
    """A model that ends in ArgMax: int64 N,H,W or uint8 N,1,H,W."""
    g = Graph()
    z = apply(g, "image", net(name, 3, 4))
    if kind == T.INT64:
        g.op("ArgMax", z, axis=1, keepdims=0, out="labels")
        shape = ["N", "H", "W"]
    else:
        g.op("Cast", g.op("ArgMax", z, axis=1, keepdims=1), to=T.UINT8, out="labels")
        shape = ["N", 1, "H", "W"]
    return g.model([("image", T.FLOAT, dims(3))], [("labels", kind, shape)], metadata)


def multi():
    """A shared body with two heads; the auxiliary one is listed first."""
    g = Graph()
    body = net("multi", 3, 6, hidden=())
    x = apply(g, "image", body, final_relu=True)
    rng = rng_for("multi-heads")
    for out, channels in (("aux", 2), ("main", 4)):
        w = np.round(rng.standard_normal((channels, 6, 3, 3)) * 0.12, 4)
        z = g.op("Conv", x, g.const(w), g.const(np.zeros(channels)), kernel_shape=[3, 3], pads=[1] * 4)
        g.op("Softmax", z, axis=1, out=out)
    return g.model([("image", T.FLOAT, dims(3))], [("aux", T.FLOAT, dims(2)), ("main", T.FLOAT, dims(4))])


def not_finite(name):
    """Logits that turn to NaN (or +infinity) where the mean of the channels is above 0.75."""
    g = Graph()
    z = apply(g, "image", net(name, 3, 1))
    grey = g.op("ReduceMean", "image", axes=[1], keepdims=1)
    edge = g.const(np.float32(0.75))
    if name == "nan":
        g.op("Add", z, g.op("Log", g.op("Sub", edge, grey)), out="scores")
    else:
        g.op("Where", g.op("Greater", grey, edge), g.const(np.float32(np.inf)), z, out="scores")
    return g.model([("image", T.FLOAT, dims(3))], [("scores", T.FLOAT, dims(1))], {"activation": "sigmoid"})


def rank3():
    g = Graph()
    axes = g.const(np.array([0], np.int64))
    x = g.op("Unsqueeze", "image", axes)
    x = g.op("Sigmoid", apply(g, x, net("rank3", 3, 1)))
    g.op("Squeeze", x, axes, out="scores")
    return g.model([("image", T.FLOAT, [3, "H", "W"])], [("scores", T.FLOAT, [1, "H", "W"])])


def scalar_out():
    """A classifier, not a segmentation model."""
    g = Graph()
    x = apply(g, "image", net("scalar-out", 3, 4), final_relu=True)
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    w = np.round(rng_for("scalar-out-fc").standard_normal((4, 2)), 4)
    g.op("Softmax", g.op("Gemm", x, g.const(w), g.const(np.zeros(2))), axis=1, out="scores")
    return g.model([("image", T.FLOAT, dims(3))], [("scores", T.FLOAT, ["N", 2])])


def unet(name, base, levels, convs, metadata, gain, offset=0.0, up="deconv", precision=4, widest=10**6):
    """A U-Net: `levels` poolings, channels base·2ⁿ up to `widest`, sigmoid. `gain` and `offset` act on the last layer."""
    g = Graph()
    rng = rng_for(name)

    def conv(x, a, b, k=3, relu=True, scale=None, bias=None):
        w = np.round(rng.standard_normal((b, a, k, k)) * (scale or math.sqrt(2 / (a * k * k))), precision)
        x = g.op("Conv", x, g.const(w), g.const(np.zeros(b) if bias is None else bias), kernel_shape=[k, k], pads=[k // 2] * 4)
        return g.op("Relu", x) if relu else x

    # Pixels in 0…1 are centred first, as a trained network's normalisation would do.
    x = g.op("Mul", g.op("Sub", "image", g.const(np.float32(0.5))), g.const(np.float32(4)))
    widths = [min(base << i, widest) for i in range(levels + 1)]
    skips, a = [], 3
    for i, b in enumerate(widths):
        for _ in range(convs):
            x, a = conv(x, a, b), b
        if i < levels:
            skips.append(x)
            x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    for skip, b in zip(reversed(skips), reversed(widths[:-1])):
        if up == "deconv":
            w = np.round(rng.standard_normal((a, b, 2, 2)) * math.sqrt(1 / a), precision)
            x = g.op("ConvTranspose", x, g.const(w), g.const(np.zeros(b)), kernel_shape=[2, 2], strides=[2, 2])
            joined = b + b
        else:
            x = g.op(
                "Resize", x, "", g.const(np.array([1, 1, 2, 2], np.float32)), mode="nearest",
                coordinate_transformation_mode="asymmetric", nearest_mode="floor",
            )
            joined = b + a
        x, a = g.op("Concat", skip, x, axis=1), joined
        for _ in range(convs):
            x, a = conv(x, a, b), b
    x = conv(x, a, 1, k=1, relu=False, scale=gain, bias=np.array([offset]))
    g.op("Sigmoid", x, out="scores")
    return g.model([("image", T.FLOAT, dims(3))], [("scores", T.FLOAT, dims(1))], metadata)


def unet2m():
    """About 2 M parameters, stride 16, the size of model that the benchmark is stated for."""
    return unet("unet2m", 16, 4, 2, None, gain=0.4, offset=0.8, precision=6)


# ------------------------------------------------------------------------------------------------------------ the list

MODELS = {
    # What the scores are: every way to know it.
    "sigmoid": lambda: simple("sigmoid", 3, 1, "sigmoid"),
    "logit1": lambda: simple("logit1", 3, 1, "none"),
    "logit1-meta": lambda: simple("logit1-meta", 3, 1, "none", metadata={"activation": "sigmoid"}),
    "softmax2": lambda: simple("softmax2", 3, 2, "softmax"),
    "softmax4": lambda: simple("softmax4", 3, 4, "softmax"),
    "logits4": lambda: simple("logits4", 3, 4, "none"),
    "logits2-meta-sigmoid": lambda: simple("logits2-meta-sigmoid", 3, 2, "none", metadata={"activation": "sigmoid"}),
    "sigmoid3": lambda: simple("sigmoid3", 3, 3, "sigmoid"),
    "logsoftmax4": lambda: simple("logsoftmax4", 3, 4, "logsoftmax"),
    "deepness": deepness,
    "deepness1": deepness1,
    "saturated1": saturated1,
    "sigmoid-transpose": sigmoid_transpose,
    # Layouts, channels, element types.
    "nhwc": lambda: simple("nhwc", 3, 2, "softmax", layout="nhwc"),
    "gray": lambda: simple("gray", 1, 1, "sigmoid"),
    "five": lambda: simple("five", 5, 3, "softmax"),
    "rgba": lambda: simple("rgba", 4, 2, "softmax"),
    "f16": lambda: simple("f16", 3, 1, "sigmoid", dtype=T.FLOAT16),
    "u8": lambda: simple("u8", 3, 1, "sigmoid", dtype=T.UINT8),
    "u8-nhwc": lambda: simple("u8-nhwc", 3, 1, "sigmoid", dtype=T.UINT8, layout="nhwc", head_last=False),
    "bgr-norm": lambda: simple("bgr-norm", 3, 2, "softmax", mean=0.0, std=1.0),
    # Labels instead of scores.
    "label-i64": lambda: label("label-i64", T.INT64, {"class_names": CLASSES4}),
    "label-i64-bare": lambda: label("label-i64-bare", T.INT64, None),
    "label-u8": lambda: label("label-u8", T.UINT8, {"class_names": list(CLASSES4.values())}),
    # Outputs.
    "multi": multi,
    "half": lambda: simple("half", 3, 3, "softmax", hidden=(6, 6), strides=[1, 2, 1], out_h="Hh", out_w="Wh"),
    "quarter": lambda: simple("quarter", 3, 1, "sigmoid", hidden=(6, 6), strides=[2, 2, 1], out_h="Hq", out_w="Wq"),
    "odd-ratio": lambda: simple("odd-ratio", 3, 1, "sigmoid", hidden=(), pad=0, out_h="Ho", out_w="Wo"),
    # Fixed sizes.
    "fixed64": lambda: simple("fixed64", 3, 1, "sigmoid", n=1, h=64, w=64),
    "fixed-batch4": lambda: simple("fixed-batch4", 3, 1, "sigmoid", n=4),
    "fixed-48x80": lambda: simple("fixed-48x80", 3, 1, "sigmoid", n=1, h=48, w=80),
    "size-multiple-16": lambda: unet("size-multiple-16", 2, 4, 1, {"size_multiple": 16}, gain=2.0, offset=-1.4, up="resize", widest=5),
    # Three members that agree on nothing but the classes.
    "member-a": lambda: simple("member-a", 3, 2, "softmax"),
    "member-b": lambda: simple("member-b", 3, 2, "softmax", layout="nhwc", head_last=False, hidden=(5, 4), mean=0.0, std=1.0),
    "member-c": lambda: simple("member-c", 3, 2, "softmax", dtype=T.FLOAT16, kernel=5, hidden=(4,), mean=0.0, std=0.5),
    # Dropout that is active, the same with its masks as inputs, and what cannot be sampled.
    "dropout": lambda: dropout("dropout"),
    "dropout-masks": lambda: dropout("dropout-masks", drop="masks"),
    "dropout-f16": lambda: dropout("dropout-f16", dtype=T.FLOAT16),
    "dropout-in-use": lambda: dropout("dropout-in-use", drop="use"),
    "dropout-computed": lambda: dropout("dropout-computed", drop="computed"),
    "dropout-branch": lambda: dropout("dropout-branch", drop="branch"),
    # A second level over two members of one channel, three of two classes, two of four.
    "stack1": lambda: simple("stack1", 2, 1, "none", metadata={"activation": "sigmoid"}),
    "stack2": lambda: simple("stack2", 6, 2, "softmax"),
    "stack4": lambda: simple("stack4", 8, 4, "softmax", hidden=(), kernel=1),
    # Nearly free.
    "identity1x1": lambda: simple("identity1x1", 3, 1, "sigmoid", hidden=(), kernel=1),
    # To be refused.
    "nan": lambda: not_finite("nan"),
    "inf": lambda: not_finite("inf"),
    "rank3": rank3,
    "scalar-out": scalar_out,
    "int32-in": lambda: simple("int32-in", 3, 1, "sigmoid", dtype=T.INT32),
}


def dropout(name, *, drop="train", dtype=T.FLOAT):
    """Two layers with Dropout behind them, of 0.3 and 0.5.

    `drop`: train (active), use (not active), masks (multiplied by what inputs of these names say instead), computed (the ratio
    is no constant), branch (within an If).
    """
    g = Graph(half=dtype == T.FLOAT16)
    inputs = [("image", dtype, dims(3))]
    layers = net("dropout", 3, 1, hidden=(6, 5))
    active = g.const(np.bool_(drop != "use"), as_is=True)

    def dropped(x, k, channels):
        if drop == "masks":
            inputs.append((f"mask{k}", T.FLOAT, dims(channels)))
            return g.op("Mul", x, f"mask{k}")
        ratio = g.const(np.float32([0.3, 0.5][k]), as_is=True)
        if drop == "computed":
            ratio = g.op("Mul", ratio, g.op("ReduceMax", x, keepdims=0))
        if drop == "branch":
            branch = lambda kind, *inputs: helper.make_graph(
                [helper.make_node(kind, [x, *inputs], [f"branch{kind}{k}"])],
                f"{kind}{k}",
                [],
                [helper.make_tensor_value_info(f"branch{kind}{k}", dtype, dims(channels))],
            )
            return g.op("If", active, then_branch=branch("Dropout", ratio, active), else_branch=branch("Identity"))
        return g.op("Dropout", x, ratio, active)

    x = "image"
    for k, (w, b, stride, pad) in enumerate(layers):
        x = g.op("Conv", x, g.const(w), g.const(b), kernel_shape=[3, 3], strides=[stride] * 2, pads=[pad] * 4)
        if k < len(layers) - 1:
            x = dropped(g.op("Relu", x), k, w.shape[0])
    g.op("Sigmoid", x, out="scores")
    return g.model(inputs, [("scores", dtype, dims(1))])


def signature(model):
    def show(v):
        t = v.type.tensor_type
        shape = ",".join(d.dim_param or str(d.dim_value) for d in t.shape.dim)
        return f"{v.name}:{T.DataType.Name(t.elem_type).lower()}[{shape}]"

    g = model.graph
    text = " ".join(map(show, g.input)) + " -> " + " ".join(map(show, g.output)) + f" ({g.node[-1].op_type})"
    keys = ", ".join(p.key for p in model.metadata_props)
    return text + (f" {{{keys}}}" if keys else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--unet", metavar="PATH", type=Path, help="write only the benchmark's U-Net, there")
    parser.add_argument("--list", action="store_true", help="print signatures, write nothing")
    args = parser.parse_args()
    if args.unet:
        model = unet2m()
        args.unet.write_bytes(model.SerializeToString(deterministic=True))
        count = sum(math.prod(w.dims) for w in model.graph.initializer)
        print(f"{args.unet}: {count / 1e6:.2f} M parameters")
        return
    for name, make in MODELS.items():
        model = make()
        if not args.list:
            (HERE / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        print(f"{name}: {signature(model)}")


if __name__ == "__main__":
    main()
