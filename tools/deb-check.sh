#!/usr/bin/env bash
# Installs the Debian package that `make deb` has made in a bare root of its suite, tries it there, and removes it again. For Debian
# and its relatives, as root. Needs the demo scene and ONNX Runtime, as `make setup` puts them there.
#   tools/deb-check.sh [PACKAGE.deb] [SUITE]    default: the newest in target/debian, and the suite that its version names
#   DEB_CHECK_DIR   where bare roots are kept; default ${XDG_CACHE_HOME:-~/.cache}/onnxsegment/deb-check
#   MIRROR          where packages come from; default the Debian mirror of this machine's apt, else deb.debian.org
# shellcheck disable=SC2016  # apt and the inner shell expand what is quoted here
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
  echo "deb-check: $*" >&2
  exit 1
}

# ---- in the root -----------------------------------------------------------------------------------------------

inside() {
  export DEBIAN_FRONTEND=noninteractive HOME=/root
  local quiet=(-qq -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root)
  local name=onnxsegment log=/tmp/apt.log
  check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@" >/tmp/check.log 2>&1; then echo "ok $what"; else
      echo "FAILED $what"
      sed 's/^/    /' /tmp/check.log
      failed=1
    fi
  }
  failed=
  apt-get "${quiet[@]}" update >"$log" 2>&1 || die "apt-get update: $(tail -n 3 "$log")"
  # Without what it recommends: it has to start with what it depends on.
  apt-get "${quiet[@]}" install -y --no-install-recommends /check/package.deb >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    die "the package cannot be installed"
  }
  echo "installed: $(dpkg-query -W -f='${Package} ${Version}, ${Installed-Size} kB; depends on ${Depends}' $name)"
  mapfile -t files < <(dpkg -L $name)

  has() { for file in "$@"; do [ -s "$file" ] || { echo "$file is missing"; return 1; }; done; }
  linked() { for file in /usr/bin/$name /usr/lib/*/gstreamer-1.0/libgst$name.so; do ! ldd "$file" | grep 'not found' || return 1; done; }
  completions() {
    has /usr/share/bash-completion/completions/$name /usr/share/zsh/vendor-completions/_$name \
      /usr/share/fish/vendor_completions.d/$name.fish && bash -n /usr/share/bash-completion/completions/$name
  }
  manuals() {
    local verb
    has /usr/share/man/man1/$name.1.gz || return 1
    for verb in $($name help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\+\) .*/\1/p' | grep -v '^help$'); do
      has "/usr/share/man/man1/$name-$verb.1.gz" && gzip -t "/usr/share/man/man1/$name-$verb.1.gz" || return 1
    done
  }
  documents() { has /usr/share/doc/$name/copyright /usr/share/doc/$name/README.md && { has /usr/share/doc/$name/CHANGELOG.md || has /usr/share/doc/$name/CHANGELOG.md.gz; }; }
  check "nothing is missing that it links to" linked
  check "completions" completions
  check "manual pages, one for each verb" manuals
  check "documents" documents
  apt-get "${quiet[@]}" install -y --no-install-recommends gstreamer1.0-tools >"$log" 2>&1
  # What it recommends, where the suite has it; else the library that was brought along.
  local ort
  ort=$(apt-cache search --names-only '^libonnxruntime1\.[0-9]+$' | head -n 1 | cut -d ' ' -f 1)
  if [ -n "$ort" ]; then
    apt-get "${quiet[@]}" install -y --no-install-recommends "$ort" >"$log" 2>&1 || die "$ort cannot be installed: $(tail -n 3 "$log")"
    echo "ONNX Runtime: $(dpkg-query -W -f='${Package} ${Version}' "$ort")"
  else
    export ORT_DYLIB_PATH=/check/libonnxruntime.so
    echo "ONNX Runtime: ORT_DYLIB_PATH=$ORT_DYLIB_PATH"
  fi
  check "gst-inspect-1.0 knows every element" sh -c \
    'for e in onnxsegment rastersrc rastersink tilesplit tilemerge maskclean maskmetrics; do gst-inspect-1.0 $e >/dev/null || exit 1; done'
  check "onnxsegment doctor" $name doctor
  [ -n "$failed" ] || grep -E '^  ok  *(GStreamer|plugin|library|GDAL):' /tmp/check.log
  cd /tmp
  check "onnxsegment run" $name run /check/scene.tif -o mask.tif -m /check/model.onnx --tta hflip --report run.html
  [ -n "$failed" ] || tail -n 1 /tmp/check.log
  check "a mask, its item, a page" has mask.tif mask.json run.html
  check "footprints" sh -c "$name footprints mask.tif -o houses.geojson --orthogonalise && grep -q Polygon houses.geojson"
  check "the same by gst-launch-1.0" sh -c \
    'gst-launch-1.0 -q rastersrc location=/check/scene.tif ! onnxsegment model-file=/check/model.onnx tta=hflip ! rastersink location=again.tif && cmp mask.tif again.tif'
  check "eval" sh -c "$name eval --mask mask.tif --truth /check/truth.png | grep -A3 IoU"
  [ -n "$failed" ] || cat /tmp/check.log

  apt-get "${quiet[@]}" purge -y $name >"$log" 2>&1 || die "the package cannot be removed: $(tail -n 3 "$log")"
  gone() {
    local file left=0
    for file in "${files[@]}"; do [ -d "$file" ] || [ ! -e "$file" ] || { echo "$file is left"; left=1; }; done
    find / -xdev -path /check -prune -o -path /tmp -prune -o -path /var/lib/apt -prune -o -path /var/cache -prune -o -path /proc -prune -o \
      -path '/var/log/*' -prune -o -name "*$name*" -print | grep . && left=1
    return $left
  }
  check "nothing is left of it" gone
  [ -z "$failed" ]
}

if [ "${1:-}" = --inside ]; then
  inside
  exit
fi

# ---- outside ---------------------------------------------------------------------------------------------------

if [ "${1:-}" = --mounted ]; then
  root=$2
  mount --rbind /proc "$root/proc"
  mount --rbind /dev "$root/dev"
  exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 chroot "$root" bash /check/deb-check.sh --inside
fi

[ "$(id -u)" = 0 ] || die "needs root, to make a root file system and enter it; run it by sudo -E"
package=${1:-$(ls -t "$project"/target/debian/*.deb 2>/dev/null | head -n 1)}
[ -f "$package" ] || die "${package:-target/debian/*.deb}: there is no package; run make deb"
suite=${2:-}
if [ -z "$suite" ]; then
  case $(dpkg-deb -f "$package" Version) in
    *debian12) suite=bookworm ;;
    *debian13) suite=trixie ;;
    *) die "$package: its version names no suite; name it: tools/deb-check.sh $package SUITE" ;;
  esac
fi
ort=${ORT_DYLIB_PATH:-${XDG_DATA_HOME:-$HOME/.local/share}/onnxsegment/onnxruntime/libonnxruntime.so}
for file in "$ort" "$project/out/scene.tif" "$project/out/truth.png"; do
  [ -f "$file" ] || die "$file is missing; run make setup"
done
command -v debootstrap >/dev/null || die "debootstrap is missing; apt-get install debootstrap"

dir=${DEB_CHECK_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/onnxsegment/deb-check}
base=$dir/$suite
if [ ! -e "$base" ]; then
  mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m 1 -E '/debian/?$' || true)}
  mirror=${mirror:-http://deb.debian.org/debian}
  echo "deb-check: making a root of $suite in $base from $mirror" >&2
  mkdir -p "$dir"
  rm -rf "$base.part"
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$base.part" "$mirror" >"$dir/$suite.log" 2>&1 ||
    die "debootstrap failed: $(tail -n 3 "$dir/$suite.log")"
  mv "$base.part" "$base"
fi
root=$(mktemp -d "$dir/$suite.XXXXXX")
trap 'rm -rf --one-file-system "$root"' EXIT
cp -a "$base/." "$root"
# How this machine reaches its mirror.
for file in /etc/resolv.conf /etc/hosts; do cat "$file" >"$root$file"; done
apt-config dump Acquire::http Acquire::https >"$root/etc/apt/apt.conf.d/90host"
mkdir "$root/check"
cp "$package" "$root/check/package.deb"
cp "$project/tools/deb-check.sh" "$project/out/scene.tif" "$project/out/truth.png" "$root/check"
cp "$project/models/fold0.onnx" "$root/check/model.onnx"
cp -L "$ort" "$root/check/libonnxruntime.so"
echo "deb-check: $package in a bare root of $suite"
# What is mounted goes with the namespace.
unshare --mount "$0" --mounted "$root"
