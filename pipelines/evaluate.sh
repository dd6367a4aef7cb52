#!/usr/bin/env bash
# A picture and the truth about it in, a report of how well the models' mask agrees with it out: IoU, Dice, precision, recall,
# boundary IoU, objects found, calibration, each with its 95 % interval.
#
#   pipelines/evaluate.sh [PICTURE.png [TRUTH.png [REPORT.json]]]     default: the demo scene's unseen third -> out/report.json
#
# Both pictures have the same size.
#
# Variables: MODELS=models/fold*.onnx  TTA=flip3  VALUES=0,255 (the truth's value of each class)  LEFT=600 (columns left out at
# the left; of the demo scene, those that the models were trained on)  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

picture=${1:-$scene}
truth=${2:-${scene%/*}/truth.png}
report=${3:-$OUT/report.json}
left=${LEFT:-$([ $# -gt 0 ] && echo 0 || echo 600)}
need "$picture"
need "$truth"
begin "$(dirname "$report")"

# The probabilities of the same inference are the confidence that calibration is about.
launch filesrc location="$picture" ! pngdec ! videoconvert ! onnxsegment model-file="$MODELS" tta="${TTA:-flip3}" name=s \
  ! videocrop left="$left" ! maskmetrics name=m location="$work/report.json" table-location="$work/report.txt" \
  truth-values="${VALUES:-0,255}" ! fakesink \
  s.probability ! videocrop left="$left" ! queue ! m.probability \
  filesrc location="$truth" ! pngdec ! videoconvert ! videocrop left="$left" ! m.truth

cat "$work/report.txt"
publish report.json "$report"
