//! What cannot be read, and settings that cannot be: one error that names the property and the file.

use gdal::DriverManager;

use crate::common::{self, End};
use crate::raster::{Folder, Raster, texture};
use crate::tool;

/// The one error of a pipeline; all of `parts` are in it.
fn one_error(description: &str, parts: &[&str]) {
    let End::Error(own, others) = common::launch(description).run() else { panic!("no error: {description}") };
    assert!(own.is_empty(), "{own:?}");
    assert_eq!(others.len(), 1, "{description}: {others:?}");
    for part in parts {
        assert!(others[0].contains(part), "{part:?} is not in: {}", others[0]);
    }
}

fn refused(properties: &str, parts: &[&str]) {
    one_error(&format!("rastersrc {properties} ! fakesink"), parts);
}

#[test]
fn files_that_cannot_be_opened() {
    let _watchdog = common::start();
    let folder = Folder::new("unopened");
    refused("", &["location=", "set it to a raster"]);
    let path = folder.path("missing.tif");
    refused(&format!("location={path}"), &[&format!("location={path}: cannot be opened"), "No such file"]);
    let path = folder.path("text.tif");
    std::fs::write(&path, "no raster at all, however long the text may be").unwrap();
    refused(&format!("location={path}"), &[&format!("location={path}: cannot be opened"), "not recognized"]);
    let path = folder.path("empty.tif");
    std::fs::write(&path, "").unwrap();
    refused(&format!("location={path}"), &[&format!("location={path}: cannot be opened")]);
    // A TIFF's first bytes, and nothing after them.
    let path = folder.path("head.tif");
    std::fs::write(&path, b"II*\0\x08\0\0\0").unwrap();
    refused(&format!("location={path}"), &[&format!("location={path}: cannot be opened")]);
    let path = folder.path("");
    refused(&format!("location={path}"), &["location=", "cannot be opened"]);
    let path = format!("/vsizip/{}", folder.path("missing.zip/in.tif"));
    refused(&format!("location={path}"), &[&format!("location={path}: cannot be opened")]);
    let path = folder.path("broken.vrt");
    std::fs::write(&path, "<VRTDataset rasterXSize=\"5\" rasterYSize=\"5\">").unwrap();
    refused(&format!("location={path}"), &[&format!("location={path}: cannot be opened")]);
}

#[test]
fn files_that_end_too_soon_or_are_damaged() {
    let _watchdog = common::start();
    let folder = Folder::new("damaged");
    let (path, copy) = (folder.path("in.tif"), folder.path("copy.tif"));
    Raster::new(3, (400, 600), texture).write(&path, None, false);
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&copy).unwrap();
        change(&mut bytes);
        std::fs::write(&copy, bytes).unwrap();
        // In no cache of GDAL's: the name is new each time.
        let name =
            folder.path(&format!("damaged-{:?}.tif", std::time::Instant::now()).replace([' ', '{', '}', ':', ','], ""));
        std::fs::rename(&copy, &name).unwrap();
        let file = format!("location={name}: ");
        refused(
            &format!("location={name} tile-size=64 overlap=16"),
            &[&file, "rows", "cannot be read", "damaged, cut short or gone"],
        );
    };
    for options in
        [&["-co", "BLOCKYSIZE=8"][..], &["-co", "TILED=YES"], &["-co", "COMPRESS=DEFLATE"], &["-co", "COMPRESS=LZW"]]
    {
        tool("gdal_translate", &[&["-q"], options, &[&path, &copy]].concat());
        damaged(&|bytes| bytes.truncate(bytes.len() / 2));
    }
    tool("gdal_translate", &["-q", "-co", "COMPRESS=DEFLATE", &path, &copy]);
    damaged(&|bytes| {
        let n = bytes.len();
        bytes[n / 2..n / 2 + 5000].fill(0x55);
    });
    for format in ["PNG", "JPEG"] {
        tool("gdal_translate", &["-q", "-of", format, &path, &copy]);
        damaged(&|bytes| bytes.truncate(bytes.len() / 2));
    }

    // A mosaic that has lost a file.
    let (a, vrt) = (folder.path("a.tif"), folder.path("lost.vrt"));
    tool("gdal_translate", &["-q", "-srcwin", "0", "0", "200", "600", &path, &a]);
    tool("gdalbuildvrt", &["-q", &vrt, &path, &a]);
    std::fs::remove_file(&a).unwrap();
    refused(&format!("location={vrt} tile-size=64 overlap=0"), &["location=", "lost.vrt", "cannot be read", "a.tif"]);
}

#[test]
fn bands_that_are_not_there_or_no_one_takes() {
    let _watchdog = common::start();
    let folder = Folder::new("bands");
    let path = folder.path("in.tif");
    Raster::new(3, (40, 30), texture).write(&path, None, false);
    let bands = |list: &str, parts: &[&str]| refused(&format!("location={path} bands=\"{list}\""), parts);
    bands("1,2,4", &["bands=4: ", "in.tif has 3 bands: 1 (Red, Byte)", "count from 1"]);
    bands("0", &["bands=0: ", "from 1"]);
    bands("-1", &["bands=-1: ", "from 1"]);
    bands("red", &["bands=red: ", "3,2,1"]);
    bands("1,,2", &["bands=1,,2: "]);
    one_error(
        &format!("rastersrc location={path} bands=\"1,2\" ! pngenc ! fakesink"),
        &["bands=1,2: ", "raster/x-raw", "pngenc0 does not take"],
    );
    let complex = folder.path("complex.tif");
    tool("gdal_translate", &["-q", "-ot", "CFloat32", &path, &complex]);
    refused(&format!("location={complex}"), &["location=", "complex.tif", "complex numbers"]);
}

#[test]
fn files_of_several_rasters() {
    let _watchdog = common::start();
    let folder = Folder::new("several");
    let (path, zip) = (folder.path("in.tif"), folder.path("several.nc"));
    Raster::new(1, (20, 20), texture).write(&path, None, false);
    if DriverManager::get_driver_by_name("netCDF").is_err() {
        return;
    }
    // Each band of it becomes a variable.
    let three = folder.path("three.tif");
    Raster::new(3, (20, 20), texture).write(&three, None, false);
    tool("gdal_translate", &["-q", "-of", "netCDF", &three, &zip]);
    let info = String::from_utf8(std::process::Command::new("gdalinfo").arg(&zip).output().unwrap().stdout).unwrap();
    if !info.contains("SUBDATASET_1_NAME") {
        return;
    }
    refused(&format!("location={zip}"), &["location=", "holds several rasters", "NETCDF:"]);
}

#[test]
fn regions_that_are_not_there() {
    let _watchdog = common::start();
    let folder = Folder::new("regions");
    let (path, bare) = (folder.path("in.tif"), folder.path("bare.png"));
    Raster::new(3, (40, 30), texture).write(&path, None, false);
    tool("gdal_translate", &["-q", "-of", "PNG", &path, &bare]);
    std::fs::remove_file(folder.path("bare.png.aux.xml")).unwrap();
    let of = |properties: &str, parts: &[&str]| refused(&format!("location={path} {properties}"), parts);
    for (window, problem) in [
        ("10,10,0,5", "has no pixels"),
        ("10,10,5,-5", "has no pixels"),
        ("-1,0,5,5", "reaches beyond"),
        ("0,0,41,30", "within 0,0,40,30"),
        ("40,0,1,1", "in.tif, which has 40x30 pixels"),
        ("2000000000,2000000000,2000000000,2000000000", "reaches beyond"),
        ("1,2,3", "x,y,width,height in whole pixels"),
        ("1,2,3,4.5", "x,y,width,height in whole pixels"),
        ("99999999999999999999,0,1,1", "x,y,width,height"),
    ] {
        of(&format!("window={window}"), &[&format!("window={window}: "), problem]);
    }
    for (corners, problem) in [
        ("0,0,1,1", "lies outside"),
        ("0,0,1,1", "in.tif, which covers 500000,5399985,500020,5400000"),
        ("500010,5399990,500010,5399995", "each minimum less than its maximum"),
        ("500015,5399990,500010,5399995", "each minimum less than its maximum"),
        ("1,2,3", "min-x,min-y,max-x,max-y"),
        ("1,2,3,inf", "min-x,min-y,max-x,max-y"),
    ] {
        of(&format!("bbox={corners}"), &[&format!("bbox={corners}: "), problem]);
    }
    of("window=0,0,9,9 bbox=0,0,1,1", &["window=0,0,9,9: ", "bbox is set as well"]);
    refused(
        &format!("location={bare} bbox=0,0,9,9"),
        &["bbox=0,0,9,9: ", "bare.png has no geotransform", "use window"],
    );
}

#[test]
fn other_settings_that_cannot_be() {
    let _watchdog = common::start();
    let folder = Folder::new("settings");
    let (path, bare) = (folder.path("in.tif"), folder.path("bare.png"));
    Raster::new(3, (40, 30), texture).write(&path, None, false);
    tool("gdal_translate", &["-q", "-of", "PNG", &path, &bare]);
    std::fs::remove_file(folder.path("bare.png.aux.xml")).unwrap();
    let of = |properties: &str, parts: &[&str]| refused(&format!("location={path} {properties}"), parts);
    of("shard=0/2", &["shard=0/2: ", "i/n"]);
    of("shard=3/2", &["shard=3/2: ", "i/n"]);
    of("shard=half", &["shard=half: ", "i/n"]);
    of("nodata=black", &["nodata=black: ", "none"]);
    of("nodata=\"1,2\"", &["nodata=1,2: ", "2 values for 3 bands"]);
    of("nodata-fill=\"1,2\"", &["nodata-fill=1,2: ", "2 values for 3 bands"]);
    of("nodata-fill=nan", &["nodata-fill=nan: "]);
    of("tile-size=64 overlap=33", &["overlap=33: ", "even number up to 32", "use 32"]);
    of("tile-size=64 overlap=40", &["overlap=40: ", "up to 32"]);
    of("resolution=0.0000000001", &["resolution=", "in.tif would have"]);
    refused(&format!("location={bare} resolution=2"), &["resolution=2: ", "bare.png", "use resolution=0"]);
}
