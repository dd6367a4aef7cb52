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

# How well buildings are found where no model was trained: the line of their class in what `onnxsegment eval` prints.
cd "$repo"
command=$release/onnxsegment
[ -x "$command" ] || command=onnxsegment
score() { # NAME PASSES MODELS [SETTING=VALUE]…
  local name=$1 passes=$2 models=$3 settings=() setting
  shift 3
  for setting; do settings+=(--set "$setting"); done
  # shellcheck disable=SC2086 # a glob
  "$command" eval $models ${settings[@]+"${settings[@]}"} --image out/scene.tif --truth out/truth.png --windows 600,0,300,900 |
    awk -v row="| $name | $passes" '$1 == "building" { gsub(/[()]/, ""); print row " | " $2 " | " $3 " to " $5 " |" }'
}
echo "IoU of buildings on the unseen third, with the 95 % interval of a block bootstrap"
echo
echo "| setting | passes | IoU | 95 % interval |"
echo "|---|---|---|---|"
for k in 0 1 2; do score "fold $k" 1 "models/fold$k.onnx"; done
score "three folds" 3 "models/fold*.onnx"
score "three folds x flip3, probability" 9 "models/fold*.onnx" tta=flip3
score "three folds x flip3, logit" 9 "models/fold*.onnx" tta=flip3 merge-domain=logit
score "three folds x d4" 24 "models/fold*.onnx" tta=d4
score "three snapshots" 3 "models/snap*.onnx"
echo
echo "Settings whose intervals overlap are not told apart by a scene this small."

launch rastersrc location="${scene%.png}.tif" ! onnxsegment model-file="$MODELS" tta=d4 ! rastersink location="$OUT/mosaic.tif"
echo "$OUT/mosaic.tif"
