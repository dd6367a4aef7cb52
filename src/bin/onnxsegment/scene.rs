//! Scenes held in memory: an image of any format that GDAL reads, and the mask that is true of it.
//!
//! For scenes that models are judged on, not for mosaics: those are read tile by tile by `rastersrc`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use gdal::raster::ColorInterpretation;
use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
use gstonnxsegment::raster::source::messages::catch;
use gstonnxsegment::raster::source::{Nodata, Options, ReadAhead, Reading, SampleType, Samples, Source, TilePixels};
use gstonnxsegment::raster::{Axis, Grid};

/// What takes the place of pixels without data, in every band.
const FILL: f64 = 0.0;

/// An image as the engine runs it. Copies share their pixels.
#[derive(Clone)]
pub struct Image {
    pub format: FrameFormat,
    /// Pixel after pixel.
    samples: Arc<Samples>,
    /// One byte per pixel, 0 where there is no data; `None` = data everywhere.
    pub valid: Option<Arc<[u8]>>,
}

impl Image {
    /// Reads a whole image. Bands are red, green and blue where the file names these, else all in order.
    ///
    /// # Errors
    /// A file that GDAL cannot read, in its own words.
    pub fn read(path: &Path) -> Result<Self> {
        let (source, tile) = whole(path, None, Nodata::Stated)?;
        let (width, height) = (source.width, source.height);
        let sample = match source.sample {
            SampleType::U8 => Sample::U8,
            SampleType::U16 => Sample::U16Le,
            SampleType::I16 => Sample::I16Le,
            SampleType::F32 => Sample::F32Le,
        };
        let samples = tile.pixels.with_context(|| format!("{}: no pixel of it has data", path.display()))?;
        Ok(Image {
            format: FrameFormat { width, height, bands: source.bands, sample },
            samples: Arc::new(samples),
            valid: tile.valid.map(Arc::from),
        })
    }
}

impl Frame for Image {
    fn view(&self) -> FrameView<'_> {
        let bytes = (*self.samples).as_ref();
        let size = self.format.sample.size();
        let step = self.format.bands * size;
        let stride = self.format.width * step;
        let bands = (0..self.format.bands).map(|k| Band { data: &bytes[k * size..], step, stride }).collect();
        FrameView { format: self.format, bands }
    }
}

/// The class of each pixel.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    pub width: usize,
    pub height: usize,
    /// Row by row; `None` = not known: such pixels count for nothing.
    pub classes: Vec<Option<u16>>,
}

impl Truth {
    /// Reads the first band of a mask, palette or not.
    ///
    /// Without `values` a pixel's value is its class, but a mask of nothing but 0 and 255 means classes 0 and 1. Pixels of
    /// a stated nodata value, and 255 beside other values in 8 bits, are not known. Nodata 0 is class 0 all the same:
    /// many programs write it into masks.
    ///
    /// # Errors
    /// A file that cannot be read, and values that are no class.
    pub fn read(path: &Path, values: Option<&Values>) -> Result<Self> {
        let (mut source, mut tile) = whole(path, Some(vec![1]), Nodata::Stated)?;
        if source.nodata == Some(0.0) || values.is_some() {
            (source, tile) = whole(path, Some(vec![1]), Nodata::None)?;
        }
        let samples = tile.pixels.with_context(|| format!("{}: no pixel of it has data", path.display()))?;
        let classes = classes(&samples, tile.valid.as_deref(), values).with_context(|| path.display().to_string())?;
        Ok(Truth { width: source.width, height: source.height, classes })
    }
}

/// Which class the values of a mask mean; `None` = not known. Written `VALUE=CLASS,…`, for a class also `ignore`.
#[derive(Debug, Clone, PartialEq)]
pub struct Values(BTreeMap<i64, Option<u16>>);

impl FromStr for Values {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let one = |item: &str| -> Option<(i64, Option<u16>)> {
            let (value, class) = item.split_once('=')?;
            let class = match class.trim() {
                "ignore" => None,
                // 65535 is nodata in masks.
                class => Some(class.parse().ok().filter(|class| *class != u16::MAX)?),
            };
            Some((value.trim().parse().ok()?, class))
        };
        let mut values = BTreeMap::new();
        for item in text.split(',') {
            let (value, class) = one(item)
                .ok_or_else(|| format!("`{}` is not VALUE=CLASS; an example is 0=0,255=1,128=ignore", item.trim()))?;
            if values.insert(value, class).is_some() {
                return Err(format!("{value} is there twice; give each value one class"));
            }
        }
        Ok(Values(values))
    }
}

/// An image and its truth, of one size.
pub struct Scene {
    pub image: Image,
    pub truth: Truth,
}

impl Scene {
    /// Reads both.
    ///
    /// # Errors
    /// What reading either can meet, and sizes that differ.
    pub fn read(image: &Path, truth: &Path, values: Option<&Values>) -> Result<Self> {
        let scene = Scene { image: Image::read(image)?, truth: Truth::read(truth, values)? };
        let format = scene.image.format;
        check_sizes((image, (format.width, format.height)), (truth, (scene.truth.width, scene.truth.height)))?;
        Ok(scene)
    }

    /// Whether a pixel, counted row by row, has data and a known class.
    pub fn counts(&self, pixel: usize) -> bool {
        self.truth.classes[pixel].is_some() && self.image.valid.as_ref().is_none_or(|valid| valid[pixel] != 0)
    }
}

/// # Errors
/// Rasters that do not cover the same pixels, as far as their width and height tell.
pub fn check_sizes(
    (path, (width, height)): (&Path, (usize, usize)),
    (truth, (w, h)): (&Path, (usize, usize)),
) -> Result<()> {
    ensure!(
        (width, height) == (w, h),
        "{} has {width}x{height} pixels and {} has {w}x{h}; the truth has to cover the same pixels: cut or rasterise it to \
         the same grid",
        path.display(),
        truth.display()
    );
    Ok(())
}

/// What is known of a raster that has been read.
struct Read {
    width: usize,
    height: usize,
    bands: usize,
    sample: SampleType,
    nodata: Option<f64>,
}

/// Reads a raster as one tile, pixel after pixel.
fn whole(path: &Path, bands: Option<Vec<usize>>, nodata: Nodata) -> Result<(Read, TilePixels)> {
    // Not a context: GDAL's errors name the file.
    let location = path.to_str().with_context(|| format!("{}: the path is not UTF-8", path.display()))?.to_string();
    let source = Source::open(&Options { location, bands, nodata }).map_err(of_file)?;
    let info = source.info();
    let read = Read {
        width: info.width as usize,
        height: info.height as usize,
        bands: info.bands,
        sample: info.sample,
        nodata: info.nodata,
    };
    let axis = |length: i64| Axis { length, tile: length, overlap: 0, multiple: 1, fixed: false };
    let reading = Reading {
        grid: Grid { x: axis(info.width), y: axis(info.height) },
        tiles: Arc::new([0]),
        fill: vec![FILL; info.bands],
        interleaved: true,
        row_multiple: 1,
        cache: 0,
        ahead: 0,
    };
    let tile = ReadAhead::start(source, reading, 0).map_err(of_file)?.next(1).map_err(of_file)?;
    Ok((read, tile.with_context(|| format!("{}: cannot be read", path.display()))?))
}

/// Says that a mask has more bands than the one that is read: it may be a picture, or classes told by colours.
pub fn note_bands(mask: &Path) {
    let bands = catch(|| {
        let raster = gdal::Dataset::open(mask).ok()?;
        let alpha =
            |band| raster.rasterband(band).is_ok_and(|b| b.color_interpretation() == ColorInterpretation::AlphaBand);
        Some((1..=raster.raster_count()).filter(|band| !alpha(*band)).count())
    });
    if let Some(bands) = bands.0.filter(|bands| *bands > 1) {
        eprintln!(
            "onnxsegment: warning: {} has {bands} bands, where a mask has one; the first is read as classes",
            mask.display()
        );
    }
}

/// Whoever uses the command line has named a file, not the property `location`.
pub fn of_file(e: gstonnxsegment::raster::Error) -> anyhow::Error {
    let text = e.to_string();
    anyhow::anyhow!("{}", text.strip_prefix("location=").unwrap_or(&text))
}

fn classes(samples: &Samples, valid: Option<&[u8]>, values: Option<&Values>) -> Result<Vec<Option<u16>>> {
    let numbers: Vec<f64> = match samples {
        Samples::U8(s) => s.iter().map(|v| f64::from(*v)).collect(),
        Samples::U16(s) => s.iter().map(|v| f64::from(*v)).collect(),
        Samples::I16(s) => s.iter().map(|v| f64::from(*v)).collect(),
        Samples::F32(s) => s.iter().map(|v| f64::from(*v)).collect(),
    };
    let known = |pixel: usize| valid.is_none_or(|valid| valid[pixel] != 0);
    let of_255 = match samples {
        Samples::U8(s) => {
            let found: BTreeSet<u8> = s.iter().enumerate().filter(|(k, _)| known(*k)).map(|(_, v)| *v).collect();
            found.contains(&255).then(|| found.iter().all(|v| [0, 255].contains(v)).then_some(1))
        }
        _ => None,
    };
    let class = |(pixel, v): (usize, &f64)| -> Result<Option<u16>> {
        if !known(pixel) {
            return Ok(None);
        }
        match values {
            Some(Values(values)) => match values.get(&(*v as i64)).filter(|_| v.fract() == 0.0) {
                Some(class) => Ok(*class),
                None => {
                    bail!("has a pixel of value {v}, which the stated values leave out; add {v}=CLASS or {v}=ignore")
                }
            },
            None => match of_255 {
                Some(class) if *v == 255.0 => Ok(class),
                _ if v.fract() == 0.0 && (0.0..65535.0).contains(v) => Ok(Some(*v as u16)),
                _ => bail!("has a pixel of value {v}, which is no class; classes are whole numbers from 0 to 65534"),
            },
        }
    };
    numbers.iter().enumerate().map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_0_and_255_have_two_classes_and_others_are_as_they_are() {
        let read = |samples: &Samples| classes(samples, None, None).unwrap();
        assert_eq!(read(&Samples::U8(vec![0, 255, 0])), [Some(0), Some(1), Some(0)]);
        assert_eq!(read(&Samples::U8(vec![0, 3, 255])), [Some(0), Some(3), None]);
        assert_eq!(read(&Samples::U8(vec![0, 1])), [Some(0), Some(1)]);
        assert_eq!(read(&Samples::U16(vec![0, 255])), [Some(0), Some(255)]);
        assert_eq!(classes(&Samples::U8(vec![1, 9]), Some(&[1, 0]), None).unwrap(), [Some(1), None]);
    }

    #[test]
    fn stated_values_are_mapped_and_others_refused() {
        let values: Values = "0=0, 7=2,-1=ignore".parse().unwrap();
        let read = |samples: &Samples| classes(samples, None, Some(&values));
        assert_eq!(read(&Samples::I16(vec![7, -1, 0])).unwrap(), [Some(2), None, Some(0)]);
        let error = read(&Samples::U8(vec![0, 255])).unwrap_err().to_string();
        assert!(error.contains("value 255") && error.contains("255=ignore"), "{error}");
        let error = classes(&Samples::F32(vec![0.5]), None, None).unwrap_err().to_string();
        assert!(error.contains("value 0.5") && error.contains("whole numbers"), "{error}");
        for wrong in ["", "1", "1=x", "x=1", "1=65535", "1=-2", "1=1,1=2"] {
            assert!(wrong.parse::<Values>().is_err(), "{wrong}");
        }
    }

    /// A raster in GDAL's memory, each band filled by its number, row and column.
    fn raster<T: gdal::raster::GdalType + Copy>(
        name: &str,
        bands: usize,
        nodata: Option<f64>,
        value: impl Fn(usize, usize, usize) -> T,
    ) -> gdal::Dataset {
        let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
        let path = format!("/vsimem/scene-{name}.tif");
        let dataset = driver.create_with_band_type::<T, _>(path, 5, 4, bands).unwrap();
        for b in 0..bands {
            let data = (0..20).map(|k| value(b, k / 5, k % 5)).collect();
            let mut band = dataset.rasterband(b + 1).unwrap();
            band.set_no_data_value(nodata).unwrap();
            band.write((0, 0), (5, 4), &mut gdal::raster::Buffer::new((5, 4), data)).unwrap();
        }
        dataset
    }

    fn path(name: &str) -> std::path::PathBuf {
        format!("/vsimem/scene-{name}.tif").into()
    }

    #[test]
    fn images_are_read_whole_in_the_order_of_their_colours() {
        use gdal::raster::ColorInterpretation::{BlueBand, GreenBand, RedBand};
        let dataset = raster("bgr", 3, Some(9.0), |b, y, x| (1000 * b + 10 * y + x) as u16);
        for (b, kind) in [(1, BlueBand), (2, GreenBand), (3, RedBand)] {
            dataset.rasterband(b).unwrap().set_color_interpretation(kind).unwrap();
        }
        drop(dataset);
        let image = Image::read(&path("bgr")).unwrap();
        assert_eq!(image.format, FrameFormat { width: 5, height: 4, bands: 3, sample: Sample::U16Le });
        let view = image.view();
        view.check().unwrap();
        let mut row = [0.0; 5];
        for (band, first) in view.bands.iter().zip([2030.0, 1030.0, 30.0]) {
            band.row(view.format.sample, 3, |v| v, &mut row);
            assert_eq!(row, std::array::from_fn(|x| first + x as f32));
        }
        assert_eq!(image.valid, None);
    }

    #[test]
    fn pixels_without_data_and_of_unknown_class_do_not_count() {
        raster("grey", 1, Some(7.0), |_, y, x| if (y, x) == (0, 1) { 7.0 } else { 0.5f32 });
        raster("truth", 1, Some(255.0), |_, _, x| [0u8, 1, 2, 255, 1][x]);
        let scene = Scene::read(&path("grey"), &path("truth"), None).unwrap();
        assert_eq!(scene.truth.classes[..5], [Some(0), Some(1), Some(2), None, Some(1)]);
        let counted: Vec<bool> = (0..20).map(|k| scene.counts(k)).collect();
        assert_eq!(counted[..5], [true, false, true, false, true]);
        assert_eq!(counted[5..10], [true, true, true, false, true]);
    }

    #[test]
    fn nodata_0_of_a_mask_is_class_0() {
        raster("zero", 1, Some(0.0), |_, _, x| if x == 2 { 255u8 } else { 0 });
        let truth = Truth::read(&path("zero"), None).unwrap();
        assert_eq!(truth.classes[..5], [Some(0), Some(0), Some(1), Some(0), Some(0)]);
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let error = Image::read(Path::new("no-such.png")).err().unwrap().to_string();
        assert!(error.starts_with("no-such.png: cannot be opened"), "{error}");
        raster("image", 3, None, |_, _, x| x as u8);
        let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
        driver.create_with_band_type::<u8, _>(path("small"), 3, 4, 1).unwrap();
        let error = Scene::read(&path("image"), &path("small"), None).err().unwrap().to_string();
        assert!(error.contains("5x4") && error.contains("3x4") && error.contains("same pixels"), "{error}");
    }
}
