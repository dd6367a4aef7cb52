"""What there is to do of a mosaic, as ``onnxsegment plan`` tells it, and what lists of its cells cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Axis:
    """One direction of the tile grid: tile ``k`` reaches from ``k * step - halo`` to ``(k + 1) * step + halo``."""

    length: int
    tile: int
    overlap: int

    @property
    def step(self) -> int:
        return self.tile - self.overlap

    def touching(self, start: int, end: int, cores: bool) -> range:
        """The tiles that reach into pixels ``start`` to ``end``, by their cores alone or by all of them."""
        halo = 0 if cores else self.overlap // 2
        last = -(-self.length // self.step)
        return range(min(max(start - halo, 0) // self.step, last), min(-(-(end + halo) // self.step), last))


@dataclass(frozen=True)
class Mosaic:
    """One input and what is to become of it."""

    input: str
    output: str
    identity: str
    """A name for the run: the same wherever parts are parts of one another."""
    region: tuple[int, int, int, int]
    """x, y, width, height in pixels."""
    part: tuple[int, int]
    """Width and height of a cell in pixels."""
    x: Axis
    y: Axis
    cores: bool
    """Only cores of tiles count, so that a tile is needed by the cells under its core."""
    cells: int
    empty: frozenset[int] = frozenset()
    """Cells without data, which no worker need see."""
    done: frozenset[int] = frozenset()
    versions: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)

    @staticmethod
    def read(told: dict[str, Any]) -> Mosaic:
        """From a line of ``onnxsegment plan --json``."""
        region, lattice, grid = told["region"], told["lattice"], told["grid"]

        def axis(of: dict[str, Any]) -> Axis:
            return Axis(of["length"], of["tile"], of["overlap"])

        return Mosaic(
            input=told["input"],
            output=told["output"],
            identity=told["identity"],
            region=(region["x"], region["y"], region["width"], region["height"]),
            part=(lattice["part_width"], lattice["part_height"]),
            x=axis(grid["x"]),
            y=axis(grid["y"]),
            cores=told["cores"],
            cells=told["cells"],
            empty=frozenset(told["empty"]),
            done=frozenset(told["done"]),
            versions=told.get("versions", {}),
        )

    def _columns(self) -> range:
        x, _, width, _ = self.region
        return range(x // self.part[0], (x + width - 1) // self.part[0] + 1)

    def rect(self, cell: int) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of a cell in pixels, as far as it lies in the region."""
        x, y, width, height = self.region
        columns = self._columns()
        column = columns.start + cell % len(columns)
        row = y // self.part[1] + cell // len(columns)
        left, top = column * self.part[0], row * self.part[1]
        right, bottom = min(left + self.part[0], x + width), min(top + self.part[1], y + height)
        return max(left, x), max(top, y), right, bottom

    def pixels(self, cell: int) -> int:
        left, top, right, bottom = self.rect(cell)
        return (right - left) * (bottom - top)

    def tiles(self, cell: int) -> Iterable[int]:
        """The tiles that a cell needs."""
        left, top, right, bottom = self.rect(cell)
        columns = -(-self.x.length // self.x.step)
        across = self.x.touching(left, right, self.cores)
        for row in self.y.touching(top, bottom, self.cores):
            yield from range(row * columns + across.start, row * columns + across.stop)

    def cost(self, cells: Iterable[int]) -> int:
        """How many tiles a list of cells needs: each once, however many of the cells it reaches into."""
        return len({tile for cell in cells for tile in self.tiles(cell)})

    def to_do(self) -> list[int]:
        """The cells that are neither finished nor empty, neighbours beside each other: a piece of the list is a patch
        of the mosaic with a short border, whose tiles others need too."""
        columns = self._columns()
        high = max(1, round(self.part[0] / self.part[1]))
        side = 1 << (max(len(columns), self.cells // len(columns) // high + 1) - 1).bit_length()
        open_cells = [k for k in range(self.cells) if k not in self.done and k not in self.empty]

        def place(cell: int) -> tuple[int, int]:
            row, column = divmod(cell, len(columns))
            return hilbert(side, column, row // high), row

        return sorted(open_cells, key=place)


def hilbert(side: int, x: int, y: int) -> int:
    """How far along Hilbert's curve through ``side`` by ``side`` places, a power of two, a place lies."""
    far = 0
    step = side // 2
    while step > 0:
        right, down = int(x & step > 0), int(y & step > 0)
        far += step * step * ((3 * right) ^ down)
        if down == 0:
            if right == 1:
                x, y = side - 1 - x, side - 1 - y
            x, y = y, x
        step //= 2
    return far


def ranges(cells: Sequence[int]) -> str:
    """``0-3,7``, as the property ``cells`` of rastersrc has it."""
    found: list[list[int]] = []
    for cell in sorted(cells):
        if found and cell == found[-1][1] + 1:
            found[-1][1] = cell
        else:
            found.append([cell, cell])
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in found)
