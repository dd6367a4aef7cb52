//! `tilesplit ! onnxsegment ! tilemerge` against an independent reference.

use ndarray_npy::ReadableElement;

use crate::common::*;
use crate::reference::{Case, TOLERANCE, cases, compare, compare_labels};
use crate::*;

impl Case {
    /// A frame has no nodata, no alpha that means any, and its bands are its caps'.
    fn is_a_frame(&self) -> bool {
        self.nodata.is_none() && !self.alpha && self.bands.is_none() && !self.uncertainty
    }

    /// The raster as a frame: bytes, and caps.
    fn frame(&self) -> (Vec<u8>, String) {
        match self.sample.as_str() {
            "u8" => self.packed(|v: u8| vec![v]),
            "u16" => self.packed(|v: u16| v.to_le_bytes().to_vec()),
            other => panic!("{other} without nodata"),
        }
    }

    fn packed<T: ReadableElement + Copy>(&self, bytes: impl Fn(T) -> Vec<u8>) -> (Vec<u8>, String) {
        let pixels = self.pixels::<T>();
        let (bands, height, width) = pixels.dim();
        let (format, raster) = match (bands, self.sample.as_str()) {
            (1, "u8") => ("GRAY8", "U8"),
            (1, _) => ("GRAY16_LE", "U16LE"),
            (3, "u8") => ("RGB", "U8"),
            (_, "u8") => ("", "U8"),
            _ => ("", "U16LE"),
        };
        if format.is_empty() {
            let caps = format!(
                "raster/x-raw,format={raster},layout=planar,bands={bands},width={width},height={height},framerate=25/1"
            );
            return (pixels.iter().flat_map(|v| bytes(*v)).collect(), caps);
        }
        let mut data = Vec::new();
        for y in 0..height {
            for x in 0..width {
                (0..bands).for_each(|b| data.extend(bytes(pixels[(b, y, x)])));
            }
            data.resize(data.len().next_multiple_of(4), 0);
        }
        (data, caps(format, (width, height)))
    }

    fn run(&self, follows: &str) -> (gst::Buffer, gst::Caps) {
        let mut h = parsed(&format!(
            "tilesplit{} ! {} ! tilemerge blend={} ! capsfilter caps={follows}",
            self.tiles(),
            self.element(),
            self.blend
        ));
        h.play();
        let (data, caps) = self.frame();
        h.set_src_caps_str(&caps);
        let found = h.push_and_pull(gst::Buffer::from_mut_slice(data)).unwrap();
        (found, caps_of(&h))
    }
}

#[test]
fn frames_equal_the_reference() {
    let _w = start();
    let cases = cases();
    let cases: Vec<_> = cases.iter().filter(|c| c.is_a_frame()).collect();
    assert!(cases.len() >= 40, "{}", cases.len());
    for case in cases {
        let expected = case.expected();
        let (found, _) = case.run("raster/x-raw");
        let scores = found.map_readable().unwrap().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let scores = case.activate(scores, expected.labels.len());
        assert_eq!(compare(&case.name, "tilemerge", &scores, &expected.scores, TOLERANCE), None);

        let (found, caps) = case.run("video/x-raw,format=GRAY8");
        assert_eq!(compare_labels(case, "tilemerge", &pixels(&found, &caps), &expected), None);
    }
}
