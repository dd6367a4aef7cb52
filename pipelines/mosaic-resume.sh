#!/usr/bin/env bash
# A run that is killed, and goes on: what was finished is not computed again, and the mask is the same.
#
#   pipelines/mosaic-resume.sh [RASTER [MASK.tif]]      default: the demo scene -> out/mosaic-resume.tif
#
# Here the first run is killed after KILL_AFTER seconds, in the middle of its work. Any run that finds MASK.tif.parts goes on
# by itself (resume=auto); parts of other models, settings or rasters are refused, and resume=false throws them away.
#
# Variables: KILL_AFTER=2  PART_SIZE=256,256 (4096,512 suits large rasters)  TILE=256  MODELS=models/fold*.onnx  TTA=d4  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

raster=${1:-${scene%.png}.tif}
mask=${2:-$OUT/mosaic-resume.tif}
need "$raster"
mkdir -p "$(dirname "$mask")"

mosaic() {
  "$@" gst-launch-1.0 -q -e rastersrc location="$raster" tile-size="${TILE:-256}" \
    ! onnxsegment model-file="$MODELS" tta="${TTA:-d4}" \
    ! rastersink location="$mask" part-size="${PART_SIZE:-256,256}"
}

mosaic timeout --signal=KILL "${KILL_AFTER:-2}" || true
if [ -d "$mask.parts" ]; then
  echo "killed; $(find "$mask.parts" -name 'labels_*.tif' | wc -l) parts are finished"
fi
mosaic env

echo "$mask"
