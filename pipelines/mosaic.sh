#!/usr/bin/env bash
# A georeferenced raster of any size in, its georeferenced mask out: a cloud-optimised GeoTIFF with colours and class names.
#
#   pipelines/mosaic.sh [RASTER [MASK.tif]]             default: the demo scene -> out/mosaic.tif
#
# Killed and started again, it goes on where it was: finished parts are in MASK.tif.parts until the mask is whole.
#
# Variables: MODELS=models/fold*.onnx  TTA=d4  BLEND=linear (how tiles are joined)  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

raster=${1:-${scene%.png}.tif}
mask=${2:-$OUT/mosaic.tif}
need "$raster"
mkdir -p "$(dirname "$mask")"

launch rastersrc location="$raster" ! onnxsegment model-file="$MODELS" tta="${TTA:-d4}" \
  ! rastersink location="$mask" blend="${BLEND:-linear}"

echo "$mask"
