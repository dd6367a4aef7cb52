//! `onnxsegment rle`: masks as run-length rows, and rows as masks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};
use gstonnxsegment::files;
use gstonnxsegment::raster::mask::{Mask, MaskReader};
use gstonnxsegment::raster::rle::{Encoder, Reader, Row, Runs, Writer};

use crate::output::Output;
use crate::scene::{note_bands, of_file};

#[derive(clap::Args)]
pub struct Arguments {
    /// Masks: rasters of labels that GDAL opens; with --size, one file of rows
    #[arg(value_name = "MASK", required = true)]
    inputs: Vec<PathBuf>,

    /// The file of rows; with --size, the folder of masks
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,

    /// The class whose pixels are written
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(..65535))]
    class: u16,

    /// What a row is called: the mask's file without its ending, or with it
    #[arg(long, value_enum, default_value_t = Name::Stem, conflicts_with = "size")]
    name: Name,

    /// Back from rows to masks of this size: PNG, 255 where a row has pixels
    #[arg(long, value_name = "WIDTHxHEIGHT", conflicts_with = "class")]
    size: Option<Size>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    Stem,
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    width: u32,
    height: u32,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let side = |text: &str| text.trim().parse().ok().filter(|side| (1..=1 << 16).contains(side));
        let size =
            text.split_once('x').and_then(|(width, height)| Some(Size { width: side(width)?, height: side(height)? }));
        size.ok_or_else(|| "use WIDTHxHEIGHT in pixels, each from 1 to 65536, such as 512x512".into())
    }
}

pub fn run(arguments: Arguments) -> Result<()> {
    match arguments.size {
        None => encode(&arguments),
        Some(size) => match &arguments.inputs[..] {
            [rows] => decode(rows, &arguments.output, size),
            more => bail!("{} files are given with --size, which is for one file of rows", more.len()),
        },
    }
}

fn encode(arguments: &Arguments) -> Result<()> {
    let output = Output::create(&arguments.output)?;
    let mut writer = Writer::new(Vec::new());
    let mut names = BTreeMap::new();
    let mut empty = 0;
    for path in &arguments.inputs {
        note_bands(path);
        let name = match arguments.name {
            Name::Stem => path.file_stem(),
            Name::File => path.file_name(),
        };
        let name = name.and_then(|name| name.to_str()).with_context(|| format!("{}: is no name", path.display()))?;
        if let Some(other) = names.insert(name.to_string(), path) {
            bail!(
                "{} and {} would both be the row {name}; use --name file, or write them apart",
                other.display(),
                path.display()
            );
        }
        let runs = runs(path, arguments.class)?;
        empty += usize::from(runs.0.is_empty());
        writer.append_runs(name, &runs)?;
    }
    output.write(&writer.into_inner())?;
    let without = match empty {
        0 => String::new(),
        empty => format!(", {empty} of them empty: no pixel of class {}", arguments.class),
    };
    println!("{} row{}{without}", names.len(), if names.len() == 1 { "" } else { "s" });
    Ok(())
}

/// The runs of a class in a mask of any size.
pub fn runs(path: &Path, class: u16) -> Result<Runs> {
    let mask = Mask::open(path, &[class]).map_err(of_file)?;
    let width = mask.info.width as usize;
    let mut encoder = Encoder::new(width);
    let reader = MaskReader::start(mask).map_err(of_file)?;
    while let Some(labels) = reader.next().map_err(of_file)? {
        labels.values.chunks_exact(width).for_each(|row| encoder.push(row.iter().map(|label| *label == class)));
    }
    Ok(encoder.finish())
}

/// Looks at all rows before it writes any mask.
fn decode(rows: &Path, folder: &Path, size: Size) -> Result<()> {
    let wrong = || rows.display().to_string();
    let read =
        || -> Result<_> { Ok(Reader::new(BufReader::new(File::open(rows).map_err(|e| anyhow!(files::words(&e)))?))) };
    let (width, height) = (size.width as usize, size.height as usize);
    let mut names = BTreeMap::new();
    for row in read().with_context(wrong)? {
        let row = row.with_context(wrong)?;
        row.check(width, height).with_context(wrong)?;
        let name = file_of(&row).with_context(wrong)?;
        if let Some(other) = names.insert(name.clone(), row.number) {
            return Err(row.wrong(format!("would be {name}, as row {other} is"))).with_context(wrong);
        }
    }
    ensure!(!names.is_empty(), "{}: has no rows", rows.display());
    ensure!(!files::is_virtual(folder), "{}: pictures are written to a disk only", folder.display());
    std::fs::create_dir_all(folder)
        .map_err(|e| anyhow!("{} cannot be made a folder: {}", folder.display(), files::words(&e)))?;
    for row in read().with_context(wrong)? {
        let row = row.with_context(wrong)?;
        let mask = row.mask(width, height).with_context(wrong)?;
        let bytes = png(size, mask).with_context(wrong)?;
        Output::create(&folder.join(file_of(&row)?))?.write(&bytes)?;
    }
    println!("{} mask{} in {}", names.len(), if names.len() == 1 { "" } else { "s" }, folder.display());
    Ok(())
}

/// The mask's file: the row's name, with the ending of a picture replaced.
fn file_of(row: &Row) -> Result<String> {
    if row.name.contains(['/', '\\', '\0']) || row.name.starts_with('.') {
        return Err(row.wrong("is no name of a file within a folder".into()).into());
    }
    let stem = match row.name.rsplit_once('.') {
        Some((stem, "jpg" | "jpeg" | "png" | "tif" | "tiff" | "bmp")) => stem,
        _ => &row.name,
    };
    Ok(format!("{stem}.png"))
}

fn png(size: Size, mask: Vec<bool>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width, size.height);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&mask.into_iter().map(|inside| if inside { 255 } else { 0 }).collect::<Vec<u8>>())?;
    writer.finish()?;
    Ok(bytes)
}
