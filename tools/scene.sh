#!/usr/bin/env bash
# Makes the demo scene from the sample that ships in the PyPI wheel solaris 0.4.0.
#
#   tools/scene.sh WHEEL OUTDIR
#
# Writes into OUTDIR:
#   scene.tif   900x900, three identical uint8 bands (RGB), georeferenced, nodata 0
#   scene.png   the same pixels, RGB 8 bit
#   truth.png   900x900, 8-bit grey: 255 building, 0 background
#
# Needs unzip and gdal-bin. Does nothing when the three files are newer than the wheel and this
# script. Each file appears whole or not at all.
set -euo pipefail

# Source values LO..HI become 1..255, linearly; 0 stays 0 (the source's nodata value, which this
# scene does not use). They are about the 0.5 and 99.5 percentiles of the scene.
LO=100
HI=1400

if [ $# -ne 2 ]; then
    echo "usage: $0 WHEEL OUTDIR" >&2
    exit 2
fi
wheel=$1
out=$2

if [ ! -r "$wheel" ]; then
    echo "$0: cannot read the wheel '$wheel'" >&2
    exit 1
fi
for tool in unzip gdal_translate gdal_rasterize ogr2ogr; do
    if ! command -v "$tool" >/dev/null; then
        echo "$0: '$tool' is missing; on Debian: apt-get install unzip gdal-bin" >&2
        exit 1
    fi
done

up_to_date() {
    local name
    for name in scene.tif scene.png truth.png; do
        [ "$out/$name" -nt "$wheel" ] && [ "$out/$name" -nt "$0" ] || return 1
    done
}
if up_to_date; then
    exit 0
fi

mkdir -p "$out"
# Inside OUTDIR, so that the final renames stay on one file system.
tmp=$(mktemp -d "$out/.scene.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# No .aux.xml beside the products.
export GDAL_PAM_ENABLED=NO

unzip -q -j "$wheel" solaris/data/sample_geotiff.tif solaris/data/geotiff_labels.geojson -d "$tmp"

# A lookup table clips at both ends in every GDAL release; "gdal_translate -scale" leaves the low
# end to the type conversion, which would turn dark pixels into 0.
band() {
    cat <<EOF
  <VRTRasterBand dataType="Byte" band="$1">
    <ColorInterp>$2</ColorInterp>
    <ComplexSource>
      <SourceFilename relativeToVRT="1">sample_geotiff.tif</SourceFilename>
      <SourceBand>1</SourceBand>
      <SrcRect xOff="0" yOff="0" xSize="900" ySize="900"/>
      <DstRect xOff="0" yOff="0" xSize="900" ySize="900"/>
      <LUT>0:0,1:1,$LO:1,$HI:255</LUT>
    </ComplexSource>
  </VRTRasterBand>
EOF
}
{
    cat <<EOF
<VRTDataset rasterXSize="900" rasterYSize="900">
  <SRS>EPSG:32616</SRS>
  <GeoTransform>733601.0, 0.5, 0.0, 3725139.0, 0.0, -0.5</GeoTransform>
EOF
    band 1 Red
    band 2 Green
    band 3 Blue
    echo "</VRTDataset>"
} >"$tmp/scene.vrt"

gdal_translate -q -of GTiff -a_nodata 0 \
    -co COMPRESS=DEFLATE -co PREDICTOR=2 -co TILED=YES -co PHOTOMETRIC=RGB \
    "$tmp/scene.vrt" "$tmp/scene.tif"
# From the VRT, which has no nodata value: with one, PNG would gain transparency.
gdal_translate -q -of PNG "$tmp/scene.vrt" "$tmp/scene.png"

# Footprints in the scene's CRS, then burnt where a pixel's centre lies inside.
ogr2ogr -q -f GeoJSON -t_srs EPSG:32616 "$tmp/footprints.geojson" "$tmp/geotiff_labels.geojson"
gdal_rasterize -q -burn 255 -init 0 -ot Byte \
    -te 733601 3724689 734051 3725139 -ts 900 900 \
    "$tmp/footprints.geojson" "$tmp/truth.tif"
gdal_translate -q -of PNG "$tmp/truth.tif" "$tmp/truth.png"

for name in scene.tif scene.png truth.png; do
    mv -f "$tmp/$name" "$out/$name"
done
