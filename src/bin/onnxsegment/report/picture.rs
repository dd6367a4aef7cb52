//! Rasters as small pictures: of bounded size, whatever the raster's.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use gdal::raster::{Buffer, ColorInterpretation, GdalDataType, ResampleAlg};
use gdal::{Dataset, DatasetOptions, DriverManager, GdalOpenFlags};
use gstonnxsegment::engine::views::Palette;
use gstonnxsegment::files;
use gstonnxsegment::raster::source::messages::catch;

/// Rasters of fewer pixels are averaged, not sampled, where they have no overviews: larger ones would be read whole.
const SMALL: usize = 64 << 20;
/// The shares of pixels, darkest and brightest, that are cut off where values are no bytes.
const TAILS: (f64, f64) = (0.02, 0.98);

/// Opens a raster.
///
/// # Errors
/// What GDAL says.
pub fn open(path: &Path) -> Result<Dataset> {
    let options = DatasetOptions {
        open_flags: GdalOpenFlags::GDAL_OF_RASTER | GdalOpenFlags::GDAL_OF_VERBOSE_ERROR,
        ..DatasetOptions::default()
    };
    let (dataset, said) = catch(|| Dataset::open_ex(path, options));
    let dataset = dataset.map_err(|_| anyhow!("{}: cannot be opened: {}", path.display(), said.words()))?;
    ensure!(dataset.raster_count() > 0, "{}: has no bands", path.display());
    Ok(dataset)
}

/// The colour of a class that has none of its own, as overlays paint it.
pub fn class_colour(class: usize) -> Option<[u8; 3]> {
    Palette::parse("").ok()?.colour(u16::try_from(class).unwrap_or(u16::MAX))
}

/// The size of a picture of at most `side` pixels across and down.
pub fn fit((width, height): (usize, usize), side: usize) -> (usize, usize) {
    let scale = (side as f64 / width.max(height).max(1) as f64).min(1.0);
    let scaled = |length: usize| ((length as f64 * scale).round() as usize).max(1);
    (scaled(width), scaled(height))
}

/// Reads a band at the size of a picture.
fn read<T: Copy + gdal::raster::GdalType>(
    dataset: &Dataset,
    band: usize,
    size: (usize, usize),
    averaged: bool,
) -> Result<Buffer<T>> {
    let band = dataset.rasterband(band)?;
    let whole = band.size();
    let cheap = whole.0 * whole.1 <= SMALL || band.overview_count().unwrap_or(0) > 0;
    let rule = if averaged && cheap { ResampleAlg::Average } else { ResampleAlg::NearestNeighbour };
    let (read, said) = catch(|| band.read_as::<T>((0, 0), whole, size, Some(rule)));
    read.map_err(|_| anyhow!("cannot be read: {}", said.words()))
}

/// A photograph as JPEG: red, green and blue where the file names these, else its first bands. Values that are no bytes are
/// stretched from the 2nd to the 98th percentile of what is shown.
///
/// # Errors
/// A file that cannot be read.
pub fn photograph(path: &Path, side: usize) -> Result<(Vec<u8>, (usize, usize))> {
    let dataset = open(path)?;
    let size = fit(dataset.raster_size(), side);
    let planes = planes(&dataset, size).with_context(|| path.display().to_string())?;
    let bytes = jpeg(&planes, size).with_context(|| format!("{}: its thumbnail", path.display()))?;
    Ok((bytes, size))
}

/// Red, green and blue as bytes.
fn planes(dataset: &Dataset, size: (usize, usize)) -> Result<[Vec<u8>; 3]> {
    let count = dataset.raster_count();
    let mut kinds = Vec::new();
    for k in 1..=count {
        kinds.push(dataset.rasterband(k)?.color_interpretation());
    }
    if kinds[0] == ColorInterpretation::PaletteIndex
        && let Some(table) = dataset.rasterband(1)?.color_table()
    {
        let indices = read::<u16>(dataset, 1, size, false)?;
        let colours: Vec<[u8; 3]> = (0..table.entry_count())
            .map(|k| table.entry_as_rgb(k).map_or([0; 3], |c| [c.r, c.g, c.b].map(|v| v.clamp(0, 255) as u8)))
            .collect();
        let plane = |c: usize| {
            indices.data().iter().map(|k| colours.get(usize::from(*k)).map_or(0, |colour| colour[c])).collect()
        };
        return Ok([plane(0), plane(1), plane(2)]);
    }
    use ColorInterpretation::{BlueBand, GreenBand, RedBand};
    let place = |kind| kinds.iter().position(|k| *k == kind).map(|k| k + 1);
    let bands = match (place(RedBand), place(GreenBand), place(BlueBand)) {
        (Some(r), Some(g), Some(b)) => vec![r, g, b],
        _ if count >= 3 => vec![1, 2, 3],
        _ => vec![1],
    };
    let mut planes = Vec::new();
    for band in bands {
        let bytes = dataset.rasterband(band)?.band_type() == GdalDataType::UInt8;
        planes.push(match bytes {
            true => read::<u8>(dataset, band, size, true)?.into_shape_and_vec().1,
            false => {
                let nodata = dataset.rasterband(band)?.no_data_value();
                stretch(read::<f64>(dataset, band, size, true)?.data(), nodata)
            }
        });
    }
    let first = planes[0].clone();
    let mut planes = planes.into_iter();
    Ok(std::array::from_fn(|_| planes.next().unwrap_or_else(|| first.clone())))
}

/// Any values as bytes.
fn stretch(values: &[f64], nodata: Option<f64>) -> Vec<u8> {
    let known = |v: &f64| v.is_finite() && Some(*v) != nodata;
    let mut sorted: Vec<f64> = values.iter().copied().filter(known).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).or(sorted.last()).copied().unwrap_or(0.0);
    let (low, high) = (at(TAILS.0), at(TAILS.1));
    let width = if high > low { high - low } else { 1.0 };
    let byte = |v: &f64| if known(v) { ((v - low) / width * 255.0).clamp(0.0, 255.0) as u8 } else { 0 };
    values.iter().map(byte).collect()
}

/// GDAL's encoder: no other is needed.
fn jpeg(planes: &[Vec<u8>; 3], (width, height): (usize, usize)) -> Result<Vec<u8>> {
    let (encoded, said) = catch(|| -> gdal::errors::Result<Vec<u8>> {
        let memory = DriverManager::get_driver_by_name("MEM")?;
        let dataset = memory.create_with_band_type::<u8, _>("", width, height, 3)?;
        for (k, plane) in planes.iter().enumerate() {
            let mut buffer = Buffer::new((width, height), plane.clone());
            dataset.rasterband(k + 1)?.write((0, 0), (width, height), &mut buffer)?;
        }
        let path = files::in_memory("jpg");
        let options = ["QUALITY=82"].into_iter().collect();
        let copy = dataset.create_copy(&DriverManager::get_driver_by_name("JPEG")?, &path, &options);
        copy.and_then(|copy| copy.close())?;
        gdal::vsi::get_vsi_mem_file_bytes_owned(&path)
    });
    encoded.map_err(|e| anyhow!("cannot be encoded as JPEG: {e} {}", said.words()))
}

/// A mask as a transparent picture: each value in its colour, those without one and values not listed clear.
///
/// # Errors
/// A file that cannot be read.
pub fn mask(path: &Path, side: usize, colours: &[(u16, [u8; 3])]) -> Result<Vec<u8>> {
    let dataset = open(path)?;
    let size = fit(dataset.raster_size(), side);
    let values = read::<u16>(&dataset, 1, size, false).with_context(|| path.display().to_string())?;
    // A palette has 256 entries, the first of which is clear.
    let colours = &colours[..colours.len().min(255)];
    let mut table = vec![[0; 4]];
    table.extend(colours.iter().map(|(_, [r, g, b])| [*r, *g, *b, 255]));
    let index = |value: &u16| colours.iter().position(|(own, _)| own == value).map_or(0, |k| k as u8 + 1);
    indexed(&values.data().iter().map(index).collect::<Vec<u8>>(), size, &table)
}

/// Probabilities or uncertainties (0 to 1) as a picture in `ramp`'s colours; no data is clear. Of several bands the last is
/// shown.
///
/// # Errors
/// A file that cannot be read.
pub fn share(path: &Path, side: usize, ramp: &[[u8; 3]]) -> Result<(Vec<u8>, (usize, usize))> {
    let dataset = open(path)?;
    let size = fit(dataset.raster_size(), side);
    let number = dataset.raster_count();
    let band = dataset.rasterband(number)?;
    let nodata = band.no_data_value();
    // Written by `rastersink` with a scale, by the element's pads without.
    let scale = band.scale().filter(|scale| *scale > 0.0 && *scale != 1.0).unwrap_or(match band.band_type() {
        GdalDataType::UInt8 => 1.0 / 255.0,
        GdalDataType::UInt16 => 1.0 / 65535.0,
        _ => 1.0,
    });
    let values = read::<f64>(&dataset, number, size, true).with_context(|| path.display().to_string())?;
    const STEPS: usize = 254;
    let mut table = vec![[0; 4]];
    table.extend((0..=STEPS).map(|k| {
        let [r, g, b] = of_ramp(ramp, k as f64 / STEPS as f64);
        [r, g, b, 255]
    }));
    let index = |v: &f64| match Some(*v) == nodata || !v.is_finite() {
        true => 0,
        false => 1 + ((v * scale).clamp(0.0, 1.0) * STEPS as f64).round() as u8,
    };
    let bytes = indexed(&values.data().iter().map(index).collect::<Vec<u8>>(), size, &table)?;
    Ok((bytes, size))
}

/// A colour between those of a ramp.
fn of_ramp(ramp: &[[u8; 3]], at: f64) -> [u8; 3] {
    let place = at * (ramp.len() - 1) as f64;
    let k = (place as usize).min(ramp.len() - 2);
    let between = place - k as f64;
    std::array::from_fn(|c| {
        let (a, b) = (f64::from(ramp[k][c]), f64::from(ramp[k + 1][c]));
        (a + (b - a) * between).round() as u8
    })
}

fn indexed(indices: &[u8], (width, height): (usize, usize), table: &[[u8; 4]]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Indexed);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_palette(table.iter().flat_map(|[r, g, b, _]| [*r, *g, *b]).collect::<Vec<u8>>());
    encoder.set_trns(table.iter().map(|colour| colour[3]).collect::<Vec<u8>>());
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(indices)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_fit_and_small_rasters_stay_as_they_are() {
        assert_eq!(fit((100_000, 50_000), 960), (960, 480));
        assert_eq!(fit((100_000, 3), 960), (960, 1));
        assert_eq!(fit((90, 60), 960), (90, 60));
    }

    #[test]
    fn deep_values_are_stretched_and_nodata_stays_black() {
        let values: Vec<f64> = (0..1000).map(f64::from).chain([-9999.0, f64::NAN]).collect();
        let bytes = stretch(&values, Some(-9999.0));
        assert_eq!((bytes[0], bytes[999], bytes[1000], bytes[1001]), (0, 255, 0, 0));
        assert!((i32::from(bytes[500]) - 127).abs() <= 1, "{}", bytes[500]);
        assert_eq!(stretch(&[7.0, 7.0], None), [0, 0]);
    }

    #[test]
    fn a_ramp_ends_in_its_own_colours() {
        let ramp = [[0, 0, 0], [100, 200, 50], [255, 255, 255]];
        assert_eq!((of_ramp(&ramp, 0.0), of_ramp(&ramp, 0.5), of_ramp(&ramp, 1.0)), (ramp[0], ramp[1], ramp[2]));
        assert_eq!(of_ramp(&ramp, 0.25), [50, 100, 25]);
    }
}
