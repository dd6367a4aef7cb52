//! Rasters of any size, cut into tiles and put together again: the grid, the blending, GDAL's reading and writing,
//! and a run as a set of finished parts. There is no model in here.

pub mod blend;
#[cfg(feature = "raster")]
pub mod cells;
pub mod clean;
pub mod error;
#[cfg(feature = "raster")]
pub mod footprints;
pub mod georeference;
pub mod grid;
pub mod legend;
#[cfg(feature = "raster")]
pub mod mask;
pub mod measure;
#[cfg(feature = "raster")]
mod memory;
#[cfg(feature = "raster")]
pub mod parts;
pub mod rle;
pub mod share;
#[cfg(feature = "raster")]
pub mod source;
#[cfg(feature = "raster")]
pub mod stac;
#[cfg(feature = "raster")]
#[doc(hidden)]
pub mod store;

pub use error::{Error, Result};
pub use georeference::{Gcp, Georeference, MaskGrid};
pub use grid::{Axis, Cell, Grid, Lattice, Preference, Rect, Shard, Work};
pub use legend::Legend;
pub use share::Share;
