#!/usr/bin/env bash
# A raster with many bands: the ones that the model wants, in its order, and only a part of the raster.
#
#   pipelines/mosaic-bands.sh [RASTER [BANDS [WINDOW]]]
#
# BANDS are numbers from 1, joined by commas; repeats are allowed (`1,1,1` gives a one-band raster to an RGB model). WINDOW is
# x,y,width,height in pixels. Pixels deeper than 8 bits need a scale: SCALE=65535, or INPUT_RANGE=lo,hi.
# Default: the demo scene, its bands from last to first, its right third -> out/mosaic-bands.tif
#
# Variables: MODELS=models/fold*.onnx  TTA=flips  SCALE= INPUT_RANGE=  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

raster=${1:-${scene%.png}.tif}
need "$raster"
mkdir -p "$OUT"

scaling=()
[ -z "${SCALE:-}" ] || scaling+=("scale=$SCALE")
[ -z "${INPUT_RANGE:-}" ] || scaling+=("input-range=$INPUT_RANGE")

launch rastersrc location="$raster" bands="${2:-3,2,1}" window="${3:-600,0,300,900}" \
  ! onnxsegment model-file="$MODELS" tta="${TTA:-flips}" "${scaling[@]}" \
  ! rastersink location="$OUT/mosaic-bands.tif"

echo "$OUT/mosaic-bands.tif"
