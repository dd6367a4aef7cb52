//! What `rastersrc` sends, in short: the raster's pixels, in the caps that fit them, in a stream that players understand.

use gst::prelude::*;
use gstonnxsegment::elements::meta::RasterInfo;

use crate::raster::{Folder, Raster, texture};
use crate::{Got, common, walk};

/// Everything that comes, as it comes.
fn samples(description: &str) -> Vec<gst::Sample> {
    let pipeline = common::launch(&format!("{description} ! appsink name=out sync=false"));
    let sink = pipeline.appsink("out");
    pipeline.set_state(gst::State::Playing).unwrap();
    common::rest(&sink)
}

#[test]
fn tiles_are_the_rasters_pixels_and_beyond_it_their_reflection() {
    let _watchdog = common::start();
    let folder = Folder::new("pixels");
    for (bands, width, height) in [(3, 1, 1), (1, 2, 7), (3, 53, 47), (2, 31, 64), (4, 37, 20), (1, 97, 33)] {
        let path = folder.path("in.tif");
        let raster = Raster::new(bands, (width, height), texture);
        raster.write(&path, None, false);
        let list: Vec<String> = (1..=bands).map(|k| k.to_string()).collect();
        let list = list.join(",");
        let samples = samples(&format!("rastersrc location={path} bands=\"{list}\" tile-size=16 overlap=6"));
        let columns = width.div_ceil(10);
        assert_eq!(samples.len(), columns * height.div_ceil(10));
        for (k, sample) in samples.iter().enumerate() {
            assert_eq!(sample.buffer().unwrap().pts(), Some(common::time(k)));
            let Got { index, area, values: found, .. } = Got::of(sample);
            assert_eq!(index, k);
            assert_eq!((area.x, area.y), ((k % columns * 10) as i64 - 3, (k / columns * 10) as i64 - 3));
            let mut at = 0;
            for band in 0..bands {
                for y in area.y..area.bottom() {
                    for x in area.x..area.right() {
                        let (sx, sy) = (walk(x, width as i64), walk(y, height as i64));
                        let expected = raster.data[(band * height + sy) * width + sx] as f64;
                        assert_eq!(found[at], expected, "tile {k}, band {band}, {x}, {y} of {width}x{height}");
                        at += 1;
                    }
                }
            }
            assert_eq!(at, found.len());
        }
    }
}

#[test]
fn caps_fit_the_samples() {
    let _watchdog = common::start();
    let folder = Folder::new("caps");
    let path = folder.path("in.tif");
    let check = |bands: &str, expected: &str| {
        let samples = samples(&format!("rastersrc location={path} {bands} tile-size=16 overlap=0"));
        let caps = samples[0].caps().unwrap().to_string();
        assert!(caps.starts_with(expected), "{caps}");
        Got::of(&samples[0]).values
    };
    Raster::<u16>::new(2, (20, 20), |b, x, y| (b * 20_000 + x * 900 + y) as u16).write(&path, None, false);
    assert_eq!(check("bands=2", "video/x-raw, format=(string)GRAY16_LE")[17], 20_000.0 + 900.0 + 1.0);
    assert_eq!(check("bands=2,1", "raster/x-raw, format=(string)U16LE")[256], 0.0);
    Raster::<i16>::new(1, (20, 20), |_, x, y| x as i16 - 1000 * y as i16).write(&path, None, false);
    assert_eq!(check("", "raster/x-raw, format=(string)I16LE")[17], -999.0);
    Raster::<f32>::new(1, (20, 20), |_, x, y| x as f32 + 0.25 * y as f32).write(&path, None, false);
    assert_eq!(check("", "raster/x-raw, format=(string)F32LE")[17], 1.25);
    Raster::<u8>::new(5, (20, 20), texture).write(&path, None, false);
    assert_eq!(check("bands=1,2,3,4,5", "raster/x-raw, format=(string)U8").len(), 5 * 256);
    check("bands=1,1,1", "video/x-raw, format=(string)RGB");
}

#[test]
fn pixels_without_data_are_marked_by_value_alpha_and_nan() {
    let _watchdog = common::start();
    let folder = Folder::new("gone");
    let path = folder.path("in.tif");
    let gone = |x: usize, y: usize| x < 32 || (x + y).is_multiple_of(5);
    let check = |settings: &str| {
        let samples = samples(&format!("rastersrc location={path} {settings} tile-size=16 overlap=0"));
        assert_eq!(samples.len(), 12);
        for sample in samples {
            let Got { area, gap, valid, .. } = Got::of(&sample);
            let empty = area.x < 32;
            assert_eq!(gap, empty, "{settings} {area:?}");
            if empty {
                continue;
            }
            let valid = valid.expect("not all pixels have data");
            for (k, v) in valid.iter().enumerate() {
                let (x, y) = (area.x as usize + k % 16, area.y as usize + k / 16);
                assert_eq!(*v == 0, gone(x, y), "{settings}: {x}, {y}");
            }
        }
    };
    let some = |b: usize, x: usize, y: usize| texture(b, x, y).max(1);
    Raster::<u8>::new(3, (64, 48), |b, x, y| if gone(x, y) { 0 } else { some(b, x, y) }).write(&path, Some(0.0), false);
    check("");
    Raster::<u8>::new(3, (64, 48), |b, x, y| if gone(x, y) { 0 } else { some(b, x, y) }).write(&path, None, false);
    check("nodata=0");
    let rgba = |b, x, y| if b == 3 { if gone(x, y) { 0 } else { 255 } } else { some(b, x, y) };
    Raster::<u8>::new(4, (64, 48), rgba).write(&path, None, true);
    check("bands=1,2,3");
    Raster::<f32>::new(1, (64, 48), |_, x, y| if gone(x, y) { f32::NAN } else { x as f32 }).write(&path, None, false);
    check("");
}

#[test]
fn windows_boxes_and_shards_send_only_what_they_need() {
    let _watchdog = common::start();
    let folder = Folder::new("window");
    let path = folder.path("in.tif");
    Raster::new(1, (200, 100), texture).write(&path, None, false);
    let indices = |settings: &str| -> Vec<usize> {
        let samples = samples(&format!("rastersrc location={path} tile-size=24 overlap=4 {settings}"));
        samples.iter().map(|s| Got::of(s).index).collect()
    };
    assert_eq!(indices("").len(), 50);
    // Columns 1 and 2, row 2; halos of 2 pixels reach in.
    assert_eq!(indices("window=30,45,20,10"), [21, 22]);
    assert_eq!(indices("window=39,45,2,10"), [21, 22]);
    // The same in the raster's coordinates: half a metre per pixel.
    assert_eq!(indices("bbox=500015,5399972.5,500025,5399977.5"), [21, 22]);
    let shards: Vec<usize> = (1..=3).flat_map(|i| indices(&format!("shard={i}/3"))).collect();
    assert!((0..50).all(|k| shards.contains(&k)));
}

#[test]
fn the_stream_has_a_position_a_length_and_can_be_sought_in() {
    let _watchdog = common::start();
    let folder = Folder::new("seek");
    let path = folder.path("in.tif");
    Raster::new(1, (100, 100), texture).write(&path, None, false);
    let pipeline = common::launch(&format!(
        "rastersrc name=source location={path} tile-size=10 overlap=0 ! appsink name=out sync=false max-buffers=1"
    ));
    pipeline.reach(gst::State::Paused);
    assert_eq!(pipeline.query_duration::<gst::ClockTime>(), Some(common::time(100)));
    assert_eq!(pipeline.query_duration::<gst::format::Default>().map(|d| *d), Some(100));
    let source = pipeline.get("source");
    let mut convert = gst::query::Convert::new(common::time(7), gst::Format::Default);
    assert!(source.static_pad("src").unwrap().query(&mut convert));
    assert_eq!(convert.result().1.value(), 7);
    pipeline.seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, common::time(90)).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let samples = common::rest(&pipeline.appsink("out"));
    assert_eq!(samples.len(), 10);
    assert_eq!((Got::of(&samples[0]).index, samples[0].buffer().unwrap().pts()), (90, Some(common::time(90))));
}

#[test]
fn where_the_raster_lies_is_told_once_before_the_first_tile() {
    let _watchdog = common::start();
    let folder = Folder::new("told");
    let path = folder.path("in.tif");
    Raster::new(1, (40, 30), texture).write(&path, Some(7.0), false);
    let mut harness = gst_check::Harness::with_element(
        &gst::ElementFactory::make("rastersrc").property("location", &path).build().unwrap(),
        None,
        Some("src"),
    );
    harness.play();
    harness.pull().unwrap();
    let events: Vec<gst::Event> = std::iter::from_fn(|| harness.try_pull_event()).collect();
    let told: Vec<RasterInfo> = events.iter().filter_map(|e| RasterInfo::of(e)).collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].width, told[0].height, told[0].nodata), (40, 30, Some(7.0)));
    assert_eq!(told[0].georeference.geotransform, Some([500_000.0, 0.5, 0.0, 5_400_000.0, 0.0, -0.5]));
    assert!(told[0].georeference.crs.as_ref().is_some_and(|crs| crs.contains("32633")));
}
