#!/usr/bin/env bash
# One run over a raster, three georeferenced results: labels, probabilities and uncertainty.
#
#   pipelines/mosaic-views.sh [RASTER]                  default: the demo scene
#
# Writes out/mosaic-labels.tif, out/mosaic-probability.tif (one band per class) and out/mosaic-uncertainty.tif. All three
# come from the same blended scores. Bytes 0 to 254 stand for 0 to 1, which GDAL and QGIS apply by the files' scale; 255 is
# nodata.
#
# Variables: KIND=mutual-information (entropy, variance, margin)  MODELS=models/fold*.onnx  TTA=flips  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

raster=${1:-${scene%.png}.tif}
need "$raster"
mkdir -p "$OUT"

launch rastersrc location="$raster" \
  ! onnxsegment model-file="$MODELS" tta="${TTA:-flips}" uncertainty-kind="${KIND:-mutual-information}" \
  ! rastersink location="$OUT/mosaic-labels.tif" probability-location="$OUT/mosaic-probability.tif" \
  uncertainty-location="$OUT/mosaic-uncertainty.tif"

echo "$OUT/mosaic-labels.tif"
echo "$OUT/mosaic-probability.tif"
echo "$OUT/mosaic-uncertainty.tif"
