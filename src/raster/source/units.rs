//! The units in which a raster is read. A unit is a rectangle made of whole blocks of the file, so that no block is read
//! for two units; in a mosaic of many files the units follow the files and their blocks.

use std::ops::Range;

use crate::raster::Rect;

/// Units are at least this wide and high where a file's blocks are smaller, or hold as many pixels where blocks are
/// whole rows.
const LEAST: i64 = 256;
/// Larger blocks are cut into units, which GDAL's own cache then serves.
const MOST_BYTES: i64 = 64 << 20;

/// The lines between units along both axes, each from 0 to the raster's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units {
    pub x: Vec<i64>,
    pub y: Vec<i64>,
}

/// One file's place in a mosaic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// In the mosaic.
    pub rect: Rect,
    /// Where in the file it begins.
    pub from: (i64, i64),
    /// Size of the file's blocks; 0 where not known or where its pixels are scaled.
    pub block: (i64, i64),
}

impl Units {
    /// Of a raster of `width` × `height` pixels of `bytes` each, in blocks of the given size.
    pub fn uniform(width: i64, height: i64, block: (i64, i64), bytes: i64) -> Self {
        let (block_width, block_height) = (block.0.clamp(1, width), block.1.clamp(1, height));
        let up = |n: i64, unit: i64| (n + unit - 1) / unit * unit;
        let (w, mut h) = match block_width == width {
            true => (width, up(LEAST * LEAST / width, block_height).max(block_height)),
            false => (up(LEAST, block_width), up(LEAST, block_height)),
        };
        if w * h * bytes > MOST_BYTES {
            // Whole blocks as far as they fit, else a part of one.
            let fit = MOST_BYTES / 4 / (w * bytes);
            h = (fit / block_height * block_height).max(fit.clamp(1, block_height));
        }
        Units { x: lines(width, w), y: lines(height, h) }
    }

    /// Of a mosaic. `None` where its files lie so irregularly that units would become small.
    pub fn of_mosaic(width: i64, height: i64, pieces: &[Piece]) -> Option<Self> {
        let bounds = Rect::new(0, 0, width, height);
        let (mut x, mut y) = (vec![0, width], vec![0, height]);
        for piece in pieces {
            let rect = piece.rect.intersect(&bounds);
            if rect.is_empty() {
                continue;
            }
            let axis = |lines: &mut Vec<i64>, full: Range<i64>, cut: Range<i64>, from: i64, step: i64| {
                lines.extend([cut.start, cut.end]);
                if step > 0 && step < full.end - full.start {
                    let first = full.start - from.rem_euclid(step);
                    lines.extend(
                        (1..).map(|k| first + k * step).take_while(|v| *v < cut.end).filter(|v| *v > cut.start),
                    );
                }
            };
            let p = piece.rect;
            let (w, h) = piece.block;
            let up = |n: i64, unit: i64| if unit > 0 { (n + unit - 1) / unit * unit } else { 0 };
            // Blocks that are whole rows of a file are gathered like those of a single raster.
            let rows = if w >= p.width { up((LEAST * LEAST / p.width.max(1)).max(1), h) } else { up(LEAST, h) };
            axis(&mut x, p.x..p.right(), rect.x..rect.right(), piece.from.0, up(LEAST, w));
            axis(&mut y, p.y..p.bottom(), rect.y..rect.bottom(), piece.from.1, rows);
        }
        for lines in [&mut x, &mut y] {
            lines.sort_unstable();
            lines.dedup();
        }
        let units = Units { x, y };
        let average = |length: i64, count: usize| length / count as i64;
        let (w, h) = (average(width, units.columns()), average(height, units.rows()));
        let fine = (w * h >= 64 * 64 || units.count() < 4096) && units.count() < 1 << 22;
        fine.then_some(units)
    }

    pub fn columns(&self) -> usize {
        self.x.len() - 1
    }

    pub fn rows(&self) -> usize {
        self.y.len() - 1
    }

    pub fn count(&self) -> usize {
        self.columns() * self.rows()
    }

    pub fn rect(&self, column: usize, row: usize) -> Rect {
        let (x, y) = (self.x[column], self.y[row]);
        Rect::new(x, y, self.x[column + 1] - x, self.y[row + 1] - y)
    }
}

/// The units of one axis that a range of pixels, which lies in the raster, reaches into.
pub fn touched(lines: &[i64], range: &Range<i64>) -> Range<usize> {
    let first = lines.partition_point(|line| *line <= range.start) - 1;
    first..lines.partition_point(|line| *line < range.end)
}

fn lines(length: i64, step: i64) -> Vec<i64> {
    (0..).map(|k| k * step).take_while(|line| *line < length).chain([length]).collect()
}

/// Reads a VRT's text: the places of the files of `bands`. `None` where bands are made in any other way than from
/// files put side by side, so that their places say nothing.
pub fn pieces(vrt: &str, bands: &[usize]) -> Option<Vec<Piece>> {
    if vrt.contains("subClass=") {
        return None;
    }
    let mut found: Vec<Piece> = Vec::new();
    for band in vrt.split("<VRTRasterBand ").skip(1) {
        let head = &band[..band.find('>')?];
        // Mask bands have no number.
        let Some(number) = attribute(head, "band").and_then(|n| n.parse::<usize>().ok()) else { continue };
        if !bands.contains(&number) {
            continue;
        }
        // A mask band of this band's own follows its sources.
        let own = &band[..band.find("<MaskBand").unwrap_or(band.len())];
        for source in own.split("Source>").filter(|s| s.contains("<SourceFilename") || s.contains("<SourceBand")) {
            let tag = |name: &str| {
                let start = source.find(&format!("<{name} "))?;
                let rest = &source[start..];
                Some(&rest[..rest.find('>')?])
            };
            let rect = |tag: &str| {
                let number = |name: &str| attribute(tag, name)?.parse::<f64>().ok().filter(|v| v.abs() < 1e9);
                Some([number("xOff")?, number("yOff")?, number("xSize")?, number("ySize")?])
            };
            let (from, to) = (rect(tag("SrcRect")?)?, rect(tag("DstRect")?)?);
            let same_size = (from[2] - to[2]).abs() < 1e-3 && (from[3] - to[3]).abs() < 1e-3;
            let block = |name: &str| {
                let size = tag("SourceProperties").and_then(|t| attribute(t, name)?.parse().ok());
                if same_size { size.unwrap_or(0) } else { 0 }
            };
            let round = |v: f64| (v + 0.5).floor() as i64;
            let (x, y) = (round(to[0]), round(to[1]));
            let piece = Piece {
                rect: Rect::new(x, y, round(to[0] + to[2]) - x, round(to[1] + to[3]) - y),
                from: (round(from[0]), round(from[1])),
                block: (block("BlockXSize"), block("BlockYSize")),
            };
            found.push(piece);
        }
    }
    // The same files come once per band.
    let key = |p: &Piece| (p.rect.y, p.rect.x, p.rect.height, p.rect.width, p.from, p.block);
    found.sort_unstable_by_key(key);
    found.dedup();
    (!found.is_empty()).then_some(found)
}

fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let start = tag.find(&format!(" {name}=\"")).map(|i| i + name.len() + 3).or_else(|| {
        // The first attribute has no blank before it when the tag's name is cut off.
        tag.starts_with(&format!("{name}=\"")).then_some(name.len() + 2)
    })?;
    tag[start..].split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_made_of_whole_blocks() {
        let steps = |lines: &[i64]| lines.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>();
        let units = Units::uniform(1000, 700, (512, 512), 3);
        assert_eq!((units.x, units.y), (vec![0, 512, 1000], vec![0, 512, 700]));
        let small = Units::uniform(700, 700, (128, 128), 3);
        assert_eq!(steps(&small.x), [256, 256, 188]);
        let odd = Units::uniform(700, 700, (100, 64), 3);
        assert_eq!((steps(&odd.x), steps(&odd.y)), (vec![300, 300, 100], vec![256, 256, 188]));
        // Strips stay strips: thin ones are gathered, wide ones are not.
        let strips = Units::uniform(900, 900, (900, 3), 3);
        assert_eq!((strips.x, strips.y[1] % 3, strips.y[1]), (vec![0, 900], 0, 72));
        assert_eq!(Units::uniform(100_000, 5, (100_000, 1), 3).y, [0, 1, 2, 3, 4, 5]);
        // A raster that is one large block is cut.
        let block = Units::uniform(20_000, 20_000, (20_000, 20_000), 3);
        assert_eq!(block.y[1], (16 << 20) / 60_000);
        assert_eq!(Units::uniform(1, 1, (1, 1), 1).count(), 1);
    }

    #[test]
    fn touched_units() {
        let lines = [0, 10, 20, 25];
        assert_eq!(touched(&lines, &(0..25)), 0..3);
        assert_eq!(touched(&lines, &(9..10)), 0..1);
        assert_eq!(touched(&lines, &(10..11)), 1..2);
        assert_eq!(touched(&lines, &(19..21)), 1..3);
    }

    #[test]
    fn units_of_a_mosaic_follow_its_files() {
        let piece = |x, y, w, h, from, block| Piece { rect: Rect::new(x, y, w, h), from, block };
        let files = [
            piece(0, 0, 1000, 600, (0, 0), (512, 512)),
            piece(1000, 0, 1000, 600, (0, 0), (512, 512)),
            // Begins within its file's second block.
            piece(0, 600, 2000, 400, (100, 600), (512, 512)),
        ];
        let units = Units::of_mosaic(2000, 1000, &files).unwrap();
        assert_eq!(units.x, [0, 412, 512, 924, 1000, 1436, 1512, 1948, 2000]);
        assert_eq!(units.y, [0, 512, 600, 1000]);
    }

    #[test]
    fn a_vrt_tells_where_its_files_lie() {
        let vrt = r#"<VRTDataset rasterXSize="30" rasterYSize="20">
  <VRTRasterBand dataType="Byte" band="1">
    <ColorInterp>Red</ColorInterp>
    <SimpleSource>
      <SourceFilename relativeToVRT="1">a.tif</SourceFilename>
      <SourceBand>1</SourceBand>
      <SourceProperties RasterXSize="20" RasterYSize="20" DataType="Byte" BlockXSize="16" BlockYSize="8" />
      <SrcRect xOff="0" yOff="0" xSize="20" ySize="20" />
      <DstRect xOff="0" yOff="0" xSize="20" ySize="20" />
    </SimpleSource>
    <ComplexSource>
      <SourceFilename relativeToVRT="1">b.tif</SourceFilename>
      <SourceBand>1</SourceBand>
      <SourceProperties RasterXSize="20" RasterYSize="40" DataType="Byte" BlockXSize="20" BlockYSize="1" />
      <SrcRect xOff="0" yOff="0" xSize="20" ySize="40" />
      <DstRect xOff="20" yOff="0" xSize="10" ySize="20" />
      <NODATA>0</NODATA>
    </ComplexSource>
    <MaskBand>
      <VRTRasterBand dataType="Byte">
        <SimpleSource>
          <SourceFilename relativeToVRT="1">c.tif</SourceFilename>
          <SourceBand>mask,1</SourceBand>
          <SrcRect xOff="0" yOff="0" xSize="7" ySize="7" />
          <DstRect xOff="0" yOff="0" xSize="7" ySize="7" />
        </SimpleSource>
      </VRTRasterBand>
    </MaskBand>
  </VRTRasterBand>
</VRTDataset>"#;
        let found = pieces(vrt, &[1]).unwrap();
        assert_eq!(
            found,
            [
                Piece { rect: Rect::new(0, 0, 20, 20), from: (0, 0), block: (16, 8) },
                Piece { rect: Rect::new(20, 0, 10, 20), from: (0, 0), block: (0, 0) },
            ]
        );
        assert_eq!(pieces(vrt, &[2]), None);
        assert_eq!(pieces(&vrt.replace("band=\"1\"", "band=\"1\" subClass=\"VRTDerivedRasterBand\""), &[1]), None);
    }
}
