//! Footprints: the regions of a finished mask as polygons in a file of vectors.
//!
//! The mask is read once, from top to bottom, as one raster: tiles and parts have no borders here. Held are its rows as they come, and the
//! regions that are not finished. For cleaning a mask see [`crate::raster::clean`]; no model is known here.
//!
//! GDALPolygonize makes the same polygons, which the tests hold these to. It is not what runs, because it keeps some 30 bytes for every
//! polygon of the mask until the end (measured with GDAL 3.6), makes rings that meet themselves of regions that are joined by corners, and
//! tells nothing of a polygon's pixels, so that their probabilities would take a second pass.

mod input;
mod outline;
mod output;
mod place;
mod regions;
mod shape;
mod square;

use std::path::Path;

use serde::Serialize;

use super::clean::Connectivity;
use super::mask::{Mask, NODATA};
use super::measure::{Area, Length};
use super::{Error, Result};
use input::{Band, Probability, Reader};
use output::{Coordinates, Footprint, Output};
use place::{Frame, Place};
use regions::{Region, Regions, Sum};
use shape::{Ring, Rings, Shape};

pub use output::Format;

/// Right angles are kept where the intersection of the polygon with its region is at least this share of their union.
pub const LEAST_IOU: f64 = 0.75;

/// How far an outline of pixels is simplified before right angles are looked for, unless something else is said: the corners of the pixels
/// along a straight edge lie within √2 pixels of a line between two of them.
pub const STAIRS: Length = Length::Pixels(2.0);

/// Regions between two looks at whether to go on.
const PATIENCE: u64 = 256;

/// What becomes of the regions of a mask.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Classes by number or name; none stands for all but 0.
    pub classes: Vec<String>,
    /// Smaller polygons are left out.
    pub min_area: Area,
    /// Smaller holes are filled, before the polygon's area counts.
    pub min_hole_area: Area,
    /// How far an edge may move while points are left out.
    pub simplify: Option<Length>,
    /// Edges that are off by no more than so many degrees from the polygon's dominant direction, or from its normal, are turned onto it.
    pub orthogonalise: Option<f64>,
    /// Which pixels belong to one region.
    pub connectivity: Connectivity,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            classes: Vec::new(),
            min_area: Area::Pixels(0),
            min_hole_area: Area::Pixels(0),
            simplify: None,
            orthogonalise: None,
            connectivity: Connectivity::Four,
        }
    }
}

/// What has come of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfClass {
    pub class: u16,
    pub name: Option<String>,
    pub polygons: u64,
    /// In square metres, or pixels.
    pub area: f64,
}

/// What was written, and what was not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Counts {
    pub polygons: u64,
    /// Polygons that were left out.
    pub too_small: u64,
    pub holes_filled: u64,
    /// Polygons with right angles, and those that were left simplified where these did not fit.
    pub orthogonalised: u64,
    pub not_orthogonalised: u64,
    /// Areas are in square metres; else in pixels.
    pub metres: bool,
    /// Coordinates are pixels, because the mask does not say where it lies.
    pub pixels: bool,
    /// The mask's coordinate reference system, which GeoJSON does not keep.
    pub crs: Option<String>,
    pub classes: Vec<OfClass>,
}

/// Writes the footprints of a mask; `out` says by its ending in which format, and appears once it is whole. Polygons come in the order of the rows
/// in which they end, then of their first pixels.
///
/// `probability` is a raster of the same pixels, whose mean over a polygon's pixels becomes its `confidence`. `progress` hears the share that is
/// done and says whether to go on.
///
/// # Errors
/// [`Error::Cancelled`]; files that cannot be read or written; classes that the mask does not name; metres where nobody knows how large pixels are.
pub fn write(
    mask: &Path,
    probability: Option<&Path>,
    out: &Path,
    options: &Options,
    progress: &dyn Fn(f64) -> bool,
) -> Result<Counts> {
    Format::of(out)?;
    let numbers: Vec<u16> = options.classes.iter().filter_map(|class| class.parse().ok()).collect();
    let opened = Mask::open(mask, &numbers)?;
    for (name, path) in [("mask", Some(mask)), ("raster of probabilities", probability)] {
        if path.is_some_and(|path| super::parts::is_part_of(out, &path.to_string_lossy())) {
            return Err(Error::write("location", out, format!("is the {name}; write to another file")));
        }
    }
    let probability = probability.map(|path| Probability::open(path, &opened.info)).transpose()?;
    let place = Place::new(&opened.info.georeference);
    let classes = Classes::new(&options.classes, &opened.names, mask)?;
    let bands = |class: u16| probability.as_ref().and_then(|probability| probability.band(class, &opened.names));
    let bands: Vec<Option<Band>> = (0..NODATA).map(bands).collect();
    let height = opened.info.height as f64;
    let pixel = place.frame([opened.info.width as f64 / 2.0, height / 2.0]).pixel();
    let coordinates = Coordinates {
        crs: place.crs(),
        on_earth: place.is_on_earth(),
        metres: place.has_metres(),
        pixel,
        confidence: probability.is_some(),
        several: options.connectivity == Connectivity::Eight,
    };
    let mut writer = Writer {
        output: Output::create(out, &coordinates)?,
        counts: Counts::new(&place),
        maker: Maker::new(options, &place)?,
        names: opened.names.clone(),
        bands: &bands,
        place: &place,
    };

    let width = opened.info.width as usize;
    let reader = Reader::start(opened, probability)?;
    let mut regions = Regions::new(options.connectivity);
    let mut finished = Vec::new();
    let mut seen = 0_u64;
    let go_on = |done: f64| if progress(done) { Ok(()) } else { Err(Error::Cancelled) };
    let mut take = |finished: &mut Vec<Region>, done: f64| {
        finished.drain(..).try_for_each(|region| {
            seen += 1;
            if seen.is_multiple_of(PATIENCE) {
                go_on(done)?;
            }
            writer.write(&region)
        })
    };
    while let Some(rows) = reader.next()? {
        for (k, row) in rows.labels.values.chunks_exact(width).enumerate() {
            let sum = |class: u16, run| bands[usize::from(class)].map_or(Sum::default(), |band| rows.sum(band, run));
            regions.push(row, |label| classes.of(label), sum, &mut |region| finished.push(region));
            take(&mut finished, (rows.labels.first as f64 + k as f64) / height)?;
        }
        go_on(rows.labels.first as f64 / height)?;
    }
    regions.finish(&mut |region| finished.push(region));
    take(&mut finished, 1.0)?;
    go_on(1.0)?;
    let Writer { output, mut counts, .. } = writer;
    output.finish()?;
    counts.classes.sort_by_key(|of| of.class);
    Ok(counts)
}

/// The classes that are wanted.
struct Classes(Vec<bool>);

impl Classes {
    fn new(named: &[String], names: &[String], mask: &Path) -> Result<Self> {
        if named.is_empty() {
            return Ok(Classes((0..NODATA).map(|label| label > 0).collect()));
        }
        let mut wanted = vec![false; NODATA.into()];
        for text in named.iter().map(|text| text.trim()) {
            let by_name = names.iter().position(|name| !name.is_empty() && name == text);
            let by_number = || text.parse::<u16>().ok().filter(|class| *class != NODATA).map(usize::from);
            let Some(class) = by_name.or_else(by_number) else {
                let all: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
                let there = match all.is_empty() {
                    true => format!("{} names no classes; use numbers from 0 to 65534", mask.display()),
                    false => {
                        format!("{} has {}; use these, or numbers from 0 to 65534", mask.display(), all.join(", "))
                    }
                };
                return Err(Error::setting("classes", text, there));
            };
            wanted[class] = true;
        }
        Ok(Classes(wanted))
    }

    fn of(&self, label: u16) -> Option<u16> {
        self.0.get(usize::from(label)).is_some_and(|wanted| *wanted).then_some(label)
    }
}

impl Counts {
    fn new(place: &Place) -> Self {
        let name = |crs: &gdal::spatial_ref::SpatialRef| match (crs.auth_name(), crs.auth_code()) {
            (Some(name), Ok(code)) => format!("{name}:{code}"),
            _ => crs.name().unwrap_or_else(|| "a coordinate reference system without a name".into()),
        };
        let crs = super::source::messages::catch(|| place.crs().map(name)).0;
        Counts {
            polygons: 0,
            too_small: 0,
            holes_filled: 0,
            orthogonalised: 0,
            not_orthogonalised: 0,
            metres: place.has_metres(),
            pixels: place.is_pixels(),
            crs,
            classes: Vec::new(),
        }
    }
}

/// Regions to polygons, and these to the file.
struct Writer<'a> {
    output: Output,
    counts: Counts,
    maker: Maker<'a>,
    names: Vec<String>,
    bands: &'a [Option<Band>],
    place: &'a Place,
}

impl Writer<'_> {
    fn write(&mut self, region: &Region) -> Result<()> {
        let Some(made) = self.maker.make(region, &mut self.counts)? else { return Ok(()) };
        let area = self.place.area(&made);
        let on_ground = made.iter().map(|rings| rings.iter().map(|ring| self.on_ground(ring)).collect()).collect();
        let geometry = match self.output.several() {
            true => shape::multi_polygon(&on_ground),
            false => shape::polygon(&on_ground[0]),
        };
        let geometry = geometry.map_err(Error::Tile)?;
        let first = region.runs[0];
        let name = self.names.get(usize::from(region.class)).filter(|name| !name.is_empty()).cloned();
        let scaled = |mean: f64| self.bands[usize::from(region.class)].map(|band| band.scaled(mean));
        let footprint = Footprint {
            id: format!("{}-{}-{}", region.class, first.start, first.row),
            class: region.class,
            area: area.is_finite().then(|| (area * 100.0).round() / 100.0),
            confidence: region.sum.mean().and_then(scaled).map(|p| (p * 1e4).round() / 1e4),
            name,
        };
        self.output.write(&footprint, geometry)?;
        self.counts.polygons += 1;
        let area = if area.is_finite() { area } else { 0.0 };
        let classes = &mut self.counts.classes;
        match classes.iter_mut().find(|of| of.class == region.class) {
            Some(of) => {
                of.polygons += 1;
                of.area += area;
            }
            None => classes.push(OfClass { class: region.class, name: footprint.name, polygons: 1, area }),
        }
        Ok(())
    }

    fn on_ground(&self, ring: &Ring) -> Ring {
        ring.iter().map(|point| self.place.at(*point)).collect()
    }
}

/// Regions to polygons.
struct Maker<'a> {
    options: &'a Options,
    place: &'a Place,
}

impl<'a> Maker<'a> {
    fn new(options: &'a Options, place: &'a Place) -> Result<Self> {
        if let Some(tolerance) = options.orthogonalise.filter(|tolerance| !(0.0..45.0).contains(tolerance)) {
            return Err(Error::setting("angle-tolerance", tolerance, "use degrees, from 0 to less than 45"));
        }
        let unknown = |name: &'static str, value: String| {
            let problem = "nothing says how large these pixels are on the ground; use a number of pixels, or a mask that has a \
                           coordinate reference system";
            Err(Error::setting(name, value, problem))
        };
        if !place.has_metres() {
            for (name, area) in [("min-area", options.min_area), ("min-hole-area", options.min_hole_area)] {
                if matches!(area, Area::SquareMetres(_)) {
                    return unknown(name, area.to_string());
                }
            }
            if let Some(length @ Length::Metres(_)) = options.simplify {
                return unknown("simplify", length.to_string());
            }
        }
        Ok(Maker { options, place })
    }

    /// The polygons of a region, in pixels; `None` where they are too small.
    fn make(&self, region: &Region, counts: &mut Counts) -> Result<Option<Shape>> {
        let exact = |ring: Vec<outline::Corner>| ring.into_iter().map(|(x, y)| [x.into(), y.into()]).collect();
        let polygons = outline::polygons(&region.runs).into_iter();
        let mut shape: Shape = polygons.map(|rings| rings.into_iter().map(exact).collect()).collect();
        for rings in &mut shape {
            let before = rings.len();
            let mut outer = true;
            rings.retain(|ring| {
                std::mem::take(&mut outer) || !self.is_less(&vec![vec![ring.clone()]], self.options.min_hole_area)
            });
            counts.holes_filled += (before - rings.len()) as u64;
        }
        if self.is_less(&shape, self.options.min_area) {
            counts.too_small += 1;
            return Ok(None);
        }
        if self.options.simplify.is_none() && self.options.orthogonalise.is_none() {
            return Ok(Some(shape));
        }
        let first = region.runs[0];
        let frame = self.place.frame([first.start.into(), first.row.into()]);
        shape.iter().map(|rings| self.simplify(rings, &frame, counts)).collect::<Result<_>>().map(Some)
    }

    fn is_less(&self, shape: &Shape, than: Area) -> bool {
        match than {
            Area::Pixels(0) => false,
            Area::Pixels(least) => {
                let ring = |(k, ring): (usize, &Ring)| {
                    let area = place::signed_area(ring).abs();
                    if k == 0 { area } else { -area }
                };
                shape.iter().flat_map(|rings| rings.iter().enumerate().map(ring)).sum::<f64>() < least as f64
            }
            // A little less is as much.
            Area::SquareMetres(least) => self.place.area(shape) < least - 1e-6,
        }
    }

    /// Simplifies a polygon in pixels, and makes its angles right.
    fn simplify(&self, rings: &Rings, frame: &Frame, counts: &mut Counts) -> Result<Rings> {
        let distance = match self.options.simplify.unwrap_or(STAIRS) {
            Length::Metres(metres) => metres,
            Length::Pixels(pixels) => pixels * frame.pixel(),
        };
        let original: Rings = each(rings, |p| frame.to_plane(p));
        let mut simple = shape::simplify(&original, distance).map_err(Error::Tile)?;
        if let Some(tolerance) = self.options.orthogonalise {
            let fits = |found: &Rings| shape::is_valid(found) && shape::iou(found, &original) >= LEAST_IOU;
            match square::square(&original, &simple, tolerance, distance).filter(fits) {
                Some(found) => {
                    simple = found;
                    counts.orthogonalised += 1;
                }
                None => counts.not_orthogonalised += 1,
            }
        }
        Ok(each(&simple, |p| frame.to_pixels(p)))
    }
}

fn each(rings: &Rings, to: impl Fn(shape::Point) -> shape::Point) -> Rings {
    rings.iter().map(|ring| ring.iter().map(|p| to(*p)).collect()).collect()
}
