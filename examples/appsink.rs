//! A pipeline in a Rust program: masks come by `appsink`, errors and what the element tells come by the bus.
//!
//! `cargo run --example appsink -- "models/fold*.onnx" out/scene.png`, with the plugin where GStreamer finds it.

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use gst_video::prelude::*;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [models, picture] = arguments.as_slice() else { bail!("usage: appsink MODELS PICTURE") };
    gst::init()?;

    let pipeline = gst::parse::launch(
        "filesrc name=file ! decodebin ! videoconvert ! onnxsegment name=segment tta=flips ! appsink name=masks sync=false",
    )
    .context("GStreamer lacks an element")?
    .downcast::<gst::Pipeline>()
    .map_err(|_| anyhow!("this is no pipeline"))?;
    // Properties that come from outside are set, and not written into the line, so that no blank or quote can break it.
    let element = |name: &str| pipeline.by_name(name).with_context(|| format!("there is no element {name}"));
    element("file")?.set_property("location", picture);
    element("segment")?.set_property("model-file", models);

    let masks = element("masks")?.downcast::<gst_app::AppSink>().map_err(|_| anyhow!("masks is no appsink"))?;
    masks.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(|sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let caps = sample.caps().ok_or(gst::FlowError::NotNegotiated)?;
                let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| gst::FlowError::NotNegotiated)?;
                let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
                let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info)
                    .map_err(|_| gst::FlowError::Error)?;
                let (width, stride) = (info.width() as usize, frame.plane_stride()[0] as usize);
                let rows = frame.plane_data(0).map_err(|_| gst::FlowError::Error)?.chunks(stride);
                let found: usize = rows.map(|row| row[..width].iter().filter(|&&class| class != 0).count()).sum();
                println!("a mask of {width}x{}: {found} pixels are no background", info.height());
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );

    pipeline.set_state(gst::State::Playing).ok(); // why it failed, the bus tells
    let result = watch(&pipeline);
    pipeline.set_state(gst::State::Null)?;
    result
}

/// Until the end of the stream, or the first error.
fn watch(pipeline: &gst::Pipeline) -> Result<()> {
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => return Ok(()),
            gst::MessageView::Error(error) => bail!("{}", error.error()),
            gst::MessageView::Warning(warning) => eprintln!("warning: {}", warning.error()),
            gst::MessageView::Element(told) => {
                if let Some(told) = told.structure().filter(|s| s.name() == "onnxsegment-provider") {
                    println!("the models run on {}", told.get::<String>("active-provider")?);
                }
            }
            _ => {}
        }
    }
    Ok(())
}
