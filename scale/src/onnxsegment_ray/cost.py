"""What a run over much land costs: pixels, hours, machines, storage and requests, from rates that the reader states.

All of it is arithmetic; what is measured and what is assumed is the caller's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

BLOCK = 512
"""Side of the blocks that a source is read by, as cloud-optimised GeoTIFFs have them."""


@dataclass(frozen=True)
class Work:
    """What there is to do."""

    square_kilometres: float
    resolution: float
    """Metres of a pixel's side."""
    rate: float
    """Millions of pixels that one worker infers in a second, by one model and one transform."""
    passes: int = 1
    """Models times transforms."""
    workers: int = 64
    efficiency: float = 0.75
    """Of an undisturbed process that runs every tile once, times N, as the simulation has it."""
    tile: int = 1024
    overlap: int = 64
    cell: tuple[int, int] = (4096, 512)
    side: int = 32_768
    """Side of the mosaics that the land is cut into, in pixels."""
    source_bytes: float = 1.2
    """Of a pixel as it is stored."""
    part_bytes: float = 0.02
    mask_bytes: float = 0.01
    assembly: float = 50.0
    """Millions of pixels of a mask that one worker makes of parts in a second."""
    price: float | None = None
    """Of a worker's hour."""


COUNTRY = Work(1e6, 0.5, rate=100.0)
LAND = Work(149e6, 10.0, rate=100.0, source_bytes=4.0)
PLANS = {
    "country, 1 pass": COUNTRY,
    "country, 3 models × `d4`": replace(COUNTRY, passes=24),
    "land of the planet, 1 pass": LAND,
    "land, 3 models × `d4`": replace(LAND, passes=24),
}
"""Those of docs/scale.md. The rate, 100 million pixels a second and pass on one GPU, is assumed and not measured."""


def cost(work: Work) -> dict[str, float]:
    """Everything by name; seconds and bytes are plain."""
    pixels = work.square_kilometres * 1e6 / work.resolution**2
    step = work.tile - work.overlap
    mosaics = pixels / work.side**2
    # Tiles at a mosaic's border are shared with no other mosaic; the last of a row is cut.
    along = -(-work.side // step)
    tiles = mosaics * along**2
    inferred = mosaics * (work.side + along * work.overlap) ** 2
    cells = mosaics * -(-work.side // work.cell[0]) * -(-work.side // work.cell[1])
    seconds = inferred * work.passes / (work.rate * 1e6)
    assembling = pixels / (work.assembly * 1e6)
    worker_seconds = (seconds + assembling) / work.efficiency
    # A tile reaches into so many blocks across, each of which is one range of a file at most.
    across = work.tile / BLOCK + 1
    found = {
        "pixels": pixels,
        "inferred": inferred,
        "tiles": tiles,
        "cells": cells,
        "mosaics": mosaics,
        "inference_seconds": seconds,
        "assembly_seconds": assembling,
        "worker_seconds": worker_seconds,
        "seconds": worker_seconds / work.workers,
        "source_bytes": pixels * work.source_bytes,
        "part_bytes": pixels * work.part_bytes,
        "mask_bytes": pixels * work.mask_bytes,
        "get_source": tiles * across**2,
        "put_parts": cells,
        "get_parts": cells,
        "delete_parts": cells,
        # A manifest and a mask for each mosaic.
        "put_mosaics": 2 * mosaics,
    }
    if work.price is not None:
        found["price"] = worker_seconds / 3600 * work.price
    return found


def number(value: float) -> str:
    """Three digits."""
    if value >= 1e9:
        mantissa, _, exponent = f"{value:.2e}".partition("e+")
        power = str(int(exponent)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return f"{float(mantissa):g} × 10{power}"
    if value >= 1e6:
        return f"{value / 1e6:.3g} million"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def size(value: float) -> str:
    for unit, word in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= unit:
            return f"{value / unit:.3g} {word}"
    return f"{value:.0f} B"


def time(seconds: float) -> str:
    for unit, word in ((86_400.0 * 365, "years"), (86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {word}"
    return f"{seconds:.3g} seconds"


def table(works: dict[str, Work]) -> str:
    """Several plans side by side, in Markdown."""
    costs = {name: cost(work) for name, work in works.items()}

    def line(what: str, of: Any) -> str:
        return "| " + " | ".join([what, *(of(works[name], found) for name, found in costs.items())]) + " |"

    rows = [
        "| | " + " | ".join(costs) + " |",
        "|---" * (len(costs) + 1) + "|",
        line("area, km²", lambda w, f: number(w.square_kilometres)),
        line("pixel, m", lambda w, f: f"{w.resolution:g}"),
        line("models × transforms", lambda w, f: str(w.passes)),
        line("rate, million pixels/s, worker and pass", lambda w, f: f"{w.rate:g}"),
        line("pixels", lambda w, f: number(f["pixels"])),
        line("inferred, with overlap", lambda w, f: f"{f['inferred'] / f['pixels']:.3f} ×"),
        line("tiles", lambda w, f: number(f["tiles"])),
        line("mosaics", lambda w, f: f"{number(f['mosaics'])} of {w.side:,}² pixels"),
        line("cells", lambda w, f: number(f["cells"])),
        line("**worker hours**", lambda w, f: f"**{number(f['worker_seconds'] / 3600)}**"),
        line("of which making rasters", lambda w, f: number(f["assembly_seconds"] / 3600)),
        line("**time**", lambda w, f: f"**{time(f['seconds'])}** on {w.workers} workers"),
        line("source to read", lambda w, f: size(f["source_bytes"])),
        line("parts, at most at a time", lambda w, f: size(f["part_bytes"])),
        line("masks", lambda w, f: size(f["mask_bytes"])),
        line("GET of the source, at most", lambda w, f: number(f["get_source"])),
        line("PUT, parts and masks", lambda w, f: number(f["put_parts"] + f["put_mosaics"])),
        line("GET of parts", lambda w, f: number(f["get_parts"])),
    ]
    if any("price" in found for found in costs.values()):
        rows.append(line("price", lambda w, f: number(f["price"]) if "price" in f else ""))
    return "\n".join(rows)
