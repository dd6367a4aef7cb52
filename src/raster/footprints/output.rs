//! Polygons to a file of GeoJSON, GeoPackage or FlatGeobuf, which gets its name once it is whole.

use std::path::{Path, PathBuf};

use gdal::spatial_ref::SpatialRef;
use gdal::vector::{Feature, Geometry, LayerAccess, LayerOptions, OGRFieldType};
use gdal::{Dataset, DriverManager};
use gdal_sys::OGRwkbGeometryType::{wkbMultiPolygon, wkbPolygon};

use crate::files;
use crate::raster::source::messages::{Messages, catch};
use crate::raster::{Error, Result};

/// Features between two commits of a GeoPackage.
const COMMIT: u64 = 20_000;

/// The kinds of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    GeoJson,
    GeoPackage,
    FlatGeobuf,
}

impl Format {
    /// By the ending of a name.
    ///
    /// # Errors
    /// Another ending.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
        match ending.as_str() {
            "geojson" | "json" => Ok(Format::GeoJson),
            "gpkg" => Ok(Format::GeoPackage),
            "fgb" => Ok(Format::FlatGeobuf),
            _ => {
                Err(Error::write("location", path, "is no name of footprints; let it end with .geojson, .gpkg or .fgb"))
            }
        }
    }

    /// GDAL's driver, and the ending that it insists on.
    fn driver(self) -> (&'static str, &'static str) {
        match self {
            Format::GeoJson => ("GeoJSON", ".geojson"),
            Format::GeoPackage => ("GPKG", ".gpkg"),
            Format::FlatGeobuf => ("FlatGeobuf", ".fgb"),
        }
    }
}

/// A polygon with what is known of it.
pub struct Footprint {
    pub id: String,
    pub class: u16,
    pub name: Option<String>,
    /// In square metres, or pixels; `None` where the coordinate system is not good for the place.
    pub area: Option<f64>,
    pub confidence: Option<f64>,
}

/// How coordinates are written.
pub struct Coordinates<'a> {
    pub crs: Option<&'a SpatialRef>,
    /// Longitudes and latitudes are known.
    pub on_earth: bool,
    /// Areas are square metres; else pixels.
    pub metres: bool,
    /// The side of a pixel in metres.
    pub pixel: f64,
    /// Footprints have a confidence.
    pub confidence: bool,
    /// A footprint may be several polygons.
    pub several: bool,
}

/// A file under its temporary name, which goes with all that GDAL has put beside it unless it gets its name.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        let Some(name) = self.0.file_stem() else { return };
        let folder = files::parent(&self.0);
        for other in files::names(&folder).unwrap_or_default() {
            if other.as_bytes().starts_with(name.as_encoded_bytes()) {
                let _ = std::fs::remove_file(folder.join(other));
            }
        }
    }
}

/// A file that is being written.
pub struct Output {
    // In this order they are dropped.
    dataset: Dataset,
    draft: Draft,
    path: PathBuf,
    format: Format,
    several: bool,
    confidence: bool,
    /// Transactions keep a GeoPackage from writing each feature to the disk by itself.
    transactions: bool,
    written: u64,
}

impl Output {
    /// Begins a file.
    ///
    /// # Errors
    /// A folder that takes no files, a GDAL without the driver, and GeoJSON of what does not lie on the Earth.
    pub fn create(path: &Path, coordinates: &Coordinates<'_>) -> Result<Self> {
        let format = Format::of(path)?;
        let (driver, ending) = format.driver();
        let wrong = |problem: String| Error::write("location", path, format!("cannot be written: {problem}"));
        if files::is_virtual(path) {
            return Err(wrong("footprints are written to a disk, and this is no path on one".into()));
        }
        if path.is_dir() {
            return Err(wrong("it is a folder".into()));
        }
        if format == Format::GeoJson && coordinates.crs.is_some() && !coordinates.on_earth {
            let problem = "the mask's coordinates cannot be brought to longitude and latitude, which GeoJSON has; use .gpkg or .fgb";
            return Err(wrong(problem.into()));
        }
        files::Temporary::write(&files::parent(path), b"").map_err(|e| wrong(files::words_of(&e, path)))?;
        let mut name = files::beside(path).into_os_string();
        name.push(ending);
        let draft = Draft(name.into());

        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let precision;
        let options: &[&str] = match (format, coordinates.crs) {
            (Format::GeoJson, Some(_)) => {
                // A hundredth of a pixel, at least the centimetre of RFC 7946.
                let degrees = (coordinates.pixel / 100.0 / 111_320.0).log10();
                let digits = if degrees.is_finite() { (-degrees).ceil().clamp(7.0, 12.0) } else { 7.0 };
                precision = format!("COORDINATE_PRECISION={digits}");
                &["RFC7946=YES", &precision]
            }
            (Format::GeoPackage, _) => &["GEOMETRY_NAME=geom"],
            _ => &[],
        };
        let mut fields = vec![
            ("id", OGRFieldType::OFTString),
            ("class", OGRFieldType::OFTInteger),
            ("name", OGRFieldType::OFTString),
            (if coordinates.metres { "area_m2" } else { "area_px" }, OGRFieldType::OFTReal),
        ];
        if coordinates.confidence {
            fields.push(("confidence", OGRFieldType::OFTReal));
        }
        let create = || {
            let mut dataset = DriverManager::get_driver_by_name(driver)?.create_vector_only(&draft.0)?;
            let layer = dataset.create_layer(LayerOptions {
                name: &stem,
                srs: coordinates.crs,
                ty: if coordinates.several { wkbMultiPolygon } else { wkbPolygon },
                options: Some(options),
            })?;
            layer.create_defn_fields(&fields)?;
            Ok(dataset)
        };
        let (dataset, said): (gdal::errors::Result<Dataset>, _) = catch(create);
        let dataset = dataset.map_err(|e| wrong(words(e, &said)))?;
        let mut output = Output {
            transactions: format == Format::GeoPackage,
            dataset,
            draft,
            path: path.to_path_buf(),
            format,
            several: coordinates.several,
            confidence: coordinates.confidence,
            written: 0,
        };
        output.begin()?;
        Ok(output)
    }

    fn wrong(&self, problem: String) -> Error {
        Error::write("location", &self.path, format!("cannot be written: {problem}"))
    }

    fn begin(&mut self) -> Result<()> {
        // SAFETY: the data set lives.
        let (result, said) = catch(|| match self.transactions {
            true => unsafe { gdal_sys::GDALDatasetStartTransaction(self.dataset.c_dataset(), 0) },
            false => 0,
        });
        if result == 0 { Ok(()) } else { Err(self.wrong(said.words())) }
    }

    fn commit(&mut self) -> Result<()> {
        // SAFETY: the data set lives.
        let (result, said) = catch(|| match self.transactions {
            true => unsafe { gdal_sys::GDALDatasetCommitTransaction(self.dataset.c_dataset()) },
            false => 0,
        });
        if result == 0 { Ok(()) } else { Err(self.disk(&said, "the file cannot be written any further")) }
    }

    /// What GDAL said, in short where the disk is the cause.
    fn disk(&self, said: &Messages, otherwise: &str) -> Error {
        let known = files::of_disk(&said.failures);
        let words = if said.failures.is_empty() { otherwise.to_string() } else { said.words() };
        self.wrong(known.unwrap_or(words))
    }

    /// Adds a polygon, in the coordinates of the layer.
    ///
    /// # Errors
    /// What GDAL or the disk says.
    pub fn write(&mut self, footprint: &Footprint, geometry: Geometry) -> Result<()> {
        let add = || {
            let layer = self.dataset.layer(0)?;
            let mut feature = Feature::new(layer.defn())?;
            feature.set_geometry(geometry)?;
            feature.set_field_string(0, &footprint.id)?;
            feature.set_field_integer(1, footprint.class.into())?;
            match &footprint.name {
                Some(name) => feature.set_field_string(2, name)?,
                None => feature.set_field_null(2)?,
            }
            match footprint.area {
                Some(area) => feature.set_field_double(3, area)?,
                None => feature.set_field_null(3)?,
            }
            match footprint.confidence {
                Some(confidence) => feature.set_field_double(4, confidence)?,
                None if self.confidence => feature.set_field_null(4)?,
                None => {}
            }
            feature.create(&layer)
        };
        let (result, said): (gdal::errors::Result<()>, _) = catch(add);
        if result.is_err() || !said.failures.is_empty() {
            return Err(self.disk(&said, "GDAL gives no reason"));
        }
        self.written += 1;
        if self.written.is_multiple_of(COMMIT) {
            self.commit()?;
            self.begin()?;
        }
        Ok(())
    }

    pub fn several(&self) -> bool {
        self.several
    }

    /// Writes what is left, down to the disk, and gives the file its name.
    ///
    /// # Errors
    /// What GDAL or the disk says.
    pub fn finish(mut self) -> Result<()> {
        self.commit()?;
        let wrong = |problem: String| Error::write("location", &self.path, format!("cannot be written: {problem}"));
        let (closed, said) = catch(|| self.dataset.close());
        if closed.is_err() || !said.failures.is_empty() {
            return Err(wrong(files::of_disk(&said.failures).unwrap_or(said.words())));
        }
        // This driver does not look whether the disk has taken what it wrote.
        if self.format == Format::GeoJson && !ends_whole(&self.draft.0) {
            return Err(wrong("the disk has not taken all of it".into()));
        }
        files::sync(&self.draft.0)
            .and_then(|()| std::fs::rename(&self.draft.0, &self.path))
            .and_then(|()| files::sync_folder(self.path.parent()))
            .map_err(|e| wrong(files::words(&e)))
    }
}

/// Whether a collection of features is closed.
fn ends_whole(path: &Path) -> bool {
    use std::io::{Read, Seek, SeekFrom};
    let last = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(16)))?;
        let mut end = Vec::new();
        file.read_to_end(&mut end)?;
        Ok(end)
    };
    last().is_ok_and(|mut end| {
        end.retain(|byte| !byte.is_ascii_whitespace());
        end.ends_with(b"]}")
    })
}

fn words(e: gdal::errors::GdalError, said: &Messages) -> String {
    if said.failures.is_empty() { e.to_string() } else { said.words() }
}
