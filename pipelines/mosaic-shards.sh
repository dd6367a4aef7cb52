#!/usr/bin/env bash
# One raster, several processes: each takes a share of the parts, and whoever comes last puts them together.
#
#   pipelines/mosaic-shards.sh [RASTER [MASK.tif]]      default: the demo scene -> out/mosaic-shards.tif
#
# The processes know nothing of each other; they only write into the same folder, MASK.tif.parts. They may run on several
# machines that share it. A shard that fails is started again, or left to any later run.
#
# Variables: SHARDS=4  PART_SIZE=256,256 (4096,512 suits large rasters)  TILE=256  MODELS=models/fold*.onnx  TTA=flips  OUT=out
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

raster=${1:-${scene%.png}.tif}
mask=${2:-$OUT/mosaic-shards.tif}
shards=${SHARDS:-4}
need "$raster"
mkdir -p "$(dirname "$mask")"

pids=()
for ((i = 1; i <= shards; i++)); do
  launch rastersrc location="$raster" shard="$i/$shards" tile-size="${TILE:-256}" \
    ! onnxsegment model-file="$MODELS" tta="${TTA:-flips}" threads=1 \
    ! rastersink location="$mask" part-size="${PART_SIZE:-256,256}" &
  pids+=($!)
done
failed=0
for pid in "${pids[@]}"; do
  wait "$pid" || failed=$((failed + 1))
done
[ "$failed" = 0 ] || die "$failed of $shards shards failed." "What they finished is in $mask.parts; run this again."

echo "$mask"
