//! What elements share whose frames come in one size and leave in another.

use super::meta::TILE;

/// The same caps for frames of any size.
pub fn any_size(caps: &gst::Caps) -> gst::Caps {
    if caps.is_any() {
        return caps.clone();
    }
    let mut all = gst::Caps::new_empty();
    for (structure, features) in caps.iter_with_features() {
        let mut structure = structure.to_owned();
        structure.remove_fields(["width", "height"]);
        all.merge_structure_full(structure, Some(features.to_owned()));
    }
    all
}

/// Fixed caps for frames of another size.
pub fn with_size(caps: &gst::CapsRef, width: i64, height: i64) -> gst::Caps {
    let mut caps = caps.to_owned();
    // What GStreamer cannot count to is none of its sizes, and refused as such by whoever reads the caps.
    let side = |n: i64| i32::try_from(n).unwrap_or(0);
    caps.make_mut().set("width", side(width));
    caps.make_mut().set("height", side(height));
    caps
}

/// Copies metas that are as true of a part, or of the whole, as they are of `from`: none about memory, places in the
/// picture, or tiles.
pub fn copy_metas(from: &gst::BufferRef, to: &mut gst::BufferRef) {
    let whole = gst::meta::MetaTransformCopy::new(..);
    from.foreach_meta(|meta| {
        let tile = meta.try_as_custom_meta().is_some_and(|meta| meta.has_name(TILE));
        if !tile && meta.tags_contain_only(&["video", "colorspace"]) {
            // A meta that cannot be copied is one that its owner forbids to.
            let _ = meta.transform(to, &whole);
        }
        std::ops::ControlFlow::Continue(())
    });
}
