//! `maskmetrics` and the scores behind it.

#[path = "../common/mod.rs"]
mod common;

mod calibration;
mod golden;
mod masks;
mod refused;
mod streams;
mod tiles;

use gst::prelude::*;
use gstonnxsegment::engine::metrics::Report;

use common::*;

/// Grey pictures, without gaps between rows.
#[derive(Clone)]
pub struct Grey {
    pub width: usize,
    pub height: usize,
    pub values: Vec<u16>,
}

impl Grey {
    pub fn new(width: usize, height: usize, value: impl Fn(usize, usize) -> u16) -> Self {
        let at = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Grey { width, height, values: at.map(|(x, y)| value(x, y)).collect() }
    }

    pub fn caps(&self, format: &str) -> String {
        caps(format, (self.width, self.height))
    }

    /// As GStreamer lays it out: rows end at multiples of four bytes.
    pub fn buffer(&self, format: &str) -> gst::Buffer {
        let mut data = Vec::new();
        for row in self.values.chunks(self.width) {
            for value in row {
                match format {
                    "GRAY8" => data.push(u8::try_from(*value).unwrap_or(255)),
                    "GRAY16_LE" => data.extend(value.to_le_bytes()),
                    _ => data.extend(value.to_be_bytes()),
                }
            }
            data.resize(data.len().next_multiple_of(4), 0);
        }
        gst::Buffer::from_mut_slice(data)
    }
}

/// Discs that move with `k`.
pub fn discs(width: usize, height: usize, k: usize) -> Grey {
    Grey::new(width, height, |x, y| {
        let near = |cx: usize, cy: usize, r: usize| x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) <= r * r;
        u16::from(near(12 + k, 10, 6) || near(width / 2, height / 2 + k, 8))
    })
}

/// `maskmetrics` with masks for its pads pushed by the test.
pub struct Scoring(pub Pipeline);

impl Scoring {
    /// `more` are further branches.
    pub fn new(properties: &str, more: &str) -> Self {
        Scoring(launch(&format!(
            "appsrc name=prediction format=time ! maskmetrics name=m {properties} ! appsink name=out sync=false wait-on-eos=false \
             appsrc name=truth format=time ! m.truth {more}"
        )))
    }

    pub fn push(&self, pad: &str, caps: &str, buffer: gst::Buffer) {
        let source = self.0.appsrc(pad);
        let caps: gst::Caps = caps.parse().unwrap();
        if source.caps().as_ref() != Some(&caps) {
            source.set_caps(Some(&caps));
        }
        source.push_buffer(buffer).unwrap();
    }

    pub fn push_grey(&self, pad: &str, format: &str, grey: &Grey) {
        self.push(pad, &grey.caps(format), grey.buffer(format));
    }

    /// One 8-bit mask with its truth.
    pub fn of(properties: &str, prediction: &Grey, truth: &Grey) -> Self {
        let scoring = Scoring::new(properties, "");
        scoring.push_grey("prediction", "GRAY8", prediction);
        scoring.push_grey("truth", "GRAY8", truth);
        scoring
    }

    fn end(&self) -> End {
        for name in ["prediction", "truth", "probability"] {
            if let Some(source) = self.0.by_name(name) {
                source.downcast::<gst_app::AppSrc>().unwrap().end_of_stream().unwrap();
            }
        }
        self.0.run()
    }

    /// Ends all streams; the report.
    pub fn report(&self) -> Report {
        match self.end() {
            End::Eos => report(&self.0),
            End::Error(own, others) => panic!("ended by errors: {own:?} {others:?}"),
        }
    }

    /// Ends all streams; the error.
    pub fn error(&self) -> String {
        error(self.end())
    }
}

/// The one error of `maskmetrics` that a pipeline ended by.
pub fn error(end: End) -> String {
    match end {
        End::Eos => panic!("no error"),
        // Sources say that their stream stopped.
        End::Error(_, others) => others.first().cloned().expect("an error of maskmetrics"),
    }
}

pub fn report(pipeline: &Pipeline) -> Report {
    let text = pipeline.get("m").property::<Option<String>>("report").expect("a report at the end");
    serde_json::from_str(&text).unwrap()
}
