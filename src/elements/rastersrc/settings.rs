//! The element's properties, and what their texts say.

use std::str::FromStr;
use std::sync::LazyLock;

use gst::glib;
use gst::prelude::*;

use super::Grid;
use crate::raster::grid::Stated;
use crate::raster::source::{Nodata, Options};
use crate::raster::{Error, Rect, Result, Shard, Share};

/// What a user has set.
#[derive(Debug, Clone)]
pub struct Settings {
    pub location: Option<String>,
    pub bands: Option<String>,
    /// Pixels; 0 = not set.
    pub tile_size: i32,
    /// Pixels; -1 = not set.
    pub overlap: i32,
    pub window: Option<String>,
    pub bbox: Option<String>,
    pub shard: Option<String>,
    pub cells: Option<String>,
    /// Metres; -1 = the models', 0 = never resample.
    pub resolution: f64,
    pub grid: Grid,
    pub nodata: Option<String>,
    pub nodata_fill: Option<String>,
    /// MiB.
    pub cache_size: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            location: None,
            bands: None,
            tile_size: 0,
            overlap: -1,
            window: None,
            bbox: None,
            shard: None,
            cells: None,
            resolution: -1.0,
            grid: Grid::default(),
            nodata: None,
            nodata_fill: None,
            cache_size: 512,
        }
    }
}

/// Which part of the raster is wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Region {
    Whole,
    /// In the file's pixels.
    Window(Rect),
    /// Least x, least y, greatest x, greatest y in the raster's coordinates.
    Box([f64; 4]),
}

/// What the texts say.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    pub options: Options,
    pub stated: Stated,
    pub region: Region,
    pub share: Share,
    /// Values for invalid pixels, one or one per band.
    pub fill: Option<Vec<f64>>,
}

impl Settings {
    /// Reads the texts.
    ///
    /// # Errors
    /// A text that cannot be read, and settings that exclude each other.
    pub fn wanted(&self) -> Result<Wanted> {
        let Some(location) = self.location.clone() else {
            return Err(Error::setting("location", "", "set it to a raster: a file, or anything else that GDAL opens"));
        };
        let bands = self.bands.as_deref().map(|text| {
            list::<usize>(text).filter(|bands| !bands.contains(&0)).ok_or_else(|| {
                Error::setting("bands", text, "use numbers of bands from 1 joined by commas, such as 3,2,1")
            })
        });
        let region = match (&self.window, &self.bbox) {
            (Some(window), Some(_)) => {
                return Err(Error::setting("window", window, "bbox is set as well; use one of them"));
            }
            (Some(text), None) => match list::<i64>(text).as_deref() {
                Some([x, y, w, h]) if [x, y, w, h].iter().all(|v| v.abs() <= i32::MAX as i64) => {
                    Region::Window(Rect::new(*x, *y, *w, *h))
                }
                _ => return Err(Error::setting("window", text, "use x,y,width,height in whole pixels")),
            },
            (None, Some(text)) => match list::<f64>(text).as_deref() {
                Some([x0, y0, x1, y1]) if [x0, y0, x1, y1].iter().all(|v| v.is_finite()) => {
                    Region::Box([*x0, *y0, *x1, *y1])
                }
                _ => {
                    let problem = "use min-x,min-y,max-x,max-y in the raster's coordinates";
                    return Err(Error::setting("bbox", text, problem));
                }
            },
            (None, None) => Region::Whole,
        };
        let fill = self.nodata_fill.as_deref().map(|text| {
            list::<f64>(text).filter(|values| values.iter().all(|v| v.is_finite())).ok_or_else(|| {
                Error::setting("nodata-fill", text, "use a number, or one number per band joined by commas")
            })
        });
        let share = match (&self.shard, &self.cells) {
            (Some(_), Some(cells)) => {
                return Err(Error::setting("cells", cells, "shard is set as well; use one of them"));
            }
            (Some(shard), None) => Share::Shard(Shard::parse(shard)?),
            (None, Some(cells)) => Share::parse(cells)?,
            (None, None) => Share::default(),
        };
        Ok(Wanted {
            options: Options {
                location,
                bands: bands.transpose()?,
                nodata: Nodata::parse(self.nodata.as_deref().unwrap_or_default())?,
            },
            stated: Stated {
                tile: (self.tile_size != 0).then_some(self.tile_size.into()),
                overlap: (self.overlap != -1).then_some(self.overlap.into()),
            },
            region,
            share,
            fill: fill.transpose()?,
        })
    }

    pub fn set(&mut self, value: &glib::Value, pspec: &glib::ParamSpec) {
        let text = || value.get::<Option<String>>().ok().flatten().filter(|t| !t.trim().is_empty());
        match pspec.name() {
            "location" => self.location = text(),
            "bands" => self.bands = text(),
            "tile-size" => self.tile_size = value.get().unwrap_or(self.tile_size),
            "overlap" => self.overlap = value.get().unwrap_or(self.overlap),
            "window" => self.window = text(),
            "bbox" => self.bbox = text(),
            "shard" => self.shard = text(),
            "cells" => self.cells = text(),
            "resolution" => self.resolution = value.get().unwrap_or(self.resolution),
            "grid" => self.grid = value.get().unwrap_or(self.grid),
            "nodata" => self.nodata = text(),
            "nodata-fill" => self.nodata_fill = text(),
            "cache-size" => self.cache_size = value.get().unwrap_or(self.cache_size),
            _ => {}
        }
    }

    /// `None` for properties that are not settings.
    pub fn get(&self, pspec: &glib::ParamSpec) -> Option<glib::Value> {
        Some(match pspec.name() {
            "location" => self.location.to_value(),
            "bands" => self.bands.to_value(),
            "tile-size" => self.tile_size.to_value(),
            "overlap" => self.overlap.to_value(),
            "window" => self.window.to_value(),
            "bbox" => self.bbox.to_value(),
            "shard" => self.shard.to_value(),
            "cells" => self.cells.to_value(),
            "resolution" => self.resolution.to_value(),
            "grid" => self.grid.to_value(),
            "nodata" => self.nodata.to_value(),
            "nodata-fill" => self.nodata_fill.to_value(),
            "cache-size" => self.cache_size.to_value(),
            _ => return None,
        })
    }
}

fn list<T: FromStr>(text: &str) -> Option<Vec<T>> {
    text.split(',').map(|item| item.trim().parse().ok()).collect()
}

/// Every property.
pub static SPECS: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
    let text = |name: &str, nick: &str, blurb: &str| -> glib::ParamSpec {
        glib::ParamSpecString::builder(name).nick(nick).blurb(blurb).mutable_ready().build()
    };
    let default = Settings::default();
    vec![
        text("location", "Location", "The raster: a file, or anything else that GDAL opens, such as /vsizip/ paths and VRT mosaics"),
        text("bands", "Bands", "Numbers of bands from 1 joined by commas, in the models' order, repeats allowed; alpha is the mask unless it is named (default: red, green and blue where there are such, a palette's colours, before maskclean and maskmetrics its indices, else all but alpha)"),
        glib::ParamSpecInt::builder("tile-size")
            .nick("Tile size")
            .blurb("Side of a tile in pixels, halo included; models of a fixed size allow no other, models of any size want a multiple of size-multiple; 0 = the models', else 1024")
            .minimum(0)
            .maximum(16384)
            .default_value(default.tile_size)
            .mutable_ready()
            .build(),
        glib::ParamSpecInt::builder("overlap")
            .nick("Overlap")
            .blurb("Pixels that neighbouring tiles have in common, a multiple of twice size-multiple, at most half a tile; -1 = the models', before maskclean and maskmetrics 0, else 64")
            .minimum(-1)
            .maximum(8192)
            .default_value(default.overlap)
            .mutable_ready()
            .build(),
        text("window", "Window", "x,y,width,height in pixels of the file, also where it is resampled: the region wanted (default: all of it)"),
        text("bbox", "Bounding box", "min-x,min-y,max-x,max-y in the raster's coordinates: the region wanted, every pixel that the box reaches into; what lies beyond the raster is left out (instead of window)"),
        text("shard", "Shard", "i/n: this process does the i-th of n shares of the region, i from 1 (default: 1/1)"),
        text("cells", "Cells", "Numbers and ranges of the region's parts, such as 0-41,57, row by row from 0: this process does those; none looks at a run and writes nothing, empty finishes the parts known to have no data (instead of shard)"),
        glib::ParamSpecDouble::builder("resolution")
            .nick("Resolution")
            .blurb("Metres per pixel; a raster that is off by more than a tenth is resampled. -1 = the models', when their metadata names one; 0 = never resample")
            .minimum(-1.0)
            .maximum(1e6)
            .default_value(default.resolution)
            .mutable_ready()
            .build(),
        glib::ParamSpecEnum::builder_with_default("grid", default.grid)
            .nick("Grid")
            .blurb("Which pixels the mask has when the raster is resampled")
            .mutable_ready()
            .build(),
        text("nodata", "No data", "Pixel value that means no data: a number, nan, one per band joined by commas, or none (default: the raster's own)"),
        text("nodata-fill", "No data fill", "What the models see where there is no data: a number, or one per band joined by commas (default: what they see as 0, their mean)"),
        glib::ParamSpecUInt::builder("cache-size")
            .nick("Cache size")
            .blurb("Most MiB of pixels that are kept for tiles to come, so that every block of the raster is read once")
            .minimum(16)
            .maximum(1 << 20)
            .default_value(default.cache_size)
            .mutable_ready()
            .build(),
        glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
            .nick("Statistics")
            .blurb("tiles of this run, those sent and those without-data, blocks-read, and blocks-read-again because the cache was full")
            .read_only()
            .build(),
    ]
});

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings { location: Some("a.tif".into()), ..Settings::default() };
        change(&mut settings);
        settings
    }

    #[test]
    fn texts() {
        let wanted = settings(|s| {
            s.bands = Some("3, 2,2".into());
            s.window = Some("1,2,30,40".into());
            s.shard = Some("2/3".into());
            s.nodata_fill = Some("1.5,-2".into());
        })
        .wanted()
        .unwrap();
        assert_eq!(wanted.options.bands, Some(vec![3, 2, 2]));
        assert_eq!(wanted.region, Region::Window(Rect::new(1, 2, 30, 40)));
        assert_eq!(wanted.share, Share::Shard(Shard { index: 2, count: 3 }));
        assert_eq!(wanted.fill, Some(vec![1.5, -2.0]));
        let wanted = settings(|s| s.bbox = Some("-1.5,0,2e3,7".into())).wanted().unwrap();
        assert_eq!(wanted.region, Region::Box([-1.5, 0.0, 2000.0, 7.0]));
    }

    #[test]
    fn texts_that_cannot_be_read() {
        let error = |change: fn(&mut Settings)| settings(change).wanted().unwrap_err().to_string();
        assert!(error(|s| s.location = None).contains("location="));
        for (text, names) in [
            (error(|s| s.bands = Some("red".into())), "bands=red: use numbers of bands from 1"),
            (error(|s| s.bands = Some("0".into())), "bands=0: "),
            (error(|s| s.window = Some("1,2,3".into())), "window=1,2,3: use x,y,width,height"),
            (error(|s| s.bbox = Some("1,2,3,inf".into())), "bbox=1,2,3,inf: use min-x"),
            (error(|s| (s.window, s.bbox) = (Some("1,2,3,4".into()), Some("1,2,3,4".into()))), "bbox is set as well"),
            (error(|s| s.shard = Some("3/2".into())), "shard=3/2: "),
            (error(|s| s.cells = Some("3-2".into())), "cells=3-2: "),
            (error(|s| (s.shard, s.cells) = (Some("1/2".into()), Some("1".into()))), "cells=1: shard is set as well"),
            (error(|s| s.nodata = Some("x".into())), "nodata=x: "),
            (error(|s| s.nodata_fill = Some("1,nan".into())), "nodata-fill=1,nan: "),
        ] {
            assert!(text.contains(names), "{text}");
        }
    }
}
