#!/usr/bin/env python3
"""Write the models and model cards of cards/, by the conventions of the QGIS plugin Deepness, of STAC MLM and of GStreamer.

    python make_cards.py          # rewrites cards/

Needs what make_models.py needs, and jsonschema (made with jsonschema 4.26.0): every STAC item is held against
the published schemas in ../golden/schemas. The networks are those of make_models.py under other names.

Deepness reads its keys with `json.loads`, and class names with `ast.literal_eval` where that fails (its model_base.py); the files
here are made to what it accepts, and to what is in its zoo: both spellings of the tile size, names as a dictionary, as one
dictionary per output, or under `names` as Python writes them; no key says that the output is activated already.
"""

import json
from pathlib import Path

import jsonschema
import numpy as np
import onnx
from make_models import T, Graph, apply, dims, net
from onnx import helper
from referencing import Registry, Resource

HERE = Path(__file__).resolve().parent / "cards"
SCHEMA_URI = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
STAC = "https://schemas.stacspec.org/v1.1.0/item-spec/json-schema"
SCHEMAS = HERE.parent.parent / "golden" / "schemas"


# -------------------------------------------------------------------------------------------------------------- models


def written_out(name, channels, metadata, scaled=True):
    """Probabilities without an activation that the graph would show: exp ÷ sum, or 1 ÷ (1 + exp(−z))."""
    g = Graph()
    mean, std = (0.0, 1.0) if scaled else (0.5, 0.25)
    z = apply(g, "image", net(f"cards-{name}", 3, channels, hidden=(4,), mean=mean, std=std))
    if channels == 1:
        one = g.const(np.float32(1))
        g.op("Div", one, g.op("Add", g.op("Exp", g.op("Neg", z)), one), out="scores")
    else:
        e = g.op("Exp", z)
        g.op("Div", e, g.op("ReduceSum", e, g.const(np.array([1], np.int64)), keepdims=1), out="scores")
    return finish(name, g, channels, metadata)


def logits(name, channels, metadata=None, mean=0.0, std=1.0):
    """Raw scores, of which nothing in the file says what they are."""
    g = Graph()
    apply(g, "image", net(f"cards-{name}", 3, channels, hidden=(4,), mean=mean, std=std))
    g.nodes[-1].output[0] = "scores"
    return finish(name, g, channels, metadata or {})


def finish(name, g, channels, metadata):
    model = g.model([("image", T.FLOAT, dims(3))], [("scores", T.FLOAT, dims(channels))])
    # As text, so that it need not be JSON.
    helper.set_model_props(model, metadata)
    onnx.save(model, HERE / f"{name}.onnx")


J = json.dumps
DEEPNESS = {
    # Everything in the way its documentation recommends.
    "zoo-full": (3, True, {
        "model_type": J("Segmentor"), "class_names": J({"0": "_background", "1": "building", "2": "road"}), "resolution": J(50),
        "tile_size": J(64), "tiles_overlap": J(15), "standardization_mean": J([0.45, 0.5, 0.55]),
        "standardization_std": J([0.22, 0.25, 0.28]), "seg_thresh": J(0.4), "seg_small_segment": J(11),
    }),
    # The other spelling of the tile size, a list of names, a float resolution.
    "zoo-tiles-size": (3, False, {
        "model_type": J("Segmentor"), "class_names": J(["_background", "building", "road"]), "resolution": J(21.5),
        "tiles_size": J(128), "tiles_overlap": J(10),
    }),
    # Names as Python writes a dictionary, with either kind of quote.
    "zoo-names": (3, False, {"model_type": J("Segmentor"), "names": str({0: "background", 1: "farmer's field", 2: 'the "other"'})}),
    # One dictionary per output, as its newer versions write for several outputs.
    "zoo-outputs": (3, False, {"model_type": J("Segmentor"), "class_names": J([{"0": "ground", "1": "house", "2": "water"}])}),
    # No model type: the other keys tell the convention.
    "zoo-bare": (2, False, {"tile_size": J(256), "resolution": J(10), "class_names": J({"1": "field", "0": "none"})}),
    # One channel and one name: it is that of class 1.
    "zoo-one": (1, False, {"model_type": J("Segmentor"), "class_names": J({"0": "building"}), "seg_thresh": J(0.35)}),
}  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- items

CLASSES = [
    {"value": 0, "name": "background", "color_hint": "000000"},
    {"value": 1, "name": "building", "color_hint": "FF8001"},
    {"value": 2, "name": "road"},
    {"value": 255, "name": "unknown", "nodata": True},
]


def item(name, scaling, classes=CLASSES, bands=("red", "green", "blue"), channels=3, hyperparameters=None, **fields):
    """A valid item. `scaling` is value_scaling; a missing one is left out."""
    model_input = {
        "name": "image",
        "bands": list(bands),
        "input": {"shape": [-1, 3, -1, -1], "dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"},
        **({} if scaling == "silent" else {"value_scaling": scaling}),
        **fields.get("input", {}),
    }
    output = {
        "name": "scores",
        "tasks": ["semantic-segmentation"],
        "result": {"shape": [-1, channels, -1, -1], "dim_order": ["batch", "class", "height", "width"], "data_type": "float32"},
        "classification:classes": classes,
        **fields.get("output", {}),
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [SCHEMA_URI, "https://stac-extensions.github.io/classification/v1.1.0/schema.json"],
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]]},
        "bbox": [-180, -90, 180, 90],
        "properties": {
            "datetime": "2026-01-01T00:00:00Z",
            "bands": [{"name": band} for band in bands],
            "mlm:name": name,
            "mlm:architecture": "unknown",
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:input": [model_input],
            "mlm:output": [output],
            "mlm:hyperparameters": {"activation": "softmax"} if hyperparameters is None else hyperparameters,
        },
        "links": [],
        "assets": {
            "model": {
                "href": f"{name}.onnx",
                "type": "application/octet-stream; application=onnx",
                "roles": ["mlm:model"],
                "mlm:artifact_type": "onnx",
                "bands": [{"name": band} for band in bands],
            }
        },
    }


Z = [{"type": "z-score", "mean": m, "stddev": s} for m, s in zip((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))]
ALL = {"tile_size": 96, "halo": 16, "tta": ["hflip", "vflip"], "threshold": 0.45, "resolution": 30, "size_multiple": 8}
SOFTMAX = {"post_processing_function": {"format": "python", "expression": "torch.nn.functional.softmax"}}
ITEMS = {
    "z-score": item("z-score", Z, hyperparameters=ALL, output=SOFTMAX),
    "bgr": item("bgr", Z[::-1], bands=("blue", "green", "red")),
    "min-max": item("min-max", [{"type": "min-max", "minimum": 0, "maximum": 255}]),
    "min-max-each": item("min-max-each", [
        {"type": "min-max", "minimum": 10, "maximum": 200}, {"type": "scale", "value": 128}, {"type": "offset", "value": 100.5},
    ]),
    "clip": item("clip", [{"type": "clip", "minimum": 60, "maximum": 180}]),
    "null": item("null", None),
    "silent": item("silent", "silent"),
}  # fmt: skip


def registry():
    """The schemas by their addresses."""
    resources = []
    for file in sorted(SCHEMAS.rglob("*.json")):
        schema = json.loads(file.read_text())
        # Of STAC's own, one has a misspelt $id: they are known by the addresses they are published at.
        own = f"{STAC}/{file.name}" if file.parent.name == "stac-1.1.0" else schema["$id"].rstrip("#")
        resources.append((own, Resource.from_contents(schema)))
    return Registry().with_resources(resources)


def check(name, item):
    for uri in (f"{STAC}/item.json", SCHEMA_URI):
        known = registry()
        validator = jsonschema.Draft7Validator(known.contents(uri), registry=known)
        errors = [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in validator.iter_errors(item)]
        assert not errors, (name, uri, errors)


def main():
    HERE.mkdir(exist_ok=True)
    for name, (channels, scaled, metadata) in DEEPNESS.items():
        written_out(name, channels, metadata, scaled)
    # One model that nothing is said of, for items that are named.
    logits("bare", 3)
    for name, card in ITEMS.items():
        check(name, card)
        (HERE / f"card-{name}.json").write_text(json.dumps(card, indent=1) + "\n")
    # All sources side by side: the item counts, then the metadata, then GStreamer's file.
    metadata = {
        "model_type": J("Segmentor"), "class_names": J(["of", "the", "metadata"]), "tile_size": J(512), "tiles_overlap": J(25),
        "standardization_mean": J([0.1, 0.2, 0.3]), "standardization_std": J(0.5),
    }  # fmt: skip
    logits("beside", 3, metadata)
    card = item("beside", Z, hyperparameters={"activation": "softmax", "tile_size": 96})
    check("beside", card)
    (HERE / "beside.stac.json").write_text(json.dumps(card, indent=1) + "\n")
    info = "[modelinfo]\nversion=1.0\ngroup-id=cards\n\n[image]\nid=image\ntype=float32\ndims=-1,3,-1,-1\ndir=input\nranges={}\n\n[scores]\nid=scores\ntype=float32\ndims=-1,3,-1,-1\ndir=output\n"
    (HERE / "beside.onnx.modelinfo").write_text(info.format("0.0,1.0"))
    # GStreamer's file alone, each channel with a range of its own.
    written_out("modelinfo", 3, {"model_type": J("Segmentor")}, scaled=True)
    (HERE / "modelinfo.onnx.modelinfo").write_text(info.format("-1.0,1.0;0.0,2.5;-2.0,0.5"))


if __name__ == "__main__":
    main()
