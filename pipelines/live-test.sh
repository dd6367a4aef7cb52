#!/usr/bin/env bash
# A live source into a sink that keeps time: frames that come too late are dropped before inference (qos=true).
#
#   pipelines/live-test.sh
#   SINK=autovideosink FRAMES=-1 pipelines/live-test.sh                     watch it, without end
#   SOURCE="v4l2src ! videoconvert" SINK=autovideosink pipelines/live-test.sh    a camera
#
# Variables: SOURCE, SINK (gst-launch syntax)  FRAMES=50 of the test source (-1: without end)
#            MODELS=models/fold*.onnx  TTA=none
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

size=video/x-raw,width=320,height=240,framerate=25/1
read -ra source <<<"${SOURCE:-videotestsrc is-live=true pattern=ball num-buffers=${FRAMES:-50} ! $size ! videoconvert}"
read -ra sink <<<"${SINK:-fakesink sync=true qos=true}"

launch "${source[@]}" ! queue leaky=downstream max-size-buffers=2 max-size-bytes=0 max-size-time=0 \
  ! onnxsegment name=s model-file="$MODELS" tta="${TTA:-none}" qos=true \
  s.overlay ! queue ! progressreport update-freq=1 ! videoconvert ! "${sink[@]}"
