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

/// Every pixel input that video caps can describe.
pub fn pixels() -> gst::Caps {
    video(COLOUR.iter().chain(GRAY).copied())
}

/// Raw video of any size in the given formats.
pub fn video(formats: impl IntoIterator<Item = VideoFormat>) -> gst::Caps {
    gst_video::VideoCapsBuilder::new().format_list(formats).build()
}

/// The engine's view of video caps.
pub fn frame_format(info: &VideoInfo) -> FrameFormat {
    let sample = match info.format() {
        VideoFormat::Gray16Le => Sample::U16Le,
        VideoFormat::Gray16Be => Sample::U16Be,
        _ => Sample::U8,
    };
    FrameFormat {
        width: info.width() as usize,
        height: info.height() as usize,
        bands: info.format_info().n_components() as usize,
        sample,
    }
}

/// A video frame, mapped for reading, that any thread may read.
pub struct MappedFrame {
    frame: gst_video::VideoFrame<gst_video::video_frame::Readable>,
    format: FrameFormat,
}

impl MappedFrame {
    /// `None` when the buffer cannot be mapped as its caps say.
    pub fn new(buffer: gst::Buffer, info: &VideoInfo) -> Option<Self> {
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
        if frame.plane_stride()[..planes].iter().any(|stride| *stride <= 0) {
            return None;
        }
        Some(MappedFrame { format: frame_format(info), frame })
    }
}

impl Frame for MappedFrame {
    fn view(&self) -> FrameView<'_> {
        let info = self.frame.format_info();
        let band = |component: usize| {
            let plane = info.plane()[component];
            let data = self.frame.plane_data(plane).unwrap_or(&[]);
            Band {
                data: data.get(info.poffset()[component] as usize..).unwrap_or(&[]),
                step: info.pixel_stride()[component] as usize,
                stride: self.frame.plane_stride()[plane as usize] as usize,
            }
        };
        FrameView { format: self.format, bands: (0..self.format.bands).map(band).collect() }
    }
}
