#!/usr/bin/env python3
"""Write tiny models of the classic segmentation architectures: few channels, but every structure that makes them what they are.

    pip install torch==2.15.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.31.1 numpy==2.4.6
    python make_architectures.py          # rewrites tests/models/arch-*.onnx

PyTorch exports them as users do; SegNet alone is written node by node, because PyTorch does not export its unpooling. They are not
trained: weights come from fixed seeds, and the last layer is scaled so that logits have a standard deviation of about 1.5. Each file is
checked against PyTorch (SegNet: against numpy) in ONNX Runtime at two sizes before it is written.

  arch-fcn         FCN-8s (Long et al., 2015): one encoder, scores at strides 32, 16 and 8, summed by transposed convolutions
  arch-unet        U-Net (Ronneberger et al., 2015): skip connections by concatenation, BatchNorm
  arch-segnet      SegNet (Badrinarayanan et al., 2017): unpooling with the indices of its max pooling
  arch-pspnet      PSPNet (Zhao et al., 2017): pyramid pooling into 1, 2, 3 and 6 bins, hence of fixed size, 96 x 96
  arch-deeplab     DeepLab v3 (Chen et al., 2017): atrous convolutions, parallel rates and image pooling
  arch-segformer   SegFormer (Xie et al., 2021): patch embedding, attention with LayerNorm, an MLP decoder; scores at a quarter of the size
  arch-argmax      the U-Net with the argmax inside: labels instead of scores
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

HERE = Path(__file__).resolve().parent
OPSET = 18
CLASSES = ["background", "building", "road"]
C = len(CLASSES)


def conv(cin, cout, stride=1, dilation=1):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, stride, dilation, dilation, bias=False), nn.BatchNorm2d(cout), nn.ReLU()
    )


class Fcn(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [3, 6, 8, 8, 10, 12]
        self.stages = nn.ModuleList(nn.Sequential(conv(a, b), nn.MaxPool2d(2)) for a, b in zip(widths, widths[1:]))
        self.scores = nn.ModuleList(nn.Conv2d(w, C, 1) for w in widths[3:])
        self.twice = nn.ModuleList(nn.ConvTranspose2d(C, C, 4, 2, 1) for _ in range(2))
        self.last = nn.ConvTranspose2d(C, C, 16, 8, 4)

    def forward(self, x):
        kept = []
        for stage in self.stages:
            x = stage(x)
            kept.append(x)
        by8, by16, by32 = (score(x) for score, x in zip(self.scores, kept[2:]))
        return self.last(self.twice[1](self.twice[0](by32) + by16) + by8)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        w = [6, 8, 12, 16]
        self.down = nn.ModuleList(nn.Sequential(conv(a, b), conv(b, b)) for a, b in zip([3, *w], w))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, 2) for a, b in zip(w, w[1:]))
        self.merge = nn.ModuleList(nn.Sequential(conv(2 * a, a), conv(a, a)) for a in w[:-1])
        self.last = nn.Conv2d(w[0], C, 1)

    def forward(self, x):
        kept = []
        for k, stage in enumerate(self.down):
            x = stage(F.max_pool2d(x, 2) if k else x)
            kept.append(x)
        for k in reversed(range(3)):
            x = self.merge[k](torch.cat([kept[k], self.up[k](x)], 1))
        return self.last(x)


class Labels(nn.Module):
    def __init__(self, scores):
        super().__init__()
        self.scores = scores
        self.last = scores.last

    def forward(self, x):
        return self.scores(x).argmax(1)


def backbone(width):
    """Stride 8; its last stages look further instead of shrinking further."""
    return nn.Sequential(
        conv(3, 6, 2), conv(6, 8, 2), conv(8, width, 2), conv(width, width, dilation=2), conv(width, width, dilation=4)
    )


class PspNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = backbone(12)
        self.pyramid = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(n), nn.Conv2d(12, 3, 1), nn.ReLU()) for n in (1, 2, 3, 6)
        )
        self.merge = conv(12 + 4 * 3, 12)
        self.last = nn.Conv2d(12, C, 1)

    def forward(self, x):
        y = self.backbone(x)
        bins = [F.interpolate(p(y), y.shape[2:], mode="bilinear", align_corners=False) for p in self.pyramid]
        y = self.last(self.merge(torch.cat([y, *bins], 1)))
        return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)


class DeepLab(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = backbone(12)
        self.rates = nn.ModuleList([nn.Conv2d(12, 6, 1), *(conv(12, 6, dilation=d) for d in (2, 4, 6))])
        self.image = nn.Sequential(nn.Conv2d(12, 6, 1), nn.ReLU())
        self.merge = conv(5 * 6, 12)
        self.last = nn.Conv2d(12, C, 1)

    def forward(self, x):
        y = self.backbone(x)
        whole = self.image(y.mean((2, 3), keepdim=True)).expand(-1, -1, y.shape[2], y.shape[3])
        y = self.last(self.merge(torch.cat([*(rate(y) for rate in self.rates), whole], 1)))
        return F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=False)


class Block(nn.Module):
    """Patch embedding, one attention block, and a feed-forward block that mixes neighbours."""

    def __init__(self, cin, width, kernel, stride):
        super().__init__()
        self.patches = nn.Conv2d(cin, width, kernel, stride, kernel // 2)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.mix = nn.Conv2d(2 * width, 2 * width, 3, 1, 1, groups=2 * width)
        self.heads = 2

    def forward(self, x):
        x = self.patches(x)
        n, c, h, w = x.shape
        t = self.norms[0](x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(self.norms[1](t)).reshape(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-1, -2) * (c // self.heads) ** -0.5).softmax(-1) @ v
        t = t + self.out(a.transpose(1, 2).reshape(n, h * w, c))
        f = self.wide(self.norms[2](t)).transpose(1, 2).reshape(n, 2 * c, h, w)
        t = t + self.narrow(F.gelu(self.mix(f)).flatten(2).transpose(1, 2))
        return t.transpose(1, 2).reshape(n, c, h, w)


class SegFormer(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Block(3, 8, 7, 4), Block(8, 12, 3, 2)
        self.to_one = nn.ModuleList([nn.Conv2d(8, 8, 1), nn.Conv2d(12, 8, 1)])
        self.merge = conv(16, 8)
        self.last = nn.Conv2d(8, C, 1)

    def forward(self, x):
        a = self.first(x)
        b = self.second(a)
        b = F.interpolate(self.to_one[1](b), a.shape[2:], mode="bilinear", align_corners=False)
        return self.last(self.merge(torch.cat([self.to_one[0](a), b], 1)))


def settle(module, side):
    """BatchNorm's statistics from noise, and a last layer whose scores are neither flat nor saturated."""
    x = torch.rand(4, 3, side, side)
    module.train()
    with torch.no_grad():
        for _ in range(20):
            module(x)
        module.eval()
        scores = module.scores if isinstance(module, Labels) else module
        found = scores(x)
        scores.last.weight *= 1.5 / found.std()
        scores.last.bias.zero_()
        scores.last.bias -= scores(x).mean((0, 2, 3))
    return module


def metadata(model, multiple, activation="softmax"):
    facts = {"class_names": CLASSES, "size_multiple": multiple}
    if activation:
        facts["activation"] = activation
    helper.set_model_props(model, {k: json.dumps(v) for k, v in facts.items()})


def write(name, model, expected, sizes, tolerance=1e-4):
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(5)
    for size in sizes:
        x = rng.random((2, 3, *size), dtype=np.float32)
        found = session.run(None, {"image": x})[0]
        wanted = expected(x)
        if found.dtype == np.int64:
            assert (found == wanted).mean() > 0.999
        else:
            np.testing.assert_allclose(found, wanted, atol=tolerance)
    path = HERE / f"{name}.onnx"
    onnx.save(model, path)
    print(f"{name}: {path.stat().st_size} bytes, {sorted({n.op_type for n in model.graph.node})}")


def export(name, module, multiple, fixed=None, activation="softmax"):
    module = settle(module, fixed or 2 * max(multiple, 32))
    side = fixed or 2 * multiple
    dynamic = {0: torch.export.Dim("batch")}
    if not fixed:
        dynamic |= {2: multiple * torch.export.Dim("rows"), 3: multiple * torch.export.Dim("columns")}
    program = torch.onnx.export(
        module,
        (torch.rand(2, 3, side, fixed or 3 * multiple),),
        input_names=["image"],
        output_names=["scores"],
        dynamic_shapes=(dynamic,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    model = program.model_proto
    # What the exporter says of its own run.
    model.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    for item in [model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    metadata(model, multiple, activation)

    def expected(x):
        with torch.inference_mode():
            return module(torch.from_numpy(x)).numpy()

    write(name, model, expected, [(fixed, fixed)] if fixed else [(2 * multiple, multiple), (multiple, 3 * multiple)])


def segnet():
    rng = np.random.default_rng(7)
    nodes, layers = [], {}

    def convolution(x, cin, cout, out, last=False):
        w = rng.standard_normal((cout, cin, 3, 3)) * np.sqrt(2 / (9 * cin))
        layers[out] = (w.astype(np.float32), (rng.standard_normal(cout) * 0.1).astype(np.float32))
        raw = out if last else f"{out}.raw"
        nodes.append(helper.make_node("Conv", [x, f"{out}.w", f"{out}.b"], [raw], pads=[1, 1, 1, 1]))
        if not last:
            nodes.append(helper.make_node("Relu", [raw], [out]))

    pool = dict(kernel_shape=[2, 2], strides=[2, 2])
    convolution("image", 3, 8, "e1")
    nodes.append(helper.make_node("MaxPool", ["e1"], ["p1", "i1"], **pool))
    convolution("p1", 8, 12, "e2")
    nodes.append(helper.make_node("MaxPool", ["e2"], ["p2", "i2"], **pool))
    convolution("p2", 12, 12, "middle")
    nodes.append(helper.make_node("MaxUnpool", ["middle", "i2"], ["u2"], **pool))
    convolution("u2", 12, 8, "d2")
    nodes.append(helper.make_node("MaxUnpool", ["d2", "i1"], ["u1"], **pool))
    convolution("u1", 8, C, "scores", last=True)
    def conv2d(x, w, b, relu=True):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        y = np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None]
        return np.maximum(y, 0) if relu else y

    def blocks(x):
        n, c, h, w = x.shape
        return x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)

    def unpool(x, where):
        out = np.zeros((*x.shape, 4), np.float32)
        np.put_along_axis(out, where[..., None], x[..., None], -1)
        n, c, h, w = x.shape
        return out.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)

    def expected(x):
        e1 = blocks(conv2d(x, *layers["e1"]))
        e2 = blocks(conv2d(e1.max(-1), *layers["e2"]))
        d2 = conv2d(unpool(conv2d(e2.max(-1), *layers["middle"]), e2.argmax(-1)), *layers["d2"])
        return conv2d(unpool(d2, e1.argmax(-1)), *layers["scores"], relu=False)

    found = expected(rng.random((2, 3, 32, 32), dtype=np.float32))
    w, b = layers["scores"]
    w *= 1.5 / found.std()
    b[:] = -(found - b[:, None, None]).mean((0, 2, 3)) * 1.5 / found.std()

    value = lambda name, channels: helper.make_tensor_value_info(  # noqa: E731
        name, TensorProto.FLOAT, ["batch", channels, "height", "width"]
    )
    weights = [
        numpy_helper.from_array(array, f"{name}.{kind}") for name, pair in layers.items() for kind, array in zip("wb", pair)
    ]
    graph = helper.make_graph(nodes, "segnet", [value("image", 3)], [value("scores", C)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    metadata(model, 4)

    write("arch-segnet", model, expected, [(16, 8), (8, 24)])


def main():
    for seed, (name, make, multiple, more) in enumerate(
        [
            ("arch-fcn", Fcn, 32, {}),
            ("arch-unet", UNet, 8, {}),
            ("arch-pspnet", PspNet, 8, {"fixed": 96}),
            ("arch-deeplab", DeepLab, 8, {}),
            ("arch-segformer", SegFormer, 8, {}),
            ("arch-argmax", lambda: Labels(UNet()), 8, {"activation": None}),
        ]
    ):
        torch.manual_seed(seed)
        export(name, make(), multiple, **more)
    segnet()


if __name__ == "__main__":
    main()
