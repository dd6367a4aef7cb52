//! Two neighbouring Landsat-8 scenes as one VRT: several bands of 16 bit, overlap, wedges without data, EPSG:32621.

use std::path::Path;
use std::process::Command;

use gdal::Dataset;
use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};

use crate::common;
use crate::raster::{Folder, Raster};

fn gdal_tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).arg("-q").args(arguments).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

struct Planar(FrameFormat, Vec<u8>);

impl Frame for Planar {
    fn view(&self) -> FrameView<'_> {
        let plane = 2 * self.0.width * self.0.height;
        let band = |k: usize| Band { data: &self.1[k * plane..], step: 2, stride: 2 * self.0.width };
        FrameView { format: self.0, bands: (0..self.0.bands).map(band).collect() }
    }
}

#[test]
fn a_mosaic_of_two_landsat_scenes() {
    let _watchdog = common::start_for(600);
    let fetched = Command::new(common::root().join("tools/landsat.sh")).output().unwrap();
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr);
        eprintln!("skipped: the Landsat scenes are not there and cannot be fetched: {}", why.trim());
        return;
    }
    let scenes = String::from_utf8(fetched.stdout).unwrap();
    let folder = Folder::new("landsat");
    let parts = [("224077", folder.path("a.vrt")), ("224078", folder.path("b.vrt"))];
    for (scene, path) in &parts {
        let file = |band| format!("{}/LC08_L1TP_{scene}_20200518_20200518_01_RT_B{band}.TIF", scenes.trim());
        gdal_tool("gdalbuildvrt", &["-separate", path, &file(2), &file(3), &file(4)]);
    }
    let (vrt, flat) = (folder.path("mosaic.vrt"), folder.path("flat.tif"));
    gdal_tool("gdalbuildvrt", &["-srcnodata", "0", "-vrtnodata", "0", &vrt, &parts[0].1, &parts[1].1]);
    gdal_tool("gdal_translate", &[&vrt, &flat]);

    // A model of five bands, from three.
    const BANDS: [usize; 5] = [3, 2, 1, 3, 1];
    let properties = [("input-range", "4000,16000"), ("size-multiple", "4")];
    let run = |input: &str, output: &str| {
        let (labels, probability) = (folder.path(&format!("{output}.tif")), folder.path(&format!("{output}-p.tif")));
        common::launch(&format!(
            "rastersrc location=\"{input}\" bands=\"3,2,1,3,1\" tile-size=512 overlap=64 \
             ! onnxsegment model-file={{five}} input-range=\"4000,16000\" size-multiple=4 \
             ! rastersink location=\"{labels}\" probability-location=\"{probability}\" blend=crop"
        ))
        .finish();
        (Raster::<u8>::read(labels), Raster::<u8>::read(probability))
    };
    let (labels, probability) = run(&vrt, "of-vrt");
    let (same, same_probability) = run(&flat, "of-flat");
    assert!(labels.data == same.data && probability.data == same_probability.data, "a VRT is its pixels");

    // Where it lies.
    let (source, result) = (Dataset::open(&vrt).unwrap(), Dataset::open(folder.path("of-vrt.tif")).unwrap());
    assert_eq!(result.spatial_ref().unwrap().auth_code().unwrap(), 32621);
    assert_eq!(result.geo_transform().unwrap(), source.geo_transform().unwrap());
    assert_eq!(result.raster_size(), source.raster_size());

    // nodata.
    let pixels = Raster::<u16>::read(&flat);
    assert_eq!((pixels.bands, labels.width, labels.height), (3, pixels.width, pixels.height));
    let size = pixels.width * pixels.height;
    let gone = |k: usize| (0..3).all(|b| pixels.data[b * size + k] == 0);
    assert!((0..size).all(|k| (labels.data[k] == 255) == gone(k)));
    let count = (0..size).filter(|k| gone(*k)).count();
    assert!(size / 20 < count && count < size / 2, "{count} of {size} pixels have no data");

    // A window around the scenes' border, by the engine in one go; the model sees two pixels far.
    let (left, top, width, height) = (900, 300, 640, 448);
    let bytes = BANDS
        .iter()
        .flat_map(|band| {
            let plane = pixels.band(band - 1);
            (top..top + height).flat_map(move |y| &plane[y * pixels.width + left..y * pixels.width + left + width])
        })
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let ensemble = common::engine("five", &properties);
    let format = FrameFormat { width, height, bands: 5, sample: Sample::U16Le };
    let plan = ensemble.plan(format).unwrap();
    let job = ensemble.submit(&plan, Box::new(Planar(format, bytes)), false, None);
    ensemble.seal();
    let merged = job.wait().unwrap();
    let (mut compared, mut least, mut most) = (0, 1.0f32, 0.0f32);
    for y in 2..height - 2 {
        for x in 2..width - 2 {
            let at = (top + y) * labels.width + left + x;
            if gone(at) {
                continue;
            }
            let p: Vec<f32> = (0..3).map(|c| merged.scores[(c * height + y) * width + x]).collect();
            let best = (0..3).max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
            compared += 1;
            (least, most) = (least.min(p[best]), most.max(p[best]));
            let lead = p.iter().enumerate().filter(|(c, _)| *c != best).map(|(_, q)| p[best] - q).fold(1.0, f32::min);
            assert!(labels.data[at] as usize == best || lead < 1e-4, "{x}, {y}: {} {p:?}", labels.data[at]);
            for (c, p) in p.iter().enumerate() {
                let found = probability.data[c * size + at] as f32 / 254.0;
                assert!((found - p).abs() <= 0.5 / 254.0 + 1e-5, "{x}, {y}: {found} {p}");
            }
        }
    }
    assert!(compared > 100_000 && most - least > 0.2, "{compared} pixels, {least} to {most}: too little to tell");
    assert!(Path::new(&vrt).exists());
}
