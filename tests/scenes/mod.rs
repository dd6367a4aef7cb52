//! A small scene with its truth, in memory and in a folder, for the tests of the command line.
#![allow(dead_code)] // each test program uses its part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use gstonnxsegment::engine::pixels::{Band, Frame, FrameFormat, FrameView, Sample};

pub const WIDTH: usize = 80;
pub const HEIGHT: usize = 64;
pub const FORMAT: FrameFormat = FrameFormat { width: WIDTH, height: HEIGHT, bands: 3, sample: Sample::U8 };

pub fn root(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Red, green and blue of a picture that differs from pixel to pixel.
pub fn colour(x: usize, y: usize) -> [u8; 3] {
    std::array::from_fn(|c| {
        let wave = ((x as f32 / 6.0).sin() + (y as f32 / 8.0 + c as f32).cos()) * 55.0 + 128.0;
        wave as u8 + ((x * 31 + y * 17 + c * 101) % 19) as u8
    })
}

#[derive(Clone)]
pub struct Picture(pub Arc<Vec<u8>>);

impl Picture {
    pub fn new() -> Self {
        let pixels = (0..WIDTH * HEIGHT).flat_map(|k| colour(k % WIDTH, k / WIDTH));
        Picture(Arc::new(pixels.collect()))
    }
}

impl Frame for Picture {
    fn view(&self) -> FrameView<'_> {
        let bands = (0..3).map(|k| Band { data: &self.0[k..], step: 3, stride: 3 * WIDTH }).collect();
        FrameView { format: FORMAT, bands }
    }
}

pub fn frame() -> Box<dyn Frame> {
    Box::new(Picture::new())
}

/// Truth of so many classes: bright spots of the picture, in stripes by class, some of them wrong.
pub fn classes(count: usize) -> Vec<Option<u16>> {
    let class = |k: usize| {
        let [_, green, _] = colour(k % WIDTH, k / WIDTH);
        let noise = (k * 7919).is_multiple_of(11);
        match (green > 150) != noise {
            true => Some(1 + (k % WIDTH / 16 % (count - 1)) as u16),
            false => Some(0),
        }
    };
    (0..WIDTH * HEIGHT).map(class).collect()
}

/// A folder with a scene and its truth, which goes when the test ends.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("onnxsegment-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let folder = Folder(folder);
        folder.raster("scene.tif", 3, |k, band| colour(k % WIDTH, k / WIDTH)[band]);
        let known = classes(2);
        folder.raster("truth.tif", 1, |k, _| 255 * known[k].unwrap() as u8);
        folder
    }

    pub fn raster(&self, name: &str, bands: usize, value: impl Fn(usize, usize) -> u8) {
        let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
        let dataset = driver.create_with_band_type::<u8, _>(self.path(name), WIDTH, HEIGHT, bands).unwrap();
        for band in 0..bands {
            let data = (0..WIDTH * HEIGHT).map(|k| value(k, band)).collect();
            let mut pixels = gdal::raster::Buffer::new((WIDTH, HEIGHT), data);
            dataset.rasterband(band + 1).unwrap().write((0, 0), (WIDTH, HEIGHT), &mut pixels).unwrap();
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Runs `onnxsegment` in this folder; `%` stands for the folder of the tests' models.
    pub fn run(&self, verb: &str, line: &str) -> Output {
        let models = root("tests/models");
        let line = line.replace('%', &models.display().to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_onnxsegment"));
        command.current_dir(&self.0).arg(verb).args(line.split_whitespace()).output().unwrap()
    }

    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
