#!/usr/bin/env bash
# Makes the one file that the page of `onnxsegment view` takes from OpenLayers, and its licences, from web/. Both are kept in
# the repository: run it only to change the version or what is taken. It needs npm and its access to a package registry.
#
#   tools/web.sh     writes src/bin/onnxsegment/view/page/ol.js and ol.licence.txt
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

page=src/bin/onnxsegment/view/page
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cp web/package.json web/package-lock.json web/ol.js "$tmp"
(
  cd "$tmp"
  npm ci --silent --no-audit --no-fund --ignore-scripts
  npx esbuild ol.js --bundle --minify --format=esm --target=es2020 --legal-comments=none \
    --metafile=meta.json --outfile=ol.min.js --log-level=warning
  # The licences of the packages that code was taken from.
  node -e '
    const fs = require("fs");
    const names = new Set(Object.keys(require("./meta.json").inputs).map(f => f.match(/node_modules\/([^/]+)\//)?.[1]));
    for (const name of [...names].filter(Boolean).sort()) {
      const folder = `node_modules/${name}/`;
      const { version, license } = require(`./${folder}package.json`);
      const file = fs.readdirSync(folder).find(f => /^licen[cs]e/i.test(f));
      console.log(`${name} ${version} (${license})\n\n${fs.readFileSync(folder + file, "utf8").trim()}\n\n`);
    }' >ol.licence.txt
)
{
  echo "// OpenLayers $(node -p "require('$tmp/node_modules/ol/package.json').version"), the parts named in web/ol.js. Licences: ol.licence.txt"
  cat "$tmp/ol.min.js"
} >"$tmp/ol.js"
mkdir -p "$page"
mv -f "$tmp/ol.js" "$tmp/ol.licence.txt" "$page"
wc -c "$page/ol.js"
