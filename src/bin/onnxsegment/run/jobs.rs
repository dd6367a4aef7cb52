//! What there is to do: inputs by their kind, the output by its ending, and a pipeline for each.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use gstonnxsegment::files;
use gstonnxsegment::raster::store::Store;

use super::chain::Chain;
use super::options::{Element, Properties};

/// Endings of pictures, whose masks in a folder are pictures again.
const PICTURES: [&str; 7] = ["png", "jpg", "jpeg", "bmp", "gif", "webp", "ppm"];
/// Endings of rasters that are looked for in a folder, besides pictures.
const RASTERS: [&str; 9] = ["tif", "tiff", "vrt", "jp2", "img", "nc", "hdr", "ntf", "ecw"];
const VIDEOS: [&str; 12] = ["mp4", "mkv", "webm", "mov", "avi", "m4v", "mpg", "mpeg", "ts", "ogv", "mts", "wmv"];

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// A georeferenced mask, by rastersink.
    Mask,
    /// A mask as a PNG.
    Picture,
    /// A video with its classes painted over it.
    Overlay,
    /// Polygons of a mask.
    Footprints,
    /// A table of run-length rows, one for each input.
    Rows,
}

impl Product {
    /// By the ending of the output's name; `None` without one: a folder.
    fn of(output: &Path) -> Result<Option<Self>> {
        Ok(Some(match ending(output).as_str() {
            "" => return Ok(None),
            "tif" | "tiff" | "vrt" => Product::Mask,
            "png" => Product::Picture,
            "mkv" | "webm" => Product::Overlay,
            "geojson" | "gpkg" | "fgb" => Product::Footprints,
            "csv" => Product::Rows,
            other => bail!(
                "{}: nothing is written as .{other}; a mask is .tif or .png, footprints are .geojson, .gpkg or .fgb, \
                 run-length rows .csv, a video .mkv or .webm, and a folder of masks is a name without an ending",
                output.display()
            ),
        }))
    }

    fn elements(self) -> &'static [Element] {
        match self {
            Product::Mask | Product::Footprints | Product::Rows => {
                &[Element::RasterSrc, Element::OnnxSegment, Element::RasterSink]
            }
            Product::Picture => &[Element::RasterSrc, Element::OnnxSegment, Element::TileMerge],
            Product::Overlay => &[Element::OnnxSegment],
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Product::Mask => "a mask",
            Product::Picture => "a picture",
            Product::Overlay => "a video",
            Product::Footprints => "footprints",
            Product::Rows => "a table of rows",
        })
    }
}

/// Masks of a folder's inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Pictures become .png, all else .tif
    #[default]
    Auto,
    /// GeoTIFF
    Tif,
    /// PNG
    Png,
}

/// One input and what becomes of it.
#[derive(Debug, Clone)]
pub struct Job {
    pub input: PathBuf,
    /// What the pipeline writes.
    pub output: PathBuf,
    pub product: Product,
}

impl Job {
    /// The pipeline that writes `target`.
    pub fn chain(&self, models: &str, properties: &Properties, target: &Path) -> Chain {
        let models = ("model-file", models);
        let segment = |chain: Chain| match models.1.is_empty() {
            true => chain.then_ours(Element::OnnxSegment, properties),
            false => chain.then_ours_with(Element::OnnxSegment, models, properties),
        };
        let input = self.input.to_string_lossy();
        let file = target.to_string_lossy();
        let tiles = || segment(Chain::default().then_ours_with(Element::RasterSrc, ("location", &input), properties));
        match self.product {
            Product::Mask | Product::Rows => {
                tiles().then_ours_with(Element::RasterSink, ("location", &file), properties)
            }
            Product::Footprints => {
                let chain = tiles().then_ours_with(Element::RasterSink, ("location", &file), properties);
                match properties.get("probability-location") {
                    Some(_) => chain,
                    None => chain.with_path("probability-location", &probability_beside(target)),
                }
            }
            Product::Picture => {
                tiles().then_ours(Element::TileMerge, properties).then("pngenc").then("filesink").with("location", file)
            }
            Product::Overlay => {
                let frames = Chain::default().then("filesrc").with("location", input);
                let frames = frames.then("decodebin").then("videoconvert").then("videoscale");
                let muxer = if ending(&self.output) == "webm" { "webmmux" } else { "matroskamux" };
                let painted = segment(frames).with("name", "s").onward_from("s.overlay");
                let painted = painted.then("queue").then("videoconvert").then("vp8enc").with("deadline", 1);
                painted.then(muxer).then("filesink").with("location", file)
            }
        }
    }
}

/// Where probabilities are kept for footprints.
pub fn probability_beside(mask: &Path) -> PathBuf {
    mask.with_extension("probability.tif")
}

/// All there is to do.
#[derive(Debug)]
pub struct Plan {
    pub jobs: Vec<Job>,
    /// What is asked for.
    pub output: PathBuf,
    pub product: Option<Product>,
    /// What is made on the way to it and kept until it is there.
    pub work: Option<PathBuf>,
}

impl Plan {
    /// # Errors
    /// No input, inputs and outputs that do not go together, settings of elements that are not needed.
    pub fn new(inputs: &[String], output: &Path, format: Format, properties: &Properties) -> Result<Self> {
        let many = inputs.len() > 1
            || inputs.iter().any(|input| Path::new(input).is_dir() || is_pattern(input) || is_folder_of_objects(input));
        let inputs = expand(inputs)?;
        let folder = output.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/");
        let product = if folder { None } else { Product::of(output)? };
        let shown = output.display();
        for input in &inputs {
            let video = VIDEOS.contains(&ending(input).as_str());
            match product {
                Some(Product::Overlay) => ensure!(
                    video,
                    "{}: a video is written from a video only; use -o NAME.tif or -o NAME.png",
                    input.display()
                ),
                _ => ensure!(
                    !video,
                    "{}: a video becomes a video with its classes over it; use -o NAME.mkv or -o NAME.webm",
                    input.display()
                ),
            }
            ensure!(!same(input, output), "{shown} is the input itself; give the output another name");
        }
        if files::is_virtual(output) {
            refuse_virtual(output, product, format, &inputs)?;
        }
        if let Some(product) = product.filter(|product| *product != Product::Rows)
            && many
        {
            bail!(
                "{} inputs cannot become {product} in one file, {shown}; name a folder (no ending), a table of rows \
                 (.csv), or make one raster of them first: gdalbuildvrt all.vrt {} …",
                inputs.len(),
                super::chain::shell(&inputs[0].to_string_lossy())
            );
        }
        let plan = match product {
            Some(product @ (Product::Footprints | Product::Rows)) => {
                let mut work = output.as_os_str().to_owned();
                work.push(".work");
                let work = PathBuf::from(work);
                let masks = names(&inputs, |_| "tif")?;
                let job = |(input, name)| Job { input, output: work.join(name), product };
                Plan {
                    jobs: inputs.into_iter().zip(masks).map(job).collect(),
                    output: output.to_path_buf(),
                    product: Some(product),
                    work: Some(work),
                }
            }
            Some(product) => {
                let job = |input| Job { input, output: output.to_path_buf(), product };
                Plan {
                    jobs: inputs.into_iter().map(job).collect(),
                    output: output.to_path_buf(),
                    product: Some(product),
                    work: None,
                }
            }
            None => {
                let product = |input: &Path| match format {
                    Format::Tif => Product::Mask,
                    Format::Png => Product::Picture,
                    Format::Auto if PICTURES.contains(&ending(input).as_str()) => Product::Picture,
                    Format::Auto => Product::Mask,
                };
                let ends = |input: &Path| if product(input) == Product::Picture { "png" } else { "tif" };
                let masks = names(&inputs, ends)?;
                let job = |(input, name): (PathBuf, _)| {
                    let product = product(&input);
                    Job { input, output: output.join(name), product }
                };
                let jobs: Vec<Job> = inputs.into_iter().zip(masks).map(job).collect();
                for job in &jobs {
                    ensure!(
                        !same(&job.input, &job.output),
                        "{} would be overwritten by its mask; choose another folder",
                        job.input.display()
                    );
                }
                Plan { jobs, output: output.to_path_buf(), product: None, work: None }
            }
        };
        let mut elements: Vec<Element> = plan.jobs.iter().flat_map(|job| job.product.elements()).copied().collect();
        elements.dedup();
        let what = plan.product.unwrap_or(plan.jobs[0].product);
        properties.check(&elements, &what.to_string())?;
        let one_name = ["probability-location", "uncertainty-location"];
        if let Some(name) = one_name.into_iter().find(|name| plan.jobs.len() > 1 && properties.get(name).is_some()) {
            bail!("--{name} names one file, and there are {} inputs; run them one by one", plan.jobs.len());
        }
        Ok(plan)
    }
}

/// The ending of a name in small letters.
pub fn ending(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase()
}

fn is_pattern(input: &str) -> bool {
    input.contains(['*', '?', '[']) && !Path::new(input).exists()
}

/// A store has no folders, so that only the name says what is meant.
fn is_folder_of_objects(input: &str) -> bool {
    files::is_virtual(Path::new(input)) && input.ends_with('/')
}

/// # Errors
/// What only a disk takes.
fn refuse_virtual(output: &Path, product: Option<Product>, format: Format, inputs: &[PathBuf]) -> Result<()> {
    let pictures = format == Format::Png
        || format == Format::Auto && inputs.iter().any(|input| PICTURES.contains(&ending(input).as_str()));
    match product {
        None if pictures => {
            bail!("{}: pictures are written to a disk only; use --format tif for masks in GeoTIFFs", output.display())
        }
        Some(product @ (Product::Picture | Product::Overlay | Product::Footprints | Product::Rows)) => bail!(
            "{}: {product} cannot be written to a store, only to a disk; a mask in a GeoTIFF can: use -o NAME.tif",
            output.display()
        ),
        _ => Ok(()),
    }
}

fn same(a: &Path, b: &Path) -> bool {
    if files::is_virtual(a) && files::is_virtual(b) {
        return Store::Objects.is_same(a, b);
    }
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Files by name: those of folders and patterns in alphabetical order, each once.
fn expand(inputs: &[String]) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        let mut found: Vec<PathBuf> = if files::is_virtual(path) && (is_pattern(input) || is_folder_of_objects(input)) {
            objects(input)?
        } else if path.is_dir() && !holds_raster(path) {
            let entries = std::fs::read_dir(path).with_context(|| format!("{input} cannot be read"))?;
            let known = |file: &PathBuf| is_image(file) && file.is_file();
            let all = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
            let found: Vec<PathBuf> =
                all.with_context(|| format!("{input} cannot be read"))?.into_iter().filter(known).collect();
            ensure!(!found.is_empty(), no_image(input));
            found
        } else if is_pattern(input) {
            let paths = glob::glob(input).with_context(|| format!("{input} is no pattern"))?;
            let found = paths.collect::<Result<Vec<_>, _>>().with_context(|| format!("{input} cannot be read"))?;
            ensure!(!found.is_empty(), "{input}: no file has such a name");
            found
        } else {
            // What GDAL opens may be no file: /vsizip/…, a connection. Whoever reads it says what is wrong.
            vec![path.to_path_buf()]
        };
        found.sort();
        files.extend(found.into_iter().filter(|file| !files.contains(file)).collect::<Vec<_>>());
    }
    Ok(files)
}

/// By its name.
fn is_image(file: &Path) -> bool {
    let ending = ending(file);
    let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && (PICTURES.contains(&ending.as_str()) || RASTERS.contains(&ending.as_str()))
}

fn no_image(input: &str) -> String {
    let endings = [&RASTERS[..4], &PICTURES[..3]].concat().join(", .");
    format!("{input}: there is no image in this folder (.{endings}); name files or a pattern")
}

/// Objects of a store, by what their names begin with, or by a pattern of their last part.
fn objects(input: &str) -> Result<Vec<PathBuf>> {
    let (folder, pattern) = input.rsplit_once('/').unwrap_or((input, ""));
    ensure!(!folder.contains(['*', '?', '[']), "{input}: in a store, only the last part of a name can be a pattern");
    let names = match Store::Objects.names(Path::new(folder)) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|e| anyhow!("{input} cannot be read: {}", files::words(&e)))?,
    };
    let all = names.into_iter().map(|name| Path::new(folder).join(name));
    if pattern.is_empty() {
        let found: Vec<PathBuf> = all.filter(|file| is_image(file)).collect();
        ensure!(!found.is_empty(), no_image(input));
        return Ok(found);
    }
    let pattern = glob::Pattern::new(pattern).with_context(|| format!("{input} is no pattern"))?;
    let is_wanted = |file: &PathBuf| file.file_name().is_some_and(|name| pattern.matches(&name.to_string_lossy()));
    let found: Vec<PathBuf> = all.filter(is_wanted).collect();
    ensure!(!found.is_empty(), "{input}: no file has such a name");
    Ok(found)
}

/// Folders that are one raster to GDAL.
fn holds_raster(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    name.ends_with(".safe") || name.ends_with(".zarr")
}

/// A mask's name for each input, no two the same.
fn names(inputs: &[PathBuf], ending: impl Fn(&Path) -> &'static str) -> Result<Vec<PathBuf>> {
    let mut names: Vec<PathBuf> = Vec::new();
    for input in inputs {
        let stem = input.file_stem().with_context(|| format!("{}: it has no name", input.display()))?;
        let mut name = stem.to_owned();
        name.push(".");
        name.push(ending(input));
        let name = PathBuf::from(name);
        if let Some(other) = names.iter().position(|known| *known == name) {
            bail!(
                "{} and {} would both become {}; put them into runs of their own",
                inputs[other].display(),
                input.display(),
                name.display()
            );
        }
        names.push(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(inputs: &[&str], output: &str) -> Result<Plan> {
        let inputs: Vec<String> = inputs.iter().map(|input| input.to_string()).collect();
        Plan::new(&inputs, Path::new(output), Format::Auto, &Properties::default())
    }

    fn refused(inputs: &[&str], output: &str) -> String {
        plan(inputs, output).unwrap_err().to_string()
    }

    fn line(inputs: &[&str], output: &str) -> String {
        let plan = plan(inputs, output).unwrap();
        plan.jobs[0].chain("m.onnx", &Properties::default(), &plan.jobs[0].output).to_string()
    }

    #[test]
    fn the_ending_of_the_output_says_what_is_written() {
        assert_eq!(
            line(&["a.tif"], "b.tif"),
            "gst-launch-1.0 -e rastersrc location=a.tif ! onnxsegment model-file=m.onnx ! rastersink location=b.tif"
        );
        assert_eq!(
            line(&["a.jp2"], "b.png"),
            "gst-launch-1.0 -e rastersrc location=a.jp2 ! onnxsegment model-file=m.onnx ! tilemerge ! pngenc ! filesink \
             location=b.png"
        );
        assert!(line(&["a.mp4"], "b.webm").contains("s.overlay ! queue ! videoconvert ! vp8enc deadline=1 ! webmmux"));
        assert!(line(&["a.mp4"], "b.mkv").contains("matroskamux"));
        assert!(
            line(&["a.tif"], "b.gpkg")
                .contains("rastersink location=b.gpkg.work/a.tif probability-location=b.gpkg.work/a.probability.tif")
        );
    }

    #[test]
    fn a_folder_takes_a_mask_of_each_input() {
        let plan = plan(&["x/a.png", "y/b.tif"], "masks").unwrap();
        let outputs: Vec<&Path> = plan.jobs.iter().map(|job| job.output.as_path()).collect();
        assert_eq!(outputs, [Path::new("masks/a.png"), Path::new("masks/b.tif")]);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_a_way_out() {
        assert!(refused(&["a.tif", "b.tif"], "c.tif").contains("gdalbuildvrt"));
        assert!(refused(&["a.tif"], "c.mp4").contains(".mkv or .webm"));
        assert!(refused(&["a.mp4"], "c.tif").contains("-o NAME.mkv"));
        assert!(refused(&["a.tif"], "c.webm").contains("from a video only"));
        assert!(refused(&["x/a.tif", "y/a.tif"], "masks").contains("would both become a.tif"));
        assert!(refused(&["no*such.tif"], "c.tif").contains("no file has such a name"));
    }

    #[test]
    fn an_input_is_never_its_own_output() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.tif");
        std::fs::write(&file, "x").unwrap();
        let text = file.to_str().unwrap();
        assert!(refused(&[text], text).contains("is the input itself"));
        assert!(refused(&[text], folder.path().to_str().unwrap()).contains("would be overwritten"));
    }

    #[test]
    fn a_folder_without_images_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(refused(&[folder.path().to_str().unwrap()], "masks").contains("no image in this folder"));
    }
}
