#!/usr/bin/env bash
# Runs every script in pipelines/, every block of the README, of docs/cookbook.md and (where Ray is installed) of docs/scale.md that is
# marked ```sh run, and the examples, in a temporary folder, and checks what they write. Prints "ok NAME" or "FAILED NAME" for each, and last "shell: N passed, M failed".
#
#   tests/shell/run.sh [NAME…]      only these: a script's name, readme-1, cookbook-2, example-c, completions, …
#
# Needs `make build` and the demo scene (`make setup`).
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
repo=$PWD

release=${CARGO_TARGET_DIR:-$repo/target}/release
case $release in /*) ;; *) release=$repo/$release ;; esac
export GST_PLUGIN_PATH=$release${GST_PLUGIN_PATH:+:$GST_PLUGIN_PATH} PATH=$release:$PATH
for file in "$release/libgstonnxsegment.so" out/scene.png out/scene.tif out/truth.png; do
  if [ ! -e "$file" ]; then
    echo "tests/shell/run.sh: $file is missing; run \`make build\`" >&2
    echo "shell: 0 passed, 1 failed"
    exit 1
  fi
done

# The README's lines find here what they find in the repository; what they write does not touch the user's out/.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/out"
ln -s "$repo/models" "$work/models"
cp out/scene.png out/scene.tif out/truth.png "$work/out"

passed=0
failed=0
wanted=("$@")
selected() { # NAME
  [ ${#wanted[@]} = 0 ] || printf '%s\n' "${wanted[@]}" | grep -qxF -- "$1"
}
run() { # NAME CHECK COMMAND…: runs it in the temporary folder, then CHECK there
  local name=$1 check=$2
  shift 2
  selected "$name" || return 0
  local limit=(timeout 300)
  ! declare -F "$1" >/dev/null || limit=() # timeout runs no functions; those here are short
  if (cd "$work" && ${limit[@]+"${limit[@]}"} "$@" </dev/null && "$check" && leftovers) >"$work/log" 2>&1; then
    echo "ok $name"
    passed=$((passed + 1))
  else
    echo "FAILED $name"
    sed 's/^/    /' "$work/log"
    failed=$((failed + 1))
  fi
}

# ---- what outputs must look like

fail() {
  echo "$1" >&2
  return 1
}

# The values of a grey picture, one a line, each once. (od, sort and uniq read a raw dump: no Python, no GDAL needed.)
values() { # PNG [FORMAT]
  gst-launch-1.0 -q filesrc location="$1" ! pngdec ! videoconvert ! "video/x-raw,format=${2:-GRAY8}" ! filesink location="$work/raw" || return 1
  local type=u1
  [ "${2:-GRAY8}" = GRAY8 ] || type=u2
  od -An -v -t "$type" -w"${type#u}" "$work/raw" | tr -d ' ' | sort -n | uniq
}

size() { # PNG WIDTH HEIGHT
  gdalinfo "$1" | grep -qx "Size is $2, $3" || fail "$1 is not $2 x $3"
}

mask() { # PNG LOW HIGH: just these two values, and both
  local found
  found=$(values "$1" | tr '\n' ' ') || return 1
  [ "$found" = "$2 $3 " ] || fail "$1 holds the values $found, not $2 and $3"
}

grey() { # PNG: probabilities and uncertainties: many values, none of them the one that stands for nodata
  local found
  found=$(values "$1") || return 1
  [ "$(wc -l <<<"$found")" -gt 20 ] || fail "$1 holds only the values $found" || return 1
  ! grep -qx 255 <<<"$found" || fail "$1 holds 255, which stands for no data"
}

colour() { # PNG: the scene is grey; painted pixels are not
  local raw
  gst-launch-1.0 -q filesrc location="$1" ! pngdec ! videoconvert ! video/x-raw,format=RGBx ! filesink location="$work/raw" || return 1
  raw=$(od -An -v -t u1 -w4 "$work/raw" | awk '$1 != $2 { painted++ } $1 == $2 { plain++ } END { print painted + 0, plain + 0 }')
  read -r painted plain <<<"$raw"
  { [ "$painted" -gt 100 ] && [ "$plain" -gt "$painted" ]; } || fail "$1: $painted pixels are painted, $plain are not"
}

video() { # WEBM FRAMES: decodes to so many frames
  local frames
  frames=$(gst-launch-1.0 -v filesrc location="$1" ! decodebin ! fakesink silent=false 2>&1 | grep -c 'chain  *\*\*\*') || return 1
  [ "$frames" -ge "$2" ] || fail "$1 holds $frames frames, not $2"
}

leftovers() { # nothing half-written under any name; the lock of parts is empty as long as they stay
  local found
  found=$(find out -name '.work*' -o -name '*.new' -o -size 0 ! -path '*.vrt.parts/lock')
  [ -z "$found" ] || fail "left behind: $found"
}

# A GeoTIFF of labels at the scene's place: its size, where it begins, its classes' names and colours, and not one label alone.
labels() { # TIF WIDTH HEIGHT LEFT
  local info
  info=$(gdalinfo -stats "$1") || return 1
  grep -qx "Size is $2, $3" <<<"$info" || fail "$1 is not $2 x $3" || return 1
  grep -q "Origin = ($4\." <<<"$info" || fail "$1 does not begin at $4" || return 1
  grep -q 'LAYOUT=COG' <<<"$info" || fail "$1 is no cloud-optimised GeoTIFF" || return 1
  grep -q 'NoData Value=255' <<<"$info" || fail "$1 has no nodata value" || return 1
  grep -q '1: building' <<<"$info" || fail "$1 has no class names" || return 1
  grep -q '1: 255,64,64,255' <<<"$info" || fail "$1 has no colours" || return 1
  grep -q 'Minimum=0.000, Maximum=1.000' <<<"$info" || fail "$1 does not hold two labels" || return 1
  [ ! -e "$1.parts" ] || fail "$1.parts is left behind"
}

same() { # TIF TIF: pixel for pixel
  local a b
  a=$(gdalinfo -checksum "$1" | grep Checksum) && b=$(gdalinfo -checksum "$2" | grep Checksum) && [ "$a" = "$b" ] || fail "$1 and $2 differ"
}

# ---- the scripts

check_picture() { size out/mask.png 900 900 && mask out/mask.png 0 255; }
check_folder() {
  local n=0 f
  for f in out/masks/*.png; do
    size "$f" 256 256 && values "$f" | grep -qvxE '0|255' && fail "$f holds other values than 0 and 255" && return 1
    n=$((n + 1))
  done
  [ "$n" = "$(find out/pictures -name '*.png' | wc -l)" ] || fail "$n masks are too few"
}
check_video_overlay() { video out/video-overlay.webm 25; }
check_live_test() { :; }
check_rtp_live() { video out/rtp-live.webm 25; }
check_tee_record() { video out/record.webm 25 && video out/record-mask.webm 25; }
check_uncertainty() { grey out/probability.png && grey out/uncertainty.png && size out/uncertainty.png 900 900; }
check_demo() {
  mask out/mask.png 0 255 && grey out/uncertainty.png && colour out/overlay.png && video out/overlay.webm 25 &&
    grep -q 'three folds' "$work/log" && labels out/mosaic.tif 900 900 733601
}
check_mosaic() { labels out/mosaic.tif 900 900 733601; }
check_mosaic_views() {
  labels out/mosaic-labels.tif 900 900 733601 && gdalinfo out/mosaic-probability.tif | grep -q 'Description = building' &&
    gdalinfo out/mosaic-uncertainty.tif | grep -q 'Scale:0.003937'
}
check_mosaic_bands() { labels out/mosaic-bands.tif 300 900 733901; }
whole() { # TTA: the same in one run, by tiles of the same size
  gst-launch-1.0 -q rastersrc location=out/scene.tif tile-size=256 ! onnxsegment model-file="models/fold*.onnx" tta="$1" \
    ! rastersink location=out/whole.tif
}
check_mosaic_shards() { labels out/mosaic-shards.tif 900 900 733601 && whole flips && same out/whole.tif out/mosaic-shards.tif; }
check_mosaic_resume() { labels out/mosaic-resume.tif 900 900 733601 && whole d4 && same out/whole.tif out/mosaic-resume.tif; }
check_clean() {
  labels out/clean.tif 900 900 733601 && labels out/clean-before.tif 900 900 733601 &&
    ! same out/clean-before.tif out/clean.tif 2>/dev/null && size out/clean.png 1810 900
}
check_big_picture() { size out/big-picture.png 900 900 && mask out/big-picture.png 0 255; }
check_evaluate() {
  grep -q '^building' "$work/log" && grep -q '"expected_error": 0\.' out/report.json && grep -q '"truth_pixels": 7946' out/report.json
}
check_other() { [ -n "$(find out -newer "$work/started" -type f)" ] || fail "it wrote nothing into out/"; }

for script in pipelines/*.sh; do
  name=$(basename "$script" .sh)
  [ "$name" != env ] || continue
  check=check_${name//-/_}
  declare -F "$check" >/dev/null || check=check_other
  touch "$work/started"
  FRAMES=25 OUT=$work/out run "$name" "$check" "$repo/$script"
done

# ---- the lines of the README and of the cookbook

check_lines() { # every location=out/… of a filesink, by its name and kind
  local file
  while read -r file; do
    case $file in
      *%*)
        # shellcheck disable=SC2059 # a pattern of numbered files: the first of them
        file=$(printf "$file" 0)
        ;;
    esac
    [ -s "$file" ] || fail "$file was not written" || return 1
    case $file in
      *-mask.png) size "$file" 900 900 && mask "$file" 0 255 || return 1 ;;
      *-labels.png) size "$file" 900 900 && mask "$file" 0 1 || return 1 ;;
      *-probability.png | *-uncertainty.png) grey "$file" || return 1 ;;
      *-overlay.png) colour "$file" || return 1 ;;
      *.webm) video "$file" 25 || return 1 ;;
      *mosaic*-probability.tif | *mosaic*-uncertainty.tif) gdalinfo "$file" | grep -q Scale: || return 1 ;;
      *-part.tif) labels "$file" 200 200 733700 || return 1 ;;
      *.tif) labels "$file" 900 900 733601 || return 1 ;;
    esac
  done < <(grep -oE '(filesink |rastersink |uncertainty-|probability-)(.* )?location=[^ ]+' "$work/lines.sh" | sed 's/.*=//')
  while read -r file; do
    labels "$file" 900 900 733601 || return 1
  done < <(grep -oE '^onnxsegment-ray run [^ ]+ -o out/[^ ]+-mask\.tif' "$work/lines.sh" | sed 's/.* //')
}

if [ ! -e "$work/out/record.webm" ]; then # for those who ask for single blocks alone
  FRAMES=25 OUT=$work/out "$repo/pipelines/tee-record.sh" >/dev/null
fi
run_blocks() { # FILE NAME: each block of the file that is marked to run, as NAME-1, NAME-2, …
  local k blocks
  blocks=$(grep -c '^```sh run$' "$1")
  [ "$blocks" -gt 0 ] || run "$2-lines" false echo "$1 has no block that is marked to run"
  for ((k = 1; k <= blocks; k++)); do
    awk -v k="$k" '/^```sh run$/ { n++; inside = n == k; next } /^```$/ { inside = 0 } inside' "$1" >"$work/lines.sh"
    run "$2-$k" check_lines bash -euo pipefail "$work/lines.sh"
  done
}
run_blocks README.md readme
run_blocks docs/cookbook.md cookbook
if [ -e .cache/scale/installed.txt ]; then
  PATH=$repo/.cache/scale/bin:$PATH run_blocks docs/scale.md scale
else
  echo "skipped scale-…: Ray is not installed; \`make setup SCALE=1\` does that"
fi

# ---- examples, completions and manual pages

check_example() { # all count the same pixels of the same mask
  grep -q 'the models run on cpu' "$work/log" && grep -q 'a mask of 900x900: [1-9][0-9]* pixels are no background' "$work/log"
}
check_segment() { grep -q '^class 0: [1-9]' "$work/log" && grep -q '^class 1: [1-9]' "$work/log"; }
check_nothing() { :; }
set -- 'models/fold0.onnx' out/scene.png
run example-segment check_segment cargo run --quiet --manifest-path "$repo/Cargo.toml" --example segment -- "$@"
run example-rust check_example cargo run --quiet --manifest-path "$repo/Cargo.toml" --example appsink -- "$@"
run example-python check_example /usr/bin/python3 "$repo/examples/appsink.py" "$@"
compile_c() {
  local flags
  flags=$(pkg-config --cflags --libs gstreamer-app-1.0 gstreamer-video-1.0) || return 1
  # shellcheck disable=SC2086 # several flags
  cc -std=c11 -Wall -Wextra -Werror -o "$work/appsink" "$repo/examples/appsink.c" $flags && "$work/appsink" "$@"
}
run example-c check_example compile_c "$@"

completions() {
  onnxsegment completions bash >"$work/completions" && bash -n "$work/completions" && grep -q select "$work/completions" || return 1
  for shell in zsh fish; do onnxsegment completions "$shell" | grep -q select || return 1; done
}
run completions check_nothing completions
manual_pages() {
  local page warnings
  onnxsegment man -o "$work/man" && [ -s "$work/man/onnxsegment-select.1" ] || return 1
  command -v man >/dev/null || return 0
  for page in "$work"/man/*.1; do
    warnings=$(LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
    [ -z "$warnings" ] || fail "$page: $warnings" || return 1
  done
}
run manual-pages check_nothing manual_pages

echo "shell: $passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
