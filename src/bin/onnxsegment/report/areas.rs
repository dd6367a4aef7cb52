//! How many pixels of a mask have which value, and how much ground they cover.
//!
//! Every pixel of the mask is counted, block row by block row; no overview and no sample stands in for it.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use gdal::raster::GdalDataType;
use gstonnxsegment::raster::Legend;
use gstonnxsegment::raster::source::{Nodata, Options, PixelAreas, Source, messages};

use super::picture;

/// Pixels that are read at a time, at least one row of blocks.
const AT_ONCE: usize = 16 << 20;

/// One value of a mask.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassArea {
    pub value: u16,
    pub name: String,
    /// `None`: the class is not painted.
    pub colour: Option<[u8; 3]>,
    pub pixels: u64,
    /// Square metres; `None` where the mask does not say where it lies.
    pub area: Option<f64>,
}

/// What a mask holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MaskAreas {
    pub width: usize,
    pub height: usize,
    /// In the order of their values, those of the legend also where no pixel has them.
    pub classes: Vec<ClassArea>,
    /// Pixels without data.
    pub nodata: u64,
    /// Width and height of the pixel at the centre in metres.
    pub ground: Option<(f64, f64)>,
}

impl MaskAreas {
    /// Pixels that have a class.
    pub fn pixels(&self) -> u64 {
        self.classes.iter().map(|class| class.pixels).sum()
    }
}

/// Counts of one value by column stretch are not kept: these are the sums over all of them.
#[derive(Clone, Copy, Default)]
struct Sum {
    pixels: u64,
    area: f64,
}

/// Counts the first band of a mask.
///
/// # Errors
/// A file that cannot be read, in GDAL's own words, and pixels that are no labels.
pub fn count(path: &Path, names: &[String]) -> Result<MaskAreas> {
    let location = path.to_str().with_context(|| format!("{}: the path is not UTF-8", path.display()))?.to_string();
    let source = Source::open(&Options { location, bands: Some(vec![1]), nodata: Nodata::Stated })
        .map_err(crate::scene::of_file)?;
    let info = source.info().clone();
    let (width, height) = (info.width as usize, info.height as usize);
    let dataset = picture::open(path)?;
    let band = dataset.rasterband(1)?;
    ensure!(
        matches!(band.band_type(), GdalDataType::UInt8 | GdalDataType::UInt16),
        "{}: has pixels of type {}, and a mask has labels of 8 or 16 bits without a sign",
        path.display(),
        band.band_type()
    );
    let mut areas = PixelAreas::new(&info.georeference, info.width, info.height);
    let mut sums = vec![Sum::default(); 1 << 16];
    let block = band.block_size().1.max(1);
    let rows = (AT_ONCE / width.max(1)).max(1).next_multiple_of(block).min(height.next_multiple_of(block));
    for top in (0..height).step_by(rows) {
        let count = rows.min(height - top);
        let (read, said) =
            messages::catch(|| band.read_as::<u16>((0, top as isize), (width, count), (width, count), None));
        let Ok(buffer) = read else { bail!("{}: cannot be read: {}", path.display(), said.words()) };
        for (k, row) in buffer.data().chunks_exact(width).enumerate() {
            match &mut areas {
                Some(areas) => add_row(&mut sums, row, areas, (top + k) as i64),
                None => row.iter().for_each(|value| sums[*value as usize].pixels += 1),
            }
        }
    }
    let deep = band.band_type() == GdalDataType::UInt16;
    let legend = source.legend().unwrap_or_default();
    let mut found = classify(&sums, info.nodata, deep, &legend, names, areas.is_some());
    found.width = width;
    found.height = height;
    found.ground = info.ground;
    Ok(found)
}

/// Adds a row's pixels. Areas change linearly between the columns at which they are known, so that the number of a value's
/// pixels and the sum of their places give their area.
fn add_row(sums: &mut [Sum], row: &[u16], areas: &mut PixelAreas, y: i64) {
    let values = areas.row(y);
    let columns = areas.columns();
    let last = columns.len() - 1;
    let mut add = |value: u16, pixels: u64, area: f64| {
        let sum = &mut sums[value as usize];
        sum.pixels += pixels;
        sum.area += area;
    };
    for k in 0..last {
        let (from, to) = (columns[k] as usize, columns[k + 1] as usize);
        let slope = (values[k + 1] - values[k]) / (to - from) as f64;
        // Runs of one value, which masks are made of.
        let mut at = from;
        for run in row[from..to].chunk_by(|a, b| a == b) {
            let n = run.len() as f64;
            let middle = (at - from) as f64 + (n - 1.0) / 2.0;
            add(run[0], run.len() as u64, n * (values[k] + slope * middle));
            at += run.len();
        }
    }
    add(row[columns[last] as usize], 1, values[last]);
}

/// Values to classes. 255 (65535 in 16 bits) is no data, as is what the mask states; but a mask of nothing but 0 and 255 that
/// states nothing shows class 1 as 255.
fn classify(
    sums: &[Sum],
    nodata: Option<f64>,
    deep: bool,
    legend: &Legend,
    names: &[String],
    on_ground: bool,
) -> MaskAreas {
    let most = if deep { u16::MAX } else { 255 };
    let picture = nodata.is_none() && !deep && (1..255).all(|value| sums[value].pixels == 0);
    // Nodata 0 is class 0 all the same: many programs write it into masks.
    let stated = nodata.filter(|v| *v > 0.0 && v.fract() == 0.0 && *v <= f64::from(u16::MAX)).map(|v| v as u16);
    let is_nodata = |value: u16| Some(value) == stated || (stated.is_none() && value == most && !picture);
    let of_legend = legend.names.len().max(legend.colours.len());
    let mut all = MaskAreas::default();
    for (value, sum) in sums.iter().enumerate() {
        let value = value as u16;
        if is_nodata(value) {
            all.nodata += sum.pixels;
            continue;
        }
        let class = if picture && value == 255 { 1 } else { usize::from(value) };
        let own = |list: &[String]| list.get(class).filter(|name| !name.is_empty()).cloned();
        let told = class < of_legend && own(&legend.names).is_some() || own(names).is_some();
        let shown = sum.pixels > 0 || (told && !(picture && value == 1));
        if !shown {
            continue;
        }
        let colour = legend.colours.get(class).copied().filter(|colour| *colour != [0; 3]);
        all.classes.push(ClassArea {
            value,
            name: own(names).or_else(|| own(&legend.names)).unwrap_or_else(|| format!("class {class}")),
            colour: colour.or_else(|| picture::class_colour(class)),
            pixels: sum.pixels,
            area: on_ground.then_some(sum.area),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pixels: &[(u16, u64)]) -> Vec<Sum> {
        let mut sums = vec![Sum::default(); 1 << 16];
        pixels.iter().for_each(|(value, n)| sums[*value as usize] = Sum { pixels: *n, area: 0.0 });
        sums
    }

    fn found(sums: &[Sum], nodata: Option<f64>, deep: bool) -> (Vec<(u16, String)>, u64) {
        let all = classify(sums, nodata, deep, &Legend::default(), &["ground".into(), "house".into()], false);
        (all.classes.into_iter().map(|c| (c.value, c.name)).collect(), all.nodata)
    }

    #[test]
    fn white_on_black_is_class_1_unless_255_is_said_to_be_no_data() {
        let sums = values(&[(0, 5), (255, 3)]);
        assert_eq!(found(&sums, None, false), (vec![(0, "ground".into()), (255, "house".into())], 0));
        assert_eq!(found(&sums, Some(255.0), false), (vec![(0, "ground".into()), (1, "house".into())], 3));
        assert_eq!(found(&sums, None, true).0[2], (255, "class 255".into()));
    }

    #[derive(serde::Deserialize)]
    struct Golden {
        classes: Vec<GoldenClass>,
        nodata: u64,
    }

    #[derive(serde::Deserialize)]
    struct GoldenClass {
        value: u16,
        pixels: u64,
        area: Option<f64>,
    }

    /// numpy's counts and pyproj's geodesic polygons: `tests/golden/make_report.py`.
    #[test]
    fn areas_are_those_of_geodesic_polygons() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/report");
        let text = std::fs::read_to_string(folder.join("areas.json")).unwrap();
        let golden: std::collections::BTreeMap<String, Golden> = serde_json::from_str(&text).unwrap();
        assert_eq!(golden.len(), 7);
        for (name, golden) in golden {
            let found = count(&folder.join(format!("{name}.tif")), &[]).unwrap();
            assert_eq!((found.classes.len(), found.nodata), (3, golden.nodata), "{name}");
            for (class, golden) in found.classes.iter().zip(golden.classes) {
                assert_eq!((class.value, class.pixels), (golden.value, golden.pixels), "{name}");
                assert_eq!(class.area.is_some(), golden.area.is_some(), "{name}");
                let (Some(area), Some(expected)) = (class.area, golden.area) else { continue };
                // A geodesic polygon's area is a difference of areas down to the equator, which leaves millimetres of a pixel.
                assert!(
                    (area - expected).abs() < 2e-6 * expected + 0.005,
                    "{name}, class {}: {area} is not {expected}",
                    class.value
                );
            }
        }
    }

    #[test]
    fn nodata_0_is_class_0_and_255_beside_other_values_is_no_data() {
        let sums = values(&[(0, 5), (1, 3), (255, 2)]);
        assert_eq!(found(&sums, Some(0.0), false), (vec![(0, "ground".into()), (1, "house".into())], 2));
        assert_eq!(found(&values(&[(2, 1), (65535, 4)]), None, true).1, 4);
    }
}
