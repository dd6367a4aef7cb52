//! What the pad `image` attaches to frames, in the vocabulary of GStreamer's analytics library (1.26 and later).
//!
//! A frame passes as it came: its memory is referred to, not copied, and keeps its metas. Two are added, from the scores that the
//! other pads show too:
//!
//! * `GstTensorMeta` with one tensor, [`TENSOR`]: the merged scores, float32, 1 × C × H × W, row-major.
//! * `GstAnalyticsRelationMeta` with a `GstAnalyticsSegmentationMtd` (semantic): a picture of class indices as large as the frame,
//!   whose region ids are those indices; related to it a `GstAnalyticsClsMtd` with the classes' names in the same order.

use gst::glib;
use gst::glib::translate::IntoGlibPtr;
use gst::prelude::*;
use gst_analytics::prelude::*;
use gst_analytics::{AnalyticsRelationMeta, RelTypes, Tensor, TensorDataType, TensorDimOrder, TensorMeta, ffi};
use gst_video::{VideoFormat, VideoInfo, VideoMeta};

use super::imp::Frame;
use super::output::{describe, mark, write_scores};
use crate::elements::caps::{Pixels, RasterFormat};
use crate::engine::decide::Work;
use crate::engine::merge::Merged;
use crate::engine::pixels::Sample;
use crate::engine::views::{self, Canvas, Depth};
use crate::engine::{Error, Result};

/// The tensor's id. GStreamer's registry of tensor ids knows none for the scores of a semantic segmentation, so this is our own.
pub const TENSOR: &str = "onnxsegment-out-scores";

/// The name of the region of pixels without data, which follows the classes on frames that have such pixels.
const NODATA: &str = "nodata";

/// A confidence that is not known: that of a class over all of a frame.
const UNKNOWN: f32 = -1.0;

/// Whether what follows a pad reads the layout of frames from their metas. To be asked after its caps were told.
pub fn reads_layout(pad: &gst::Pad, caps: &gst::Caps) -> bool {
    let mut query = gst::query::Allocation::new(Some(caps), false);
    pad.peer_query(&mut query) && query.find_allocation_meta::<VideoMeta>().is_some()
}

/// A frame's buffer, to be added to. Its memory is that of the frame, unless rows lie in it otherwise than caps say, and what
/// follows does not read metas.
///
/// # Errors
/// A frame that cannot be copied.
pub fn passed(frame: &Frame, reads_layout: bool) -> Result<gst::Buffer> {
    match &frame.stream.pixels {
        Pixels::Video(info) if !reads_layout && !is_plain(&frame.buffer, info) => repacked(frame, info),
        _ => Ok(frame.buffer.copy()),
    }
}

/// Whether rows lie in a buffer as caps alone say.
fn is_plain(buffer: &gst::BufferRef, info: &VideoInfo) -> bool {
    buffer.meta::<VideoMeta>().is_none_or(|meta| {
        let planes = info.n_planes() as usize;
        meta.offset()[..planes] == info.offset()[..planes] && meta.stride()[..planes] == info.stride()[..planes]
    })
}

fn repacked(frame: &Frame, info: &VideoInfo) -> Result<gst::Buffer> {
    let failed = || Error::Frame("a frame cannot be copied for pad image".into());
    let mut buffer = gst::Buffer::with_size(info.size()).map_err(|_| failed())?;
    let to = buffer.make_mut();
    {
        let from = gst_video::VideoFrameRef::from_buffer_ref_readable(&frame.buffer, info).map_err(|_| failed())?;
        let mut to = gst_video::VideoFrameRef::from_buffer_ref_writable(to, info).map_err(|_| failed())?;
        from.copy(&mut to).map_err(|_| failed())?;
    }
    describe(frame, to);
    Ok(buffer)
}

/// Attaches what was inferred of a frame.
///
/// # Errors
/// Memory that is not to be had.
pub fn attach(frame: &Frame, merged: &Merged, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<()> {
    add_tensor(frame, buffer, scores(frame, merged)?);
    add_segmentation(frame, merged, buffer, work)
}

fn no_memory(size: usize) -> Error {
    Error::Memory(format!("{size} bytes for what pad image attaches are not to be had; use smaller frames"))
}

fn scores(frame: &Frame, merged: &Merged) -> Result<Tensor> {
    let Merged { channels, height, width, .. } = *merged;
    let format = RasterFormat {
        sample: Sample::F32Le,
        planar: true,
        bands: channels,
        width,
        height,
        framerate: frame.stream.pixels.framerate(),
        uncertainty: false,
    };
    let size = std::mem::size_of_val(&merged.scores[..]);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| no_memory(size))?;
    bytes.resize(size, 0);
    write_scores(frame, merged, &format, &mut bytes)?;
    Ok(Tensor::new_simple(
        glib::Quark::from_str(TENSOR),
        TensorDataType::Float32,
        gst::Buffer::from_mut_slice(bytes),
        TensorDimOrder::RowMajor,
        &[1, channels, height, width],
    ))
}

/// Adds a tensor to those that the frame brought, in one meta, for readers look at the first only.
fn add_tensor(frame: &Frame, buffer: &mut gst::BufferRef, tensor: Tensor) {
    // Tensor metas need not survive the copy of a buffer, so those of the frame itself.
    let brought = frame.buffer.meta::<TensorMeta>().map(|meta| meta.as_slice().to_vec());
    let tensors = brought.unwrap_or_default().into_iter().chain([tensor]).collect();
    match buffer.meta_mut::<TensorMeta>() {
        Some(mut meta) => meta.set(tensors),
        None => TensorMeta::add(buffer).set(tensors),
    }
}

fn add_segmentation(frame: &Frame, merged: &Merged, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<()> {
    let mask = labels(frame, merged, work)?;
    let name = |class: usize| {
        let known = frame.ensemble().class_names().and_then(|names| names.get(class));
        known.cloned().unwrap_or_else(|| format!("class {class}"))
    };
    let mut names: Vec<_> = (0..merged.classes()).map(|class| glib::Quark::from_str(name(class))).collect();
    if frame.valid.is_some() {
        names.push(glib::Quark::from_str(NODATA));
    }
    if buffer.meta::<AnalyticsRelationMeta>().is_none() {
        AnalyticsRelationMeta::add(buffer);
    }
    let failed = |what: &str| Error::Frame(format!("GStreamer's analytics library refused {what}"));
    let mut meta = buffer.meta_mut::<AnalyticsRelationMeta>().ok_or_else(|| failed("its metadata"))?;
    let segmentation = {
        let mut ids: Vec<u32> = (0..names.len() as u32).collect();
        let mut mtd = std::mem::MaybeUninit::uninit();
        // SAFETY: `meta` is of a buffer that is writable, `ids` is read for its length and copied, the mask's reference is
        // handed over, and `mtd` is filled where the call succeeds.
        unsafe {
            let added = ffi::gst_analytics_relation_meta_add_segmentation_mtd(
                meta.as_mut_ptr(),
                mask.into_glib_ptr(),
                ffi::GST_SEGMENTATION_TYPE_SEMANTIC,
                ids.len(),
                ids.as_mut_ptr(),
                0,
                0,
                merged.width as u32,
                merged.height as u32,
                mtd.as_mut_ptr(),
            );
            if added == glib::ffi::GFALSE {
                return Err(failed("a segmentation"));
            }
            mtd.assume_init().id
        }
    };
    let classes = meta.add_cls_mtd(&vec![UNKNOWN; names.len()], &names).map_err(|_| failed("the classes"))?.id();
    // GStreamer's documentation relates the two by the one type, its own decoders and overlay by the other.
    let related = RelTypes::RELATE_TO | RelTypes::N_TO_N;
    meta.set_relation(related, segmentation, classes).map_err(|_| failed("a relation"))
}

/// The class indices of a frame as a picture: GRAY8, or GRAY16_LE beyond 256 regions.
fn labels(frame: &Frame, merged: &Merged, work: &mut Work) -> Result<gst::Buffer> {
    let Merged { width, height, .. } = *merged;
    let nodata = merged.classes() as u16;
    let (format, depth, step) = match merged.classes() + usize::from(frame.valid.is_some()) {
        ..=256 => (VideoFormat::Gray8, Depth::U8, 1),
        _ => (VideoFormat::Gray16Le, Depth::U16Le, 2),
    };
    let (stride, size) = (width * step, width * height * step);
    let mut data = Vec::new();
    data.try_reserve_exact(size).map_err(|_| no_memory(size))?;
    data.resize(size, 0);
    let mut canvas = Canvas { data: &mut data, stride, depth };
    views::classes(merged, frame.ensemble().decision(), &mut canvas, work);
    mark(frame, &mut data, stride, &nodata.to_le_bytes()[..step]);
    let mut mask = gst::Buffer::from_mut_slice(data);
    let (flags, to) = (gst_video::VideoFrameFlags::empty(), mask.make_mut());
    VideoMeta::add_full(to, flags, format, width as u32, height as u32, &[0], &[stride as i32])
        .map_err(|e| Error::Frame(format!("a mask cannot be described: {e}")))?;
    Ok(mask)
}
