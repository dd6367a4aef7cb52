//! `onnxsegment view`: tiles against what GDAL reads, values at a click, what is refused, and the page in a browser.

mod browser;
mod chromium;
mod glance;
mod server;
mod warped;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gdal::Dataset;
use gdal::raster::{ColorEntry, ColorTable};
use server::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A raster of three bands of noise, where pixels of nothing but 0 have no data.
fn picture(folder: &Path) -> PathBuf {
    let raster = Raster { name: "picture.tif", nodata: Some(0.0), ..Raster::default() };
    let hole = |x: usize, y: usize| x < 40 && y < 30;
    let planes: Vec<_> =
        (0..3).map(|k| raster.plane(|x, y| if hole(x, y) { 0 } else { noise(x, y, k).max(1) })).collect();
    raster.write(folder, &planes)
}

/// Labels 0 to 2 with colours, names and nodata 255.
fn mask(folder: &Path) -> PathBuf {
    let raster = Raster { name: "mask.tif", nodata: Some(255.0), ..Raster::default() };
    let path = folder.join(raster.name);
    let labels = raster.plane(label);
    raster.create::<u8>(&path, 1, |dataset| {
        let mut band = dataset.rasterband(1).unwrap();
        band.write((0, 0), raster.size, &mut gdal::raster::Buffer::new(raster.size, labels)).unwrap();
        let mut table = ColorTable::new(gdal::raster::PaletteInterpretation::Rgba);
        for (k, [r, g, b]) in COLOURS.into_iter().enumerate() {
            table.set_color_entry(k as u16, &ColorEntry::rgba(r, g, b, 255));
        }
        band.set_color_table(&table);
        let names = ["ground", "house", "road"].map(|name| std::ffi::CString::new(name).unwrap());
        let mut list: Vec<_> = names.iter().map(|name| name.as_ptr().cast_mut()).collect();
        list.push(std::ptr::null_mut());
        // SAFETY: the band lives, the list ends with null, and GDAL copies it.
        unsafe { gdal_sys::GDALSetRasterCategoryNames(band.c_rasterband(), list.as_mut_ptr()) };
    });
    path
}

const COLOURS: [[i16; 3]; 3] = [[0, 0, 0], [255, 64, 64], [10, 20, 200]];

fn label(x: usize, y: usize) -> u8 {
    [0, 1, 2, 255][(x / 7 + y / 5) % 4]
}

/// Two bands of probability in 254 steps, and one of uncertainty.
fn scores(folder: &Path) -> (PathBuf, PathBuf) {
    let write = |name, bands: usize| {
        let raster = Raster { name, nodata: Some(255.0), ..Raster::default() };
        let path = folder.join(name);
        raster.create::<u8>(&path, bands, |dataset| {
            for k in 0..bands {
                let mut band = dataset.rasterband(k + 1).unwrap();
                let plane = raster.plane(|x, y| noise(x, y, 7 + k));
                band.write((0, 0), raster.size, &mut gdal::raster::Buffer::new(raster.size, plane)).unwrap();
                band.set_scale(1.0 / 254.0).unwrap();
            }
        });
        path
    };
    (write("probability.tif", 2), write("uncertainty.tif", 1))
}

// ---- tiles

#[test]
fn tiles_of_8_bit_pictures_are_the_files_pixels() {
    let folder = folder();
    let path = picture(folder.path());
    let server = Server::start([&path]);
    for (column, row) in [(0, 0), (1, 1), (2, 0), (2, 1)] {
        let (x, y) = (column * TILE, row * TILE);
        let (w, h) = (TILE.min(600 - x), TILE.min(500 - y));
        let bands = [1, 2, 3].map(|band| read(&path, band, None, [x, y, w, h]));
        let tile = server.tile(&format!("/tiles/image/2/{column}/{row}.png"));
        for (k, pixel) in tile.iter().enumerate() {
            let (tx, ty) = (k % TILE, k / TILE);
            let expected = match tx < w && ty < h {
                true => bands.each_ref().map(|band| band[ty * w + tx] as u8),
                false => [0; 3],
            };
            let alpha = if expected == [0; 3] { 0 } else { 255 };
            assert_eq!(*pixel, [expected[0], expected[1], expected[2], alpha], "{column}/{row} at {tx},{ty}");
        }
    }
}

#[test]
fn coarse_tiles_are_the_overviews_pixels() {
    let folder = folder();
    let raster = Raster { size: (1024, 768), ..Raster::default() };
    let path = raster.write(folder.path(), &[raster.plane(|x, y| noise(x, y, 1))]);
    Dataset::open_ex(
        &path,
        gdal::DatasetOptions { open_flags: gdal::GdalOpenFlags::GDAL_OF_UPDATE, ..Default::default() },
    )
    .unwrap()
    .build_overviews("AVERAGE", &[2, 4], &[])
    .unwrap();
    let server = Server::start([&path]);
    for (level, overview, (column, row)) in [(1, 0, (1, 1)), (0, 1, (0, 0))] {
        let h = if level == 1 { 128 } else { 192 };
        let expected = read(&path, 1, Some(overview), [column * TILE, row * TILE, TILE, h]);
        let tile = server.tile(&format!("/tiles/image/{level}/{column}/{row}.png"));
        let found: Vec<f64> = tile[..TILE * h].iter().map(|pixel| f64::from(pixel[1])).collect();
        assert!(found == expected, "level {level}");
        assert!(tile[TILE * h..].iter().all(|pixel| *pixel == [0; 4]));
    }
}

#[test]
fn without_overviews_pixels_are_averaged_and_classes_are_not() {
    let folder = folder();
    let raster = Raster { size: (512, 512), ..Raster::default() };
    let image = raster.write(folder.path(), &[raster.plane(|x, y| noise(x, y, 1))]);
    let labels = Raster { name: "labels.tif", ..raster };
    let mask = labels.write(folder.path(), &[labels.plane(|x, y| if (x + y) % 2 == 0 { 3u8 } else { 9 })]);
    let server = Server::start([&image, &mask]);
    let pixels = read(&image, 1, None, [0, 0, 512, 512]);
    for (k, pixel) in server.tile("/tiles/image/0/0/0.png").iter().enumerate() {
        let at = (k / TILE) * 2 * 512 + (k % TILE) * 2;
        let average = (pixels[at] + pixels[at + 1] + pixels[at + 512] + pixels[at + 513]) / 4.0;
        assert!((f64::from(pixel[0]) - average).abs() <= 0.75, "{k}: {pixel:?} {average}");
    }
    let info = server.json("/info");
    let colours: Vec<&str> =
        info["layers"][1]["classes"].as_array().unwrap().iter().map(|c| c["colour"].as_str().unwrap()).collect();
    assert_eq!(colours.len(), 2);
    let tile = server.tile("/tiles/mask/0/0/0.png");
    assert!(tile.iter().all(|[r, g, b, _]| colours.contains(&format!("#{r:02x}{g:02x}{b:02x}").as_str())));
}

#[test]
fn samples_of_16_bits_are_stretched_between_their_2nd_and_98th_percentile() {
    let folder = folder();
    let raster = Raster { size: (200, 150), nodata: Some(0.0), ..Raster::default() };
    let planes: Vec<Vec<u16>> =
        (0..4).map(|k| raster.plane(|x, y| if x < 9 { 0 } else { 300 + 17 * u16::from(noise(x, y, k)) })).collect();
    let path = raster.write(folder.path(), &planes);
    let server = Server::start([&path]);
    let tile = server.tile("/tiles/image/0/0/0.png");
    for (k, plane) in planes[..3].iter().enumerate() {
        let mut sorted: Vec<u16> = plane.iter().copied().filter(|v| *v != 0).collect();
        sorted.sort_unstable();
        let at = |share: f64| f64::from(sorted[((sorted.len() - 1) as f64 * share).round() as usize]);
        let (low, high) = (at(0.02), at(0.98));
        for (y, x) in [(0, 9), (0, 150), (77, 33), (149, 199)] {
            let v = f64::from(plane[y * 200 + x]);
            let expected = ((v - low) / (high - low)).clamp(0.0, 1.0) * 255.0;
            let found = tile[y * TILE + x];
            assert!((f64::from(found[k]) - expected).abs() <= 0.5 && found[3] == 255, "{x},{y}: {found:?} {expected}");
        }
    }
    assert_eq!(tile[8], [0; 4]);
    let other = Server::start([path.as_os_str(), "--bands".as_ref(), "4,2,1".as_ref()]);
    let swapped = other.tile("/tiles/image/0/0/0.png");
    assert!(swapped.iter().zip(&tile).all(|(a, b)| a[1] == b[1] && a[2] == b[0]));
}

#[test]
fn masks_have_their_colours_and_hide_what_is_asked() {
    let folder = folder();
    let server = Server::start([picture(folder.path()), mask(folder.path())]);
    let all = server.tile("/tiles/mask/2/0/0.png");
    let some = server.tile("/tiles/mask/2/0/0.png?hide=2,0");
    for (k, (shown, hidden)) in all.iter().zip(&some).enumerate() {
        let (shown_as, hidden_as) = match label(k % TILE, k / TILE) {
            // Black is what palettes give to classes without a colour.
            0 => ([128, 128, 128, 255], [0; 4]),
            1 => ([255, 64, 64, 255], [255, 64, 64, 255]),
            2 => ([10, 20, 200, 255], [0; 4]),
            _ => ([0; 4], [0; 4]),
        };
        assert_eq!((*shown, *hidden), (shown_as, hidden_as), "{k}");
    }
    let classes = &server.json("/info")["layers"][1]["classes"];
    let names: Vec<_> = classes.as_array().unwrap().iter().map(|c| (&c["name"], &c["value"], &c["shown"])).collect();
    assert_eq!(
        serde_json::json!(names),
        serde_json::json!([["ground", 0, false], ["house", 1, true], ["road", 2, true]])
    );
}

#[test]
fn scores_are_painted_by_their_scale() {
    let folder = folder();
    let (probability, uncertainty) = scores(folder.path());
    let server = Server::start([picture(folder.path()), mask(folder.path()), probability, uncertainty]);
    let default = server.tile("/tiles/probability/2/0/0.png");
    for (band, tile) in [(0, server.tile("/tiles/probability/2/0/0.png?band=0")), (1, default)] {
        for (k, pixel) in tile.iter().enumerate() {
            match noise(k % TILE, k / TILE, 7 + band) {
                // Viridis from Matplotlib: its ends and its middle.
                0 => assert_eq!(*pixel, [68, 1, 84, 255]),
                127 => assert_eq!(*pixel, [33, 145, 140, 255]),
                254 => assert_eq!(*pixel, [253, 231, 37, 255]),
                255 => assert_eq!(*pixel, [0; 4]),
                _ => assert_eq!(pixel[3], 255),
            }
        }
    }
    let tile = server.tile("/tiles/uncertainty/2/0/0.png");
    let least = (0..TILE * TILE).find(|k| noise(k % TILE, k / TILE, 7) == 0).unwrap();
    assert_eq!(tile[least], [0, 0, 4, 255]);
    assert_eq!(server.get("/tiles/probability/2/0/0.png?band=2").status, 404);
}

#[test]
fn a_mask_of_another_grid_lies_where_its_georeference_says() {
    let folder = folder();
    let image = picture(folder.path());
    // Four times as coarse, from column 100 and row 60 on.
    let geotransform = Some([GROUND[0] + 50.0, 2.0, 0.0, GROUND[3] - 30.0, 0.0, -2.0]);
    let raster = Raster { name: "part.tif", size: (30, 20), geotransform, ..Raster::default() };
    let part = raster.write(folder.path(), &[raster.plane(|x, y| 1 + (x + y) as u8 % 2)]);
    let server = Server::start([&image, &part]);
    let tile = server.tile("/tiles/mask/2/0/0.png");
    let classes = server.json("/info")["layers"][1].clone();
    let colour = |k: usize| classes["classes"][k]["colour"].as_str().unwrap().to_string();
    for (k, [r, g, b, a]) in tile.iter().enumerate() {
        let (x, y) = (k % TILE, k / TILE);
        if (100..220).contains(&x) && (60..140).contains(&y) {
            let value = ((x - 100) / 4 + (y - 60) / 4) % 2;
            assert_eq!(format!("#{r:02x}{g:02x}{b:02x}"), colour(value), "{x},{y}");
        } else {
            assert_eq!(*a, 0, "{x},{y}");
        }
    }
    assert_eq!(classes["placed"]["origin"], serde_json::json!([100.0, 60.0]));
    assert_eq!(server.json("/at?column=104&row=60")["mask"]["value"], 2);
    assert!(server.json("/at?column=99&row=60")["mask"].is_null());
}

// ---- clicks

#[test]
fn a_click_answers_with_the_rasters_values() {
    let folder = folder();
    let (probability, uncertainty) = scores(folder.path());
    let server = Server::start([picture(folder.path()), mask(folder.path()), probability, uncertainty]);
    for (x, y) in [(0, 0), (40, 30), (123, 456), (599, 499)] {
        let found = server.json(&format!("/at?column={x}&row={y}"));
        let data = |v: u8| if v == 255 { serde_json::Value::Null } else { serde_json::json!(f64::from(v) / 254.0) };
        match label(x, y) {
            255 => assert!(found["mask"].is_null()),
            value => assert_eq!(found["mask"]["value"], value),
        }
        if x < 40 && y < 30 {
            assert!(found["image"].is_null());
        } else {
            for k in 0..3 {
                assert_eq!(found["image"][k]["value"], f64::from(noise(x, y, k).max(1)));
            }
        }
        let close = |found: &serde_json::Value, expected: u8| match found.as_f64() {
            Some(v) => (v - f64::from(expected) / 254.0).abs() < 1e-12,
            None => data(expected).is_null(),
        };
        assert!(close(&found["probability"][1]["value"], noise(x, y, 8)), "{found}");
        assert!(close(&found["uncertainty"][0]["value"], noise(x, y, 7)), "{found}");
        let ground = [GROUND[0] + (x as f64 + 0.5) / 2.0, GROUND[3] - (y as f64 + 0.5) / 2.0];
        assert_eq!(found["ground"], serde_json::json!(ground));
    }
    // By pyproj 3.7.2 (PROJ 9.5.1): Transformer.from_crs(32616, 4326, always_xy=True).transform(733601.25, 3725138.75)
    let lonlat = server.json("/at?column=0&row=0")["lonlat"].clone();
    let near = |k: usize, v: f64| (lonlat[k].as_f64().unwrap() - v).abs() < 1e-7;
    assert!(near(0, LONLAT.0) && near(1, LONLAT.1), "{lonlat}");
    assert_eq!(server.get("/at?column=600&row=0").status, 404);
    assert_eq!(server.get("/at?column=0&row=-1").status, 404);
    assert_eq!(server.get("/at?column=x&row=0").status, 400);
}

const LONLAT: (f64, f64) = (-84.481_298_492_6, 33.640_470_550_3);

#[test]
fn footprints_come_in_the_images_pixels() {
    let folder = folder();
    let image = picture(folder.path());
    let vectors = folder.path().join("houses.geojson");
    let square = |x: f64, y: f64, side: f64| {
        let at = |c: f64, r: f64| [GROUND[0] + c * 0.5, GROUND[3] - r * 0.5];
        serde_json::json!([[at(x, y), at(x + side, y), at(x + side, y + side), at(x, y + side), at(x, y)]])
    };
    let feature = |x, side| {
        serde_json::json!({ "type": "Feature", "properties": { "class": "house", "confidence": 0.75 },
            "geometry": { "type": "Polygon", "coordinates": square(x, 20.0, side) } })
    };
    let collection = serde_json::json!({ "type": "FeatureCollection",
        "crs": { "type": "name", "properties": { "name": "urn:ogc:def:crs:EPSG::32616" } },
        "features": [feature(10.0, 30.0), feature(400.0, 12.0)] });
    std::fs::write(&vectors, collection.to_string()).unwrap();
    let server = Server::start([image.as_os_str(), "--footprints".as_ref(), vectors.as_os_str()]);
    assert_eq!(server.json("/info")["footprints"], 2);
    let found = server.json("/footprints?left=0&top=0&right=100&bottom=100&resolution=1");
    assert_eq!((found["features"].as_array().unwrap().len(), &found["more"]), (1, &serde_json::json!(false)));
    let first = &found["features"][0];
    assert_eq!(first["properties"], serde_json::json!({ "class": "house", "confidence": 0.75 }));
    let expected = serde_json::json!([[[10.0, 20.0], [40.0, 20.0], [40.0, 50.0], [10.0, 50.0], [10.0, 20.0]]]);
    assert_eq!(first["geometry"]["coordinates"], expected);
    assert_eq!(server.get("/footprints?left=0&top=0&right=nan&bottom=1&resolution=1").status, 400);
}

// ---- what is there and what is not

#[test]
fn what_is_out_of_range_is_not_found() {
    let folder = folder();
    let server = Server::start([picture(folder.path())]);
    for path in [
        "/tiles/image/2/3/0.png",
        "/tiles/image/2/0/2.png",
        "/tiles/image/3/0/0.png",
        "/tiles/image/4294967295/0/0.png",
        "/tiles/image/-1/0/0.png",
        "/tiles/image/2/99999999999/0.png",
        "/tiles/image/2/0/0",
        "/tiles/image/2/0/0.jpg",
        "/tiles/mask/2/0/0.png",
        "/tiles/picture.tif/2/0/0.png",
        "/picture.tif",
        "/../../../../etc/passwd",
        "/tiles/..%2f..%2f..%2fetc%2fpasswd/0/0/0.png",
        "/footprints?left=0&top=0&right=1&bottom=1&resolution=1",
        "/page/index.html",
    ] {
        let answer = server.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert!(!answer.text().contains("root:"), "{path}");
    }
    assert_eq!(server.get("/tiles/image/2/2/1.png").status, 200);
}

#[test]
fn a_request_for_another_host_is_refused() {
    let folder = folder();
    let server = Server::start([picture(folder.path())]);
    for path in ["/", "/info", "/tiles/image/0/0/0.png", "/at?column=50&row=50", "/nothing"] {
        for host in ["Host: evil.example\r\n", "Host: evil.example:80\r\n", "Host: 192.0.2.1\r\n", ""] {
            let answer = server.request(path, host);
            assert!([400, 403].contains(&answer.status), "{path} {host}: {}", answer.status);
            assert!(answer.body.len() < 200, "{path} {host}: {}", answer.text());
        }
    }
    for host in ["Host: localhost\r\n", "Host: localhost:9000\r\n", "Host: 127.0.0.1\r\n", "Host: [::1]:80\r\n"] {
        assert_eq!(server.request("/info", host).status, 200, "{host}");
    }
}

#[test]
fn the_page_is_whole_and_loads_nothing_from_elsewhere() {
    let folder = folder();
    let server = Server::start([picture(folder.path())]);
    let page = server.get("/");
    assert!(page.head.contains("content-security-policy: default-src 'self'"), "{}", page.head);
    assert!(page.head.contains("cache-control: no-store") && page.head.contains("x-content-type-options: nosniff"));
    for (path, kind) in [("/page.css", "text/css"), ("/page.js", "text/javascript"), ("/ol.js", "text/javascript")] {
        assert!(page.text().contains(path) || server.get("/page.js").text().contains(path), "{path}");
        let answer = server.get(path);
        assert!(answer.status == 200 && answer.head.contains(kind), "{path}");
    }
    for path in ["/", "/page.css", "/page.js"] {
        let text = server.get(path).text().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http:") && !text.contains("https:") && !text.contains("\"//"), "{path}");
    }
    assert!(server.get("/licences.txt").text().contains("OpenLayers Contributors"));
}

// ---- huge rasters

#[test]
fn a_sparse_raster_of_100_000_pixels_a_side_opens_at_once_and_takes_little_memory() {
    let folder = folder();
    let options =
        ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "SPARSE_OK=TRUE", "COMPRESS=DEFLATE", "BIGTIFF=YES"];
    let raster = |name| Raster { name, size: (100_000, 100_000), options: &options, ..Raster::default() };
    let spot = (50_000, 50_000);
    let write = |name, value: u8| {
        let path = folder.path().join(name);
        raster(name).create::<u8>(&path, 1, |dataset| {
            let mut band = dataset.rasterband(1).unwrap();
            let mut block = gdal::raster::Buffer::new((512, 512), vec![value; 512 * 512]);
            band.write((spot.0 as isize, spot.1 as isize), (512, 512), &mut block).unwrap();
        });
        path
    };
    let begun = Instant::now();
    let server = Server::start([write("image.tif", 200), write("mask.tif", 1)]);
    let started = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(server.json("/info")["layers"][0]["levels"], 10);
    for level in 0..10 {
        let tile = |v: i32| (v as usize >> (9 - level)) / TILE;
        for layer in ["image", "mask"] {
            server.tile(&format!("/tiles/{layer}/{level}/{}/{}.png", tile(spot.0), tile(spot.1)));
        }
    }
    let tile = server.tile("/tiles/image/9/195/195.png");
    let at = spot.0 as usize - 195 * TILE;
    assert_eq!(tile[at * TILE + at], [200, 200, 200, 255]);
    // The block beside that of the spot was never written.
    assert!(server.tile("/tiles/image/9/193/193.png").iter().all(|pixel| *pixel == [0; 4]));
    let taken = begun.elapsed();
    // Wide bounds: a machine that does much else is slow.
    assert!(started < Duration::from_secs(20) && taken < Duration::from_secs(40), "{started:?} {taken:?}");
    assert!(server.most_memory() < 500, "{} MB", server.most_memory());
}

// ---- the command line

#[test]
fn what_cannot_be_shown_is_said() {
    let folder = folder();
    let image = picture(folder.path());
    let none = folder.path().join("none.tif");
    let text = complaint(&[&none], &[]);
    assert!(text.contains("none.tif: cannot be opened"), "{text}");
    let prose = folder.path().join("prose.tif");
    std::fs::write(&prose, "no raster").unwrap();
    let text = complaint(&[&image, &prose], &[]);
    assert!(text.contains("prose.tif: cannot be opened"), "{text}");
    let raster = Raster { name: "small.tif", size: (30, 20), geotransform: None, ..Raster::default() };
    let small = raster.write(folder.path(), &[raster.plane(|_, _| 1u8)]);
    let text = complaint(&[&image, &small], &[]);
    assert!(text.contains("small.tif: has 30x20 pixels, the image 600x500"), "{text}");
    let text = complaint(&[&image], &["--bands", "1,2,9"]);
    assert!(text.contains("bands=9") && text.contains("3 bands"), "{text}");
    assert!(complaint(&[&image], &["--bands", "1,2"]).contains("--bands names 2 bands"));
    let text = complaint(&[&image], &["--footprints", prose.to_str().unwrap()]);
    assert!(text.contains("prose.tif: cannot be read as vectors"), "{text}");
    let text = complaint(&[&image], &["--footprints", none.to_str().unwrap()]);
    assert!(text.contains("none.tif: there is no such file"), "{text}");
    assert!(complaint(&[&image], &["--address", "192.0.2.1"]).contains("no such address"));
    assert_eq!(refused(&[&image], &["--address", "everywhere"]).status.code(), Some(2));
}

#[test]
fn a_port_that_is_taken_is_said() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = complaint(&[&picture(folder.path())], &["--port", &address.port().to_string()]);
    assert!(text.contains(&format!("{address} is taken")) && text.contains("--port 0"), "{text}");
}

#[test]
fn listening_beyond_this_machine_takes_a_word_and_gives_a_warning() {
    let folder = folder();
    let image = picture(folder.path());
    let mut server = Server::start([image.as_os_str(), "--address".as_ref(), "0.0.0.0".as_ref()]);
    assert_eq!(server.request("/info", "Host: 192.0.2.7:80\r\n").status, 200);
    assert_eq!(server.request("/info", "Host: evil.example\r\n").status, 403);
    assert!(server.stop().contains("everyone who reaches 0.0.0.0:"));
    let mut server = Server::start([&image]);
    assert!(server.address.ip().is_loopback());
    assert!(!server.stop().contains("warning"));
}

#[test]
fn ctrl_c_ends_it() {
    let folder = folder();
    let mut server = Server::start([picture(folder.path())]);
    assert_eq!(server.get("/info").status, 200);
    server.stop();
    assert_eq!(server.wait(), Some(0));
}
