//! Sample types, and rectangles of samples.

use gdal_sys::GDALDataType;

/// How one sample leaves the source. GDAL's wider types become `F32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleType {
    U8,
    U16,
    I16,
    F32,
}

impl SampleType {
    pub fn name(self) -> &'static str {
        match self {
            SampleType::U8 => "U8",
            SampleType::U16 => "U16",
            SampleType::I16 => "I16",
            SampleType::F32 => "F32",
        }
    }

    /// Bytes per sample.
    pub fn size(self) -> usize {
        match self {
            SampleType::U8 => 1,
            SampleType::U16 | SampleType::I16 => 2,
            SampleType::F32 => 4,
        }
    }
}

/// A type that GDAL reads and that has any bits as a value.
pub trait Sample: Copy + Default + PartialEq + Send + 'static {
    const GDAL: GDALDataType::Type;
    const INTEGER: bool;

    /// Rounded, and clipped to the type's range.
    fn from_f64(v: f64) -> Self;

    /// `v`, where the type can have it: what no pixel can be is no one's nodata value.
    fn exactly(v: f64) -> Option<Self>;

    fn is_nan(self) -> bool;

    fn wrap(samples: Vec<Self>) -> Samples;
}

macro_rules! integer {
    ($type:ty, $gdal:ident, $variant:ident) => {
        impl Sample for $type {
            const GDAL: GDALDataType::Type = GDALDataType::$gdal;
            const INTEGER: bool = true;

            fn from_f64(v: f64) -> Self {
                v.round() as $type
            }

            fn exactly(v: f64) -> Option<Self> {
                let there = v as $type;
                (there as f64 == v).then_some(there)
            }

            fn is_nan(self) -> bool {
                false
            }

            fn wrap(samples: Vec<Self>) -> Samples {
                Samples::$variant(samples)
            }
        }
    };
}

integer!(u8, GDT_Byte, U8);
integer!(u16, GDT_UInt16, U16);
integer!(i16, GDT_Int16, I16);

impl Sample for f32 {
    const GDAL: GDALDataType::Type = GDALDataType::GDT_Float32;
    const INTEGER: bool = false;

    fn from_f64(v: f64) -> Self {
        v as f32
    }

    /// The nearest: nodata values are often decimal texts of float pixels.
    fn exactly(v: f64) -> Option<Self> {
        Some(v as f32)
    }

    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }

    fn wrap(samples: Vec<Self>) -> Samples {
        Samples::F32(samples)
    }
}

/// Samples of any type, seen as the bytes that leave with a buffer.
#[derive(Debug, Clone, PartialEq)]
pub enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    F32(Vec<f32>),
}

impl AsRef<[u8]> for Samples {
    fn as_ref(&self) -> &[u8] {
        fn bytes<T>(samples: &[T]) -> &[u8] {
            // SAFETY: the samples are plain numbers without padding; any byte is a u8.
            unsafe { std::slice::from_raw_parts(samples.as_ptr().cast(), std::mem::size_of_val(samples)) }
        }
        match self {
            Samples::U8(s) => s,
            Samples::U16(s) => bytes(s),
            Samples::I16(s) => bytes(s),
            Samples::F32(s) => bytes(s),
        }
    }
}

impl AsMut<[u8]> for Samples {
    fn as_mut(&mut self) -> &mut [u8] {
        fn bytes<T>(samples: &mut [T]) -> &mut [u8] {
            // SAFETY: the samples are plain numbers without padding, for which any bits are a value.
            unsafe { std::slice::from_raw_parts_mut(samples.as_mut_ptr().cast(), std::mem::size_of_val(samples)) }
        }
        match self {
            Samples::U8(s) => s,
            Samples::U16(s) => bytes(s),
            Samples::I16(s) => bytes(s),
            Samples::F32(s) => bytes(s),
        }
    }
}

/// Where the samples of a rectangle lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    pub bands: usize,
    /// Pixel after pixel; else band after band.
    pub interleaved: bool,
}

/// Distances between samples, in samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strides {
    pub pixel: usize,
    pub row: usize,
    pub band: usize,
}

impl Layout {
    /// Of a rectangle whose rows take a multiple of `multiple` samples.
    pub fn strides(&self, width: usize, height: usize, multiple: usize) -> Strides {
        match self.interleaved {
            true => Strides { pixel: self.bands, row: (width * self.bands).next_multiple_of(multiple), band: 1 },
            false => {
                let row = width.next_multiple_of(multiple);
                Strides { pixel: 1, row, band: row * height }
            }
        }
    }

    /// Samples of such a rectangle.
    pub fn samples(&self, width: usize, height: usize, multiple: usize) -> usize {
        let strides = self.strides(width, height, multiple);
        strides.row * height * if self.interleaved { 1 } else { self.bands }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_and_clipped() {
        assert_eq!((u8::from_f64(-3.0), u8::from_f64(2.5), u8::from_f64(300.0)), (0, 3, 255));
        assert_eq!((i16::from_f64(-1e9), u16::from_f64(65535.4)), (-32768, 65535));
        assert_eq!(
            (u8::exactly(256.0), u8::exactly(-1.0), u8::exactly(0.5), u8::exactly(f64::NAN)),
            (None, None, None, None)
        );
        assert_eq!((u8::exactly(255.0), i16::exactly(-9999.0)), (Some(255), Some(-9999)));
        assert_eq!(f32::exactly(-3.4028234663852886e38), Some(f32::MIN));
    }

    #[test]
    fn layouts() {
        let rgb = Layout { bands: 3, interleaved: true };
        assert_eq!(rgb.strides(5, 2, 4), Strides { pixel: 3, row: 16, band: 1 });
        assert_eq!(rgb.samples(5, 2, 4), 32);
        let planar = Layout { bands: 3, interleaved: false };
        assert_eq!(planar.strides(5, 2, 1), Strides { pixel: 1, row: 5, band: 10 });
        assert_eq!(planar.samples(5, 2, 1), 30);
    }
}
