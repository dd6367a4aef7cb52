//! Every block of a file is read once: counted by the element, and by the kernel.

use std::process::Command;
use std::sync::OnceLock;

use gdal::{Dataset, DatasetOptions, GdalOpenFlags};

use crate::raster::{Folder, Raster, texture};
use crate::{Known, all, check, common, tiles, tool};

const PIPELINE: &str = "ONNXSEGMENT_TEST_PIPELINE";

/// Bytes that this process has read from anywhere.
fn read() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    text.lines().find_map(|l| l.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn the_process() {
    let Ok(text) = std::env::var(PIPELINE) else { return };
    let _watchdog = common::start();
    let pipeline = common::launch(&text);
    let before = read();
    pipeline.finish();
    println!("\nREAD:{}", read() - before);
}

/// Bytes that are read of a raster. GDAL's own cache is too small to hide anything.
fn bytes_read(properties: &str) -> u64 {
    // What GDAL reads to know coordinate systems, and the program otherwise.
    static OWN: OnceLock<u64> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let folder = Folder::new("smallest");
        let path = folder.path("in.tif");
        Raster::new(1, (1, 1), texture).write(&path, None, false);
        of_process(&format!("location={path}"))
    });
    of_process(properties) - own
}

fn of_process(properties: &str) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "blocks::the_process", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PIPELINE, format!("rastersrc {properties} ! fakesink sync=false"))
        .env("GDAL_CACHEMAX", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text.lines().find_map(|l| l.strip_prefix("READ:")).expect("the process tells").trim().parse().unwrap()
}

#[test]
fn the_kernel_sees_each_byte_read_once() {
    let _watchdog = common::start();
    let folder = Folder::new("once");
    let (path, copy) = (folder.path("in.tif"), folder.path("copy.tif"));
    let (width, height) = (2000, 1800);
    Raster::new(3, (width, height), texture).write(&path, None, false);
    let size = (3 * width * height) as u64;
    for options in [
        &["BLOCKYSIZE=1", "INTERLEAVE=PIXEL"][..],
        &["BLOCKYSIZE=16", "INTERLEAVE=PIXEL"],
        &["BLOCKYSIZE=16", "INTERLEAVE=BAND"],
        &["TILED=YES", "INTERLEAVE=PIXEL"],
        &["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "INTERLEAVE=PIXEL"],
        &["TILED=YES", "INTERLEAVE=BAND"],
    ] {
        let arguments: Vec<&str> = options.iter().flat_map(|option| ["-co", option]).collect();
        tool("gdal_translate", &[&["-q", &path, &copy][..], &arguments].concat());
        let bytes = bytes_read(&format!("location={copy} tile-size=200 overlap=80"));
        // Blocks at the rim are whole in the file; GDAL reads pages of 4096 bytes, of which two blocks may have a share.
        let most = if options[0] == "TILED=YES" { 3 * 2048 * 2048 } else { size };
        assert!(size <= bytes && bytes < most + size / 10, "{options:?}: {bytes} of {size}");
    }
}

#[test]
fn a_mosaic_of_many_files_opens_and_reads_each_once() {
    let _watchdog = common::start();
    let folder = Folder::new("many");
    let size = (1000, 700);
    let vrt = folder.path("in.vrt");
    let mut parts = Vec::new();
    for y in (0..size.1).step_by(100) {
        for x in (0..size.0).step_by(100) {
            let part = folder.path(&format!("part-{x}-{y}.tif"));
            Raster::new(3, (100, 100), |b, i, j| texture(b, x + i, y + j)).write(&part, None, false);
            let update = DatasetOptions { open_flags: GdalOpenFlags::GDAL_OF_UPDATE, ..Default::default() };
            let mut file = Dataset::open_ex(&part, update).unwrap();
            file.set_geo_transform(&[x as f64, 1.0, 0.0, -(y as f64), 0.0, -1.0]).unwrap();
            file.close().unwrap();
            parts.push(part);
        }
    }
    let mut arguments = vec!["-q", &vrt];
    arguments.extend(parts.iter().map(String::as_str));
    tool("gdalbuildvrt", &arguments);
    let (found, said, stats) = all(&format!("location={vrt} tile-size=192 overlap=64"));
    let sample = |b, x, y| Some(texture(b, x, y) as f64);
    check(&found, 192, 64, &Known { size, bands: 3, sample: &sample, fill: &|_, _, _| 0.0 });
    assert!(said.is_empty(), "{said:?}");
    // Units follow the files, which are too small to be read in several.
    assert_eq!((stats.get::<u64>("blocks-read"), stats.get::<u64>("blocks-read-again")), (Ok(70), Ok(0)));
    let bytes = bytes_read(&format!("location={vrt} tile-size=192 overlap=64"));
    let length = |part: &String| std::fs::metadata(part).unwrap().len();
    let whole: u64 = parts.iter().map(length).sum();
    // GDAL reads pages of 4096 bytes, of which two blocks may have a share.
    assert!(whole * 9 / 10 <= bytes && bytes < whole * 3 / 2, "{bytes} of {whole}");
}

#[test]
fn a_cache_that_is_too_small_costs_time_and_says_so() {
    let _watchdog = common::start();
    let folder = Folder::new("crowded");
    let (path, strips) = (folder.path("in.tif"), folder.path("strips.tif"));
    // A row of tiles: 12000 x 512 x 3 bytes are 18 MB.
    let size = (12_000, 700);
    Raster::new(3, size, texture).write(&path, None, false);
    tool("gdal_translate", &["-q", "-co", "BLOCKYSIZE=32", &path, &strips]);
    let (found, said, stats) = all(&format!("location={strips} tile-size=512 overlap=0 cache-size=16"));
    assert!(stats.get::<u64>("blocks-read-again").unwrap() > 0, "{stats}");
    assert!(said.len() == 1 && said[0].contains("cache-size=16 MiB"), "{said:?}");
    let area = size.0 * size.1;
    let mut seen = vec![0u8; area];
    for tile in found {
        let a = tile.area;
        for (k, v) in tile.values.iter().enumerate() {
            let (b, p) = (k / a.area(), k % a.area());
            let (x, y) = (a.x as usize + p % a.width as usize, a.y as usize + p / a.width as usize);
            assert_eq!(*v, texture(b, x, y) as f64);
            seen[y * size.0 + x] += 1;
        }
    }
    assert!(seen.iter().all(|n| *n == 3));
    let (_, said, stats) = all(&format!("location={strips} tile-size=512 overlap=0"));
    assert_eq!(stats.get::<u64>("blocks-read-again"), Ok(0));
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn only_what_a_window_needs_is_read() {
    let _watchdog = common::start();
    let folder = Folder::new("window-bytes");
    let path = folder.path("in.tif");
    Raster::new(3, (2048, 2048), texture).write(&path, None, false);
    let plain = folder.path("plain.tif");
    tool("gdal_translate", &["-q", "-co", "TILED=YES", &path, &plain]);
    let found = tiles(&format!("location={plain} window=700,700,10,10 tile-size=256 overlap=0"));
    assert_eq!(found.iter().map(|t| t.index).collect::<Vec<_>>(), [2 * 8 + 2]);
    let bytes = bytes_read(&format!("location={plain} window=700,700,10,10 tile-size=256 overlap=0"));
    assert!(bytes < 2 * 256 * 256 * 3, "{bytes}");
}
