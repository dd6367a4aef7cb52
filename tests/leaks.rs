//! GStreamer's own leaks tracer finds nothing alive after a pipeline with every pad, seeks and new caps.

mod common;

use gst::prelude::*;

#[test]
fn nothing_is_left_alive() {
    let alive = common::left_alive("the_traced_pipeline");
    assert!(alive.is_empty(), "left alive:\n{}", alive.join("\n"));
}

#[test]
fn the_tracer_sees_what_is_left_alive() {
    let alive = common::left_alive("a_leak");
    assert!(alive.iter().any(|l| l.contains("GstOnnxSegment")), "{alive:?}");
}

#[test]
#[ignore = "run by the_tracer_sees_what_is_left_alive"]
fn a_leak() {
    let watchdog = common::start();
    std::mem::forget(gst::ElementFactory::make("onnxsegment").build().unwrap());
    drop(watchdog);
    // SAFETY: the last use of GStreamer in this process; the tracer reports here.
    unsafe { gst::deinit() };
}

#[test]
#[ignore = "run by nothing_is_left_alive, under the tracer"]
fn the_traced_pipeline() {
    let watchdog = common::start();
    {
        let pipeline = common::launch(
            "videotestsrc num-buffers=60 ! capsfilter name=caps ! onnxsegment model-file={sigmoid} tta=flips batch-size=2 name=s \
             ! fakesink sync=false s.probability ! fakesink sync=false s.uncertainty ! fakesink sync=false \
             s.overlay ! videoconvert ! fakesink sync=false",
        );
        let caps = pipeline.get("caps");
        caps.set_property_from_str("caps", "video/x-raw,format=RGB,width=48,height=32,framerate=25/1");
        pipeline.reach(gst::State::Paused);
        pipeline.seek_simple(gst::SeekFlags::FLUSH, common::time(10)).unwrap();
        pipeline.reach(gst::State::Paused);
        pipeline.seek_simple(gst::SeekFlags::FLUSH, common::time(20)).unwrap();
        caps.set_property_from_str("caps", "video/x-raw,format=BGRx,width=64,height=40,framerate=25/1");
        pipeline.finish();
        // Released, requested again, and stopped in the middle.
        let element = pipeline.get("s");
        let pad = element.static_pad("overlay").unwrap();
        let peer = pad.peer().unwrap();
        pipeline.reach(gst::State::Ready);
        pad.unlink(&peer).unwrap();
        element.release_request_pad(&pad);
        element.request_pad_simple("overlay").unwrap().link(&peer).unwrap();
        pipeline.reach(gst::State::Playing);
        pipeline.set_state(gst::State::Null).unwrap();
    }
    {
        // A pad that comes late and goes early.
        let pipeline = common::launch(
            "videotestsrc ! video/x-raw,format=RGB,width=48,height=32 ! onnxsegment model-file={sigmoid} name=s ! fakesink sync=false",
        );
        pipeline.reach(gst::State::Playing);
        let element = pipeline.get("s");
        let sink =
            gst::ElementFactory::make("appsink").property("async", false).property("sync", false).build().unwrap();
        let sink = sink.downcast::<gst_app::AppSink>().unwrap();
        pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let pad = element.request_pad_simple("uncertainty").unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        sink.try_pull_sample(common::LONG).unwrap();
        element.release_request_pad(&pad);
        pipeline.set_state(gst::State::Null).unwrap();
    }
    {
        let pipeline = common::launch(
            "videotestsrc num-buffers=9 ! video/x-raw,format=RGB,width=75,height=50 ! tilesplit tile-size=32 overlap=0 \
             ! onnxsegment model-file={sigmoid} ! tilemerge ! fakesink sync=false",
        );
        pipeline.reach(gst::State::Paused);
        pipeline.seek_simple(gst::SeekFlags::FLUSH, common::time(2)).unwrap();
        pipeline.finish();
    }
    {
        // A mosaic that is flushed in its middle, and one that ends there.
        let pipeline = common::launch(
            "videotestsrc num-buffers=9 ! video/x-raw,format=RGB,width=75,height=50 ! tilesplit tile-size=32 overlap=0 name=split \
             ! onnxsegment model-file={sigmoid} ! maskclean median=1 opening=1 closing=1 hole-area=9 min-area=9 \
             ! fakesink sync=false",
        );
        pipeline.reach(gst::State::Paused);
        pipeline.seek_simple(gst::SeekFlags::FLUSH, common::time(2)).unwrap();
        pipeline.reach(gst::State::Playing);
        pipeline.set_state(gst::State::Null).unwrap();
        pipeline.finish();
    }
    {
        // Scored after a seek, and stopped in the middle.
        let pipeline = common::launch(
            "videotestsrc ! video/x-raw,format=RGB,width=48,height=32 ! onnxsegment model-file={sigmoid} name=s \
             ! maskmetrics name=m truth-values=16,235 ! fakesink sync=false s.probability ! queue ! m.probability \
             videotestsrc pattern=black ! video/x-raw,format=GRAY8,width=48,height=32 ! queue ! m.truth",
        );
        pipeline.reach(gst::State::Paused);
        let (set, from, to) = (gst::SeekType::Set, common::time(2), common::time(9));
        pipeline.seek(1.0, gst::SeekFlags::FLUSH, set, from, set, to).unwrap();
        pipeline.reach(gst::State::Paused);
        pipeline.finish();
        pipeline.reach(gst::State::Ready);
        pipeline.set_state(gst::State::Playing).unwrap();
        pipeline.set_state(gst::State::Null).unwrap();
    }
    #[cfg(feature = "raster")]
    rasters();
    drop(watchdog);
    // SAFETY: the last use of GStreamer in this process; the tracer reports here.
    unsafe { gst::deinit() };
}

/// From file to file: to the end, stopped in the middle, and refused.
#[cfg(feature = "raster")]
fn rasters() {
    let folder = std::env::temp_dir().join(format!("onnxsegment-leaks-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (input, output) = (folder.join("in.tif"), folder.join("out.tif"));
    let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
    let options = gdal::raster::RasterCreationOptions::from_iter(["PHOTOMETRIC=RGB"]);
    let mut file = driver.create_with_band_type_with_options::<u8, _>(&input, 300, 200, 3, &options).unwrap();
    file.set_geo_transform(&[5.0, 1.0, 0.0, 9.0, 0.0, -1.0]).unwrap();
    for k in 1..=3 {
        let data = (0..300 * 200).map(|i| (i % 251 + k) as u8).collect();
        file.rasterband(k)
            .unwrap()
            .write((0, 0), (300, 200), &mut gdal::raster::Buffer::new((300, 200), data))
            .unwrap();
    }
    file.close().unwrap();
    let run = |settings: &str| {
        common::launch(&format!(
            "rastersrc location={} tile-size=32 overlap=0 ! onnxsegment model-file={{sigmoid}} tta=flips \
             ! rastersink location={} part-size=64,64 {settings}",
            input.display(),
            output.display()
        ))
    };
    let stopped = run("");
    stopped.set_state(gst::State::Playing).unwrap();
    common::until("some parts are there", || {
        std::fs::read_dir(output.with_extension("tif.parts")).is_ok_and(|names| names.count() > 3)
    });
    stopped.set_state(gst::State::Null).unwrap();
    drop(stopped);
    assert!(matches!(run("blend=hann").run(), common::End::Error(..)));
    run("").finish();
    common::launch(&format!(
        "rastersrc location={0} tile-size=32 ! maskclean opening=1 min-area=9 ! rastersink location={0}.clean.tif",
        output.display()
    ))
    .finish();
    std::fs::remove_dir_all(&folder).unwrap();
}
