"""Write crops as the ``swa*`` models were trained on: images to take statistics of BatchNormalization from.

    python models/crops.py --scene out/scene.png --truth out/truth.png --out crops [--count 512]

The crops are 128 x 128 pixels, augmented and drawn as in training, from another seed: 8-bit PNGs, so
values are rounded to 1/255. Needs what train.py needs.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from train import BATCH, RUN_WINDOW, Crops, load, rectangles_outside

SEED = 100


def main() -> None:
    parser = argparse.ArgumentParser(description="Write crops as in training.")
    parser.add_argument("--scene", type=Path, required=True, help="scene.png")
    parser.add_argument("--truth", type=Path, required=True, help="truth.png")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=512, help="number of crops (default: %(default)s)")
    arguments = parser.parse_args()

    image, mask = load(arguments.scene, arguments.truth)
    crops = Crops(image, mask, rectangles_outside(RUN_WINDOW, image.shape[1]), SEED)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for first in range(0, arguments.count, BATCH):
        pictures = crops.batch()[0].permute(0, 2, 3, 1).mul(255).round().byte().numpy()
        for k, picture in enumerate(pictures[: arguments.count - first], first):
            Image.fromarray(np.ascontiguousarray(picture)).save(arguments.out / f"{k:04}.png")


if __name__ == "__main__":
    main()
