//! `rastersrc ! maskclean ! rastersink`, from file to file.

use std::path::Path;

use gdal::Dataset;
use gdal::raster::{ColorEntry, ColorTable, GdalType};
use gst::prelude::*;

use gstonnxsegment::raster::clean::Recipe;

use crate::Mask;
use crate::common::{self, End, Pipeline};
use crate::golden;
use crate::raster::{Folder, Raster};

const PROPERTIES: &str = "opening=1 closing=2 hole-area=12 min-area=15";

fn recipe() -> Recipe {
    Recipe { opening: 1, closing: 2, hole_area: 12, min_area: 15, ..Recipe::default() }
}

/// Writes a mask as a georeferenced raster.
fn write<T: GdalType + Copy>(folder: &Folder, mask: &Mask, sample: impl Fn(u16) -> T, nodata: f64) -> String {
    let path = folder.path("in.tif");
    let size = (mask.width, mask.height);
    Raster::new(1, size, |_, x, y| sample(mask.labels[y * mask.width + x])).write(&path, Some(nodata), false);
    path
}

fn write_8(folder: &Folder, mask: &Mask) -> String {
    write(folder, mask, |v| v as u8, 255.0)
}

fn read(path: &str) -> Mask {
    let raster = Raster::<u8>::read(path);
    let no = |v: &u8| if *v == 255 { 65535 } else { u16::from(*v) };
    Mask { width: raster.width, height: raster.height, labels: raster.band(0).iter().map(no).collect() }
}

/// The error that ends a pipeline.
fn error(pipeline: &Pipeline) -> String {
    let End::Error(_, mut errors) = pipeline.run() else { panic!("it ends without an error") };
    // The source that has to stop says so too.
    errors.retain(|text| !text.starts_with("Internal data stream error"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors.remove(0)
}

#[test]
fn rasters_equal_the_reference() {
    let _w = common::start();
    let folder = Folder::new("clean-golden");
    for (k, case) in golden::cases().iter().enumerate().filter(|(k, case)| k % 5 == 0 && !case.wide()) {
        let (source, out) = (write_8(&folder, &case.before()), folder.path("out.tif"));
        let tile = [7, 32, 61][k % 3];
        common::launch(&format!(
            "rastersrc location={source} overlap=0 tile-size={tile} ! maskclean {} \
             ! rastersink location={out} part-size=64,32",
            case.properties()
        ))
        .finish();
        assert!(read(&out) == case.after(), "{}:{}", case.name, case.properties());
    }
}

#[test]
fn tiles_do_not_overlap_unless_the_user_says_so() {
    let _w = common::start();
    let folder = Folder::new("clean-overlap");
    let mask = Mask::blots((150, 100), 3);
    let (source, out) = (write_8(&folder, &mask), folder.path("out.tif"));
    let line = |settings: &str| {
        common::launch(&format!(
            "rastersrc location={source} tile-size=32 {settings} ! maskclean {PROPERTIES} ! rastersink location={out}"
        ))
    };
    line("").finish();
    assert!(read(&out) == mask.cleaned(&recipe()));
    let found = error(&line("overlap=8"));
    assert!(found.starts_with("these tiles overlap by 8 pixels"), "{found}");
    let file = Dataset::open(&out).unwrap();
    assert_eq!(file.geo_transform().unwrap(), [500_000.0, 0.5, 0.0, 5_400_000.0, 0.0, -0.5]);
}

#[test]
fn a_window_is_cleaned_as_a_mask_of_its_own() {
    let _w = common::start();
    let folder = Folder::new("clean-window");
    let mask = Mask::blots((150, 100), 4);
    let (source, out) = (write_8(&folder, &mask), folder.path("out.tif"));
    for tile in [16, 50] {
        common::launch(&format!(
            "rastersrc location={source} tile-size={tile} window=21,13,90,70 ! maskclean {PROPERTIES} \
             ! rastersink location={out} part-size=32,16"
        ))
        .finish();
        assert!(read(&out) == mask.part((21, 13, 90, 70)).cleaned(&recipe()));
    }
}

#[test]
fn square_metres_are_those_on_the_ground() {
    let _w = common::start();
    let folder = Folder::new("clean-metres");
    let mask = Mask::blots((150, 100), 5);
    let (source, out) = (write_8(&folder, &mask), folder.path("out.tif"));
    common::launch(&format!(
        "rastersrc location={source} tile-size=64 ! maskclean hole-area=2m2 min-area=3m2 ! rastersink location={out}"
    ))
    .finish();
    // Pixels of 0.5 m in UTM, which near its central meridian are 0.5002 m long: 3 m² are 11.99 of them, 2 m² 7.99.
    assert!(read(&out) == mask.cleaned(&Recipe { hole_area: 7, min_area: 12, ..Recipe::default() }));
    // A raster that says nothing of the kind.
    let bare = folder.path("bare.tif");
    let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
    driver.create_with_band_type::<u8, _>(&bare, 40, 30, 1).unwrap().close().unwrap();
    let found = error(&common::launch(&format!(
        "rastersrc location={bare} ! maskclean min-area=3m2 ! rastersink location={out}"
    )));
    assert!(found.starts_with("min-area=3m2: nothing says how large"), "{found}");
    assert!(!Path::new(&format!("{out}.parts")).exists());
}

#[test]
fn a_mask_with_a_palette_stays_one_with_its_colours_and_names() {
    let _w = common::start();
    let folder = Folder::new("clean-palette");
    let mask = Mask::blots((90, 70), 6);
    let (source, out) = (folder.path("in.tif"), folder.path("out.tif"));
    // As rastersink writes them: from a source that says what its labels are.
    let plain = write_8(&folder, &mask);
    let mut file = Dataset::open_ex(
        &plain,
        gdal::DatasetOptions { open_flags: gdal::GdalOpenFlags::GDAL_OF_UPDATE, ..Default::default() },
    )
    .unwrap();
    let mut colours = ColorTable::default();
    for (k, [r, g, b]) in [[0, 0, 0], [255, 64, 64], [0, 120, 255]].into_iter().enumerate() {
        colours.set_color_entry(k as u16, &ColorEntry::rgba(r, g, b, 255));
    }
    let mut band = file.rasterband(1).unwrap();
    band.set_color_table(&colours);
    let names: Vec<std::ffi::CString> =
        ["ground", "house", "road"].iter().map(|name| std::ffi::CString::new(*name).unwrap()).collect();
    let mut list: Vec<_> = names.iter().map(|name| name.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect();
    // SAFETY: the band lives, and the list of texts ends with null.
    unsafe { gdal_sys::GDALSetRasterCategoryNames(band.c_rasterband(), list.as_mut_ptr()) };
    file.flush_cache().unwrap();
    file.close().unwrap();
    assert_eq!(plain, source);

    common::launch(&format!(
        "rastersrc location={source} tile-size=32 ! maskclean {PROPERTIES} ! rastersink location={out}"
    ))
    .finish();
    assert!(read(&out) == mask.cleaned(&recipe()));
    let file = Dataset::open(&out).unwrap();
    let band = file.rasterband(1).unwrap();
    let colours = band.color_table().unwrap();
    let entry = |k| colours.entry_as_rgb(k).map(|c| (c.r, c.g, c.b)).unwrap();
    assert_eq!((entry(0), entry(1), entry(2)), ((0, 0, 0), (255, 64, 64), (0, 120, 255)));
    // SAFETY: the band lives, and there are as many names as it was given.
    let named = unsafe {
        let list = gdal_sys::GDALGetRasterCategoryNames(band.c_rasterband());
        assert!(!list.is_null());
        [0, 1, 2].map(|k| std::ffi::CStr::from_ptr(*list.add(k)).to_string_lossy().into_owned())
    };
    assert_eq!(named, ["ground", "house", "road"]);
    // And once more, from what it has written.
    let again = folder.path("again.tif");
    common::launch(&format!("rastersrc location={out} ! maskclean ! rastersink location={again}")).finish();
    assert!(read(&again) == read(&out));
}

#[test]
fn labels_of_16_bits_stay_so() {
    let _w = common::start();
    let folder = Folder::new("clean-wide");
    let case = golden::cases().into_iter().find(golden::Case::wide).unwrap();
    let (source, out) = (write(&folder, &case.before(), |v| v, 65535.0), folder.path("out.tif"));
    common::launch(&format!(
        "rastersrc location={source} tile-size=19 ! maskclean {} ! rastersink location={out}",
        case.properties()
    ))
    .finish();
    assert!(Raster::<u16>::read(&out).data == case.after().labels);
    assert_eq!(Dataset::open(&out).unwrap().rasterband(1).unwrap().no_data_value(), Some(65535.0));
}

#[test]
fn nodata_of_the_source_is_nodata_whatever_its_value() {
    let _w = common::start();
    let folder = Folder::new("clean-nodata");
    let mask = Mask::blots((150, 100), 7);
    let (source, out) = (write(&folder, &mask, |v| if v == 65535 { 9 } else { v as u8 }, 9.0), folder.path("out.tif"));
    common::launch(&format!(
        "rastersrc location={source} tile-size=24 ! maskclean {PROPERTIES} ! rastersink location={out}"
    ))
    .finish();
    assert!(read(&out) == mask.cleaned(&recipe()));
}

/// A run that keeps half of its parts.
fn stopped(line: &str, parts: &str) {
    let pipeline = common::launch(&line.replace("rastersink", "rastersink name=sink"));
    pipeline.set_state(gst::State::Playing).unwrap();
    common::until("some parts are there", || {
        std::fs::read_dir(parts).is_ok_and(|names| {
            names.filter(|n| n.as_ref().is_ok_and(|n| n.file_name().to_string_lossy().ends_with(".tif"))).count() > 5
        })
    });
    pipeline.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_run_that_is_resumed_reads_every_tile_and_gives_the_same_pixels() {
    let _w = common::start();
    let folder = Folder::new("clean-resume");
    let mask = Mask::blots((200, 900), 8);
    let (source, out) = (write_8(&folder, &mask), folder.path("out.tif"));
    let line = |clean: &str| {
        format!(
            "rastersrc name=source location={source} tile-size=20 ! maskclean {clean} \
             ! rastersink location={out} part-size=64,16"
        )
    };
    let parts = format!("{out}.parts");
    stopped(&line(PROPERTIES), &parts);
    // Parts of other settings do not mix with these.
    let found = error(&common::launch(&line("opening=2")));
    assert!(found.contains("maskclean[0].closing is 2 there and 0 here"), "{found}");
    let pipeline = common::launch(&line(PROPERTIES).replace("rastersink", "rastersink name=sink"));
    pipeline.finish();
    let stats = |name: &str| pipeline.get(name).property::<gst::Structure>("stats");
    assert!(stats("sink").get::<u64>("parts-resumed").unwrap() > 5);
    assert_eq!(stats("source").get::<u64>("sent"), Ok(450));
    assert!(read(&out) == mask.cleaned(&recipe()));
    assert!(!Path::new(&parts).exists());
}

#[test]
fn a_run_whose_parts_are_all_there_is_finished_without_a_tile() {
    let _w = common::start();
    let folder = Folder::new("clean-finish");
    let mask = Mask::blots((100, 80), 11);
    let (source, out) = (write_8(&folder, &mask), folder.path("out.tif"));
    let run = |settings: &str| {
        let pipeline = common::launch(&format!(
            "rastersrc location={source} tile-size=32 ! maskclean {PROPERTIES} ! rastersink name=sink location={out} {settings}"
        ));
        pipeline.finish();
        pipeline.get("sink").property::<gst::Structure>("stats").get::<u64>("tiles").unwrap()
    };
    assert_eq!((run("finish=false"), run("")), (12, 0));
    assert!(read(&out) == mask.cleaned(&recipe()));
}

#[test]
fn labels_are_not_averaged() {
    let _w = common::start();
    let folder = Folder::new("clean-resolution");
    let (source, out) = (write_8(&folder, &Mask::blots((100, 80), 12)), folder.path("out.tif"));
    let found = error(&common::launch(&format!(
        "rastersrc location={source} resolution=2 ! maskclean ! rastersink location={out}"
    )));
    assert!(found.starts_with("resolution=2: would average labels"), "{found}");
}

#[test]
fn shards_are_refused() {
    let _w = common::start();
    let folder = Folder::new("clean-shards");
    let (source, out) = (write_8(&folder, &Mask::blots((100, 80), 9)), folder.path("out.tif"));
    let found = error(&common::launch(&format!(
        "rastersrc location={source} shard=2/3 ! maskclean opening=1 ! rastersink location={out}"
    )));
    let expected = "shard=2/3: maskclean needs every tile of a mosaic; clean it in one process, without shards";
    assert_eq!(found, expected);
}

#[test]
fn a_seek_goes_to_the_first_tile_or_nowhere() {
    let _w = common::start();
    let folder = Folder::new("clean-seek");
    let mask = Mask::blots((200, 300), 10);
    let (source, out) = (write_8(&folder, &mask), folder.path("out.tif"));
    let pipeline = common::launch(&format!(
        "rastersrc location={source} tile-size=20 ! queue max-size-buffers=2 ! maskclean {PROPERTIES} \
         ! rastersink name=sink location={out} part-size=64,16"
    ));
    pipeline.reach(gst::State::Paused);
    assert!(pipeline.seek_simple(gst::SeekFlags::FLUSH, common::time(7)).is_err());
    pipeline.set_state(gst::State::Playing).unwrap();
    let tiles = || pipeline.get("sink").property::<gst::Structure>("stats").get::<u64>("tiles").unwrap();
    common::until("tiles", || tiles() > 10);
    pipeline.seek_simple(gst::SeekFlags::FLUSH, gst::ClockTime::ZERO).unwrap();
    pipeline.finish();
    assert!(read(&out) == mask.cleaned(&recipe()));
}

#[test]
fn models_and_cleaning_in_one_run() {
    let _w = common::start();
    let folder = Folder::new("clean-models");
    let (source, out, before) = (folder.path("rgb.tif"), folder.path("out.tif"), folder.path("before.tif"));
    Raster::new(3, (130, 90), crate::raster::texture).write(&source, None, false);
    let line = |clean: &str, out: &str| {
        common::launch(&format!(
            "rastersrc location={source} tile-size=32 overlap=0 ! onnxsegment model-file={{sigmoid}} size-multiple=4 \
             ! {clean} rastersink location={out}"
        ))
    };
    // Labels, so that nothing is blended.
    line("video/x-raw !", &before).finish();
    line("maskclean min-area=9 !", &out).finish();
    assert!(read(&out) == read(&before).cleaned(&Recipe { min_area: 9, ..Recipe::default() }));
    assert!(read(&out) != read(&before));
    let file = Dataset::open(&out).unwrap();
    assert_eq!(gdal::Metadata::metadata_item(&file, "ONNXSEGMENT_MODELS", "").as_deref(), Some("sigmoid.onnx"));
}

#[test]
fn colours_are_refused_before_the_first_tile() {
    let _w = common::start();
    let folder = Folder::new("clean-colours");
    let (source, out) = (folder.path("rgb.tif"), folder.path("out.tif"));
    Raster::new(3, (50, 40), crate::raster::texture).write(&source, None, false);
    let found = error(&common::launch(&format!("rastersrc location={source} ! maskclean ! rastersink location={out}")));
    assert!(found.contains("does not take; choose other bands, or put onnxsegment there"), "{found}");
}
