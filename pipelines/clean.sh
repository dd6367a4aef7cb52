#!/usr/bin/env bash
# A finished mask in, the same mask without specks, gaps and ragged edges out: a second pass over a raster of any size.
#
#   pipelines/clean.sh [MASK.tif [CLEAN.tif]]           default: a mask of the demo scene -> out/clean.tif
#
# Without a mask, one model makes out/clean-before.tif of the demo scene first, and both are drawn side by side in
# out/clean.png. Palette, class names and place are the mask's own. Areas are pixels, or square metres with m2.
#
# Variables: MEDIAN=0  OPENING=1  CLOSING=1  HOLE_AREA=20  MIN_AREA=30m2  MODEL=models/fold0.onnx  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

mask=${1:-$OUT/clean-before.tif}
clean=${2:-$OUT/clean.tif}
mkdir -p "$(dirname "$clean")"
if [ $# = 0 ]; then
  need "$scene"
  begin "$OUT"
  launch rastersrc location="${scene%.png}.tif" ! onnxsegment model-file="${MODEL:-$repo/models/fold0.onnx}" \
    ! rastersink location="$mask"
  echo "$mask"
fi
need "$mask"

launch rastersrc location="$mask" overlap=0 \
  ! maskclean median="${MEDIAN:-0}" opening="${OPENING:-1}" closing="${CLOSING:-1}" hole-area="${HOLE_AREA:-20}" \
  min-area="${MIN_AREA:-30m2}" \
  ! rastersink location="$clean"
echo "$clean"

if [ $# = 0 ]; then
  # The scene is one tile of 900 pixels.
  launch compositor name=both background=white sink_1::xpos=910 ! videoconvert ! pngenc snapshot=true ! filesink location="$work/clean.png" \
    rastersrc location="$mask" overlap=0 ! videoconvert ! both. \
    rastersrc location="$clean" overlap=0 ! videoconvert ! both.
  publish clean.png "$OUT/clean.png"
fi
