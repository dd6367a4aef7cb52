"""Print the table of scores of the demo models, as in models/README.md.

    python models/evaluate.py --scene out/scene.png --truth out/truth.png [--models models]

Each model runs with ONNX Runtime on the whole scene, padded by reflection at the right and at the
bottom to a multiple of its ``size_multiple``. A pixel is a building when p >= 0.5 (one channel) or
when the building channel is the larger one (two channels). IoU is that of the building class,
once inside the model's own validation windows, once in the held-out third of the scene.

The interval is a block bootstrap: the window is cut into blocks of 75x75 pixels, the blocks are
drawn with replacement 2000 times, and the 2.5th and 97.5th percentile of the IoU are given.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

HELD_OUT = [(600, 0, 300, 900)]
BLOCK = 75
RESAMPLES = 2000
SEED = 0

Windows = list[tuple[int, int, int, int]]


def probabilities(
    session: onnxruntime.InferenceSession, metadata: dict, image: np.ndarray
) -> np.ndarray:
    """Probabilities, channels x H x W, of an H x W x 3 uint8 picture."""
    height, width = image.shape[:2]
    multiple = metadata["size_multiple"]
    padding = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    padded = np.pad(image, padding, "reflect").astype(np.float32) / 255
    batch = np.ascontiguousarray(padded.transpose(2, 0, 1)[None])
    scores = session.run(None, {session.get_inputs()[0].name: batch})[0][0, :, :height, :width]
    if len(scores) == 2:
        return scores
    if metadata["activation"] != "sigmoid":
        raise ValueError(f"unexpected activation {metadata['activation']!r}")
    return 1 / (1 + np.exp(-scores))


def decide(scores: np.ndarray) -> np.ndarray:
    """Building mask of probabilities, channels x H x W."""
    return scores[1] > scores[0] if len(scores) == 2 else scores[0] >= 0.5


def load(path: Path) -> tuple[onnxruntime.InferenceSession, dict]:
    """A model and its metadata."""
    session = onnxruntime.InferenceSession(path)
    properties = session.get_modelmeta().custom_metadata_map
    return session, {key: json.loads(value) for key, value in properties.items()}


def block_counts(predicted: np.ndarray, truth: np.ndarray, windows: Windows) -> np.ndarray:
    """Intersection and union of each block, blocks x 2; blocks at the far edges may be smaller."""
    counts = []
    for x, y, w, h in windows:
        for top in range(y, y + h, BLOCK):
            for left in range(x, x + w, BLOCK):
                area = (
                    slice(top, min(top + BLOCK, y + h)),
                    slice(left, min(left + BLOCK, x + w)),
                )
                p, t = predicted[area], truth[area]
                counts.append(((p & t).sum(), (p | t).sum()))
    return np.array(counts)


def score(predicted: np.ndarray, truth: np.ndarray, windows: Windows) -> str:
    """IoU over the windows with its interval, as a cell of the table."""
    counts = block_counts(predicted, truth, windows)
    intersection, union = counts.sum(axis=0)
    draws = np.random.default_rng(SEED).integers(len(counts), size=(RESAMPLES, len(counts)))
    sums = counts[draws].sum(axis=1)
    low, high = np.percentile(sums[:, 0] / np.maximum(sums[:, 1], 1), [2.5, 97.5])
    return f"{intersection / union:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Score the demo models.")
    parser.add_argument("--scene", type=Path, required=True, help="scene.png")
    parser.add_argument("--truth", type=Path, required=True, help="truth.png")
    parser.add_argument("--models", type=Path, default=Path(__file__).parent, help="model folder")
    arguments = parser.parse_args()

    image = np.asarray(Image.open(arguments.scene).convert("RGB"))
    truth = np.asarray(Image.open(arguments.truth).convert("L")) > 127
    print("| model | validation IoU (95 % interval) | held-out IoU (95 % interval) |")
    print("|---|---|---|")
    for path in sorted(arguments.models.glob("*.onnx")):
        session, metadata = load(path)
        predicted = decide(probabilities(session, metadata, image))
        validation = score(predicted, truth, metadata["validation_windows"])
        held_out = score(predicted, truth, HELD_OUT)
        print(f"| {path.stem} | {validation} | {held_out} |")


if __name__ == "__main__":
    main()
