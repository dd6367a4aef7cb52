#!/usr/bin/env bash
# A video file in, a WebM video out, with the classes drawn over the picture.
#
#   pipelines/video-overlay.sh [VIDEO [OVERLAY.webm]]
#         default: a window moving over the demo scene -> out/video-overlay.webm
#
# Any video works for which GStreamer has a decoder: the packages of `make setup` bring VP8, VP9, MJPEG and WebM, AVI,
# MP4; H.264 and H.265 need gstreamer1.0-libav.
#
# Variables: MODELS=models/fold*.onnx  TTA=none (flips costs four times as much)  ALPHA=0.5 (of the classes)  OUT=out
#            FRAMES=25 and SIDE=256 of the moving window
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

overlay=${2:-$OUT/video-overlay.webm}
begin "$(dirname "$overlay")"
if [ $# -gt 0 ]; then
  video=$1
  need "$video"
else
  window_video window.webm "${FRAMES:-25}" "${SIDE:-256}"
  video=$work/window.webm
fi

launch filesrc location="$video" ! decodebin ! queue ! videoconvert \
  ! onnxsegment name=s model-file="$MODELS" tta="${TTA:-none}" overlay-alpha="${ALPHA:-0.5}" \
  s.overlay ! queue ! videoconvert ! "${vp8[@]}" ! webmmux ! filesink location="$work/overlay.webm"

publish overlay.webm "$overlay"
