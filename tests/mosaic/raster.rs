//! Rasters for the tests: made, read, compared.

use std::path::{Path, PathBuf};

use gdal::raster::{Buffer, ColorInterpretation, GdalType, RasterCreationOptions};
use gdal::spatial_ref::SpatialRef;
use gdal::{Dataset, DriverManager};

/// A folder that goes with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(test: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("onnxsegment-mosaic-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Pixels band after band.
#[derive(Debug, Clone)]
pub struct Raster<T> {
    pub bands: usize,
    pub width: usize,
    pub height: usize,
    pub data: Vec<T>,
}

impl<T: GdalType + Copy> Raster<T> {
    pub fn new(bands: usize, (width, height): (usize, usize), pixel: impl Fn(usize, usize, usize) -> T) -> Self {
        let at = (0..bands).flat_map(|b| (0..height).flat_map(move |y| (0..width).map(move |x| (b, x, y))));
        Raster { bands, width, height, data: at.map(|(b, x, y)| pixel(b, x, y)).collect() }
    }

    /// Writes a GeoTIFF in EPSG:32633 with half-metre pixels.
    pub fn write(&self, path: impl AsRef<Path>, nodata: Option<f64>, alpha: bool) {
        let mut options = vec!["TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64", "COMPRESS=DEFLATE"];
        if !alpha {
            options.push("ALPHA=NO");
        }
        let options = RasterCreationOptions::from_iter(options);
        let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
        let mut file = driver
            .create_with_band_type_with_options::<T, _>(path, self.width, self.height, self.bands, &options)
            .unwrap();
        file.set_spatial_ref(&SpatialRef::from_epsg(32633).unwrap()).unwrap();
        file.set_geo_transform(&[500_000.0, 0.5, 0.0, 5_400_000.0, 0.0, -0.5]).unwrap();
        for (k, plane) in self.data.chunks_exact(self.width * self.height).enumerate() {
            let mut band = file.rasterband(k + 1).unwrap();
            if alpha && k + 1 == self.bands {
                band.set_color_interpretation(ColorInterpretation::AlphaBand).unwrap();
            }
            if nodata.is_some() {
                band.set_no_data_value(nodata).unwrap();
            }
            let size = (self.width, self.height);
            band.write((0, 0), size, &mut Buffer::new(size, plane.to_vec())).unwrap();
        }
        file.close().unwrap();
    }

    pub fn read(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let file = Dataset::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (width, height) = file.raster_size();
        let bands = file.raster_count();
        let mut data = Vec::with_capacity(bands * width * height);
        for k in 1..=bands {
            data.extend_from_slice(file.rasterband(k).unwrap().read_band_as::<T>().unwrap().data());
        }
        Raster { bands, width, height, data }
    }

    pub fn band(&self, k: usize) -> &[T] {
        let size = self.width * self.height;
        &self.data[k * size..(k + 1) * size]
    }
}

/// Waves with noise over them, and no symmetry: every pixel and every place differs.
pub fn texture(band: usize, x: usize, y: usize) -> u8 {
    let wave = (x as f32 / 9.0 + band as f32).sin() + (y as f32 / 13.0 - x as f32 / 40.0).cos();
    let noise = (x * 7919 + y * 104_729 + band * 31 + (x * y) % 127) % 61;
    (1.0 + (wave + 2.0) * 48.0 + noise as f32) as u8
}
