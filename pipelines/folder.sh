#!/usr/bin/env bash
# A folder of pictures in, a folder of masks out: one pipeline for all, so that the models are loaded once.
#
#   pipelines/folder.sh [PICTURES [MASKS]]
#         default: out/pictures (filled with windows of the demo scene when it is not there) -> out/masks
#
# multifilesrc wants numbered names, so the pictures are linked under numbers, and their masks renamed afterwards:
# PICTURES/NAME.png becomes MASKS/NAME.png. The pictures may differ in size.
#
# Variables: EXT=png (or jpg)  MODELS=models/fold*.onnx  TTA=flips  MASK_VALUES=0,255  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

pictures=${1:-$OUT/pictures}
masks=${2:-$OUT/masks}
EXT=${EXT:-png}
case $EXT in
  png) decoder=(pngdec) type=image/png ;;
  jpg | jpeg) decoder=(jpegdec) type=image/jpeg ;;
  *) die "EXT=$EXT: unknown." "Use png or jpg." ;;
esac
if [ $# = 0 ] && [ ! -d "$pictures" ]; then
  begin "$OUT"
  window_frames 4 256
  mkdir "$work/pictures"
  mv "$work"/frame-*.png "$work/pictures"
  mv "$work/pictures" "$pictures"
  rm -rf "$work"
fi
[ -d "$pictures" ] || die "there is no folder $pictures."
begin "$masks"

names=()
for picture in "$pictures"/*."$EXT"; do
  [ -f "$picture" ] || continue
  ln -s "$(realpath "$picture")" "$work/$(printf 'in-%06d' ${#names[@]})"
  names+=("$(basename "$picture" ".$EXT")")
done
[ ${#names[@]} -gt 0 ] || die "there is no *.$EXT in $pictures."

launch multifilesrc location="$work/in-%06d" caps="$type,framerate=25/1" ! "${decoder[@]}" ! videoconvert \
  ! onnxsegment model-file="$MODELS" tta="${TTA:-flips}" mask-values="${MASK_VALUES:-0,255}" \
  ! pngenc ! multifilesink location="$work/mask-%06d.png"

for i in "${!names[@]}"; do
  publish "$(printf 'mask-%06d.png' "$i")" "$masks/${names[i]}.png"
done
