#!/usr/bin/env bash
# RTP over UDP in, a mask video out: a leaky queue drops frames that inference has no time for, so that delay never grows.
#
#   pipelines/rtp-live.sh [MASK.webm]                   default: out/rtp-live.webm
#   SENDER=no PORT=5004 ADDRESS=0.0.0.0 FRAMES=-1 pipelines/rtp-live.sh    receive VP8 from elsewhere, until Ctrl-C
#
# By default it sends to itself: part of the demo scene, as a live VP8 stream on the loopback interface.
#
# Variables: SENDER=yes  ADDRESS=127.0.0.1  PORT (with a sender: one derived from the process id; else 5004)
#            FRAMES=25 to segment (-1: until Ctrl-C)  WAIT=60 seconds at most for a whole run with a sender
#            MODELS=models/fold*.onnx  TTA=none  MASK_VALUES=0,255  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

mask=${1:-$OUT/rtp-live.webm}
ADDRESS=${ADDRESS:-127.0.0.1}
FRAMES=${FRAMES:-25}
begin "$(dirname "$mask")"

after=-1 # identity ends the stream instead of passing on this buffer
[ "$FRAMES" = -1 ] || after=$((FRAMES + 1))
limit=()
if [ "${SENDER:-yes}" = yes ]; then
  need "$scene"
  last=-1 # frame to send, so that the sender never outlives its script for long
  [ "$FRAMES" = -1 ] || last=$((25 * ${WAIT:-60}))
  PORT=${PORT:-$((20000 + $$ % 10000))}
  gst-launch-1.0 -q filesrc location="$scene" ! pngdec ! videocrop right=580 bottom=580 ! videoconvert \
    ! imagefreeze is-live=true num-buffers="$last" ! video/x-raw,framerate=25/1 ! "${vp8[@]}" error-resilient=default \
    ! rtpvp8pay ! udpsink host="$ADDRESS" port="$PORT" &
  sender=$!
  trap 'kill "$sender" 2>/dev/null || true; rm -rf "$work"' EXIT
  [ "$FRAMES" = -1 ] || limit=(timeout --foreground "${WAIT:-60}")
fi

rtp=application/x-rtp,media=video,encoding-name=VP8,clock-rate=90000,payload=96
"${limit[@]}" gst-launch-1.0 -q -e udpsrc address="$ADDRESS" port="${PORT:-5004}" caps="$rtp" \
  ! rtpjitterbuffer latency=50 ! rtpvp8depay ! vp8dec ! videoconvert \
  ! queue leaky=downstream max-size-buffers=2 max-size-bytes=0 max-size-time=0 ! identity eos-after="$after" \
  ! onnxsegment model-file="$MODELS" tta="${TTA:-none}" mask-values="${MASK_VALUES:-0,255}" \
  ! queue ! videoconvert ! "${vp8[@]}" ! webmmux ! filesink location="$work/mask.webm" || {
  [ $? != 124 ] || die "$FRAMES frames did not come through within ${WAIT:-60} s (WAIT)."
  exit 1
}

publish mask.webm "$mask"
