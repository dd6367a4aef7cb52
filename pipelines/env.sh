# Shared by the scripts in this folder, which source it: finds the repository, the plugin and the models.
# shellcheck shell=bash disable=SC2016,SC2034
set -euo pipefail

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# The plugin built here comes first; without one, an installed plugin is taken.
release=${CARGO_TARGET_DIR:-$repo/target}/release
if [ -f "$release/libgstonnxsegment.so" ]; then
  export GST_PLUGIN_PATH=$release${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH}
fi

MODELS=${MODELS:-$repo/models/fold*.onnx}
OUT=${OUT:-$repo/out}
scene=$repo/out/scene.png

die() {
  echo "${0##*/}: $1" >&2
  shift
  for line in "$@"; do echo "  $line" >&2; done
  exit 1
}

# `script.sh -h` prints the comment at its top.
case ${1:-} in
  -h | --help)
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac

for tool in gst-launch-1.0 gst-inspect-1.0; do
  command -v "$tool" >/dev/null || die "$tool is missing." "In a checkout, \`make setup\` installs it."
done
gst-inspect-1.0 onnxsegment >/dev/null 2>&1 ||
  die "GStreamer does not find the element onnxsegment." "Build it with \`make build\`, or install it with \`make install\`."

# need FILE: stops when an input is not there.
need() {
  if [ ! -r "$1" ]; then
    [ "$1" != "$scene" ] || die "the demo scene $1 is missing." "\`make setup\` fetches it."
    die "cannot read $1."
  fi
}

# begin FOLDER: makes it, and a hidden work folder inside it, $work, that is removed at the end. Outputs are made in
# $work, whole, and then get their names, so that nothing half-written is ever seen under a final name.
begin() {
  mkdir -p "$1"
  work=$(mktemp -d "$1/.work.XXXXXX")
  trap 'rm -rf "$work"' EXIT
}

# publish NAME FILE: gives the finished $work/NAME its final name.
publish() {
  [ -s "$work/$1" ] || die "the pipeline ended without writing anything for $2."
  mv -f "$work/$1" "$2"
  echo "$2"
}

# launch ELEMENTS…: runs a pipeline. -e: Ctrl-C ends it with EOS, so that files are finished.
launch() {
  gst-launch-1.0 -q -e "$@"
}

# VP8, quick to encode, in good quality.
vp8=(vp8enc deadline=1 cpu-used=4 threads=2 target-bitrate=4000000 keyframe-max-dist=50)

# window_frames FRAMES SIDE: a window of SIDE × SIDE pixels that moves over the demo scene from corner to corner, cut
# into $work/frame-00000.png, …
window_frames() {
  local frames=$1 side=$2 width height
  need "$scene"
  command -v gdal_translate >/dev/null || die "gdal_translate is missing." "\`make setup\` installs it."
  read -r width height < <(gdalinfo "$scene" | sed -nE 's/^Size is ([0-9]+), ([0-9]+)/\1 \2/p')
  if [ "$side" -gt "$width" ] || [ "$side" -gt "$height" ]; then
    die "SIDE=$side: the scene is only $width × $height pixels."
  fi
  local i steps=$((frames > 1 ? frames - 1 : 1))
  for ((i = 0; i < frames; i++)); do
    printf '%s\0%s\0%s/frame-%05d.png\0' $(((width - side) * i / steps)) $(((height - side) * i / steps)) "$work" "$i"
  done | xargs -0 -n 3 -P "$(nproc)" env GDAL_PAM_ENABLED=NO SIDE="$side" SCENE="$scene" \
    sh -c 'exec gdal_translate -q -of PNG -co ZLEVEL=1 -srcwin "$1" "$2" "$SIDE" "$SIDE" "$SCENE" "$3"' sh
}

# window_video NAME FRAMES SIDE: the same as a video, $work/NAME (WebM, 25 frames per second).
window_video() {
  window_frames "$2" "$3"
  launch multifilesrc location="$work/frame-%05d.png" caps="image/png,framerate=25/1" ! pngdec ! videoconvert \
    ! "${vp8[@]}" ! webmmux ! filesink location="$work/$1"
  rm -f "$work"/frame-*.png
}
