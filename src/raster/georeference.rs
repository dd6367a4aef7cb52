//! Where a raster lies on the ground.

use serde::{Deserialize, Serialize};

use super::grid::Rect;

/// A ground control point: where a pixel lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gcp {
    pub id: String,
    pub pixel: f64,
    pub line: f64,
    pub x: f64,
    pub y: f64,
    pub z: f64,
}

/// Everything that ties pixels to the ground, as GDAL has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Georeference {
    /// Coordinate reference system as WKT.
    pub crs: Option<String>,
    /// x = g₀ + column·g₁ + row·g₂, y = g₃ + column·g₄ + row·g₅
    pub geotransform: Option<[f64; 6]>,
    #[serde(default)]
    pub gcps: Vec<Gcp>,
    /// Coordinate reference system of the control points as WKT.
    pub gcp_crs: Option<String>,
    /// GDAL's `AREA_OR_POINT`.
    pub area_or_point: Option<String>,
}

impl Georeference {
    /// That of a window of the raster.
    pub fn window(&self, window: &Rect) -> Self {
        let (x, y) = (window.x as f64, window.y as f64);
        let mut of_window = self.clone();
        if let Some(g) = &mut of_window.geotransform {
            g[0] += x * g[1] + y * g[2];
            g[3] += x * g[4] + y * g[5];
        }
        for gcp in &mut of_window.gcps {
            gcp.pixel -= x;
            gcp.line -= y;
        }
        of_window
    }
}

/// The source's own pixels, which the rasters of a resampled run are brought back to (`grid=source`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskGrid {
    /// That of the whole source.
    pub georeference: Georeference,
    /// The part of the source that is wanted, in its pixels.
    pub window: Rect,
    /// Pixels of the source per pixel of the run, across and down.
    pub factors: (f64, f64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_where_its_first_pixel_lies() {
        let whole = Georeference {
            geotransform: Some([100.0, 0.5, 0.1, 900.0, 0.2, -0.5]),
            gcps: vec![Gcp { id: "1".into(), pixel: 30.0, line: 40.0, x: 1.0, y: 2.0, z: 0.0 }],
            ..Georeference::default()
        };
        let window = whole.window(&Rect::new(10, 20, 5, 5));
        assert_eq!(window.geotransform, Some([107.0, 0.5, 0.1, 892.0, 0.2, -0.5]));
        assert_eq!((window.gcps[0].pixel, window.gcps[0].line), (20.0, 20.0));
    }
}
