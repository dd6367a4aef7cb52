//! Reads what is attached to a buffer, by GStreamer's C interface where its Rust one has no words for it.

use gst::glib;
use gst::glib::translate::{from_glib, from_glib_full};
use gst_analytics::prelude::*;
use gst_analytics::{AnalyticsClassificationMtd, AnalyticsRelationMeta, RelTypes, TensorMeta, ffi};
use gst_video::VideoFormat;

/// A tensor of floats.
#[derive(Debug)]
pub struct Tensor {
    pub id: String,
    pub dims: Vec<usize>,
    pub values: Vec<f32>,
}

pub fn floats(buffer: &gst::BufferRef) -> Vec<f32> {
    let map = buffer.map_readable().unwrap();
    map.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

pub fn tensors(buffer: &gst::BufferRef) -> Vec<Tensor> {
    let Some(meta) = buffer.meta::<TensorMeta>() else {
        return Vec::new();
    };
    let read = |t: &gst_analytics::Tensor| {
        assert_eq!(t.data_type(), gst_analytics::TensorDataType::Float32);
        assert_eq!(t.dims_order(), gst_analytics::TensorDimOrder::RowMajor);
        Tensor { id: t.id().as_str().to_string(), dims: t.dims().to_vec(), values: floats(t.data()) }
    };
    meta.as_slice().iter().map(read).collect()
}

/// A segmentation and the classes related to it.
#[derive(Debug)]
pub struct Segmentation {
    pub format: VideoFormat,
    /// Width and height of the mask.
    pub size: (u32, u32),
    /// Where the mask lies in the frame: x, y, width, height.
    pub place: (i32, i32, u32, u32),
    pub regions: Vec<u32>,
    pub classes: Vec<String>,
    pub confidences: Vec<f32>,
    /// The mask's pixels, row by row without padding.
    pub values: Vec<u8>,
}

/// The one segmentation of a buffer, if it has any. Its classes are looked up by the relation that is asked for.
pub fn segmentation(buffer: &gst::BufferRef, related: RelTypes) -> Option<Segmentation> {
    let meta = buffer.meta::<AnalyticsRelationMeta>()?;
    let ids: Vec<u32> = (0..meta.len() as u32).filter(|id| handle(&meta, *id).is_some()).collect();
    let [id] = ids[..] else {
        assert!(ids.is_empty(), "one segmentation: {ids:?}");
        return None;
    };
    let handle = handle(&meta, id)?;
    let (mut x, mut y, mut w, mut h) = (0, 0, 0, 0);
    // SAFETY: the handle is of a meta that `buffer` holds; the mask's reference is ours.
    let (mask, regions) = unsafe {
        let mask: gst::Buffer =
            from_glib_full(ffi::gst_analytics_segmentation_mtd_get_mask(&handle, &mut x, &mut y, &mut w, &mut h));
        let count = ffi::gst_analytics_segmentation_mtd_get_region_count(&handle);
        let regions = (0..count).map(|k| ffi::gst_analytics_segmentation_mtd_get_region_id(&handle, k)).collect();
        (mask, regions)
    };
    let classes: Vec<_> = meta.iter_direct_related::<AnalyticsClassificationMtd>(id, related).collect();
    let [classes] = &classes[..] else { panic!("one list of classes is related to the segmentation") };
    let layout = mask.meta::<gst_video::VideoMeta>().expect("the mask says what it is");
    assert_eq!(layout.stride()[0] as usize * layout.height() as usize, mask.size());
    Some(Segmentation {
        format: layout.format(),
        size: (layout.width(), layout.height()),
        place: (x, y, w, h),
        regions,
        classes: classes.iterate().map(|(name, _)| name.as_str().to_string()).collect(),
        confidences: classes.iterate().map(|(_, confidence)| confidence).collect(),
        values: mask.map_readable().unwrap().to_vec(),
    })
}

fn handle(meta: &gst::MetaRef<'_, AnalyticsRelationMeta>, id: u32) -> Option<ffi::GstAnalyticsSegmentationMtd> {
    let mut handle = std::mem::MaybeUninit::uninit();
    // SAFETY: the handle is filled where the call succeeds.
    unsafe {
        let found: bool = from_glib(ffi::gst_analytics_relation_meta_get_segmentation_mtd(
            meta.as_mut_ptr(),
            id,
            handle.as_mut_ptr(),
        ));
        found.then(|| handle.assume_init())
    }
}

/// A tensor of one float, as some element before ours may have left it.
pub fn attach_tensor(buffer: &mut gst::BufferRef, id: &str, value: f32) {
    let tensor = gst_analytics::Tensor::new_simple(
        glib::Quark::from_str(id),
        gst_analytics::TensorDataType::Float32,
        gst::Buffer::from_slice(value.to_le_bytes()),
        gst_analytics::TensorDimOrder::RowMajor,
        &[1],
    );
    TensorMeta::add(buffer).set([tensor].into());
}
