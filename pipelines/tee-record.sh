#!/usr/bin/env bash
# One source, two recordings side by side: the video as it came, and its mask.
#
#   pipelines/tee-record.sh                             a window moving over the demo scene
#   SOURCE="v4l2src num-buffers=250 ! videoconvert" LEAKY=downstream pipelines/tee-record.sh
#                                                       a camera, ten seconds
#
# Writes out/record.webm and out/record-mask.webm, with the same timestamps. (To look at: VP8 is lossy.)
# A source that can wait waits for inference, and both have every frame. A camera cannot wait: with LEAKY=downstream
# the recording has every frame, and the mask leaves out those that inference has no time for.
#
# Variables: SOURCE (gst-launch syntax)  LEAKY=no  MODELS=models/fold*.onnx  TTA=none  MASK_VALUES=0,255  OUT=out
#            FRAMES=25 and SIDE=256 of the moving window
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

begin "$OUT"
if [ -n "${SOURCE:-}" ]; then
  read -ra source <<<"$SOURCE"
else
  window_frames "${FRAMES:-25}" "${SIDE:-256}"
  source=(multifilesrc location="$work/frame-%05d.png" caps="image/png,framerate=25/1" ! pngdec ! videoconvert)
fi

launch "${source[@]}" ! tee name=t \
  t. ! queue ! videoconvert ! "${vp8[@]}" ! webmmux ! filesink location="$work/record.webm" \
  t. ! queue leaky="${LEAKY:-no}" max-size-buffers=4 max-size-bytes=0 max-size-time=0 \
  ! onnxsegment model-file="$MODELS" tta="${TTA:-none}" mask-values="${MASK_VALUES:-0,255}" \
  ! queue ! videoconvert ! "${vp8[@]}" ! webmmux ! filesink location="$work/record-mask.webm"

publish record.webm "$OUT/record.webm"
publish record-mask.webm "$OUT/record-mask.webm"
