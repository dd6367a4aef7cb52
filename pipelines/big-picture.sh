#!/usr/bin/env bash
# A picture or video frame too large for the model or the memory: cut into tiles, segmented, and put together again.
#
#   pipelines/big-picture.sh [PICTURE.png [MASK.png]]   default: the demo scene -> out/big-picture.png
#
# The whole frame is held in memory; for rasters that are larger than that, see mosaic.sh.
#
# Variables: TILE=256 OVERLAP=64 (pixels)  BLEND=linear  MODELS=models/fold*.onnx  TTA=flips  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

picture=${1:-$scene}
mask=${2:-$OUT/big-picture.png}
need "$picture"
begin "$(dirname "$mask")"

launch filesrc location="$picture" ! pngdec ! videoconvert \
  ! tilesplit tile-size="${TILE:-256}" overlap="${OVERLAP:-64}" \
  ! onnxsegment model-file="$MODELS" tta="${TTA:-flips}" mask-values=0,255 \
  ! tilemerge blend="${BLEND:-linear}" ! pngenc ! filesink location="$work/mask.png"

publish mask.png "$mask"
