//! The stream: its events in order, its times, and getting about in it.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gstonnxsegment::elements::meta::RasterInfo;

use crate::common::{self, Pipeline, time};
use crate::raster::{Folder, Raster, texture};
use crate::{Got, tool};

fn input(folder: &Folder) -> String {
    let path = folder.path("in.tif");
    Raster::new(1, (100, 100), texture).write(&path, None, false);
    path
}

/// A hundred tiles.
fn hundred(path: &str) -> Pipeline {
    common::launch(&format!(
        "rastersrc name=source location={path} tile-size=10 overlap=0 ! appsink name=out sync=false max-buffers=1"
    ))
}

fn index(sample: &gst::Sample) -> usize {
    Got::of(sample).index
}

#[test]
fn events_come_in_order_and_once() {
    let _watchdog = common::start();
    let folder = Folder::new("events");
    let pipeline = hundred(&input(&folder));
    let seen = Arc::new(Mutex::new(Vec::<String>::new()));
    let writer = seen.clone();
    let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pipeline.appsink("out").static_pad("sink").unwrap().add_probe(types, move |_, info| {
        let name = match info.event() {
            Some(event) => event
                .structure()
                .filter(|_| event.type_() == gst::EventType::CustomDownstreamSticky)
                .map_or_else(|| format!("{:?}", event.type_()), |s| s.name().to_string()),
            None => "tile".into(),
        };
        writer.lock().unwrap().push(name);
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    assert_eq!(common::rest(&pipeline.appsink("out")).len(), 100);
    let mut seen = seen.lock().unwrap().clone();
    seen.dedup();
    assert_eq!(seen, ["StreamStart", "Caps", "Segment", "GstRasterInfo", "tile", "Eos"]);
}

#[test]
fn tiles_have_times_and_numbers() {
    let _watchdog = common::start();
    let folder = Folder::new("times");
    let pipeline = hundred(&input(&folder));
    pipeline.set_state(gst::State::Playing).unwrap();
    for (k, sample) in common::rest(&pipeline.appsink("out")).iter().enumerate() {
        let buffer = sample.buffer().unwrap();
        assert_eq!((buffer.pts(), buffer.duration()), (Some(time(k)), Some(time(1))));
        assert_eq!((buffer.offset(), buffer.offset_end()), (k as u64, k as u64 + 1));
        assert_eq!(sample.segment().unwrap().format(), gst::Format::Time);
    }
}

#[test]
fn players_can_ask_where_they_are() {
    let _watchdog = common::start();
    let folder = Folder::new("asked");
    let pipeline = hundred(&input(&folder));
    pipeline.reach(gst::State::Paused);
    assert_eq!(pipeline.query_duration::<gst::ClockTime>(), Some(time(100)));
    assert_eq!(pipeline.query_duration::<gst::format::Default>().map(|d| *d), Some(100));
    let source = pipeline.get("source");
    for k in [0u64, 1, 50, 99] {
        let frame = gst::format::Default::from_u64(k);
        assert_eq!(source.query_convert::<Option<gst::ClockTime>>(frame), Some(Some(time(k as usize))));
        // Any time while a tile is shown is that tile's.
        for within in [0, 39_999_999] {
            let at = time(k as usize) + gst::ClockTime::from_nseconds(within);
            assert_eq!(source.query_convert::<Option<gst::format::Default>>(at), Some(Some(frame)));
        }
    }
    let mut seeking = gst::query::Seeking::new(gst::Format::Time);
    assert!(pipeline.query(&mut seeking) && seeking.result().0);
    let sink = pipeline.appsink("out");
    pipeline.set_state(gst::State::Playing).unwrap();
    for _ in 0..30 {
        sink.try_pull_sample(common::LONG).unwrap();
    }
    let position = source.query_position::<gst::ClockTime>().unwrap();
    assert!((time(30)..=time(34)).contains(&position), "{position}");
}

#[test]
fn seeks_go_to_any_tile_at_any_moment() {
    let _watchdog = common::start();
    let folder = Folder::new("seeks");
    let pipeline = hundred(&input(&folder));
    let sink = pipeline.appsink("out");
    pipeline.reach(gst::State::Paused);
    pipeline.set_state(gst::State::Playing).unwrap();
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
    for to in [40, 3, 99, 0, 98] {
        pipeline.seek_simple(flags, time(to)).unwrap();
        let sample = sink.try_pull_sample(common::LONG).unwrap();
        assert_eq!((index(&sample), sample.buffer().unwrap().pts()), (to, Some(time(to))));
        assert_eq!(Got::of(&sample).values[0], texture(0, to % 10 * 10, to / 10 * 10) as f64);
    }
    assert_eq!(common::rest(&sink).iter().map(index).collect::<Vec<_>>(), [99]);
    // After the end, too.
    pipeline.seek_simple(flags, time(97)).unwrap();
    assert_eq!(common::rest(&sink).iter().map(index).collect::<Vec<_>>(), [97, 98, 99]);
    // From one tile to another.
    let (none, set) = (gst::SeekType::None, gst::SeekType::Set);
    pipeline.seek(1.0, flags, set, time(10), set, time(13)).unwrap();
    assert_eq!(common::rest(&sink).iter().map(index).collect::<Vec<_>>(), [10, 11, 12]);
    // By number.
    let frame = gst::format::Default::from_u64(96);
    pipeline.seek(1.0, flags, set, frame, none, gst::format::Default::from_u64(0)).unwrap();
    assert_eq!(index(&sink.try_pull_sample(common::LONG).unwrap()), 96);
    // Backwards is no way to read, and the stream goes on as if nobody had asked.
    assert!(pipeline.seek(-1.0, flags, set, time(0), set, time(50)).is_err());
    let back = gst::event::Seek::new(-1.0, flags, set, time(0), set, time(50));
    assert!(!pipeline.get("source").send_event(back));
    assert_eq!(common::rest(&sink).iter().map(index).collect::<Vec<_>>(), [97, 98, 99]);
}

#[test]
fn a_seek_before_the_first_tile_counts() {
    let _watchdog = common::start();
    let folder = Folder::new("early-seek");
    let path = input(&folder);
    let pipeline = hundred(&path);
    // READY: the source keeps it for later.
    pipeline.reach(gst::State::Ready);
    let seek = gst::event::Seek::new(
        1.0,
        gst::SeekFlags::FLUSH,
        gst::SeekType::Set,
        time(95),
        gst::SeekType::None,
        gst::ClockTime::ZERO,
    );
    assert!(pipeline.get("source").send_event(seek));
    pipeline.set_state(gst::State::Playing).unwrap();
    let found = common::rest(&pipeline.appsink("out")).iter().map(index).collect::<Vec<_>>();
    assert_eq!(found, [95, 96, 97, 98, 99]);
}

#[test]
fn an_element_is_used_again_with_other_settings() {
    let _watchdog = common::start();
    let folder = Folder::new("again");
    let (path, other) = (input(&folder), folder.path("other.tif"));
    Raster::new(3, (30, 20), texture).write(&other, None, false);
    let pipeline = common::launch("rastersrc name=source tile-size=10 overlap=0 ! fakesink name=out");
    let source = pipeline.get("source");
    let caps = || pipeline.get("out").static_pad("sink").unwrap().current_caps().unwrap().to_string();
    for between in [gst::State::Null, gst::State::Ready, gst::State::Ready] {
        for (location, tiles, format) in [(&path, 100, "GRAY8"), (&other, 6, "RGB")] {
            source.set_property("location", location);
            pipeline.finish();
            let stats = source.property::<gst::Structure>("stats");
            assert_eq!((stats.get::<u64>("tiles"), stats.get::<u64>("sent")), (Ok(tiles), Ok(tiles)));
            assert!(caps().contains(format));
            pipeline.reach(between);
        }
    }
}

#[test]
fn a_stop_at_any_moment_does_not_hang() {
    let _watchdog = common::start();
    let folder = Folder::new("stops");
    let path = input(&folder);
    for k in 0..30 {
        let pipeline = hundred(&path);
        pipeline.set_state(gst::State::Playing).unwrap();
        for _ in 0..k / 3 {
            pipeline.appsink("out").try_pull_sample(common::LONG).unwrap();
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

fn told(properties: &str) -> RasterInfo {
    let element = gst::parse::bin_from_description(&format!("rastersrc name=source {properties}"), false).unwrap();
    let mut harness = gst_check::Harness::with_element(&element.by_name("source").unwrap(), None, Some("src"));
    harness.play();
    harness.pull().unwrap();
    let events: Vec<gst::Event> = std::iter::from_fn(|| harness.try_pull_event()).collect();
    let told: Vec<RasterInfo> = events.iter().filter_map(|e| RasterInfo::of(e)).collect();
    assert_eq!(told.len(), 1);
    told[0].clone()
}

#[test]
fn where_a_raster_lies_is_carried_as_it_is() {
    let _watchdog = common::start();
    let folder = Folder::new("carried");
    let path = input(&folder);
    let copy = folder.path("copy.tif");

    // Turned and sheared.
    let turned = [1000.5, 1.25, 0.5, 3000.25, 0.75, -2.0];
    let mut file = gdal::Dataset::open_ex(
        &path,
        gdal::DatasetOptions { open_flags: gdal::GdalOpenFlags::GDAL_OF_UPDATE, ..Default::default() },
    )
    .unwrap();
    file.set_geo_transform(&turned).unwrap();
    file.close().unwrap();
    assert_eq!(told(&format!("location={path}")).georeference.geotransform, Some(turned));

    let points = ["-gcp", "0", "0", "10", "50", "-gcp", "100", "0", "11", "50", "-gcp", "0", "100", "10.1", "49"];
    tool("gdal_translate", &[&["-q", "-a_srs", "EPSG:4326"], &points[..], &[&path, &copy]].concat());
    let info = told(&format!("location={copy}"));
    let places: Vec<_> = info.georeference.gcps.iter().map(|g| (g.pixel, g.line, g.x, g.y)).collect();
    assert_eq!(places, [(0.0, 0.0, 10.0, 50.0), (100.0, 0.0, 11.0, 50.0), (0.0, 100.0, 10.1, 49.0)]);
    assert_eq!(info.georeference.geotransform, None);
    assert!(info.georeference.gcp_crs.is_some_and(|crs| crs.contains("4326")));

    tool("gdal_translate", &["-q", "-mo", "AREA_OR_POINT=Point", &path, &copy]);
    assert_eq!(told(&format!("location={copy}")).georeference.area_or_point.as_deref(), Some("Point"));
}
