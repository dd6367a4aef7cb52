//! Run-length rows against the reference.

use gstonnxsegment::raster::rle::{Reader, Writer};

use crate::masks::*;

#[test]
fn rows_are_those_of_the_reference() {
    let (mut cases, mut empty) = (0, 0);
    for case in golden().cases {
        let ((width, height), mut labels) = pixels(&file(&format!("{}.png", case.mask)));
        labels.iter_mut().for_each(|label| *label = if *label == 255 { 1 } else { *label });
        for (class, known) in &case.rows {
            let mut writer = Writer::new(Vec::new());
            writer.append("a.jpg", width, height, &labels, *class as u8).unwrap();
            let text = String::from_utf8(writer.into_inner()).unwrap();
            assert_eq!(text, format!("a.jpg\t{known}\n"), "{} {class}", case.mask);
            let row = Reader::new(text.as_bytes()).next().unwrap().unwrap();
            let inside: Vec<bool> = labels.iter().map(|label| u16::from(*label) == *class).collect();
            assert_eq!(row.mask(width, height).unwrap(), inside);
            cases += 1;
            empty += usize::from(known.is_empty());
        }
    }
    assert_eq!((cases, empty), (6, 1));
}
