#!/usr/bin/env bash
# Tests scale/ with the Ray that `make setup SCALE=1` has installed, and checks its types and its style. The last line is
# "scale: N passed, M failed", or says that nothing was tested.
#   scale/tests/run.sh [ARGUMENT…]   arguments of pytest
#   ONNXSEGMENT_KILLS=20             how many workers are killed at random moments; default 3
# Needs `make build` and the demo scene.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

python=$PWD/.cache/scale/bin/python
if [ ! -e .cache/scale/installed.txt ]; then
  echo "scale: skipped: Ray is not installed; \`make setup SCALE=1\` does that"
  exit 0
fi
release=${CARGO_TARGET_DIR:-$PWD/target}/release
case $release in /*) ;; *) release=$PWD/$release ;; esac
export ONNXSEGMENT=${ONNXSEGMENT:-$release/onnxsegment}
if [ ! -x "$ONNXSEGMENT" ] || [ ! -e out/scene.tif ]; then
  echo "scale: $ONNXSEGMENT or out/scene.tif is missing: run \`make build\`" >&2
  echo "scale: 0 passed, 1 failed"
  exit 1
fi
cd scale && exec "$python" -m pytest -q -rs "$@"
