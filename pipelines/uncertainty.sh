#!/usr/bin/env bash
# How sure the ensemble is: one picture in, the probability of a class and the uncertainty out, as grey PNGs.
#
#   pipelines/uncertainty.sh [PICTURE.png]              default: the demo scene
#
# Writes out/probability.png and out/uncertainty.png: 0 to 1 as grey 0 to 254 (16 bits: 0 to 65534; the highest value is
# kept for nodata). Both come from the same inference, by the element's request pads.
#
# Variables: KIND=entropy (mutual-information, variance, margin)  CLASS=1 (whose probability)
#            BITS=8 (16: sixteen bits per pixel)  MODELS=models/fold*.onnx  TTA=flips  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

picture=${1:-$scene}
need "$picture"
case ${BITS:-8} in
  8) format=GRAY8 ;;
  16) format=GRAY16_LE ;;
  *) die "BITS=$BITS: unknown." "Use 8 or 16." ;;
esac
begin "$OUT"

launch filesrc location="$picture" ! pngdec ! videoconvert \
  ! onnxsegment name=s model-file="$MODELS" tta="${TTA:-flips}" uncertainty-kind="${KIND:-entropy}" class-index="${CLASS:-1}" \
  s.probability ! queue ! "video/x-raw,format=$format" ! videoconvert ! pngenc ! filesink location="$work/probability.png" \
  s.uncertainty ! queue ! "video/x-raw,format=$format" ! videoconvert ! pngenc ! filesink location="$work/uncertainty.png"

publish probability.png "$OUT/probability.png"
publish uncertainty.png "$OUT/uncertainty.png"
