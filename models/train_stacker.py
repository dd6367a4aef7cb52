"""Train a second level over models, from predictions on pixels that none of them was trained on.

    python models/train_stacker.py --scene out/scene.png --truth out/truth.png \\
        --out models/stackers/snap.onnx models/snap*.onnx

The second level is a logistic regression (of several classes: multinomial) on the models' probabilities, pixel by pixel,
with a small penalty on its weights: a 1 x 1 convolution, written as ONNX for onnxsegment's `stacker` property. Input
`probabilities`, float32, N x models*channels x H x W, model by model in the order given here; output `scores`,
float32, N x channels x H x W, probabilities.

It is trained where all models say that they were not: in the intersection of their `validation_windows`. Models of
one run (snapshots, the tail of a schedule) have one in common; folds of one cross-validation do not, and are refused:
where one of them was not trained, the others were, and a second level would learn to trust the best memory.
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.optimize import minimize

from evaluate import HELD_OUT, Windows, decide, load, probabilities, score

PENALTY = 1e-3


def intersection(all_windows: list[Windows]) -> Windows:
    """Rectangles that lie in some window of every model."""
    common = all_windows[0]
    for windows in all_windows[1:]:
        pairs = [(a, b) for a in common for b in windows]
        corners = [
            (max(a[0], b[0]), max(a[1], b[1]), min(a[0] + a[2], b[0] + b[2]), min(a[1] + a[3], b[1] + b[3]))
            for a, b in pairs
        ]
        common = [(x, y, right - x, bottom - y) for x, y, right, bottom in corners if right > x and bottom > y]
    return common


def pixels(array: np.ndarray, windows: Windows) -> np.ndarray:
    """The pixels of channels x H x W inside the windows, pixels x channels."""
    parts = [array[:, y : y + h, x : x + w].reshape(len(array), -1) for x, y, w, h in windows]
    return np.concatenate(parts, axis=1).T


def fit(features: np.ndarray, truth: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights, classes x features, and offsets of the multinomial logistic regression; of two, class 0 is the reference."""
    free = max(classes, 2) - 1
    hot = np.eye(free + 1)[truth]
    count = features.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(free, count + 1)
        z = np.pad(features @ w[:, :-1].T + w[:, -1], ((0, 0), (1, 0)))
        z -= z.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        error = (np.exp(log_p) - hot)[:, 1:] / len(truth)
        gradient = np.concatenate([error.T @ features + PENALTY * w[:, :-1], error.sum(axis=0)[:, None]], axis=1)
        value = -(hot * log_p).sum() / len(truth) + PENALTY / 2 * (w[:, :-1] ** 2).sum()
        return value, gradient.ravel()

    found = minimize(loss, np.zeros(free * (count + 1)), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    w = found.x.reshape(free, count + 1)
    return w[:, :-1], w[:, -1]


def second_level(weights: np.ndarray, offsets: np.ndarray, channels: int) -> onnx.ModelProto:
    """The regression as ONNX."""
    if channels > 1:
        # Class 0, the reference, has the logit 0.
        weights, offsets = np.pad(weights, ((1, 0), (0, 0))), np.pad(offsets, (1, 0))
    kernel = weights.astype(np.float32)[:, :, None, None]
    nodes = [
        helper.make_node("Conv", ["probabilities", "weights", "offsets"], ["logits"], kernel_shape=[1, 1]),
        helper.make_node("Sigmoid", ["logits"], ["scores"])
        if channels == 1
        else helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    shape = lambda c: ["N", c, "H", "W"]
    graph = helper.make_graph(
        nodes,
        "stacker",
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape(kernel.shape[1]))],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape(channels))],
        [
            numpy_helper.from_array(kernel, "weights"),
            numpy_helper.from_array(offsets.astype(np.float32), "offsets"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a second level over models.")
    parser.add_argument("--scene", type=Path, required=True, help="scene.png")
    parser.add_argument("--truth", type=Path, required=True, help="truth.png: buildings are 255")
    parser.add_argument("--out", type=Path, required=True, help="the second level, an ONNX file")
    parser.add_argument("models", type=Path, nargs="+")
    arguments = parser.parse_args()

    image = np.asarray(Image.open(arguments.scene).convert("RGB"))
    truth = np.asarray(Image.open(arguments.truth).convert("L")) > 127
    members = [load(path) for path in arguments.models]
    windows = intersection([metadata["validation_windows"] for _, metadata in members])
    if not windows:
        parser.error(
            "no pixel is one that none of these models was trained on: their validation_windows have nothing in common. "
            "Folds of one cross-validation are merged by their mean; stack models that kept the same pixels aside."
        )
    each = [probabilities(session, metadata, image) for session, metadata in members]
    if len({len(p) for p in each}) > 1:
        parser.error("the models have different numbers of channels; stack those that have the same")
    stacked = np.concatenate(each)
    weights, offsets = fit(pixels(stacked, windows), pixels(truth[None], windows)[:, 0].astype(int), len(each[0]))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(second_level(weights, offsets, len(each[0])), arguments.out)

    session, _ = load(arguments.out)
    final = session.run(None, {"probabilities": stacked[None].astype(np.float32)})[0][0]
    print(f"weights {np.round(weights, 3).tolist()}, offset {np.round(offsets, 3).tolist()}")
    print("| | IoU where it was trained | held-out IoU (95 % interval) |")
    print("|---|---|---|")
    for name, result in [("mean", np.mean(each, axis=0)), ("stacker", final)]:
        mask = decide(result)
        print(f"| {name} | {score(mask, truth, windows)} | {score(mask, truth, HELD_OUT)} |")


if __name__ == "__main__":
    main()
