//! Five hundred random sequences of everything that can be done to the element: none hangs, warns, panics, or mixes
//! frames up. `ONNXSEGMENT_SEED=n` runs the one sequence that failed.

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::glib;
use gst::prelude::*;

const SEQUENCES: u64 = 500;
const VIEWS: [&str; 3] = ["probability", "uncertainty", "overlay"];

/// The sequence under way, and when it began; for whoever reports a failure.
static SEED: AtomicU64 = AtomicU64::new(0);

/// Past the test runner's capture, which an abort would lose.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "sequence {}: {text}", SEED.load(Ordering::SeqCst));
}

/// xorshift64*: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    fn pause(&mut self) {
        std::thread::sleep(Duration::from_micros(self.below(4) * 500));
    }
}

const SIZES: [(usize, usize); 4] = [(16, 16), (33, 9), (8, 40), (64, 64)];

fn random_element(dice: &mut Dice) -> gst::Element {
    let (threads, batch) = (dice.of(&["1", "2", "4"]), dice.of(&["1", "1", "2", "4"]));
    common::element(
        "identity1x1",
        &[
            ("threads", threads),
            ("batch-size", batch),
            ("tta", dice.of(&["none", "flips"])),
            ("qos", dice.of(&["true", "false"])),
        ],
    )
}

fn random_property(dice: &mut Dice, element: &gst::Element) {
    match dice.below(5) {
        0 => element.set_property("class-index", dice.below(2) as u32),
        1 => element.set_property("overlay-alpha", dice.below(11) as f64 / 10.0),
        2 => element.set_property("qos", dice.below(2) == 0),
        3 => element.set_property("palette", dice.of(&["none,#ff0000", "#112233", ""])),
        _ => element.set_property("batch-timeout", dice.of(&[0, 1_000_000, u64::MAX])),
    }
    let _ = element.property::<gst::Structure>("stats");
    let _ = element.property::<Option<gst::Structure>>("model-info");
}

// ---- the element between bare pads

/// A sink that checks what it is given: sizes as the caps say, times that only grow.
fn checking_sink() -> gst::Pad {
    let last = Mutex::new(None);
    // Without a template, a pad takes only the caps that it has.
    let any = gst::PadTemplate::new("sink", gst::PadDirection::Sink, gst::PadPresence::Always, &gst::Caps::new_any())
        .unwrap();
    let pad = gst::Pad::builder_from_template(&any)
        .chain_function(move |pad, _, buffer| {
            let caps = pad.current_caps().expect("caps come before frames");
            let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
            assert!(buffer.size() >= info.size(), "{} bytes for {caps}", buffer.size());
            let mut last = last.lock().unwrap();
            assert!(buffer.pts() > *last, "{:?} after {:?}", buffer.pts(), *last);
            *last = buffer.pts();
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    pad.set_active(true).unwrap();
    pad
}

struct Source {
    pad: gst::Pad,
    /// Held for each thing that the streaming thread does.
    streaming: Mutex<()>,
    /// Counts the times that everything has to be announced anew, and that a new segment is due.
    streams: AtomicU64,
    segments: AtomicU64,
    ended: AtomicBool,
}

impl Source {
    /// What the streaming thread does until it is told to stop.
    fn stream(&self, mut dice: Dice) {
        let (mut streams, mut segments) = (u64::MAX, u64::MAX);
        let (mut frame, mut size) = (0, SIZES[0]);
        let segment = || gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new());
        let caps = |size| gst::event::Caps::new(&common::caps("RGB", size).parse().unwrap());
        while !self.ended.load(Ordering::SeqCst) {
            let streaming = self.streaming.lock().unwrap();
            let now = (self.streams.load(Ordering::SeqCst), self.segments.load(Ordering::SeqCst));
            if now.0 != streams {
                self.pad.push_event(gst::event::StreamStart::new("stress"));
                self.pad.push_event(caps(size));
            }
            if now != (streams, segments) {
                self.pad.push_event(segment());
            }
            (streams, segments) = now;
            let mut result = Ok(gst::FlowSuccess::Ok);
            match dice.below(100) {
                0..75 => {
                    frame += 1;
                    result = self.pad.push(common::picture(size, frame));
                }
                75..82 => {
                    size = dice.of(&SIZES);
                    self.pad.push_event(caps(size));
                }
                82..88 => drop(self.pad.push_event(gst::event::Gap::new(common::time(frame), None))),
                88..91 => {
                    let structure = gst::Structure::new_empty("stress-custom");
                    self.pad.push_event(gst::event::CustomDownstream::new(structure));
                }
                91..93 => {
                    let structure = gst::Structure::new_empty("stress-sticky");
                    self.pad.push_event(gst::event::CustomDownstreamSticky::new(structure));
                }
                93..95 => drop(self.pad.peer_query(&mut gst::query::Drain::new())),
                95..97 => drop(self.pad.push_event(segment())),
                97 => {
                    let caps: gst::Caps = common::caps("RGB", size).parse().unwrap();
                    self.pad.peer_query(&mut gst::query::Allocation::new(Some(&caps), true));
                }
                98 => drop(self.pad.peer_query_caps(None)),
                _ => {
                    self.pad.push_event(gst::event::Eos::new());
                    streams = u64::MAX; // goes on with a new stream
                }
            }
            drop(streaming);
            if result.is_err() {
                std::thread::sleep(Duration::from_micros(300));
            }
        }
    }
}

fn bare(seed: u64) {
    let mut dice = Dice::new(seed);
    let element = random_element(&mut dice);
    let bus = common::bus(&element);
    let source = Arc::new(Source {
        pad: gst::Pad::builder(gst::PadDirection::Src).build(),
        streaming: Mutex::default(),
        streams: AtomicU64::new(0),
        segments: AtomicU64::new(0),
        ended: AtomicBool::new(false),
    });
    let mut sinks = HashMap::from([("src", checking_sink())]);
    element.static_pad("src").unwrap().link(&sinks["src"]).unwrap();
    source.pad.set_active(true).unwrap();
    source.pad.link(&element.static_pad("sink").unwrap()).unwrap();
    if dice.below(2) == 0 {
        add(&mut dice, &element, &mut sinks);
    }
    element.set_state(gst::State::Paused).unwrap();
    let streaming = std::thread::spawn({
        let (source, dice) = (source.clone(), Dice::new(seed ^ 0xABCD));
        move || source.stream(dice)
    });
    for _ in 0..12 {
        dice.pause();
        match dice.below(12) {
            0..3 => {
                source.pad.push_event(gst::event::FlushStart::new());
                dice.pause();
                let guard = source.streaming.lock().unwrap();
                source.pad.push_event(gst::event::FlushStop::new(true));
                source.segments.fetch_add(1, Ordering::SeqCst);
                drop(guard);
            }
            3 | 4 => {
                let down = dice.of(&[gst::State::Ready, gst::State::Null]);
                element.set_state(down).unwrap();
                let guard = source.streaming.lock().unwrap();
                source.pad.set_active(false).unwrap();
                source.pad.set_active(true).unwrap();
                source.streams.fetch_add(1, Ordering::SeqCst);
                element.set_state(dice.of(&[gst::State::Paused, gst::State::Playing])).unwrap();
                drop(guard);
            }
            5 => drop(element.set_state(dice.of(&[gst::State::Paused, gst::State::Playing])).unwrap()),
            6 | 7 => add(&mut dice, &element, &mut sinks),
            8 => {
                let name = dice.of(&VIEWS);
                if let Some(sink) = sinks.remove(name) {
                    let pad = element.static_pad(name).unwrap();
                    if dice.below(2) == 0 {
                        pad.unlink(&sink).unwrap();
                    }
                    element.release_request_pad(&pad);
                    sink.set_active(false).unwrap();
                }
            }
            9 => {
                let event = gst::event::Qos::new(
                    gst::QOSType::Underflow,
                    1.5,
                    dice.below(3) as i64 - 1,
                    Some(common::time(1 + dice.below(40) as usize)),
                );
                sinks["src"].push_event(event);
            }
            10 => {
                sinks["src"].push_event(gst::event::Reconfigure::new());
                sinks["src"].peer_query(&mut gst::query::Latency::new());
            }
            _ => random_property(&mut dice, &element),
        }
    }
    // Goes on, whatever has been done to it: frames still come out.
    source.ended.store(true, Ordering::SeqCst);
    source.pad.push_event(gst::event::FlushStart::new());
    streaming.join().unwrap();
    source.pad.push_event(gst::event::FlushStop::new(true));
    element.set_state(gst::State::Playing).unwrap();
    let came = common::Flag::default();
    let told = came.clone();
    sinks["src"].add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(gst::PadProbeData::Buffer(buffer)) = &info.data
            && buffer.pts() == Some(common::time(1_000_000))
        {
            told.raise();
        }
        gst::PadProbeReturn::Ok
    });
    source.pad.push_event(gst::event::StreamStart::new("last"));
    source.pad.push_event(gst::event::Caps::new(&common::caps("RGB", (24, 24)).parse().unwrap()));
    source.pad.push_event(gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new()));
    let result = source.pad.push(common::picture((24, 24), 1_000_000));
    assert_eq!(result, Ok(gst::FlowSuccess::Ok), "{:?}", common::errors(&bus));
    source.pad.push_event(gst::event::Eos::new());
    common::until("the last frame comes out", || came.is_up());
    element.set_state(gst::State::Null).unwrap();
    source.pad.set_active(false).unwrap();
    sinks.values().for_each(|sink| sink.set_active(false).unwrap());
    let errors = common::errors(&bus);
    assert!(errors.is_empty(), "{errors:?}");
    element.set_bus(None);
    let gone = element.downgrade();
    drop(element);
    assert!(gone.upgrade().is_none(), "the element is not gone");
}

fn add(dice: &mut Dice, element: &gst::Element, sinks: &mut HashMap<&'static str, gst::Pad>) {
    let name = dice.of(&VIEWS);
    let Some(pad) = element.request_pad(&element.pad_template(name).unwrap(), None, None) else {
        assert!(sinks.contains_key(name));
        return;
    };
    let sink = checking_sink();
    dice.pause();
    pad.link(&sink).unwrap();
    sinks.insert(name, sink);
}

// ---- the element in a pipeline

fn piped(seed: u64) {
    let mut dice = Dice::new(seed);
    let pipeline = common::launch(
        // (pattern=ball writes beyond small pictures)
        "videotestsrc pattern=gradient ! capsfilter name=caps ! identity name=here ! fakesink name=there sync=false async=false",
    );
    let (here, there, caps) = (pipeline.get("here"), pipeline.get("there"), pipeline.get("caps"));
    let element = random_element(&mut dice);
    pipeline.add(&element).unwrap();
    here.unlink(&there);
    gst::Element::link_many([&here, &element, &there]).unwrap();
    let choose = |dice: &mut Dice| caps.set_property_from_str("caps", &common::caps("RGB", dice.of(&SIZES)));
    choose(&mut dice);
    let mut branches: HashMap<&str, gst::Element> = HashMap::new();
    pipeline.set_state(gst::State::Playing).unwrap();
    for _ in 0..10 {
        dice.pause();
        match dice.below(11) {
            0..3 => {
                let state = dice.of(&[
                    gst::State::Null,
                    gst::State::Ready,
                    gst::State::Paused,
                    gst::State::Playing,
                    gst::State::Playing,
                ]);
                pipeline.set_state(state).unwrap();
            }
            3 | 4 => drop(pipeline.seek_simple(gst::SeekFlags::FLUSH, common::time(dice.below(100) as usize))),
            5 => choose(&mut dice),
            // A source that waits for a paused sink would make this wait too.
            6 if pipeline.current_state() == gst::State::Playing => {
                pipeline.send_event(gst::event::Eos::new());
            }
            7 | 8 => {
                let name = dice.of(&VIEWS);
                if let Some(pad) = element.request_pad(&element.pad_template(name).unwrap(), None, None) {
                    let sink = gst::ElementFactory::make("fakesink")
                        .property("async", false)
                        .property("sync", false)
                        .build()
                        .unwrap();
                    pipeline.add(&sink).unwrap();
                    sink.sync_state_with_parent().unwrap();
                    pad.link(&sink.static_pad("sink").unwrap()).unwrap();
                    branches.insert(name, sink);
                }
            }
            9 => {
                let name = dice.of(&VIEWS);
                if let Some(sink) = branches.remove(name) {
                    let pad = element.static_pad(name).unwrap();
                    pad.unlink(&sink.static_pad("sink").unwrap()).unwrap();
                    sink.set_state(gst::State::Null).unwrap();
                    element.release_request_pad(&pad);
                    pipeline.remove(&sink).unwrap();
                }
            }
            _ => random_property(&mut dice, &element),
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let errors = common::errors(&pipeline.bus().unwrap());
    assert!(errors.is_empty(), "{errors:?}");
    let gone = element.downgrade();
    drop((element, branches));
    drop(pipeline);
    common::until("the element is gone", || gone.upgrade().is_none());
}

#[test]
fn five_hundred_random_sequences() {
    let first = common::start();
    drop(first); // the watch below is by sequence
    glib::log_set_default_handler(|domain, level, text| {
        if matches!(level, glib::LogLevel::Error | glib::LogLevel::Critical | glib::LogLevel::Warning) {
            say(&format!("{} {level:?}: {text}", domain.unwrap_or_default()));
            std::process::abort();
        }
    });
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        say(&info.to_string());
        default(info);
    }));
    // Kept open, so that each sequence finds the models loaded.
    let keep = ["none", "flips"].map(|tta| common::element("identity1x1", &[("tta", tta)]));
    for element in &keep {
        element.set_state(gst::State::Paused).unwrap();
    }

    let one = std::env::var("ONNXSEGMENT_SEED").ok().and_then(|s| s.parse::<u64>().ok());
    let seeds = one.map_or(0..SEQUENCES, |seed| seed..seed + 1);
    let begin = Instant::now();
    for seed in seeds {
        SEED.store(seed, Ordering::SeqCst);
        let (ended, watch) = std::sync::mpsc::channel::<()>();
        let dog = std::thread::spawn(move || {
            if watch.recv_timeout(Duration::from_secs(30)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                say("hangs");
                if std::env::var_os("ONNXSEGMENT_WAIT").is_some() {
                    std::thread::sleep(Duration::from_secs(600)); // for a debugger
                }
                std::process::abort();
            }
        });
        match seed % 5 {
            0 | 1 => piped(seed),
            _ => bare(seed),
        }
        let _ = ended.send(());
        dog.join().unwrap();
    }
    println!("{SEQUENCES} sequences in {:?}", begin.elapsed());
    for element in &keep {
        element.set_state(gst::State::Null).unwrap();
    }
}
