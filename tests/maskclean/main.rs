//! `maskclean`: against SciPy and scikit-image, as frames and as tiles of any size, and in mosaics from file to file.

#[path = "../common/mod.rs"]
mod common;
#[cfg(feature = "raster")]
#[path = "../mosaic/raster.rs"]
mod raster;

mod frames;
mod golden;
#[cfg(feature = "raster")]
mod mosaic;
mod tiles;

use gstonnxsegment::elements::meta::TileMeta;
use gstonnxsegment::raster::clean::{Cleaner, Recipe};
use gstonnxsegment::raster::{Axis, Grid};

/// A mask of 16 bits.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    pub width: usize,
    pub height: usize,
    pub labels: Vec<u16>,
}

impl Mask {
    pub fn new((width, height): (usize, usize), label: impl Fn(usize, usize) -> u16) -> Self {
        let labels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| label(x, y)).collect();
        Mask { width, height, labels }
    }

    /// Blots and noise of 0, 1 and 2, and some pixels without data.
    pub fn blots(size: (usize, usize), seed: usize) -> Self {
        Mask::new(size, |x, y| {
            let noise = |x: usize, y: usize| {
                let h = ((seed * 31 + x) as u64) << 20 ^ y as u64;
                (h.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
            };
            match noise(x, y) % 40 {
                0..5 => (noise(x, y) / 64 % 3) as u16,
                5 if noise(x / 4, y / 4) % 9 == 0 => 65535,
                _ => [0, 1, 0, 2, 0][noise(x / 6 + 99, y / 5) % 5],
            }
        })
    }

    /// A buffer of these labels in a format's own layout; of 8 bits, 65535 is 255.
    pub fn buffer(&self, wide: bool) -> gst::Buffer {
        let row = self.width * if wide { 2 } else { 1 };
        let mut data = vec![0xAB; row.next_multiple_of(4) * self.height];
        for (to, labels) in data.chunks_mut(row.next_multiple_of(4)).zip(self.labels.chunks(self.width)) {
            match wide {
                true => to.chunks_mut(2).zip(labels).for_each(|(to, v)| to.copy_from_slice(&v.to_le_bytes())),
                false => to.iter_mut().zip(labels).for_each(|(to, v)| *to = *v as u8),
            }
        }
        gst::Buffer::from_mut_slice(data)
    }

    pub fn of(buffer: &gst::BufferRef, caps: &gst::CapsRef) -> Self {
        let s = caps.structure(0).unwrap();
        let side = |name: &str| s.get::<i32>(name).unwrap() as usize;
        let bytes = common::pixels(buffer, caps);
        let labels = match s.get::<&str>("format").unwrap() {
            "GRAY8" => bytes.iter().map(|v| if *v == 255 { 65535 } else { u16::from(*v) }).collect(),
            _ => bytes.chunks(2).map(|v| u16::from_le_bytes([v[0], v[1]])).collect(),
        };
        Mask { width: side("width"), height: side("height"), labels }
    }

    /// What the library makes of the whole of it.
    pub fn cleaned(&self, recipe: &Recipe) -> Self {
        let mut cleaner = Cleaner::new(&Recipe { nodata: Some(65535), ..recipe.clone() }, self.width);
        let mut labels = Vec::new();
        for row in self.labels.chunks(self.width) {
            cleaner.push(row.to_vec(), |row| labels.extend(row)).unwrap();
        }
        cleaner.finish(|row| labels.extend(row));
        Mask { labels, ..*self }
    }

    pub fn part(&self, (x, y, width, height): (usize, usize, usize, usize)) -> Self {
        Mask::new((width, height), |i, j| self.labels[(y + j) * self.width + x + i])
    }

    pub fn format(wide: bool) -> &'static str {
        if wide { "GRAY16_LE" } else { "GRAY8" }
    }
}

/// A grid of tiles.
pub fn grid(mask: &Mask, tile: (i64, i64), overlap: i64) -> Grid {
    let axis = |length: usize, tile| Axis { length: length as i64, tile, overlap, multiple: 1, fixed: false };
    Grid { x: axis(mask.width, tile.0), y: axis(mask.height, tile.1) }
}

/// A tile of a mask, with its place and time.
pub fn tile(mask: &Mask, grid: &Grid, index: usize, wide: bool) -> (gst::Buffer, String) {
    let area = grid.tile(index).area;
    let [x, y, width, height] = [area.x, area.y, area.width, area.height].map(|n| n as usize);
    let mut buffer = mask.part((x, y, width, height)).buffer(wide);
    TileMeta { grid: *grid, index, valid: None }.attach(buffer.make_mut()).unwrap();
    (common::stamped(buffer, index), common::caps(Mask::format(wide), (width, height)))
}

/// A harness around the element.
pub fn cleaner(properties: &str) -> gst_check::Harness {
    let mut h = gst_check::Harness::new_parse(&format!("maskclean {properties}"));
    h.play();
    h
}

/// Pushes a frame and pulls what comes.
pub fn frame(h: &mut gst_check::Harness, mask: &Mask, wide: bool) -> Mask {
    h.set_src_caps_str(&common::caps(Mask::format(wide), (mask.width, mask.height)));
    let buffer = h.push_and_pull(common::stamped(mask.buffer(wide), 1)).unwrap();
    Mask::of(&buffer, &common::caps_of(h))
}

/// Pushes every tile of a mask and puts together what comes.
pub fn by_tiles(h: &mut gst_check::Harness, mask: &Mask, grid: &Grid, wide: bool) -> Mask {
    for index in 0..grid.count() {
        let (buffer, caps) = tile(mask, grid, index, wide);
        h.set_src_caps_str(&caps);
        h.push(buffer).unwrap();
    }
    together(h, mask, grid, wide)
}

/// Puts the tiles together that have come.
pub fn together(h: &mut gst_check::Harness, mask: &Mask, grid: &Grid, wide: bool) -> Mask {
    let mut found = Mask::new((mask.width, mask.height), |_, _| 9999);
    for index in 0..grid.count() {
        let buffer = h.try_pull().unwrap_or_else(|| panic!("no tile {index}"));
        assert_eq!((buffer.pts(), buffer.duration()), (Some(common::time(index)), Some(common::time(1))));
        let area = grid.tile(index).area;
        let meta = TileMeta::of(&buffer, area.width as u32, area.height as u32).unwrap().unwrap();
        assert_eq!((meta.grid, meta.index), (*grid, index));
        let [x, y, width, height] = [area.x, area.y, area.width, area.height].map(|n| n as usize);
        let caps: gst::Caps = common::caps(Mask::format(wide), (width, height)).parse().unwrap();
        for (k, row) in Mask::of(&buffer, &caps).labels.chunks(width).enumerate() {
            found.labels[(y + k) * mask.width + x..][..width].copy_from_slice(row);
        }
    }
    assert!(h.try_pull().is_none());
    found
}

/// The one error that an element posts in the course of `f`.
pub fn error_of(h: &mut gst_check::Harness, f: impl FnOnce(&mut gst_check::Harness)) -> String {
    let bus = common::bus(&h.element().unwrap());
    f(h);
    let found = common::errors(&bus);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].1.clone()
}
