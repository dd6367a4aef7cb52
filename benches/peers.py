#!/usr/bin/env python3
"""One mosaic by another program, from a GeoTIFF to a GeoTIFF of labels; prints {"seconds": …, "peak_mib": …}.

    peers.py geodeep RASTER MODEL OUT.tif      GeoDeep 0.9.13 at its defaults: 5 % overlap, median filter, sieve
    peers.py monai RASTER MODEL OUT.tif        MONAI 1.6.1's sliding window at its defaults: 25 % overlap, constant weights
    peers.py tile MODEL SIDE OUT.onnx          the model with a fixed input of SIDE × SIDE, as GeoDeep wants it

`benches/mosaic.rs` runs it; `make peers` makes the virtual environment. The clock starts after the imports and stops when the file
is written. The model is run by ONNX Runtime in both, with its defaults: all cores in each run. Tiles are as large as the model's
fixed input says.
"""

import json
import resource
import sys
import time


def geodeep(raster, model, out):
    import geodeep
    from geodeep.segmentation import save_mask_to_raster

    begin = time.perf_counter()
    mask = geodeep.segment(raster, model)
    save_mask_to_raster(raster, mask, out)
    return time.perf_counter() - begin


def monai(raster, model, out):
    import numpy as np
    import onnxruntime
    import rasterio
    import torch
    from monai.inferers import sliding_window_inference

    begin = time.perf_counter()
    session = onnxruntime.InferenceSession(model)
    wanted = session.get_inputs()[0]

    def predictor(batch):
        return torch.from_numpy(session.run(None, {wanted.name: batch.numpy()})[0])

    with rasterio.open(raster) as source:
        profile = source.profile
        image = torch.from_numpy(source.read([1, 2, 3]))[None].float().div_(255)
    with torch.inference_mode():
        scores = sliding_window_inference(image, roi_size=wanted.shape[2:], sw_batch_size=1, predictor=predictor)[0]
        labels = scores.argmax(0) if len(scores) > 1 else scores[0] >= 0.5
    profile.update(count=1, dtype="uint8", nodata=255)
    with rasterio.open(out, "w", **profile) as sink:
        sink.write(labels.numpy().astype(np.uint8), 1)
    return time.perf_counter() - begin


def tile(model, side, out):
    import onnx

    m = onnx.load(model)
    for value in (m.graph.input[0], m.graph.output[0]):
        for dim, size in zip(value.type.tensor_type.shape.dim, (1, None, int(side), int(side))):
            if size:
                dim.dim_value = size
    # GeoDeep has to know that it segments; the overlap is to be its own default.
    kept = [(p.key, p.value) for p in m.metadata_props if p.key != "tiles_overlap"]
    if "model_type" not in dict(kept):
        kept.append(("model_type", '"Segmentor"'))
    onnx.helper.set_model_props(m, dict(kept))
    onnx.save(m, out)


def main():
    what, *arguments = sys.argv[1:]
    if what == "tile":
        tile(*arguments)
        return
    seconds = {"geodeep": geodeep, "monai": monai}[what](*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak}))


if __name__ == "__main__":
    main()
