//! Cuts a rectangle out of a picture. What lies beyond the picture is reflected at its border.

use crate::raster::Rect;
use crate::raster::grid::reflect;

/// One plane of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    pub data: &'a [u8],
    /// Bytes from a row to the next.
    pub stride: usize,
    /// Bytes of a pixel.
    pub pixel: usize,
}

/// Copies `area` of a plane of `width` × `height` pixels into `to`, whose rows begin `stride` bytes apart.
///
/// # Panics
/// When either is shorter than its rows need.
pub fn cut(from: &Plane<'_>, (width, height): (i64, i64), area: &Rect, to: &mut [u8], stride: usize) {
    let n = from.pixel;
    let inside = area.intersect(&Rect::new(0, area.y, width, area.height));
    let left = (inside.x - area.x).clamp(0, area.width);
    let copied = inside.width;
    let (first, bytes) = (inside.x.min(width - copied) as usize * n, copied as usize * n);
    // Where the pixels of columns beyond the picture come from and go to, in bytes.
    let beyond: Vec<(usize, usize)> = (0..area.width)
        .filter(|x| *x < left || *x >= left + copied)
        .map(|x| (reflect(area.x + x, width) as usize * n, x as usize * n))
        .collect();
    for (y, to) in to.chunks_mut(stride).take(area.height as usize).enumerate() {
        let row = &from.data[reflect(area.y + y as i64, height) as usize * from.stride..];
        to[left as usize * n..][..bytes].copy_from_slice(&row[first..first + bytes]);
        for (from, at) in &beyond {
            to[*at..*at + n].copy_from_slice(&row[*from..*from + n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_pixel_of_an_area_is_the_pictures(
            width in 1i64..20, height in 1i64..12, pixel in 1usize..7, padding in 0usize..5, more in 0usize..4,
            x in -30i64..30, y in -30i64..30, w in 1i64..50, h in 1i64..40,
        ) {
            let stride = width as usize * pixel + padding;
            let data: Vec<u8> = (0..stride * height as usize - padding).map(|k| (k * 7 + k / 251) as u8).collect();
            let area = Rect::new(x, y, w, h);
            let to_stride = w as usize * pixel + more;
            let mut to = vec![0; to_stride * h as usize - more];
            cut(&Plane { data: &data, stride, pixel }, (width, height), &area, &mut to, to_stride);
            for row in 0..h {
                for column in 0..w {
                    let from = reflect(y + row, height) as usize * stride + reflect(x + column, width) as usize * pixel;
                    let at = row as usize * to_stride + column as usize * pixel;
                    prop_assert_eq!(&to[at..at + pixel], &data[from..from + pixel]);
                }
            }
        }
    }
}
