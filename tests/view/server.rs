//! A server that runs for a test, what it answers, and rasters for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use gdal::raster::{Buffer, GdalType, RasterCreationOptions};
use gdal::spatial_ref::SpatialRef;
use gdal::{Dataset, DriverManager};

/// Side of a tile.
pub const TILE: usize = 256;
/// Of the rasters that lie somewhere: metres of UTM zone 16 N.
pub const GROUND: [f64; 6] = [733_601.0, 0.5, 0.0, 3_725_139.0, 0.0, -0.5];

/// `onnxsegment view` on a free port; ends with the test.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Server {
    /// Starts with the paths of rasters and further arguments.
    pub fn start<I: IntoIterator<Item = S>, S: AsRef<std::ffi::OsStr>>(arguments: I) -> Self {
        let mut child = command()
            .args(arguments)
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("http://").trim_end_matches('/');
        Server { address: address.parse().unwrap_or_else(|e| panic!("{line:?}: {e}")), child }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Presses Ctrl-C, and returns what was said to standard error until the end.
    pub fn stop(&mut self) -> String {
        // SAFETY: sends a signal to a child that has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    /// The most memory in MB that the server has ever held.
    pub fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    }

    /// Its exit code once it has ended by itself.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request(path, &format!("Host: {}\r\n", self.address))
    }

    /// With other headers, each ended by a new line.
    pub fn request(&self, path: &str, headers: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let split = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(all[..split].to_vec()).unwrap();
        let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_lowercase(), body: all[split + 4..].to_vec() }
    }

    pub fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// A tile's RGBA, pixel by pixel.
    pub fn tile(&self, path: &str) -> Vec<[u8; 4]> {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let mut reader = png::Decoder::new(std::io::Cursor::new(answer.body)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width as usize, info.height as usize, info.color_type), (TILE, TILE, png::ColorType::Rgba));
        pixels.as_chunks::<4>().0.to_vec()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim().to_string()
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onnxsegment"));
    command.args(["view", "--no-open"]);
    command
}

/// Runs to the end, for lines that cannot be served.
pub fn refused(arguments: &[&Path], more: &[&str]) -> Output {
    let output = command().args(arguments).args(more).output().unwrap();
    assert_eq!(output.stdout, b"", "{output:?}");
    output
}

/// What a line that cannot be served says, after the program's name.
pub fn complaint(arguments: &[&Path], more: &[&str]) -> String {
    let output = refused(arguments, more);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    text.strip_prefix("onnxsegment: ").unwrap_or_else(|| panic!("{text}")).trim().to_string()
}

/// A raster to be made.
pub struct Raster<'a> {
    pub name: &'a str,
    pub size: (usize, usize),
    pub nodata: Option<f64>,
    pub geotransform: Option<[f64; 6]>,
    pub crs: u32,
    pub options: &'a [&'a str],
}

impl Default for Raster<'_> {
    fn default() -> Self {
        let options = &["TILED=YES", "BLOCKXSIZE=128", "BLOCKYSIZE=128"];
        Raster { name: "raster.tif", size: (600, 500), nodata: None, geotransform: Some(GROUND), crs: 32616, options }
    }
}

impl Raster<'_> {
    /// Writes it with one plane per band.
    pub fn write<T: GdalType + Copy>(&self, folder: &Path, planes: &[Vec<T>]) -> PathBuf {
        let path = folder.join(self.name);
        self.create::<T>(&path, planes.len(), |dataset| {
            for (k, plane) in planes.iter().enumerate() {
                let mut band = dataset.rasterband(k + 1).unwrap();
                band.write((0, 0), self.size, &mut Buffer::new(self.size, plane.clone())).unwrap();
            }
        });
        path
    }

    /// Creates it and hands it over to be filled.
    pub fn create<T: GdalType + Copy>(&self, path: &Path, bands: usize, fill: impl FnOnce(&mut Dataset)) {
        let driver = DriverManager::get_driver_by_name("GTiff").unwrap();
        let options = RasterCreationOptions::from_iter(self.options.iter().copied());
        let (width, height) = self.size;
        let mut dataset =
            driver.create_with_band_type_with_options::<T, _>(path, width, height, bands, &options).unwrap();
        if let Some(geotransform) = &self.geotransform {
            dataset.set_geo_transform(geotransform).unwrap();
            dataset.set_spatial_ref(&SpatialRef::from_epsg(self.crs).unwrap()).unwrap();
        }
        for k in 1..=bands {
            dataset.rasterband(k).unwrap().set_no_data_value(self.nodata).unwrap();
        }
        fill(&mut dataset);
        dataset.close().unwrap();
    }

    /// A value for each pixel by column and row.
    pub fn plane<T>(&self, value: impl Fn(usize, usize) -> T) -> Vec<T> {
        let (width, height) = self.size;
        (0..width * height).map(|k| value(k % width, k / width)).collect()
    }
}

/// Numbers without a pattern, from 0 to 255.
pub fn noise(x: usize, y: usize, salt: usize) -> u8 {
    let mixed = (x * 73_856_093) ^ (y * 19_349_663) ^ (salt * 83_492_791);
    (mixed.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// What GDAL itself reads of a band, from the raster or from its overview.
pub fn read(path: &Path, band: usize, overview: Option<usize>, window: [usize; 4]) -> Vec<f64> {
    let dataset = Dataset::open(path).unwrap();
    let band = dataset.rasterband(band).unwrap();
    let band = match overview {
        Some(k) => band.overview(k).unwrap(),
        None => band,
    };
    let [x, y, w, h] = window;
    band.read_as::<f64>((x as isize, y as isize), (w, h), (w, h), None).unwrap().data().to_vec()
}
