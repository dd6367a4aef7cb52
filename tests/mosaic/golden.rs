//! Whole mosaics against an independent reference.

use gdal::raster::GdalType;
use gst::prelude::*;
use ndarray_npy::ReadableElement;

use crate::common;
use crate::raster::{Folder, Raster};
use crate::reference::{Case, Expected, TOLERANCE, cases, compare, compare_labels, worst};

impl Case {
    fn raster<T: ReadableElement + GdalType + Copy>(&self) -> Raster<T> {
        let pixels = self.pixels::<T>();
        let (bands, height, width) = pixels.dim();
        Raster { bands, width, height, data: pixels.iter().copied().collect() }
    }

    fn write(&self, path: &str) {
        let nodata = self.nodata.as_ref().map(|text| text.parse().unwrap());
        match self.sample.as_str() {
            "u8" => self.raster::<u8>().write(path, nodata, self.alpha),
            "u16" => self.raster::<u16>().write(path, nodata, self.alpha),
            "i16" => self.raster::<i16>().write(path, nodata, self.alpha),
            _ => self.raster::<f32>().write(path, nodata, self.alpha),
        }
    }

    fn source(&self, path: &str) -> String {
        let bands = self.bands.as_ref().map_or(String::new(), |bands| format!(" bands=\"{bands}\""));
        format!("rastersrc location=\"{path}\"{bands}{}", self.tiles())
    }

    /// The raster as one frame, and its caps: video where video can say it.
    fn frame(&self) -> (String, Vec<u8>) {
        fn all<T: Copy, const N: usize>(
            raster: Raster<T>,
            to: impl Fn(T) -> [u8; N],
        ) -> (usize, usize, usize, Vec<u8>) {
            (raster.bands, raster.width, raster.height, raster.data.iter().flat_map(|v| to(*v)).collect())
        }
        let (bands, width, height, data) = match self.sample.as_str() {
            "u8" => all(self.raster::<u8>(), |v| [v]),
            "u16" => all(self.raster::<u16>(), u16::to_le_bytes),
            "i16" => all(self.raster::<i16>(), i16::to_le_bytes),
            _ => all(self.raster::<f32>(), f32::to_le_bytes),
        };
        let size = format!("width={width},height={height},framerate=0/1");
        if self.sample == "u8" && bands == 3 {
            // Rows end at multiples of four bytes.
            let stride = (3 * width).next_multiple_of(4);
            let mut rgb = vec![0; stride * height];
            for (k, plane) in data.chunks_exact(width * height).enumerate() {
                for (at, v) in plane.iter().enumerate() {
                    rgb[at / width * stride + at % width * 3 + k] = *v;
                }
            }
            return (format!("video/x-raw,format=RGB,{size}"), rgb);
        }
        let format = match self.sample.as_str() {
            "u8" => "U8",
            "u16" => "U16LE",
            "i16" => "I16LE",
            _ => "F32LE",
        };
        (format!("raster/x-raw,format={format},layout=planar,bands={bands},{size}"), data)
    }
}

/// Plays to the end; everything that came to the sink `out`.
fn samples(pipeline: &common::Pipeline) -> Vec<gst::Sample> {
    let sink = pipeline.appsink("out");
    pipeline.set_state(gst::State::Playing).unwrap();
    let samples = common::rest(&sink);
    if let Some(message) = pipeline.bus().unwrap().pop_filtered(&[gst::MessageType::Error]) {
        panic!("{message:?}");
    }
    samples
}

fn floats(sample: &gst::Sample) -> Vec<f32> {
    let map = sample.buffer().unwrap().map_readable().unwrap();
    map.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Compares the one frame of scores that came.
fn merged(case: &Case, pipeline: &common::Pipeline, expected: &Expected) -> Vec<String> {
    let samples = samples(pipeline);
    let [sample] = &samples[..] else {
        return vec![format!("{}: {} frames, not one", case.name, samples.len())];
    };
    let scores = case.activate(floats(sample), expected.labels.len());
    compare(&case.name, "tilemerge", &scores, &expected.scores, TOLERANCE).into_iter().collect()
}

/// Raster to rasters: labels, probabilities in 16 bit, uncertainty.
fn by_files(case: &Case, folder: &Folder) -> Vec<String> {
    let expected = case.expected();
    let (input, labels) = (folder.path("in.tif"), folder.path("labels.tif"));
    let (probability, uncertainty) = (folder.path("probability.tif"), folder.path("uncertainty.tif"));
    case.write(&input);
    let more = if case.uncertainty { format!("uncertainty-location=\"{uncertainty}\"") } else { String::new() };
    let pipeline = common::launch(&format!(
        "{} ! {} ! rastersink location=\"{labels}\" probability-location=\"{probability}\" probability-depth=16 {more} \
         blend={} resume=false cog=false",
        case.source(&input),
        case.element(),
        case.blend,
    ));
    pipeline.finish();
    drop(pipeline);
    let found = Raster::<u8>::read(&labels);
    let mut wrong: Vec<String> = compare_labels(case, "rastersink", &found.data, &expected).into_iter().collect();
    // Half a step more: the values are rounded.
    let read = |path: &str| -> Vec<f32> {
        let value = |v: &u16| if *v == 65535 { f32::NAN } else { *v as f32 / 65534.0 };
        Raster::<u16>::read(path).data.iter().map(value).collect()
    };
    let tolerance = TOLERANCE + 0.5 / 65534.0;
    wrong.extend(compare(&case.name, "rastersink", &read(&probability), &expected.scores, tolerance));
    if let Some(expected) = &expected.uncertainty {
        let difference = worst(&read(&uncertainty), expected);
        if difference > tolerance {
            wrong.push(format!("{}: rastersink: uncertainty differs by {difference:e}", case.name));
        }
    }
    wrong
}

/// Raster to one frame of float scores.
fn by_raster_tiles(case: &Case, folder: &Folder) -> Vec<String> {
    let input = folder.path("in.tif");
    case.write(&input);
    let pipeline = common::launch(&format!(
        "{} ! {} ! tilemerge blend={} ! raster/x-raw ! appsink name=out sync=false",
        case.source(&input),
        case.element(),
        case.blend,
    ));
    merged(case, &pipeline, &case.expected())
}

/// One frame to one frame, of float scores and of labels.
fn by_frames(case: &Case) -> Vec<String> {
    let expected = case.expected();
    let (caps, data) = case.frame();
    let run = |output: &str| {
        let pipeline = common::launch(&format!(
            "appsrc name=in format=time caps=\"{caps}\" ! tilesplit{} ! {} ! tilemerge blend={} ! {output} \
             ! appsink name=out sync=false",
            case.tiles(),
            case.element(),
            case.blend,
        ));
        pipeline.set_state(gst::State::Playing).unwrap();
        let source = pipeline.appsrc("in");
        source.push_buffer(gst::Buffer::from_slice(data.clone())).unwrap();
        source.end_of_stream().unwrap();
        pipeline
    };
    let mut wrong = merged(case, &run("raster/x-raw"), &expected);
    let pipeline = run("video/x-raw,format=GRAY8");
    for sample in samples(&pipeline) {
        let found = common::pixels(sample.buffer().unwrap(), sample.caps().unwrap());
        wrong.extend(compare_labels(case, "tilemerge", &found, &expected));
    }
    wrong
}

fn check(what: &str, suits: impl Fn(&Case) -> bool, run: impl Fn(&Case, &Folder) -> Vec<String>) {
    let _watchdog = common::start();
    let folder = Folder::new(what);
    let cases = cases();
    let cases: Vec<_> = cases.iter().filter(|case| suits(case)).collect();
    assert!(cases.len() > 30, "only {} cases", cases.len());
    let wrong: Vec<String> = cases.iter().flat_map(|case| run(case, &folder)).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rasters_equal_the_reference() {
    check("golden-files", |_| true, by_files);
}

#[test]
fn merged_tiles_of_rasters_equal_the_reference() {
    check("golden-tiles", |_| true, by_raster_tiles);
}

#[test]
fn merged_tiles_of_frames_equal_the_reference() {
    let plain = |case: &Case| case.nodata.is_none() && !case.alpha && case.bands.is_none();
    check("golden-frames", plain, |case, _| by_frames(case));
}
