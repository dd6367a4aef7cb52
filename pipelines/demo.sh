#!/usr/bin/env bash
# The demo (`make demo`): the scene segmented by three folds × four flips, as pictures and a video, and a table of scores.
#
#   pipelines/demo.sh
#
# Writes out/mask.png, out/overlay.png and out/uncertainty.png in one run, then out/overlay.webm, a window moving over
# the scene; prints how well single models and ensembles do on the third of the scene that no model has seen; and ends with
# out/mosaic.tif, the scene's mask as a GeoTIFF that lies at the right place in QGIS, with colours and class names.
#
# Variables: MODELS=models/fold*.onnx  TTA=flips  OUT=out  FRAMES=75 and SIDE=384 of the moving window
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

need "$scene"
begin "$OUT"

launch filesrc location="$scene" ! pngdec ! videoconvert \
  ! onnxsegment name=s model-file="$MODELS" tta="${TTA:-flips}" mask-values=0,255 \
  s.src ! queue ! pngenc ! filesink location="$work/mask.png" \
  s.overlay ! queue ! pngenc ! filesink location="$work/overlay.png" \
  s.uncertainty ! queue ! pngenc ! filesink location="$work/uncertainty.png"
publish mask.png "$OUT/mask.png"
publish overlay.png "$OUT/overlay.png"
publish uncertainty.png "$OUT/uncertainty.png"

window_frames "${FRAMES:-75}" "${SIDE:-384}"
launch multifilesrc location="$work/frame-%05d.png" caps="image/png,framerate=25/1" ! pngdec ! videoconvert \
  ! onnxsegment name=s model-file="$MODELS" tta=none \
  s.overlay ! queue ! videoconvert ! "${vp8[@]}" ! webmmux ! filesink location="$work/overlay.webm"
publish overlay.webm "$OUT/overlay.webm"

cd "$repo"
"${CARGO:-cargo}" run --quiet --release --example scores

launch rastersrc location="${scene%.png}.tif" ! onnxsegment model-file="$MODELS" tta=d4 ! rastersink location="$OUT/mosaic.tif"
echo "$OUT/mosaic.tif"
