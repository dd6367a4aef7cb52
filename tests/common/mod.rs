//! What the tests of the element share: pictures in any layout, the engine's own result, pipelines that cannot hang.
#![allow(dead_code)] // each test program uses its part

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use gstonnxsegment::engine::decide::Work;
use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};
use gstonnxsegment::engine::settings::Source;
use gstonnxsegment::engine::views::{self, Canvas, Depth};
use gstonnxsegment::engine::{Ensemble, Merged, Settings};

/// Longest wait for anything.
pub const LONG: gst::ClockTime = gst::ClockTime::from_seconds(20);

/// Aborts the program when a test takes too long: a hang must fail.
pub struct Watchdog(mpsc::Sender<()>);

impl Watchdog {
    pub fn new(seconds: u64) -> Self {
        let (living, ended) = mpsc::channel();
        let name = std::thread::current().name().unwrap_or("?").to_string();
        std::thread::spawn(move || {
            if ended.recv_timeout(Duration::from_secs(seconds)) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{name}: hangs; it has taken more than {seconds} s");
                std::process::abort();
            }
        });
        Watchdog(living)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// GStreamer with the plugin, where every warning is fatal. Keep what it returns until the test ends.
pub fn start() -> Watchdog {
    start_for(60)
}

/// The same for a test that may take longer.
pub fn start_for(seconds: u64) -> Watchdog {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        // As G_DEBUG=fatal_warnings, which GLib reads before main begins.
        glib::log_set_always_fatal(glib::LogLevels::LEVEL_CRITICAL | glib::LogLevels::LEVEL_WARNING);
        gst::init().unwrap();
        gstonnxsegment::plugin_register_static().unwrap();
    });
    Watchdog::new(seconds)
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Path of a test model.
pub fn model(name: &str) -> String {
    root().join(format!("tests/models/{name}.onnx")).display().to_string()
}

/// The element with a test model and properties as text.
pub fn element(name: &str, properties: &[(&str, &str)]) -> gst::Element {
    let element = gst::ElementFactory::make("onnxsegment").property("model-file", model(name)).build().unwrap();
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    element
}

// ---- pictures

/// The formats of three colours that elements promise to take: not read from the code, which this checks.
pub const COLOURS: [VideoFormat; 11] = [
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Rgbp,
];

/// The colours of a test picture, which differ from pixel to pixel, and from seed to seed.
pub fn colour(seed: usize, x: usize, y: usize) -> [u8; 3] {
    std::array::from_fn(|c| {
        let wave = ((x as f32 / 5.0 + seed as f32).sin() + (y as f32 / 7.0 + c as f32 * 2.0).cos()) * 60.0 + 128.0;
        let noise = (x * 31 + y * 17 + c * 101 + seed * 57) % 23;
        (wave as usize + noise).min(255) as u8
    })
}

pub fn grey(seed: usize, x: usize, y: usize) -> u8 {
    colour(seed, x, y)[0]
}

/// A test picture as a buffer: `padding` bytes more per row than needed, `offset` bytes before each plane.
pub fn picture_in(
    format: VideoFormat,
    (width, height): (usize, usize),
    seed: usize,
    padding: usize,
    offset: usize,
) -> gst::Buffer {
    let info = VideoInfo::builder(format, width as u32, height as u32).build().unwrap();
    let planes = info.n_planes() as usize;
    let strides: Vec<usize> = (0..planes).map(|p| info.stride()[p] as usize + padding).collect();
    let mut offsets = Vec::new();
    let mut size = 0;
    for stride in &strides {
        offsets.push(size + offset);
        size += offset + stride * height;
    }
    let mut data = vec![0xAB_u8; size];
    let description = info.format_info();
    for c in 0..description.n_components() as usize {
        let plane = description.plane()[c] as usize;
        for y in 0..height {
            for x in 0..width {
                let at = offsets[plane]
                    + y * strides[plane]
                    + x * description.pixel_stride()[c] as usize
                    + description.poffset()[c] as usize;
                match format {
                    VideoFormat::Gray16Le => {
                        data[at..at + 2].copy_from_slice(&(grey(seed, x, y) as u16 * 257).to_le_bytes())
                    }
                    VideoFormat::Gray16Be => {
                        data[at..at + 2].copy_from_slice(&(grey(seed, x, y) as u16 * 257).to_be_bytes())
                    }
                    VideoFormat::Gray8 => data[at] = grey(seed, x, y),
                    _ => data[at] = colour(seed, x, y).get(c).copied().unwrap_or(77),
                }
            }
        }
    }
    let mut buffer = gst::Buffer::from_mut_slice(data);
    if padding > 0 || offset > 0 {
        let strides: Vec<i32> = strides.iter().map(|s| *s as i32).collect();
        gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(),
            gst_video::VideoFrameFlags::empty(),
            format,
            width as u32,
            height as u32,
            &offsets,
            &strides,
        )
        .unwrap();
    }
    buffer
}

/// A packed RGB picture with a timestamp: the `seed`-th of 25 a second.
pub fn picture(size: (usize, usize), seed: usize) -> gst::Buffer {
    stamped(picture_in(VideoFormat::Rgb, size, seed, 0, 0), seed)
}

pub fn stamped(mut buffer: gst::Buffer, seed: usize) -> gst::Buffer {
    let b = buffer.get_mut().unwrap();
    b.set_pts(time(seed));
    b.set_duration(gst::ClockTime::from_mseconds(40));
    buffer
}

/// When the `k`-th frame is shown.
pub fn time(k: usize) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(40) * k as u64
}

pub fn caps(format: &str, (width, height): (usize, usize)) -> String {
    format!("video/x-raw,format={format},width={width},height={height},framerate=25/1")
}

/// The pixels of a buffer, row by row without padding.
pub fn pixels(buffer: &gst::BufferRef, caps: &gst::CapsRef) -> Vec<u8> {
    let info = VideoInfo::from_caps(caps).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
    let row = info.width() as usize * info.format_info().pixel_stride()[0] as usize;
    let stride = frame.plane_stride()[0] as usize;
    let data = frame.plane_data(0).unwrap();
    (0..info.height() as usize).flat_map(|y| data[y * stride..y * stride + row].to_vec()).collect()
}

// ---- the engine's own result

struct Packed(FrameFormat, Vec<u8>);

impl Frame for Packed {
    fn view(&self) -> FrameView<'_> {
        let bands = self.0.bands;
        let band = |c: usize| Band { data: &self.1[c..], step: bands, stride: bands * self.0.width };
        FrameView { format: self.0, bands: (0..bands).map(band).collect() }
    }
}

/// The engine, without GStreamer.
pub fn engine(name: &str, properties: &[(&str, &str)]) -> Ensemble {
    let mut settings = Settings::default();
    settings.set("model-file", &model(name), Source::Property, Path::new("")).unwrap();
    for (name, value) in properties {
        settings.set(name, value, Source::Property, Path::new("")).unwrap();
    }
    Ensemble::load(&settings).unwrap()
}

/// The merged scores of a test picture.
pub fn merged(ensemble: &Ensemble, (width, height): (usize, usize), seed: usize) -> Arc<Merged> {
    let bands = ensemble.members()[0].spec.input.channels;
    let format = FrameFormat { width, height, bands, sample: Sample::U8 };
    let at = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let bytes = at.flat_map(|(x, y)| colour(seed, x, y).into_iter().take(bands)).collect();
    let plan = ensemble.plan(format).unwrap();
    let job = ensemble.submit(&plan, Box::new(Packed(format, bytes)), true, None);
    ensemble.seal();
    job.wait().unwrap()
}

/// The 8-bit mask of a test picture.
pub fn mask(ensemble: &Ensemble, size: (usize, usize), seed: usize) -> Vec<u8> {
    let merged = merged(ensemble, size, seed);
    let mut data = vec![0; size.0 * size.1];
    let mut canvas = Canvas { data: &mut data, stride: size.0, depth: Depth::U8 };
    views::mask(&merged, ensemble.decision(), &mut canvas, &mut Work::default());
    data
}

// ---- harnesses

/// A harness around the sink and `src`; the harness is a live source.
pub fn harness(element: &gst::Element) -> gst_check::Harness {
    gst_check::Harness::with_element(element, Some("sink"), Some("src"))
}

/// A harness around an element with frames of a format coming.
pub fn fed(element: &gst::Element, format: &str, size: (usize, usize)) -> gst_check::Harness {
    let mut harness = harness(element);
    harness.play();
    harness.set_src_caps_str(&caps(format, size));
    harness
}

/// A second harness, on a view of an element that has one.
pub fn view(element: &gst::Element, name: &str) -> gst_check::Harness {
    let mut harness = gst_check::Harness::with_element(element, None, Some(name));
    harness.play();
    harness
}

/// What a harness's sink pad was told last.
pub fn caps_of(harness: &gst_check::Harness) -> gst::Caps {
    harness.sinkpad().unwrap().current_caps().expect("caps have come")
}

/// The types of the events that have come, in order.
pub fn event_types(harness: &mut gst_check::Harness) -> Vec<gst::EventType> {
    std::iter::from_fn(|| harness.try_pull_event()).map(|e| e.type_()).collect()
}

/// A bus that keeps the messages of an element outside a pipeline.
pub fn bus(element: &gst::Element) -> gst::Bus {
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    bus
}

/// Waits for a message that suits; panics when none comes.
pub fn message(bus: &gst::Bus, what: &str, suits: impl Fn(&gst::MessageRef) -> bool) -> gst::Message {
    let end = Instant::now() + Duration::from(LONG);
    while Instant::now() < end {
        match bus.timed_pop(gst::ClockTime::from_mseconds(200)) {
            Some(message) if suits(&message) => return message,
            _ => {}
        }
    }
    panic!("no message of {what}");
}

/// The texts of the errors that wait on a bus, with who posted them.
pub fn errors(bus: &gst::Bus) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some(message) = bus.pop() {
        if let gst::MessageView::Error(error) = message.view() {
            let factory =
                message.src().and_then(|s| s.downcast_ref::<gst::Element>().cloned()).and_then(|e| e.factory());
            found
                .push((factory.map(|f| f.name().to_string()).unwrap_or_default(), error.error().message().to_string()));
        }
    }
    found
}

// ---- pipelines

/// A pipeline that is taken down when the test ends, however it ends.
pub struct Pipeline(pub gst::Pipeline);

impl std::ops::Deref for Pipeline {
    type Target = gst::Pipeline;

    fn deref(&self) -> &gst::Pipeline {
        &self.0
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// How a pipeline ended.
#[derive(Debug)]
pub enum End {
    Eos,
    /// By an error: the errors of `onnxsegment`, all others.
    Error(Vec<String>, Vec<String>),
}

/// Builds a pipeline; `{name}` stands for the path of a test model.
pub fn launch(description: &str) -> Pipeline {
    let mut text = description.to_string();
    while let (Some(i), Some(j)) = (text.find('{'), text.find('}')) {
        text = format!("{}{}{}", &text[..i], model(&text[i + 1..j]), &text[j + 1..]);
    }
    Pipeline(gst::parse::launch(&text).unwrap().downcast().unwrap())
}

impl Pipeline {
    pub fn get(&self, name: &str) -> gst::Element {
        self.0.by_name(name).unwrap()
    }

    pub fn appsink(&self, name: &str) -> gst_app::AppSink {
        self.get(name).downcast().unwrap()
    }

    pub fn appsrc(&self, name: &str) -> gst_app::AppSrc {
        self.get(name).downcast().unwrap()
    }

    /// Changes the state and waits until it is reached.
    pub fn reach(&self, state: gst::State) {
        self.0.set_state(state).unwrap();
        let (change, now, _) = self.0.state(LONG);
        change.unwrap();
        assert_eq!(now, state);
    }

    /// Plays to the end.
    pub fn run(&self) -> End {
        let bus = self.0.bus().unwrap();
        let _ = self.0.set_state(gst::State::Playing);
        let types = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus.timed_pop_filtered(LONG, &types).expect("the pipeline ends");
        if message.type_() == gst::MessageType::Eos {
            return End::Eos;
        }
        let _ = self.0.set_state(gst::State::Ready); // keeps the bus
        let of = |message: &gst::MessageRef| match message.view() {
            gst::MessageView::Error(e) => {
                let factory =
                    message.src().and_then(|s| s.downcast_ref::<gst::Element>().cloned()).and_then(|e| e.factory());
                Some((factory.map(|f| f.name().to_string()).unwrap_or_default(), e.error().message().to_string()))
            }
            _ => None,
        };
        let mut found: Vec<_> = of(&message).into_iter().collect();
        while let Some(message) = bus.pop_filtered(&types) {
            found.extend(of(&message));
        }
        let (own, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|(who, _)| who == "onnxsegment");
        End::Error(own.into_iter().map(|e| e.1).collect(), others.into_iter().map(|e| e.1).collect())
    }

    /// Plays to the end of the stream.
    pub fn finish(&self) {
        match self.run() {
            End::Eos => {}
            End::Error(own, others) => panic!("ended by errors: {own:?} {others:?}"),
        }
    }
}

/// Everything an appsink still gets, until EOS.
pub fn rest(sink: &gst_app::AppSink) -> Vec<gst::Sample> {
    std::iter::from_fn(|| sink.try_pull_sample(LONG)).collect()
}

/// Waits until something holds.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from(LONG);
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a test of this program under GStreamer's leaks tracer; what the tracer says is left alive.
pub fn left_alive(test: &str) -> Vec<String> {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env("GST_TRACERS", "leaks(check-refs=true)")
        .env("GST_DEBUG", "GST_TRACER:7")
        .env("GST_DEBUG_NO_COLOR", "1")
        .output()
        .unwrap();
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let alive = |l: &&str| l.contains("object-alive,") && !l.contains("new format string");
    let alive: Vec<_> = text.lines().filter(alive).map(String::from).collect();
    // A leak ends in a warning, which is fatal.
    assert!(output.status.success() || !alive.is_empty(), "{text}");
    alive
}

/// Something that a thread tells others.
#[derive(Clone, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub fn is_up(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
