#!/usr/bin/env bash
# One picture in, its mask out, as PNG.
#
#   pipelines/picture.sh [PICTURE.png [MASK.png]]       default: the demo scene -> out/mask.png
#
# Variables: MODELS=models/fold*.onnx  TTA=flips  MASK_VALUES=0,255 (the grey of each class)  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

picture=${1:-$scene}
mask=${2:-$OUT/mask.png}
need "$picture"
begin "$(dirname "$mask")"

launch filesrc location="$picture" ! pngdec ! videoconvert \
  ! onnxsegment model-file="$MODELS" tta="${TTA:-flips}" mask-values="${MASK_VALUES:-0,255}" \
  ! pngenc ! filesink location="$work/mask.png"

publish mask.png "$mask"
