//! Where tiles lie: levels of the image's pixels, and a layer's pixels among them.

use anyhow::{Result, bail, ensure};
use gdal::spatial_ref::SpatialRef;
use gstonnxsegment::raster::Georeference;

/// Side of a tile in pixels of its level.
pub const TILE: u32 = 256;
/// A raster with pixels finer than the image's is shown at most 2⁶ times finer.
pub const FINEST: u32 = 6;

/// Where a layer's pixels lie in the image: column = `origin.0` + `scale.0`·column of the layer, and so for rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub origin: (f64, f64),
    pub scale: (f64, f64),
}

/// A raster's size and where it lies on the ground.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    pub width: i64,
    pub height: i64,
    pub georeference: &'a Georeference,
}

/// A part of a tile that a layer has pixels for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// First column and row of the tile.
    pub at: (usize, usize),
    pub size: (usize, usize),
    /// The same as x, y, width and height in the layer's pixels.
    pub window: [f64; 4],
}

/// Level 0 is the coarsest; a pixel of each next one is half as wide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    pub count: u32,
    /// Pixels of the image per pixel of the last level: 1, ½, ¼, …
    pub finest: f64,
    width: i64,
    height: i64,
}

impl Place {
    pub const SAME: Place = Place { origin: (0.0, 0.0), scale: (1.0, 1.0) };

    /// Where a raster lies in an image: by georeference where both have one, else pixel on pixel. `None` where it is in another
    /// coordinate system, turned or mirrored, so that its pixels have to be warped.
    ///
    /// # Errors
    /// Rasters that do not fit, in words that follow the raster's name.
    pub fn of(layer: Extent<'_>, image: Extent<'_>) -> Result<Option<Self>> {
        let same_size = (layer.width, layer.height) == (image.width, image.height);
        let sizes = format!("{}x{} pixels, the image {}x{}", layer.width, layer.height, image.width, image.height);
        let (Some(own), Some(of_image)) = (layer.georeference.geotransform, image.georeference.geotransform) else {
            ensure!(
                same_size,
                "has {sizes}, and not both say where they lie; take a raster of the image's pixels, or give both a \
                 georeference (gdal_edit.py -a_srs … -a_ullr …)"
            );
            return Ok(Some(Place::SAME));
        };
        if !same_crs(layer.georeference.crs.as_deref(), image.georeference.crs.as_deref()) {
            return Ok(None);
        }
        let Some(inverse) = invert(of_image) else { bail!("cannot be placed: the image's geotransform has no area") };
        let at = |x: f64, y: f64| apply(inverse, apply(own, (x, y)));
        let (origin, right, below) = (at(0.0, 0.0), at(layer.width as f64, 0.0), at(0.0, layer.height as f64));
        let scale = ((right.0 - origin.0) / layer.width as f64, (below.1 - origin.1) / layer.height as f64);
        let skew = (right.1 - origin.1).abs().max((below.0 - origin.0).abs());
        if !(skew < 0.5 && scale.0 > 0.0 && scale.1 > 0.0) {
            return Ok(None);
        }
        let image_holds = |a: (f64, f64), b: (f64, f64)| {
            a.0 < image.width as f64 && a.1 < image.height as f64 && b.0 > 0.0 && b.1 > 0.0
        };
        ensure!(
            image_holds(origin, (right.0, below.1)),
            "lies elsewhere than the image: its corner would be the image's column {:.0}, row {:.0}",
            origin.0,
            origin.1
        );
        // A grid that is the image's but for the last digits of its georeference is the image's.
        let whole = |v: f64| if (v - v.round()).abs() < 0.01 { v.round() } else { v };
        let one = |scale: f64, length: i64| if (scale - 1.0).abs() * (length as f64) < 0.01 { 1.0 } else { scale };
        Ok(Some(Place {
            origin: (whole(origin.0), whole(origin.1)),
            scale: (one(scale.0, layer.width), one(scale.1, layer.height)),
        }))
    }

    /// The layer's pixel, as column and row with fractions, at a place of the image.
    pub fn to_layer(self, (x, y): (f64, f64)) -> (f64, f64) {
        ((x - self.origin.0) / self.scale.0, (y - self.origin.1) / self.scale.1)
    }
}

impl Levels {
    /// Of an image, fine enough for a layer at its place.
    pub fn new(width: i64, height: i64, place: &Place) -> Self {
        let finer = (1.0 / place.scale.0.min(place.scale.1)).log2();
        let steps = ((finer - 1e-6).ceil().max(0.0) as u32).min(FINEST);
        let finest = 0.5f64.powi(steps as i32);
        let across = width.max(height) as f64 / finest / f64::from(TILE);
        let count = 1 + across.log2().ceil().max(0.0) as u32;
        Levels { count, finest, width, height }
    }

    /// Pixels of the image per pixel of a level.
    pub fn resolution(&self, level: u32) -> f64 {
        self.finest * 2f64.powi((self.count - 1 - level) as i32)
    }

    /// Whether there is such a tile.
    pub fn has(&self, level: u32, column: u32, row: u32) -> bool {
        if level >= self.count {
            return false;
        }
        let side = self.resolution(level) * f64::from(TILE);
        f64::from(column) * side < self.width as f64 && f64::from(row) * side < self.height as f64
    }

    /// The part of a tile that a layer of `size` pixels has something for.
    pub fn part(&self, (level, column, row): (u32, u32, u32), place: &Place, size: (i64, i64)) -> Option<Part> {
        let resolution = self.resolution(level);
        let side = resolution * f64::from(TILE);
        let corner = place.to_layer((f64::from(column) * side, f64::from(row) * side));
        let x = span(corner.0, resolution / place.scale.0, size.0)?;
        let y = span(corner.1, resolution / place.scale.1, size.1)?;
        Some(Part { at: (x.0, y.0), size: (x.1, y.1), window: [x.2, y.2, x.3, y.3] })
    }
}

/// Of a row of a tile's pixels, each `step` long and the first of them at `from`: the first and the number of those whose
/// middle lies in 0..length, and what they cover of it.
fn span(from: f64, step: f64, length: i64) -> Option<(usize, usize, f64, f64)> {
    let (length, most) = (length as f64, f64::from(TILE));
    let first = (-from / step - 0.5).ceil().clamp(0.0, most);
    let mut end = ((length - from) / step - 0.5).ceil().clamp(0.0, most);
    // What is thinner than a pixel is shown all the same.
    let touches = from < length && from + most * step > 0.0;
    if end <= first && touches && first < most && length < step {
        end = first + 1.0;
    }
    let (start, stop) = ((from + first * step).max(0.0), (from + end * step).min(length));
    (end > first && stop > start).then_some((first as usize, (end - first) as usize, start, stop - start))
}

/// x = g₀ + column·g₁ + row·g₂, y = g₃ + column·g₄ + row·g₅
pub fn apply(g: [f64; 6], (column, row): (f64, f64)) -> (f64, f64) {
    (g[0] + column * g[1] + row * g[2], g[3] + column * g[4] + row * g[5])
}

/// The geotransform from the ground to pixels; `None` where pixels have no area.
pub fn invert(g: [f64; 6]) -> Option<[f64; 6]> {
    let determinant = g[1] * g[5] - g[2] * g[4];
    if determinant == 0.0 || !determinant.is_finite() {
        return None;
    }
    let (a, b, d, e) = (g[5] / determinant, -g[2] / determinant, -g[4] / determinant, g[1] / determinant);
    Some([-(g[0] * a + g[3] * b), a, b, -(g[0] * d + g[3] * e), d, e])
}

/// A raster that names no system is taken to be in the other's.
fn same_crs(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return true };
    let parse = |wkt: &str| SpatialRef::from_wkt(wkt).ok();
    a == b || matches!((parse(a), parse(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GROUND: [f64; 6] = [733_601.0, 0.5, 0.0, 3_725_139.0, 0.0, -0.5];

    fn reference(geotransform: Option<[f64; 6]>, crs: u32) -> Georeference {
        let crs = SpatialRef::from_epsg(crs).unwrap().to_wkt().unwrap();
        Georeference { crs: geotransform.map(|_| crs), geotransform, ..Georeference::default() }
    }

    fn place(size: (i64, i64), geotransform: Option<[f64; 6]>, crs: u32) -> Result<Option<Place>> {
        let (own, image) = (reference(geotransform, crs), reference(Some(GROUND), 32616));
        let layer = Extent { width: size.0, height: size.1, georeference: &own };
        Place::of(layer, Extent { width: 900, height: 700, georeference: &image })
    }

    #[test]
    fn rasters_lie_where_their_georeference_says() {
        assert_eq!(place((900, 700), Some(GROUND), 32616).unwrap(), Some(Place::SAME));
        let mut almost = GROUND;
        almost[0] += 1e-4;
        almost[1] += 1e-9;
        assert_eq!(place((900, 700), Some(almost), 32616).unwrap(), Some(Place::SAME));
        let window = [GROUND[0] + 50.0, 2.0, 0.0, GROUND[3] - 25.0, 0.0, -2.0];
        let expected = Place { origin: (100.0, 50.0), scale: (4.0, 4.0) };
        assert_eq!(place((30, 20), Some(window), 32616).unwrap(), Some(expected));
        assert_eq!(expected.to_layer((104.0, 50.0)), (1.0, 0.0));
    }

    #[test]
    fn rasters_without_a_place_lie_pixel_on_pixel() {
        assert_eq!(place((900, 700), None, 32616).unwrap(), Some(Place::SAME));
    }

    #[test]
    fn rasters_that_do_not_fit_are_refused() {
        let error = |size, geotransform, crs| place(size, geotransform, crs).unwrap_err().to_string();
        let text = error((900, 600), None, 32616);
        assert!(text.contains("900x600") && text.contains("900x700") && text.contains("georeference"), "{text}");
        let far = [GROUND[0] + 5000.0, 0.5, 0.0, GROUND[3], 0.0, -0.5];
        assert!(error((900, 700), Some(far), 32616).contains("column 10000, row 0"));
    }

    #[test]
    fn rasters_of_another_system_and_turned_ones_are_warped() {
        let mirrored = [GROUND[0], 0.5, 0.0, GROUND[3] - 350.0, 0.0, 0.5];
        let turned = [GROUND[0], 0.3, 0.4, GROUND[3], 0.4, -0.3];
        for (geotransform, crs) in [(GROUND, 32617), (mirrored, 32616), (turned, 32616)] {
            assert_eq!(place((900, 700), Some(geotransform), crs).unwrap(), None, "{geotransform:?}");
        }
    }

    #[test]
    fn levels_end_at_the_finest_pixels_and_begin_with_one_tile() {
        let levels = Levels::new(100_000, 40, &Place::SAME);
        assert_eq!((levels.count, levels.resolution(0), levels.resolution(9)), (10, 512.0, 1.0));
        assert!(levels.has(0, 0, 0) && !levels.has(0, 1, 0) && levels.has(9, 390, 0) && !levels.has(9, 391, 0));
        assert!(!levels.has(9, 0, 1) && !levels.has(10, 0, 0) && !levels.has(u32::MAX, 0, 0));
        assert_eq!(Levels::new(256, 1, &Place::SAME).count, 1);
        let fine = Levels::new(256, 256, &Place { origin: (0.0, 0.0), scale: (0.25, 0.3) });
        assert_eq!((fine.count, fine.finest), (3, 0.25));
    }

    #[test]
    fn parts_of_tiles_are_exact_where_levels_are_the_rasters_own() {
        let levels = Levels::new(900, 700, &Place::SAME);
        let part = |tile| levels.part(tile, &Place::SAME, (900, 700)).unwrap();
        let last = Part { at: (0, 0), size: (132, 188), window: [768.0, 512.0, 132.0, 188.0] };
        assert_eq!(part((2, 3, 2)), last);
        assert_eq!(part((0, 0, 0)), Part { at: (0, 0), size: (225, 175), window: [0.0, 0.0, 900.0, 700.0] });
        let window = Place { origin: (100.0, 50.0), scale: (2.0, 2.0) };
        let part = levels.part((2, 0, 0), &window, (30, 20)).unwrap();
        assert_eq!(part, Part { at: (100, 50), size: (60, 40), window: [0.0, 0.0, 30.0, 20.0] });
        assert_eq!(levels.part((2, 2, 0), &window, (30, 20)), None);
        // Thinner than a pixel of the level.
        assert_eq!(
            Levels::new(100_000, 40, &Place::SAME).part((0, 0, 0), &Place::SAME, (100_000, 40)).unwrap().size,
            (195, 1)
        );
    }

    proptest! {
        #[test]
        fn a_geotransform_and_its_inverse_undo_each_other(
            g in prop::array::uniform6(-100.0f64..100.0), column in -1e4f64..1e4, row in -1e4f64..1e4,
        ) {
            prop_assume!((g[1] * g[5] - g[2] * g[4]).abs() > 1.0);
            let (x, y) = apply(invert(g).unwrap(), apply(g, (column, row)));
            prop_assert!((x - column).abs() < 1e-4 && (y - row).abs() < 1e-4);
        }

        #[test]
        fn parts_stay_in_the_tile_and_in_the_raster(
            size in (1i64..5000, 1i64..5000), layer in (1i64..3000, 1i64..3000),
            origin in (-4000.0f64..4000.0, -4000.0f64..4000.0), scale in (0.01f64..30.0, 0.01f64..30.0), pick: (u32, u32, u32),
        ) {
            let place = Place { origin, scale };
            let levels = Levels::new(size.0, size.1, &place);
            let tile = (pick.0 % levels.count, pick.1 % 20, pick.2 % 20);
            if let Some(part) = levels.part(tile, &place, layer) {
                let [x, y, w, h] = part.window;
                prop_assert!(x >= 0.0 && y >= 0.0 && w > 0.0 && h > 0.0);
                prop_assert!(x + w <= layer.0 as f64 && y + h <= layer.1 as f64);
                prop_assert!(part.size.0 > 0 && part.at.0 + part.size.0 <= TILE as usize);
                prop_assert!(part.size.1 > 0 && part.at.1 + part.size.1 <= TILE as usize);
            }
        }
    }
}
