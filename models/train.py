"""Train the nine demo models on the solaris sample scene and export them to ONNX.

    python models/train.py --scene out/scene.png --truth out/truth.png [--out models]

``tools/scene.sh`` makes the two pictures. The scene is 900x900 pixels of 0.5 m. Only the left two
thirds (x < 600) are used here; the right third is cut off before anything else happens and serves
``models/evaluate.py`` as the held-out part.

Three groups of models, one U-Net architecture:

* ``fold0..2``: three-fold cross-validation over three vertical strips. Two channels, softmax in
  the graph, Deepness metadata.
* ``snap0..2``: the ends of three cosine cycles of one run (SGDR, "snapshot ensemble"). One logit.
* ``swa0..2``: three checkpoints from the flat tail of one run with a constant learning rate at its
  end, BatchNormalization kept in the graph, for averaging of weights. One logit.

Every run has a fixed length and a fixed seed; validation parts are never used to stop a run or to
pick a checkpoint.
"""

import argparse
import copy
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

Window = tuple[int, int, int, int]
"""x, y, width, height in pixels of the scene."""

TRAIN_WIDTH = 600
"""Columns from here on are the held-out third."""

FOLD_WINDOWS: list[Window] = [(0, 0, 190, 900), (190, 0, 250, 900), (440, 0, 160, 900)]
"""The spatial blocks. Their widths differ so that each has about a third of the building pixels."""

RUN_WINDOW: Window = (0, 498, 190, 230)
"""Validation window of the snapshot run and of the flat-tail run."""

MARGIN = 16
"""Pixels between a validation window and everything that is trained on."""

WIDTHS = (24, 32, 48, 64)
"""Channels per level of the U-Net, at 1/2, 1/4, 1/8 and 1/16 of the picture's size."""

SIZE_MULTIPLE = 2 ** len(WIDTHS)
"""Height and width of the input must be multiples of this."""

CROP = 128
BATCH = 8
PEAK_LR = 4e-3
WEIGHT_DECAY = 1e-2
FOLD_STEPS = 800
SNAP_CYCLE = 350
TAIL_DECAY = 600
TAIL_CHECKPOINTS = [650, 725, 800]
TAIL_FLOOR = 0.25
OPSET = 18

CLASS_NAMES = {"0": "_background", "1": "building"}
RESOLUTION_CM = 50


# --- model ------------------------------------------------------------------------------------


class ConvBlock(nn.Sequential):
    """``repeats`` times 3x3 convolution (the first with ``stride``), batch normalisation, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, repeats: int, stride: int = 1) -> None:
        layers: list[nn.Module] = []
        for _ in range(repeats):
            layers.append(nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(channels_out))
            layers.append(nn.ReLU())
            channels_in, stride = channels_out, 1
        super().__init__(*layers)


class UNet(nn.Module):
    """Small U-Net: N x 3 x H x W in 0...1 to N x ``classes`` x H x W logits.

    It works at half the picture's size and finer detail is interpolated: a house is some 30x50
    pixels here, and a step of training costs half as much.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([ConvBlock(3, WIDTHS[0], 2, stride=2)])
        self.encoder.extend(ConvBlock(i, o, 2) for i, o in pairwise(WIDTHS))
        self.decoder = nn.ModuleList(ConvBlock(i + o, o, 1) for i, o in pairwise(WIDTHS[::-1]))
        self.head = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for block in self.decoder:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1))
        return F.interpolate(self.head(x), scale_factor=2.0, mode="bilinear")


class SoftmaxUNet(nn.Module):
    """A U-Net followed by the softmax over its channels, for export."""

    def __init__(self, net: UNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.net(x), dim=1)


# --- data -------------------------------------------------------------------------------------


def load(scene: Path, truth: Path) -> tuple[Tensor, Tensor]:
    """The training part: image 3 x H x W in 0...1 and building mask 1 x H x W of 0 and 1."""
    image = np.asarray(Image.open(scene).convert("RGB"))[:, :TRAIN_WIDTH]
    mask = np.asarray(Image.open(truth).convert("L"))[:, :TRAIN_WIDTH] > 127
    image = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / 255
    return torch.from_numpy(image), torch.from_numpy(mask[None].astype(np.float32))


def rectangles_outside(window: Window, height: int) -> list[Window]:
    """The largest rectangles of the training part that stay ``MARGIN`` away from ``window``.

    They may overlap each other.
    """
    x, y, w, h = window
    left, right = x - MARGIN, x + w + MARGIN
    top, bottom = y - MARGIN, y + h + MARGIN
    candidates = [
        (0, 0, left, height),
        (right, 0, TRAIN_WIDTH - right, height),
        (0, 0, TRAIN_WIDTH, top),
        (0, bottom, TRAIN_WIDTH, height - bottom),
    ]
    return [r for r in candidates if r[2] > 0 and r[3] > 0]


class Crops:
    """Random augmented crops that read no pixel outside the given rectangles.

    Two thirds of the crops are centred near a building pixel, the others anywhere. Half of them
    are exact symmetries of the square; the other half have a free angle and scale (bilinear). A
    crop that reaches over the edge of its rectangle continues with the rectangle's reflection.
    """

    def __init__(self, image: Tensor, mask: Tensor, rectangles: list[Window], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.rectangles = rectangles
        self.tiles = []
        usable = np.zeros(mask.shape[1:], bool)
        for x, y, w, h in rectangles:
            area = (slice(None), slice(y, y + h), slice(x, x + w))
            self.tiles.append(torch.cat([image[area], mask[area]])[None])
            usable[y : y + h, x : x + w] = True
        self.anywhere = np.argwhere(usable)
        self.buildings = np.argwhere(usable & (mask[0].numpy() > 0))

    def batch(self) -> tuple[Tensor, Tensor]:
        crops = torch.cat([self.crop() for _ in range(BATCH)])
        return crops[:, :3].contiguous(memory_format=torch.channels_last), crops[:, 3:]

    def crop(self) -> Tensor:
        """One crop, 1 x 4 x CROP x CROP: three image channels, then the mask."""
        rng = self.rng
        if rng.random() < 2 / 3:
            cy, cx = rng.choice(self.buildings) + rng.integers(-CROP // 3, CROP // 3, 2)
        else:
            cy, cx = rng.choice(self.anywhere)
        cx, cy, index = self.into_rectangle(int(cx), int(cy))
        left, top, width, height = self.rectangles[index]

        if rng.random() < 0.5:
            angle, scale = rng.integers(4) * math.pi / 2, 1.0
        else:
            angle, scale = rng.uniform(0, 2 * math.pi), math.exp(rng.uniform(-0.25, 0.25))
        flip = 1.0 if rng.random() < 0.5 else -1.0

        # Offsets of the crop's pixel centres, turned and scaled, around a pixel corner.
        steps = torch.arange(CROP, dtype=torch.float32) - (CROP - 1) / 2
        v, u = torch.meshgrid(steps, steps * flip, indexing="ij")
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        gx = (cx - left + cos * u - sin * v) * 2 / width - 1
        gy = (cy - top + sin * u + cos * v) * 2 / height - 1
        grid = torch.stack([gx, gy], dim=-1)[None]
        crop = F.grid_sample(
            self.tiles[index], grid, padding_mode="reflection", align_corners=False
        )

        image = crop[:, :3].clamp(0, 1) ** math.exp(rng.uniform(-0.35, 0.35))
        image = image * math.exp(rng.uniform(-0.35, 0.35)) + rng.uniform(-0.1, 0.1)
        if rng.random() < 0.5:
            noise = rng.standard_normal((CROP, CROP), np.float32) * rng.uniform(0, 0.05)
            image = image + torch.from_numpy(noise)
        return torch.cat([image.clamp(0, 1), (crop[:, 3:] > 0.5).float()], dim=1)

    def into_rectangle(self, cx: int, cy: int) -> tuple[int, int, int]:
        """The point moved into the nearest rectangle (a random one of several), and its index."""
        moved = [
            (min(max(cx, x), x + w - 1), min(max(cy, y), y + h - 1))
            for x, y, w, h in self.rectangles
        ]
        distances = np.array([abs(x - cx) + abs(y - cy) for x, y in moved])
        index = int(self.rng.choice(np.flatnonzero(distances == distances.min())))
        return *moved[index], index


# --- training ---------------------------------------------------------------------------------


def building_logit(scores: Tensor) -> Tensor:
    """log p/(1-p) of the building class, from one logit or from two channels before softmax."""
    return scores if scores.shape[1] == 1 else scores[:, 1:] - scores[:, :1]


def loss_function(scores: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy plus the soft Dice loss of the whole batch."""
    logit = building_logit(scores)
    p = torch.sigmoid(logit)
    dice = (2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1)
    return F.binary_cross_entropy_with_logits(logit, mask) + 1 - dice


def cosine(progress: float) -> float:
    """From 1 at progress 0 to 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))


def train(
    name: str,
    classes: int,
    crops: Crops,
    seed: int,
    schedule: Callable[[int], float],
    checkpoints: list[int],
) -> list[UNet]:
    """Train for ``checkpoints[-1]`` steps; copies of the model after each step in ``checkpoints``.

    ``schedule`` gives the learning rate of a step as a fraction of ``PEAK_LR``.
    """
    torch.manual_seed(seed)
    net = UNet(classes).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
    kept: list[UNet] = []
    running = 0.0
    for step in range(checkpoints[-1]):
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * schedule(step)
        image, mask = crops.batch()
        loss = loss_function(net(image), mask)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        running += loss.item()
        if (step + 1) % 50 == 0:
            print(f"{name}: step {step + 1}, loss {running / 50:.4f}", flush=True)
            running = 0.0
        if step + 1 in checkpoints:
            kept.append(copy.deepcopy(net).eval())
    return kept


@torch.inference_mode()
def window_iou(net: UNet, image: Tensor, mask: Tensor, window: Window) -> float:
    """IoU of the building class inside ``window``, predicted from the whole training part."""
    height, width = image.shape[1:]
    pad = (0, -width % SIZE_MULTIPLE, 0, -height % SIZE_MULTIPLE)
    scores = building_logit(net(F.pad(image[None], pad, mode="reflect")))
    x, y, w, h = window
    area = (slice(y, y + h), slice(x, x + w))
    predicted, truth = scores[0, 0][area] >= 0, mask[0][area] > 0
    return ((predicted & truth).sum() / (predicted | truth).sum()).item()


# --- export -----------------------------------------------------------------------------------


def export(
    module: nn.Module, path: Path, keep_batchnorm: bool, metadata: dict[str, object]
) -> None:
    """Write an ONNX file with dynamic batch, height and width, and check it against PyTorch."""
    module = module.eval().to(memory_format=torch.contiguous_format)
    sample = torch.rand(2, 3, 4 * SIZE_MULTIPLE, 6 * SIZE_MULTIPLE)
    dynamic = {
        0: torch.export.Dim("batch"),
        2: SIZE_MULTIPLE * torch.export.Dim("rows"),
        3: SIZE_MULTIPLE * torch.export.Dim("columns"),
    }
    program = torch.onnx.export(
        module,
        (sample,),
        input_names=["image"],
        output_names=["scores"],
        dynamic_shapes=(dynamic,),
        opset_version=OPSET,
        dynamo=True,
        optimize=not keep_batchnorm,
        verbose=False,
    )
    if keep_batchnorm:
        # The exporter's own optimisation would fold BatchNormalization into the convolutions; this
        # much only clears away constant expressions around its parameters.
        onnxscript.optimizer.fold_constants(program.model)
        onnxscript.optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    strip(model)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == OPSET
    assert keep_batchnorm == any(n.op_type == "BatchNormalization" for n in model.graph.node)

    session = onnxruntime.InferenceSession(model.SerializeToString())
    for shape in [(1, 3, 128, 256), (3, 3, 208, 80)]:
        x = torch.rand(shape)
        with torch.inference_mode():
            expected = module(x).numpy()
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], expected, atol=1e-5)

    onnx.save(model, path)
    assert path.stat().st_size <= 1_000_000, path


def strip(model: onnx.ModelProto) -> None:
    """Drop what the exporter says about its own run, and name the dynamic axes."""
    graph = model.graph
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    graph.ClearField("metadata_props")
    graph.ClearField("doc_string")
    graph.ClearField("value_info")
    for item in [*graph.node, *graph.input, *graph.output, *graph.initializer]:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for value in [*graph.input, *graph.output]:
        shape = value.type.tensor_type.shape.dim
        for axis, name in [(0, "batch"), (2, "height"), (3, "width")]:
            shape[axis].dim_param = name


def common_metadata(window: Window) -> dict[str, object]:
    return {
        "class_names": CLASS_NAMES,
        "resolution": RESOLUTION_CM,
        "size_multiple": SIZE_MULTIPLE,
        "validation_windows": [list(window)],
    }


def deepness_metadata() -> dict[str, object]:
    return {
        "model_type": "Segmentor",
        "tile_size": 256,
        "tiles_overlap": 15,
        "seg_thresh": 0.5,
        "seg_small_segment": 11,
        "standardization_mean": [0.0, 0.0, 0.0],
        "standardization_std": [1.0, 1.0, 1.0],
    }


# --- the three groups -------------------------------------------------------------------------


def train_folds(image: Tensor, mask: Tensor, out: Path) -> None:
    """Cross-validation: one run per block, a cosine from the peak rate to zero."""
    for fold, window in enumerate(FOLD_WINDOWS):
        name = f"fold{fold}"
        crops = Crops(image, mask, rectangles_outside(window, image.shape[1]), seed=fold)
        [net] = train(name, 2, crops, fold, lambda step: cosine(step / FOLD_STEPS), [FOLD_STEPS])
        print(f"{name}: validation IoU {window_iou(net, image, mask, window):.3f}", flush=True)
        metadata = common_metadata(window) | deepness_metadata()
        export(SoftmaxUNet(net), out / f"{name}.onnx", False, metadata)


def train_run(
    group: str,
    seed: int,
    schedule: Callable[[int], float],
    checkpoints: list[int],
    image: Tensor,
    mask: Tensor,
    out: Path,
) -> None:
    """One run on everything outside ``RUN_WINDOW``, one exported model per checkpoint."""
    crops = Crops(image, mask, rectangles_outside(RUN_WINDOW, image.shape[1]), seed)
    nets = train(group, 1, crops, seed, schedule, checkpoints)
    for i, net in enumerate(nets):
        name = f"{group}{i}"
        print(f"{name}: validation IoU {window_iou(net, image, mask, RUN_WINDOW):.3f}", flush=True)
        metadata = common_metadata(RUN_WINDOW) | {"activation": "sigmoid"}
        export(net, out / f"{name}.onnx", group == "swa", metadata)


def train_snapshots(image: Tensor, mask: Tensor, out: Path) -> None:
    """Three cosine cycles, each starting again at the peak rate; a snapshot at each end."""

    def schedule(step: int) -> float:
        return cosine(step % SNAP_CYCLE / SNAP_CYCLE)

    checkpoints = [SNAP_CYCLE, 2 * SNAP_CYCLE, 3 * SNAP_CYCLE]
    train_run("snap", 10, schedule, checkpoints, image, mask, out)


def train_flat_tail(image: Tensor, mask: Tensor, out: Path) -> None:
    """A cosine down to a fraction of the peak rate, then that rate to the end."""

    def schedule(step: int) -> float:
        return TAIL_FLOOR + (1 - TAIL_FLOOR) * cosine(step / TAIL_DECAY)

    train_run("swa", 20, schedule, TAIL_CHECKPOINTS, image, mask, out)


GROUPS = {"fold": train_folds, "snap": train_snapshots, "swa": train_flat_tail}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and export the demo models.")
    parser.add_argument("--scene", type=Path, required=True, help="scene.png")
    parser.add_argument("--truth", type=Path, required=True, help="truth.png")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="output folder")
    parser.add_argument("--only", choices=GROUPS, help="train one group instead of all three")
    parser.add_argument("--threads", type=int, default=1, help="threads for PyTorch (default 1)")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True)
    image, mask = load(arguments.scene, arguments.truth)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for group in [arguments.only] if arguments.only else GROUPS:
        GROUPS[group](image, mask, arguments.out)


if __name__ == "__main__":
    main()
