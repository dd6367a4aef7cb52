r"""How long `onnxsegment view` takes for a tile: at each level up to 12 tiles of the image, first read and then from its cache.

    benches/view_tiles.py COMMAND RASTER...

The rasters of docs/view.md: 10,000 x 10,000 RGB, the demo scene enlarged,
    gdal_translate -r bilinear -outsize 10000 10000 -co TILED=YES -co BLOCKXSIZE=512 -co BLOCKYSIZE=512 \
        -co COMPRESS=DEFLATE -co ZLEVEL=1 -co PREDICTOR=2 out/scene.tif plain.tif
    gdal_translate -of COG -co COMPRESS=DEFLATE -co LEVEL=1 -co PREDICTOR=YES plain.tif cog.tif
"""

import http.client
import json
import statistics
import subprocess
import sys
import time


def measure(command, raster):
    begun = time.perf_counter()
    line = [command, "view", raster, "--port", "0", "--no-open"]
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    host = server.stdout.readline().strip().removeprefix("http://").rstrip("/")
    started = (time.perf_counter() - begun) * 1000
    connection = http.client.HTTPConnection(host)

    def get(path):
        begun = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return (time.perf_counter() - begun) * 1000, body

    took, body = get("/info")
    info = json.loads(body)
    print(f"{raster}: address after {started:.0f} ms, /info {took:.0f} ms")
    levels = info["layers"][0]["levels"]
    for level in range(levels):
        factor = 2 ** (levels - 1 - level)
        side = factor * info["tile"]
        tiles = [(x, y) for x in range(-(-info["width"] // side)) for y in range(-(-info["height"] // side))]
        tiles = tiles[:: max(1, len(tiles) // 12)][:12]
        paths = [f"/tiles/image/{level}/{x}/{y}.png" for x, y in tiles]
        read, cached = ([get(path)[0] for path in paths] for _ in range(2))
        print(
            f"  1:{factor:<3d} {len(paths):2d} tiles: median {statistics.median(read):.1f} ms, most {max(read):.1f} ms,"
            f" from the cache {statistics.median(cached):.2f} ms"
        )
    peak = next(line for line in open(f"/proc/{server.pid}/status") if line.startswith("VmHWM"))
    print(f"  peak memory {int(peak.split()[1]) >> 10} MB")
    server.terminate()


for raster in sys.argv[2:]:
    measure(sys.argv[1], raster)
