#!/usr/bin/env bash
# Builds, tests and measures the feature v1_26 in a root of Debian 13, which has GStreamer 1.26, its onnxinference, and ONNX
# Runtime 1.21 as packages. For Debian and its relatives, as root, with rustup's cargo. The first run takes 3 GB and some minutes.
#   tools/debian13.sh test [ARGUMENT...]    the tests of tests/interop
#   tools/debian13.sh bench [ARGUMENT...]   frames per second beside onnxinference (benches/interop.rs)
#   tools/debian13.sh run COMMAND...        any command in the root, in the project's folder
#   DEBIAN13_DIR   where the root and what is built there are kept; default ${XDG_CACHE_HOME:-~/.cache}/onnxsegment/debian13
#   SUITE          another suite of Debian, in a DEBIAN13_DIR of its own; default trixie
#   MIRROR         where packages come from; default the Debian mirror of this machine's apt, else deb.debian.org
# Crates are fetched outside; inside, cargo is offline. CARGO_PROFILE_*, GST_*, ORT_* and RUST* variables are passed on.
# shellcheck disable=SC2016  # apt and the inner shell expand what is quoted here
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir=${DEBIAN13_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/onnxsegment/debian13}
suite=${SUITE:-trixie}
root=$dir/root target=$dir/target
export RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}

packages=(
  build-essential pkg-config ca-certificates
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev   # the last has the analytics library
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
  gstreamer1.0-plugins-bad                                                               # onnxinference, the overlays
  libonnxruntime-dev
  libgdal-dev                                                                            # for a build with all features
)

die() {
  echo "debian13: $*" >&2
  exit 1
}

usage() {
  sed -n '4,6s/^#   //p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

# ---- outside ---------------------------------------------------------------------------------------------------

mirror() {
  if [ -z "${MIRROR:-}" ] && command -v apt-get >/dev/null; then
    MIRROR=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m 1 -E '/debian/?$' || true)
  fi
  echo "${MIRROR:-http://deb.debian.org/debian}"
}

make_root() {
  [ -e "$root" ] && return
  command -v debootstrap >/dev/null || die "debootstrap is missing; apt-get install debootstrap"
  rm -rf "$root.part"
  mkdir -p "$dir" "$target"
  echo "debian13: making a root of $suite in $root from $(mirror)" >&2
  # A suite younger than debootstrap is made as sid is.
  local script=$suite
  [ -e "/usr/share/debootstrap/scripts/$suite" ] || script=sid
  debootstrap --variant=minbase "$suite" "$root.part" "$(mirror)" "$script" >"$dir/debootstrap.log" 2>&1 ||
    die "debootstrap failed: $(tail -n 3 "$dir/debootstrap.log")"
  mv "$root.part" "$root"
}

# ---- in a mount namespace of its own: what is mounted goes with it ---------------------------------------------

bind() { # FROM [TO]
  local to=$root${2:-$1}
  mkdir -p "$to"
  mount --rbind "$1" "$to"
}

inside() {
  local pass=()
  mapfile -t pass < <(env | grep -E '^(CARGO_PROFILE_[A-Z_]+|CARGO_BUILD_JOBS|GST_[A-Z_]+|G_DEBUG|ORT_[A-Z_]+|RUST[A-Z_]*)=' || true)
  env -i "${pass[@]}" HOME="$HOME" PATH="$CARGO_HOME/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    LANG=C.UTF-8 RUSTUP_HOME="$RUSTUP_HOME" CARGO_HOME="$CARGO_HOME" CARGO_TARGET_DIR=/target CARGO_NET_OFFLINE=true \
    "$(command -v chroot)" "$root" sh -c 'cd "$0" && exec "$@"' "${in:-/}" "$@"
}

install_packages() {
  local wanted="$suite ${packages[*]}" mark=$root/var/lib/onnxsegment-packages
  if [ "$(cat "$mark" 2>/dev/null)" = "$wanted" ]; then return; fi
  echo "debian13: installing ${#packages[@]} packages and what they need" >&2
  # How this machine reaches its mirror.
  for file in /etc/resolv.conf /etc/hosts; do cat "$file" >"$root$file"; done
  if command -v apt-config >/dev/null; then apt-config dump Acquire::http Acquire::https >"$root/etc/apt/apt.conf.d/90host"; fi
  {
    inside apt-get update
    inside env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
    inside apt-get clean
  } >"$dir/packages.log" 2>&1 || die "packages could not be installed: $(tail -n 3 "$dir/packages.log")"
  echo "$wanted" >"$mark"
}

mounted() {
  bind /proc
  bind /dev
  install_packages
  bind "$RUSTUP_HOME"
  bind "$CARGO_HOME"
  bind "$project" /project
  bind "$target" /target
  in=/project inside "$@"
}

if [ "${1:-}" = --mounted ]; then
  shift
  mounted "$@"
  exit
fi
[ $# -gt 0 ] || usage
verb=$1
shift
features=(--locked --no-default-features --features v1_26)
case $verb in
  test) command=(cargo test "${features[@]}" --test interop "$@") ;;
  bench) command=(cargo bench "${features[@]}" --bench interop -- "$@") ;;
  run) [ $# -gt 0 ] || usage; command=("$@") ;;
  *) usage ;;
esac
[ "$(id -u)" = 0 ] || die "needs root, to make a root file system and enter it; run it by sudo -E"
for folder in "$RUSTUP_HOME" "$CARGO_HOME"; do
  [ -d "$folder" ] || die "$folder is missing; install Rust by https://rustup.rs, or set RUSTUP_HOME and CARGO_HOME"
done
make_root
mkdir -p "$target"
cargo fetch --quiet --locked --manifest-path "$project/Cargo.toml"
exec unshare --mount "$0" --mounted "${command[@]}"
