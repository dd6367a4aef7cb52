//! Caps that elements share, and how a mapped video frame becomes bands.

use gst_video::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use crate::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};

/// Formats whose pixels are three colours, with or without a fourth byte.
pub const COLOUR: &[VideoFormat] = &[
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

/// Formats with four bands.
pub const COLOUR_ALPHA: &[VideoFormat] = &[VideoFormat::Rgba, VideoFormat::Bgra, VideoFormat::Argb, VideoFormat::Abgr];

/// Formats with one band.
pub const GRAY: &[VideoFormat] = &[VideoFormat::Gray8, VideoFormat::Gray16Le, VideoFormat::Gray16Be];

/// What one-band views are written as.
pub const MASK: &[VideoFormat] = &[VideoFormat::Gray8, VideoFormat::Gray16Le];

/// What an overlay is written as.
pub const OVERLAY: &[VideoFormat] = &[VideoFormat::Rgb, VideoFormat::Rgba];

/// Every pixel input: what video caps can describe, and what they cannot.
pub fn pixels() -> gst::Caps {
    let mut caps = video(COLOUR.iter().chain(GRAY).copied());
    caps.merge(raster(&[Sample::U8, Sample::U16Le, Sample::I16Le, Sample::F32Le]));
    caps
}

/// Raw video of any size in the given formats.
pub fn video(formats: impl IntoIterator<Item = VideoFormat>) -> gst::Caps {
    gst_video::VideoCapsBuilder::new().format_list(formats).build()
}

/// Media type of pixels that video caps cannot describe, and of scores.
pub const RASTER: &str = "raster/x-raw";

/// How `raster/x-raw` names samples.
const SAMPLES: [(&str, Sample); 4] =
    [("U8", Sample::U8), ("U16LE", Sample::U16Le), ("I16LE", Sample::I16Le), ("F32LE", Sample::F32Le)];

/// What `raster/x-raw` caps say: any number of bands, tightly packed.
#[derive(Debug, Clone, PartialEq)]
pub struct RasterFormat {
    pub sample: Sample,
    /// Band after band; else pixel after pixel.
    pub planar: bool,
    pub bands: usize,
    pub width: usize,
    pub height: usize,
    pub framerate: gst::Fraction,
    /// Scores alone: the last band is the uncertainty, 0 to 1.
    pub uncertainty: bool,
}

impl RasterFormat {
    pub fn to_caps(&self) -> gst::Caps {
        let sample = SAMPLES.iter().find(|(_, s)| *s == self.sample).map_or("U16LE", |(name, _)| name);
        let mut caps = gst::Caps::builder(RASTER)
            .field("format", sample)
            .field("layout", if self.planar { "planar" } else { "interleaved" })
            .field("bands", self.bands as i32)
            .field("width", self.width as i32)
            .field("height", self.height as i32)
            .field("framerate", self.framerate);
        if self.sample == Sample::F32Le {
            caps = caps.field("uncertainty", self.uncertainty);
        }
        caps.build()
    }

    /// `None` where the caps are no fixed `raster/x-raw`. No `layout` means planar.
    pub fn from_caps(caps: &gst::CapsRef) -> Option<Self> {
        let s = caps.structure(0).filter(|s| s.name() == RASTER)?;
        let size = |name: &str| s.get::<i32>(name).ok().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
        let sample = s.get::<&str>("format").ok()?;
        let format = RasterFormat {
            sample: SAMPLES.iter().find(|(name, _)| *name == sample)?.1,
            planar: s.get::<&str>("layout").ok() != Some("interleaved"),
            bands: size("bands")?,
            width: size("width")?,
            height: size("height")?,
            framerate: s.get("framerate").unwrap_or(gst::Fraction::new(0, 1)),
            uncertainty: s.get("uncertainty").unwrap_or(false),
        };
        format.size().map(|_| format)
    }

    /// Bytes of a frame; `None` beyond what memory can address.
    pub fn size(&self) -> Option<usize> {
        self.width.checked_mul(self.height)?.checked_mul(self.bands)?.checked_mul(self.sample.size())
    }
}

/// `raster/x-raw` in the given formats, of any size and layout.
pub fn raster(samples: &[Sample]) -> gst::Caps {
    let names = SAMPLES.iter().filter(|(_, s)| samples.contains(s)).map(|(name, _)| *name);
    gst::Caps::builder(RASTER)
        .field("format", gst::List::new(names))
        .field("layout", gst::List::new(["planar", "interleaved"]))
        .field("bands", gst::IntRange::new(1, i32::MAX))
        .field("width", gst::IntRange::new(1, i32::MAX))
        .field("height", gst::IntRange::new(1, i32::MAX))
        .field("framerate", gst::FractionRange::new(gst::Fraction::new(0, 1), gst::Fraction::new(i32::MAX, 1)))
        .build()
}

/// Scores: `raster/x-raw, format=F32LE, layout=planar`, bands = score channels (one for a one-channel model), plus one of
/// uncertainty where `uncertainty=true`.
pub fn scores() -> gst::Caps {
    let mut caps = raster(&[Sample::F32Le]);
    let s = caps.make_mut().structure_mut(0).expect("built with one");
    s.set("format", "F32LE");
    s.set("layout", "planar");
    s.set("uncertainty", gst::List::new([false, true]));
    caps
}

/// The pixels that fixed caps describe.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    Video(VideoInfo),
    Raster(RasterFormat),
}

impl Pixels {
    /// `None` where the caps are neither, or describe more than memory can hold.
    pub fn from_caps(caps: &gst::CapsRef) -> Option<Self> {
        match RasterFormat::from_caps(caps) {
            Some(format) => Some(Pixels::Raster(format)),
            None => VideoInfo::from_caps(caps).ok().map(Pixels::Video),
        }
    }

    pub fn to_caps(&self) -> Option<gst::Caps> {
        match self {
            Pixels::Video(info) => info.to_caps().ok(),
            Pixels::Raster(format) => Some(format.to_caps()),
        }
    }

    pub fn width(&self) -> u32 {
        self.format().width as u32
    }

    pub fn height(&self) -> u32 {
        self.format().height as u32
    }

    pub fn framerate(&self) -> gst::Fraction {
        match self {
            Pixels::Video(info) => info.fps(),
            Pixels::Raster(format) => format.framerate,
        }
    }

    pub fn pixel_aspect_ratio(&self) -> gst::Fraction {
        match self {
            Pixels::Video(info) => info.par(),
            Pixels::Raster(_) => gst::Fraction::new(1, 1),
        }
    }

    /// Bytes of a frame without padding of its own.
    pub fn size(&self) -> usize {
        match self {
            Pixels::Video(info) => info.size(),
            Pixels::Raster(format) => format.size().unwrap_or(usize::MAX),
        }
    }

    /// The engine's view.
    pub fn format(&self) -> FrameFormat {
        match self {
            Pixels::Raster(f) => FrameFormat { width: f.width, height: f.height, bands: f.bands, sample: f.sample },
            Pixels::Video(info) => FrameFormat {
                width: info.width() as usize,
                height: info.height() as usize,
                bands: info.format_info().n_components() as usize,
                sample: match info.format() {
                    VideoFormat::Gray16Le => Sample::U16Le,
                    VideoFormat::Gray16Be => Sample::U16Be,
                    _ => Sample::U8,
                },
            },
        }
    }
}

/// A frame, mapped for reading, that any thread may read.
pub enum MappedFrame {
    Video(Box<gst_video::VideoFrame<gst_video::video_frame::Readable>>, FrameFormat),
    Raster(gst::MappedBuffer<gst::buffer::Readable>, RasterFormat),
}

impl MappedFrame {
    /// `None` when the buffer cannot be mapped as its caps say.
    pub fn new(buffer: gst::Buffer, pixels: &Pixels) -> Option<Self> {
        match pixels {
            Pixels::Video(info) => {
                Self::video(buffer, info).map(|frame| MappedFrame::Video(Box::new(frame), pixels.format()))
            }
            Pixels::Raster(format) => {
                let mapped = buffer.into_mapped_buffer_readable().ok()?;
                (mapped.size() >= pixels.size()).then(|| MappedFrame::Raster(mapped, format.clone()))
            }
        }
    }

    fn video(buffer: gst::Buffer, info: &VideoInfo) -> Option<gst_video::VideoFrame<gst_video::video_frame::Readable>> {
        let as_stated = |meta: gst::MetaRef<'_, gst_video::VideoMeta>| {
            let planes = info.format_info().n_planes();
            meta.format() == info.format()
                && meta.n_planes() == planes
                && meta.width() >= info.width()
                && meta.height() >= info.height()
        };
        if !buffer.meta::<gst_video::VideoMeta>().is_none_or(as_stated) {
            return None;
        }
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, info).ok()?;
        let planes = frame.n_planes() as usize;
        frame.plane_stride()[..planes].iter().all(|stride| *stride > 0).then_some(frame)
    }
}

impl Frame for MappedFrame {
    fn view(&self) -> FrameView<'_> {
        match self {
            MappedFrame::Video(frame, format) => {
                let info = frame.format_info();
                let band = |component: usize| {
                    let plane = info.plane()[component];
                    let data = frame.plane_data(plane).unwrap_or(&[]);
                    Band {
                        data: data.get(info.poffset()[component] as usize..).unwrap_or(&[]),
                        step: info.pixel_stride()[component] as usize,
                        stride: frame.plane_stride()[plane as usize] as usize,
                    }
                };
                FrameView { format: *format, bands: (0..format.bands).map(band).collect() }
            }
            MappedFrame::Raster(mapped, format) => {
                let n = format.sample.size();
                // From a band to the next, and from a sample of a band to its neighbour.
                let (apart, step) = match format.planar {
                    true => (format.width * format.height * n, n),
                    false => (n, format.bands * n),
                };
                let band =
                    |k: usize| Band { data: mapped.get(k * apart..).unwrap_or(&[]), step, stride: format.width * step };
                let bands = (0..format.bands).map(band).collect();
                FrameView { format: Pixels::Raster(format.clone()).format(), bands }
            }
        }
    }
}
