//! All kinds of files, types and sizes, read again by `gdal_translate`.

use gdal::raster::{ColorEntry, ColorTable, GdalType, RasterCreationOptions};
use gdal::{Dataset, DriverManager};

use crate::common;
use crate::raster::{Folder, Raster, texture};
use crate::{all, check_translated, tiles, tool, translated};

#[test]
fn every_size_and_any_tile() {
    let _watchdog = common::start();
    let folder = Folder::new("sizes");
    let path = folder.path("in.tif");
    for (width, height) in [(1, 1), (1, 9), (2, 2), (13, 1), (3, 61), (127, 131), (64, 65), (97, 7)] {
        Raster::new(3, (width, height), texture).write(&path, None, false);
        let samples = translated(&folder, &path, &["-b", "3", "-b", "1", "-b", "1"]);
        for (tile, overlap) in [(16, 0), (20, 10), (64, 32), (256, 64), (33, 2)] {
            let found = tiles(&format!("location={path} bands=\"3,1,1\" tile-size={tile} overlap={overlap}"));
            check_translated(&found, tile, overlap, (width, height), &samples);
        }
    }
}

fn typed<T: GdalType + Copy>(folder: &Folder, bands: usize, caps: &str, pixel: impl Fn(usize, usize, usize) -> T) {
    let path = folder.path("typed.tif");
    Raster::new(bands, (70, 50), pixel).write(&path, None, false);
    let list: Vec<String> = (1..=bands).map(|b| b.to_string()).collect();
    let found = tiles(&format!("location={path} bands=\"{}\" tile-size=32 overlap=8", list.join(",")));
    assert!(found[0].caps.starts_with(caps), "{} is not {caps}", found[0].caps);
    // What leaves is at most 32-bit floats.
    let samples = translated(folder, &path, &[]).into_iter().map(|v| v as f32 as f64).collect::<Vec<_>>();
    check_translated(&found, 32, 8, (70, 50), &samples);
}

#[test]
fn every_sample_type_in_the_caps_that_fit_it() {
    let _watchdog = common::start();
    let folder = Folder::new("types");
    let at = |b: usize, x: usize, y: usize| (b * 7001 + x * 613 + y * 89) as f64;
    typed(&folder, 1, "video/x-raw, format=(string)GRAY8", texture);
    typed(&folder, 2, "raster/x-raw, format=(string)U8, layout=(string)planar, bands=(int)2", texture);
    typed(&folder, 3, "video/x-raw, format=(string)RGB", texture);
    typed(&folder, 4, "raster/x-raw, format=(string)U8, layout=(string)planar, bands=(int)4", texture);
    typed::<u16>(&folder, 1, "video/x-raw, format=(string)GRAY16_LE", |b, x, y| at(b, x, y) as u16);
    typed::<u16>(&folder, 3, "raster/x-raw, format=(string)U16LE", |b, x, y| at(b, x, y) as u16);
    typed::<i16>(&folder, 1, "raster/x-raw, format=(string)I16LE", |b, x, y| (at(b, x, y) - 32_000.0) as i16);
    typed::<i16>(&folder, 5, "raster/x-raw, format=(string)I16LE", |b, x, y| (at(b, x, y) - 32_000.0) as i16);
    typed::<f32>(&folder, 1, "raster/x-raw, format=(string)F32LE", |b, x, y| at(b, x, y) as f32 / 7.0);
    typed::<f64>(&folder, 2, "raster/x-raw, format=(string)F32LE", |b, x, y| at(b, x, y) / 7.0);
    typed::<u32>(&folder, 1, "raster/x-raw, format=(string)F32LE", |b, x, y| at(b, x, y) as u32 * 60_000);
    typed::<i32>(&folder, 1, "raster/x-raw, format=(string)F32LE", |b, x, y| at(b, x, y) as i32 * -9_000);
}

#[test]
fn every_format_that_gdal_has() {
    let _watchdog = common::start();
    let folder = Folder::new("formats");
    let path = folder.path("in.tif");
    let size = (151, 83);
    Raster::new(3, size, texture).write(&path, None, false);
    let samples = translated(&folder, &path, &[]);
    let compare = |location: &str| {
        let (found, said, _) = all(&format!("location={location} tile-size=48 overlap=16"));
        check_translated(&found, 48, 16, size, &samples);
        said
    };
    let copy = |name: &str, options: &[&str]| {
        let to = folder.path(name);
        tool("gdal_translate", &[&["-q", &path, &to][..], options].concat());
        to
    };
    compare(&copy("strips.tif", &["-co", "BLOCKYSIZE=3"]));
    compare(&copy(
        "planes.tif",
        &["-co", "INTERLEAVE=BAND", "-co", "TILED=YES", "-co", "BLOCKXSIZE=16", "-co", "BLOCKYSIZE=32"],
    ));
    compare(&copy("cloud.tif", &["-of", "COG", "-co", "BLOCKSIZE=128"]));
    compare(&copy("one.vrt", &["-of", "VRT"]));
    compare(&copy("raw.img", &["-of", "ENVI", "-co", "INTERLEAVE=BIP"]));
    // A PNG says by a file beside it where it lies, but not in which coordinates.
    let png = copy("place.png", &["-of", "PNG", "-co", "WORLDFILE=YES"]);
    std::fs::remove_file(folder.path("place.png.aux.xml")).unwrap();
    assert!(std::path::Path::new(&folder.path("place.wld")).exists());
    let said = compare(&png);
    assert!(said.len() == 1 && said[0].contains("place.png: has no coordinate reference system"), "{said:?}");
    if DriverManager::get_driver_by_name("JP2OpenJPEG").is_ok() {
        compare(&copy("wavelets.jp2", &["-of", "JP2OpenJPEG", "-co", "REVERSIBLE=YES", "-co", "QUALITY=100"]));
    }
    // Within an archive, which GDAL writes only from one end to the other.
    let inside = format!("/vsizip/{}/deep/in.png", folder.path("all.zip"));
    tool("gdal_translate", &["-q", "-of", "PNG", &path, &inside]);
    compare(&inside);
}

#[test]
fn a_palette_becomes_its_colours() {
    let _watchdog = common::start();
    let folder = Folder::new("palette");
    let path = folder.path("in.tif");
    let options = RasterCreationOptions::from_iter(["PHOTOMETRIC=PALETTE"]);
    let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
    let file = driver.create_with_band_type_with_options::<u8, _>(&path, 60, 40, 1, &options).unwrap();
    let mut colours = ColorTable::default();
    for k in 0..=255u16 {
        let entry = ColorEntry::rgba((k * 7 % 256) as i16, (k * 31 % 256) as i16, (255 - k) as i16, 255);
        colours.set_color_entry(k, &entry);
    }
    let mut band = file.rasterband(1).unwrap();
    band.set_color_table(&colours);
    let data = (0..60 * 40).map(|p| texture(0, p % 60, p / 60)).collect();
    band.write((0, 0), (60, 40), &mut gdal::raster::Buffer::new((60, 40), data)).unwrap();
    file.close().unwrap();
    let found = tiles(&format!("location={path} tile-size=32 overlap=4"));
    check_translated(&found, 32, 4, (60, 40), &translated(&folder, &path, &["-expand", "rgb"]));
    // Named, a band is itself.
    let found = tiles(&format!("location={path} bands=1 tile-size=32 overlap=4"));
    check_translated(&found, 32, 4, (60, 40), &translated(&folder, &path, &[]));
}

#[test]
fn bands_follow_their_colours() {
    let _watchdog = common::start();
    let folder = Folder::new("colours");
    let (path, vrt) = (folder.path("in.tif"), folder.path("in.vrt"));
    Raster::new(4, (40, 30), texture).write(&path, None, false);
    tool("gdal_translate", &["-q", "-of", "VRT", "-colorinterp", "blue,undefined,red,green", &path, &vrt]);
    assert_eq!(Dataset::open(&vrt).unwrap().raster_count(), 4);
    let found = tiles(&format!("location={vrt} tile-size=32 overlap=0"));
    check_translated(&found, 32, 0, (40, 30), &translated(&folder, &path, &["-b", "3", "-b", "4", "-b", "1"]));
}
