use std::collections::BTreeMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use gdal::{Dataset, Metadata};

use super::*;
use crate::raster::grid::{Axis, Grid, Lattice};
use crate::raster::{Gcp, Georeference};

/// A folder that goes with its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("onnxsegment-parts-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let mut names = files::names(&self.0).unwrap();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const REGION: Rect = Rect::new(7, 5, 100, 60);

fn manifest(products: &[Product]) -> Manifest {
    let axis = |length| Axis { length, tile: 32, overlap: 8, multiple: 1, fixed: false };
    let grid = Grid { x: axis(120), y: axis(70) };
    let entries = products.iter().map(|p| Entry { kind: p.kind, depth: p.depth }).collect();
    Manifest::new(grid, REGION, Lattice { part_width: 48, part_height: 16 }, "linear", entries)
}

fn products(folder: &Folder) -> Vec<Product> {
    products_in(&folder.0)
}

fn products_in(folder: &Path) -> Vec<Product> {
    let product = |kind: Kind, depth| Product { kind, depth, path: folder.join(format!("{}.tif", kind.name())) };
    vec![product(Kind::Labels, Depth::U8), product(Kind::Probability, Depth::U16)]
}

fn open(folder: &Folder, resume: Resume, shards: usize) -> Result<Parts> {
    Parts::open(products(folder), manifest(&products(folder)), resume, shards > 1)
}

/// The pixel of each product at a place; no data in some of it.
fn label(x: i64, y: i64) -> u8 {
    if is_blank(x, y) { 255 } else { ((x * 3 + y * 5) % 7) as u8 }
}

fn probability(band: usize, x: i64, y: i64) -> u16 {
    if is_blank(x, y) { 65535 } else { (band as i64 * 20_000 + x * 100 + y) as u16 }
}

fn is_blank(x: i64, y: i64) -> bool {
    // All of the cell in row 2 and column 1, and a corner of others.
    (48..96).contains(&x) && (32..48).contains(&y) || (x < 20 && y < 12)
}

fn places(rect: &Rect) -> impl Iterator<Item = (i64, i64)> + use<> {
    let rect = *rect;
    (rect.y..rect.bottom()).flat_map(move |y| (rect.x..rect.right()).map(move |x| (x, y)))
}

fn write(parts: &Parts, cell: Cell) {
    let rect = parts.manifest().lattice.rect(cell, &REGION);
    let labels = Samples::U8(places(&rect).map(|(x, y)| label(x, y)).collect());
    let probability =
        Samples::U16((0..2).flat_map(|b| places(&rect).map(move |(x, y)| probability(b, x, y))).collect());
    let blank = places(&rect).all(|(x, y)| is_blank(x, y));
    parts.write(cell, &rect, (!blank).then_some(&[labels, probability])).unwrap();
}

fn all_cells(parts: &Parts) -> Vec<Cell> {
    parts.manifest().lattice.cells(&REGION)
}

fn look(kind: Kind, bands: Option<usize>) -> Look {
    match kind {
        Kind::Labels => Look {
            bands: vec!["labels".into()],
            palette: vec![[0, 0, 0], [255, 64, 64], [0, 120, 255]],
            categories: vec!["ground".into(), "<house> & \"hut\"".into(), "Straße".into()],
            metadata: vec![("ONNXSEGMENT_TTA".into(), "d4 & more".into())],
            scale: None,
        },
        _ => Look {
            bands: (0..bands.unwrap_or(1)).map(|k| format!("class {k}")).collect(),
            scale: Some(1.0 / 65534.0),
            ..Look::default()
        },
    }
}

fn georeference() -> Georeference {
    Georeference {
        crs: Some(gdal::spatial_ref::SpatialRef::from_epsg(32616).unwrap().to_wkt().unwrap()),
        geotransform: Some([600000.25, 0.5, 0.125, 4000000.0, 0.0625, -0.5]),
        area_or_point: Some("Point".into()),
        ..Georeference::default()
    }
}

fn format(cog: bool) -> Format {
    Format::new(cog, "").unwrap()
}

fn finish(parts: &Parts, cog: bool) -> Result<Outcome> {
    parts.finish(&georeference(), &format(cog), &look, &mut |_| true)
}

fn read<T: gdal::raster::GdalType + Copy>(path: &Path, band: usize) -> Vec<T> {
    let dataset = Dataset::open(path).unwrap();
    dataset.rasterband(band).unwrap().read_band_as::<T>().unwrap().data().to_vec()
}

/// Every pixel of the finished rasters.
fn check_pixels(products: &[Product]) {
    let expected: Vec<u8> = places(&REGION).map(|(x, y)| label(x, y)).collect();
    assert!(read::<u8>(&products[0].path, 1) == expected);
    for band in 0..2 {
        let expected: Vec<u16> = places(&REGION).map(|(x, y)| probability(band, x, y)).collect();
        assert!(read::<u16>(&products[1].path, band + 1) == expected);
    }
}

#[test]
fn parts_become_rasters_with_all_that_is_known_of_them() {
    for cog in [true, false] {
        let folder = Folder::new(&format!("all-{cog}"));
        let parts = open(&folder, Resume::Auto, 1).unwrap();
        all_cells(&parts).into_iter().rev().for_each(|cell| write(&parts, cell));
        let blank = files::names(parts.folder()).unwrap().iter().filter(|n| n.ends_with(".none")).count();
        assert_eq!(blank, 1);
        assert_eq!(parts.done().unwrap(), all_cells(&parts));
        assert_eq!(finish(&parts, cog).unwrap(), Outcome::Finished);
        assert_eq!(folder.names(), ["labels.tif", "labels.tif.aux.xml", "probability.tif"]);
        check_pixels(&products(&folder));

        let labels = Dataset::open(folder.0.join("labels.tif")).unwrap();
        let layout = labels.metadata_item("LAYOUT", "IMAGE_STRUCTURE");
        assert_eq!(layout.as_deref() == Some("COG"), cog);
        assert_eq!(labels.metadata_item("ONNXSEGMENT_TTA", "").unwrap(), "d4 & more");
        assert_eq!(labels.metadata_item("ONNXSEGMENT_RUN", "").unwrap(), parts.manifest().identity());
        assert_eq!(labels.metadata_item("AREA_OR_POINT", "").unwrap(), "Point");
        assert_eq!(labels.geo_transform().unwrap(), georeference().window(&REGION).geotransform.unwrap());
        assert_eq!(labels.spatial_ref().unwrap().auth_code().unwrap(), 32616);
        let band = labels.rasterband(1).unwrap();
        assert_eq!(band.no_data_value(), Some(255.0));
        let colours = band.color_table().unwrap();
        let colour = colours.entry_as_rgb(1).unwrap();
        assert_eq!((colour.r, colour.g, colour.b), (255, 64, 64));
        let probability = Dataset::open(folder.0.join("probability.tif")).unwrap();
        let band = probability.rasterband(2).unwrap();
        assert_eq!((band.scale(), band.offset()), (Some(1.0 / 65534.0), Some(0.0)));
        assert_eq!(band.no_data_value(), Some(65535.0));
        let xml = std::fs::read_to_string(folder.0.join("labels.tif.aux.xml")).unwrap();
        assert!(xml.contains("Straße") && xml.contains("&lt;house&gt; &amp;"), "{xml}");
    }
}

#[test]
fn control_points_go_along() {
    let folder = Folder::new("gcps");
    let parts = open(&folder, Resume::Auto, 1).unwrap();
    all_cells(&parts).into_iter().for_each(|cell| write(&parts, cell));
    let point = |k: usize, pixel, line| Gcp {
        id: format!("p{k}"),
        pixel,
        line,
        x: 500.5 + k as f64,
        y: -3.25 * k as f64,
        z: 1.5,
    };
    let georeference = Georeference {
        gcps: vec![point(1, 0.0, 0.0), point(2, 110.5, 3.0), point(3, 20.0, 66.25), point(4, 119.0, 69.0)],
        gcp_crs: georeference().crs,
        ..Georeference::default()
    };
    parts.finish(&georeference, &format(true), &look, &mut |_| true).unwrap();
    let raster = Dataset::open(folder.0.join("labels.tif")).unwrap();
    let found: Vec<_> = raster.gcps().iter().map(|p| (p.pixel(), p.line(), p.x(), p.y(), p.z())).collect();
    let window = georeference.window(&REGION);
    let expected: Vec<_> = window.gcps.iter().map(|p| (p.pixel, p.line, p.x, p.y, p.z)).collect();
    assert_eq!(found, expected);
    assert_eq!(raster.gcp_spatial_ref().unwrap().auth_code().unwrap(), 32616);
}

#[test]
fn a_run_goes_on_where_it_was_left_and_leftovers_do_no_harm() {
    let folder = Folder::new("resume");
    let cells = all_cells(&open(&folder, Resume::Auto, 1).unwrap());
    for (k, cell) in cells.iter().enumerate() {
        // Each cell by a process of its own.
        let parts = open(&folder, if k == 0 { Resume::Auto } else { Resume::True }, 1).unwrap();
        assert_eq!(parts.done().unwrap(), cells[..k]);
        let left = Outcome::Missing { missing: cells.len() - k, total: cells.len() };
        assert_eq!(finish(&parts, true).unwrap(), left);
        write(&parts, *cell);
        // What a process leaves that is killed as it writes the next cell: a file under its temporary name, and a
        // product without the first one.
        std::fs::write(parts.folder().join(".123-0123456789abcdef.tmp"), "half").unwrap();
        if let Some(next) = cells.get(k + 1) {
            std::fs::write(parts.folder().join(format!("{}.tif", stem(Kind::Probability, *next))), "half").unwrap();
        }
        // And one that is killed while it finishes.
        std::fs::write(files::beside(&folder.0.join("labels.tif")), "half").unwrap();
    }
    let parts = open(&folder, Resume::Auto, 1).unwrap();
    // Another's, which has nothing to do with this run.
    std::fs::write(folder.0.join(".labels.tiff.1-1.tmp"), "").unwrap();
    assert_eq!(finish(&parts, true).unwrap(), Outcome::Finished);
    assert_eq!(folder.names(), [".labels.tiff.1-1.tmp", "labels.tif", "labels.tif.aux.xml", "probability.tif"]);
    check_pixels(&products(&folder));
}

#[test]
fn parts_of_another_run_are_refused_and_kept() {
    let folder = Folder::new("refused");
    let parts = open(&folder, Resume::Auto, 1).unwrap();
    let cell = all_cells(&parts)[0];
    write(&parts, cell);
    let mut other = manifest(&products(&folder));
    other.blend = "hann".into();
    for resume in [Resume::Auto, Resume::True] {
        let error = Parts::open(products(&folder), other.clone(), resume, false).unwrap_err().to_string();
        for words in ["location=", "labels.tif.parts belongs to another run", "blend is linear there and hann here"] {
            assert!(error.contains(words), "{error}");
        }
    }
    assert_eq!(open(&folder, Resume::Auto, 1).unwrap().done().unwrap(), [cell]);
    // Unless the user says so.
    let error = Parts::open(products(&folder), other.clone(), Resume::False, true).unwrap_err().to_string();
    assert!(error.contains("resume=false where several processes share a run"), "{error}");
    let anew = Parts::open(products(&folder), other, Resume::False, false).unwrap();
    assert_eq!(anew.done().unwrap(), []);
    assert_eq!(folder.names(), ["labels.tif.parts"]);
}

#[test]
fn folders_that_are_no_parts_are_left_alone() {
    let folder = Folder::new("strangers");
    let error = open(&folder, Resume::True, 1).unwrap_err().to_string();
    assert!(error.contains("resume=true, and there are no parts"), "{error}");
    assert_eq!(folder.names(), [""; 0]);

    let strange = super::folder(&products(&folder)[0].path);
    std::fs::create_dir(&strange).unwrap();
    std::fs::write(strange.join("holiday.jpg"), "").unwrap();
    for resume in [Resume::Auto, Resume::False] {
        let error = open(&folder, resume, 1).unwrap_err().to_string();
        assert!(error.contains("holiday.jpg"), "{error}");
    }
    assert!(strange.join("holiday.jpg").exists());
    std::fs::remove_file(strange.join("holiday.jpg")).unwrap();

    // Parts whose manifest is lost, and a manifest that is none.
    std::fs::write(strange.join("labels_r00000_c00000.tif"), "").unwrap();
    let error = open(&folder, Resume::Auto, 1).unwrap_err().to_string();
    assert!(error.contains("without manifest.json"), "{error}");
    std::fs::write(strange.join("manifest.json"), "{\"format\": 1").unwrap();
    let error = open(&folder, Resume::Auto, 1).unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.contains("resume=false"), "{error}");
    assert!(open(&folder, Resume::False, 1).unwrap().done().unwrap().is_empty());
}

#[test]
fn targets_that_cannot_be() {
    let folder = Folder::new("targets");
    let error = |change: &dyn Fn(&mut Product)| {
        let mut products = products(&folder);
        change(&mut products[1]);
        Parts::open(products.clone(), manifest(&products), Resume::Auto, false).unwrap_err().to_string()
    };
    let text = error(&|p| p.path = folder.0.join("nowhere/mask.tif"));
    assert!(text.contains("probability-location=") && text.contains("nowhere: there is no such"), "{text}");
    let text = error(&|p| p.path = folder.0.clone());
    assert!(text.contains("is a folder"), "{text}");
    let text = error(&|p| p.path = "/dev/full".into());
    assert!(text.contains("no ordinary file"), "{text}");
    let locked = folder.0.join("locked.tif");
    std::fs::write(&locked, "").unwrap();
    let mut permissions = std::fs::metadata(&locked).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&locked, permissions).unwrap();
    let text = error(&|p| p.path = locked.clone());
    assert!(text.contains("write-protected"), "{text}");
    assert_eq!(folder.names(), ["locked.tif"]);
}

#[test]
fn of_many_that_begin_at_once_one_writes_the_manifest() {
    let folder = Folder::new("begin");
    const MANY: usize = 8;
    for round in 0..20 {
        let barrier = Barrier::new(MANY);
        let adopted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for k in 0..MANY {
                let (folder, barrier, adopted) = (&folder, &barrier, &adopted);
                scope.spawn(move || {
                    let mut own = manifest(&products(folder));
                    own.blend = format!("{}", k % 2);
                    barrier.wait();
                    match Parts::open(products(folder), own, Resume::Auto, false) {
                        Ok(_) => adopted.fetch_add(1, Ordering::Relaxed),
                        Err(e) => {
                            assert!(e.to_string().contains("blend is"), "{e}");
                            0
                        }
                    };
                });
            }
        });
        assert_eq!(adopted.into_inner(), MANY / 2, "round {round}");
        let parts = super::folder(&products(&folder)[0].path);
        assert_eq!(files::names(&parts).unwrap(), ["manifest.json"]);
        std::fs::remove_dir_all(parts).unwrap();
    }
}

#[test]
fn of_many_that_come_last_one_finishes_and_all_are_content() {
    let folder = Folder::new("finish");
    const MANY: usize = 6;
    for round in 0..8 {
        let all: Vec<Parts> = (0..MANY).map(|_| open(&folder, Resume::Auto, 1).unwrap()).collect();
        let cells = all_cells(&all[0]);
        let barrier = Barrier::new(MANY);
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let work = |(k, parts)| {
                let (cells, barrier): (&Vec<Cell>, &Barrier) = (&cells, &barrier);
                scope.spawn(move || {
                    // Every other cell is computed by two.
                    cells
                        .iter()
                        .enumerate()
                        .filter(|(c, _)| c % MANY == k || c % 2 == 0 && (c + 1) % MANY == k)
                        .for_each(|(_, cell)| write(parts, *cell));
                    if round % 2 == 0 {
                        barrier.wait();
                    }
                    finish(parts, true).unwrap()
                })
            };
            let threads: Vec<_> = all.iter().enumerate().map(work).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert!(outcomes.contains(&Outcome::Finished), "{outcomes:?}");
        if round % 2 == 0 {
            assert!(outcomes.iter().all(|o| *o == Outcome::Finished), "{outcomes:?}");
        }
        assert_eq!(folder.names(), ["labels.tif", "labels.tif.aux.xml", "probability.tif"], "round {round}");
        check_pixels(&products(&folder));
        // Who is late finds the run finished: to write a part again does no harm.
        write(&all[0], cells[0]);
        assert_eq!(finish(&all[0], true).unwrap(), Outcome::Finished);
        let late = open(&folder, Resume::Auto, 3).unwrap();
        assert_eq!(late.done().unwrap(), cells);
        assert_eq!(finish(&late, true).unwrap(), Outcome::Finished);
        // A whole run begins anew.
        assert!(open(&folder, Resume::Auto, 1).unwrap().done().unwrap().is_empty());
        std::fs::remove_dir_all(&folder.0).unwrap();
        std::fs::create_dir(&folder.0).unwrap();
    }
}

#[test]
fn finishing_can_be_stopped_and_taken_up_again() {
    let folder = Folder::new("stopped");
    let parts = open(&folder, Resume::Auto, 1).unwrap();
    all_cells(&parts).into_iter().for_each(|cell| write(&parts, cell));
    std::fs::write(folder.0.join("labels.tif"), "what was there before").unwrap();
    for at in [0.0, 0.2, 0.5, 0.9] {
        let error = parts.finish(&georeference(), &format(true), &look, &mut |done| done < at).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
        assert_eq!(folder.names(), ["labels.tif", "labels.tif.parts"]);
        assert_eq!(std::fs::read(folder.0.join("labels.tif")).unwrap(), b"what was there before");
    }
    let mut heard = Vec::new();
    let outcome = parts.finish(&georeference(), &format(true), &look, &mut |done| {
        heard.push(done);
        true
    });
    assert_eq!(outcome.unwrap(), Outcome::Finished);
    assert!(heard.is_sorted() && heard.last().is_some_and(|d| (d - 1.0).abs() < 1e-9), "{heard:?}");
    check_pixels(&products(&folder));
}

#[test]
fn a_folder_that_goes_and_a_part_that_is_damaged() {
    let folder = Folder::new("lost");
    let parts = open(&folder, Resume::Auto, 1).unwrap();
    let cells = all_cells(&parts);
    cells.iter().for_each(|cell| write(&parts, *cell));
    let damaged = parts.folder().join("labels_r00001_c00000.tif");
    std::fs::write(&damaged, "no TIFF").unwrap();
    let error = finish(&parts, true).unwrap_err().to_string();
    assert!(error.contains("labels_r00001_c00000.tif") && error.contains("all parts are kept"), "{error}");
    assert_eq!(folder.names(), ["labels.tif.parts"]);

    std::fs::remove_dir_all(parts.folder()).unwrap();
    let rect = parts.manifest().lattice.rect(cells[0], &REGION);
    let error = parts.write(cells[0], &rect, None).unwrap_err().to_string();
    assert!(error.contains("has gone while the run was using it"), "{error}");
    let error = finish(&parts, true).unwrap_err().to_string();
    assert!(error.contains("has gone"), "{error}");
}

#[test]
fn creation_options() {
    let folder = Folder::new("options");
    let of = |text: &str| -> BTreeMap<String, String> {
        Format::new(true, text).unwrap().options(Kind::Probability).into_iter().collect()
    };
    assert_eq!(of("")["COMPRESS"], "DEFLATE");
    assert_eq!(of("")["PREDICTOR"], "YES");
    let own = of(" compress = ZSTD , LEVEL=3");
    assert_eq!((own["COMPRESS"].as_str(), own["LEVEL"].as_str(), own.get("PREDICTOR")), ("ZSTD", "3", None));
    for (cog, text, words) in [
        (true, "COMPRESS", "`COMPRESS` is not NAME=VALUE"),
        (true, "TILED=YES", "TILED"),
        (false, "LAYOUT=X", "LAYOUT"),
        (true, "COMPRESS=RAR", "RAR"),
        (true, "BLOCKSIZE=many", "many"),
    ] {
        let error = Format::new(cog, text).unwrap_err().to_string();
        assert!(error.contains("co=") && error.contains(words), "{error}");
    }
    // What GDAL finds only when it writes.
    let format = Format::new(false, "BLOCKXSIZE=17").unwrap();
    let product = &products(&folder)[0];
    let error = format.rehearse(product, &look(Kind::Labels, None)).unwrap_err().to_string();
    assert!(error.contains("co=BLOCKXSIZE=17") && error.contains("labels"), "{error}");
    self::format(true).rehearse(product, &look(Kind::Labels, None)).unwrap();
    self::format(false).rehearse(&products(&folder)[1], &look(Kind::Probability, Some(3))).unwrap();
}

#[test]
fn a_source_is_known_by_any_of_its_names_and_files() {
    let folder = Folder::new("source");
    let parts = open(&folder, Resume::Auto, 1).unwrap();
    all_cells(&parts).into_iter().for_each(|cell| write(&parts, cell));
    finish(&parts, true).unwrap();
    let labels = folder.0.join("labels.tif");
    std::os::unix::fs::symlink(&labels, folder.0.join("link.tif")).unwrap();
    let vrt = folder.0.join("all.vrt");
    let copied = std::process::Command::new("gdal_translate").args(["-q", "-of", "VRT"]).args([&labels, &vrt]).status();
    assert!(copied.unwrap().success());
    let check = |source: &Path| Parts::check_source(&products(&folder), source.to_str().unwrap());
    for source in [&labels, &folder.0.join("link.tif"), &vrt] {
        let error = check(source).unwrap_err().to_string();
        assert!(error.contains("is what rastersrc reads"), "{error}");
    }
    std::fs::rename(&labels, folder.0.join("other.tif")).unwrap();
    check(&folder.0.join("other.tif")).unwrap();
}

/// A folder in GDAL's memory, which stands for a store: no rename, no lock, no folder without files.
fn in_store(name: &str) -> PathBuf {
    PathBuf::from(format!("/vsimem/onnxsegment-parts-{name}-{}", std::process::id()))
}

fn open_in(folder: &Path, shards: usize) -> Result<Parts> {
    Parts::open(products_in(folder), manifest(&products_in(folder)), Resume::Auto, shards > 1)
}

/// The objects of a folder, without folders in it, which GDAL's memory does not list.
fn names_in(folder: &Path) -> Vec<String> {
    let mut names = Store::Objects.names(folder).unwrap_or_default();
    names.sort();
    names
}

#[test]
fn a_store_takes_a_run_that_is_resumed_and_becomes_the_same_rasters() {
    let folder = in_store("all");
    let cells = all_cells(&open_in(&folder, 1).unwrap());
    for (k, cell) in cells.iter().enumerate() {
        let parts = open_in(&folder, 1).unwrap();
        assert_eq!(parts.done().unwrap(), cells[..k]);
        let left = Outcome::Missing { missing: cells.len() - k, total: cells.len() };
        assert_eq!(finish(&parts, true).unwrap(), left);
        write(&parts, *cell);
        // A product without the first one, of a process that was killed between the two.
        if let Some(next) = cells.get(k + 1) {
            let half = parts.folder().join(format!("{}.tif", stem(Kind::Probability, *next)));
            Store::Objects.replace(&half, b"half").unwrap();
        }
    }
    let parts = open_in(&folder, 1).unwrap();
    assert!(names_in(&folder).is_empty() && Store::Objects.has_folder(parts.folder()));
    assert_eq!(finish(&parts, true).unwrap(), Outcome::Finished);
    assert_eq!(names_in(&folder), ["labels.tif", "labels.tif.aux.xml", "probability.tif"]);
    assert!(!Store::Objects.has_folder(parts.folder()));
    check_pixels(&products_in(&folder));
    // Who is late finds it finished, and leaves nothing there.
    let late = open_in(&folder, 3).unwrap();
    assert_eq!(late.done().unwrap(), cells);
    write(&late, cells[0]);
    assert_eq!(finish(&late, true).unwrap(), Outcome::Finished);
    assert!(!Store::Objects.has_folder(parts.folder()));
    // A whole run begins anew.
    assert!(open_in(&folder, 1).unwrap().done().unwrap().is_empty());
    Store::Objects.remove_folder(parts.folder(), "").unwrap();
}

#[test]
fn a_store_refuses_parts_of_another_run_even_if_it_began_at_the_same_moment() {
    let folder = in_store("replaced");
    let parts = open_in(&folder, 1).unwrap();
    let cells = all_cells(&parts);
    let mut other = manifest(&products_in(&folder));
    other.blend = "hann".into();
    let error = Parts::open(products_in(&folder), other.clone(), Resume::Auto, false).unwrap_err().to_string();
    assert!(error.contains("belongs to another run: blend is linear there and hann here"), "{error}");
    // A store that knows no condition: the last of two that begin at once wins, before either has written a part, or after.
    for written in [0, 1] {
        let parts = open_in(&folder, 1).unwrap();
        cells[..written].iter().for_each(|cell| write(&parts, *cell));
        Store::Objects.replace(&parts.folder().join(MANIFEST), other.text().as_bytes()).unwrap();
        let rect = parts.manifest().lattice.rect(cells[3], &REGION);
        for error in [parts.write(cells[3], &rect, None).unwrap_err(), {
            Store::Objects
                .replace(&parts.folder().join(MANIFEST), manifest(parts.products()).text().as_bytes())
                .unwrap();
            let all = open_in(&folder, 1).unwrap();
            cells.iter().for_each(|cell| write(&all, *cell));
            Store::Objects.replace(&parts.folder().join(MANIFEST), other.text().as_bytes()).unwrap();
            finish(&all, true).unwrap_err()
        }] {
            let error = error.to_string();
            assert!(error.contains("belongs to another run: blend is hann there and linear here"), "{error}");
        }
        assert!(!names_in(&folder).contains(&"labels.tif".into()));
        Store::Objects.remove_folder(parts.folder(), MANIFEST).unwrap();
    }
}

#[test]
fn a_part_that_is_added_to_a_run_that_has_gone_is_taken_back() {
    let folder = in_store("gone");
    let parts = open_in(&folder, 2).unwrap();
    let (other, cells) = (open_in(&folder, 2).unwrap(), all_cells(&parts));
    write(&other, cells[0]);
    Store::Objects.remove_folder(parts.folder(), MANIFEST).unwrap();
    for parts in [&parts, &other] {
        let rect = parts.manifest().lattice.rect(cells[1], &REGION);
        let error = parts.write(cells[1], &rect, None).unwrap_err().to_string();
        assert!(error.contains("has gone while the run was using it; run again"), "{error}");
        assert!(finish(parts, true).unwrap_err().to_string().contains("has gone"));
    }
    assert!(!Store::Objects.has_folder(parts.folder()));
    // What is left of a run that was being taken away belongs to nobody.
    let left = parts.folder().join(format!("{}.tif", stem(Kind::Labels, cells[2])));
    Store::Objects.replace(&left, b"left").unwrap();
    let parts = open_in(&folder, 2).unwrap();
    assert_eq!(names_in(parts.folder()), [MANIFEST]);
    // A stranger is left alone.
    Store::Objects.replace(&parts.folder().join("notes.txt"), b"mine").unwrap();
    Store::Objects.remove(&[parts.folder().join(MANIFEST)]).unwrap();
    let error = open_in(&folder, 2).unwrap_err().to_string();
    assert!(error.contains("holds notes.txt, which is none"), "{error}");
    Store::Objects.remove_folder(parts.folder(), "").unwrap();
}

#[test]
fn a_run_of_which_nothing_came_leaves_nothing_in_a_store_and_one_can_be_thrown_away() {
    let folder = in_store("abandon");
    let parts = open_in(&folder, 1).unwrap();
    assert_eq!(names_in(parts.folder()), [MANIFEST]);
    parts.abandon();
    assert!(!Store::Objects.has_folder(parts.folder()));
    let parts = open_in(&folder, 1).unwrap();
    write(&parts, all_cells(&parts)[0]);
    parts.abandon();
    assert_eq!(names_in(parts.folder()).len(), 3);
    let mut other = manifest(&products_in(&folder));
    other.blend = "hann".into();
    let anew = Parts::open(products_in(&folder), other, Resume::False, false).unwrap();
    assert_eq!(names_in(anew.folder()), [MANIFEST]);
    Store::Objects.remove_folder(anew.folder(), MANIFEST).unwrap();
}

#[test]
fn many_cells_without_data_are_finished_at_once() {
    let disk = Folder::new("without-data");
    for folder in [in_store("without-data"), disk.0.clone()] {
        let parts = open_in(&folder, 1).unwrap();
        let cells = all_cells(&parts);
        parts.write_without_data(&[]).unwrap();
        parts.write_without_data(&cells[2..]).unwrap();
        assert_eq!(parts.done().unwrap(), cells[2..]);
        let store = Store::of(&folder);
        store.remove_folder(parts.folder(), MANIFEST).unwrap();
        let error = parts.write_without_data(&cells).unwrap_err().to_string();
        assert!(error.contains("has gone while the run was using it"), "{error}");
        assert!(!store.has_folder(parts.folder()));
    }
}

#[test]
fn a_list_of_the_parts_in_a_store_keeps_them() {
    let folder = in_store("vrt");
    let product = Product { kind: Kind::Labels, depth: Depth::U8, path: folder.join("labels.vrt") };
    let parts =
        Parts::open(vec![product.clone()], manifest(std::slice::from_ref(&product)), Resume::Auto, false).unwrap();
    for cell in all_cells(&parts) {
        let rect = parts.manifest().lattice.rect(cell, &REGION);
        let labels = Samples::U8(places(&rect).map(|(x, y)| label(x, y)).collect());
        parts.write(cell, &rect, Some(&[labels])).unwrap();
    }
    assert_eq!(finish(&parts, true).unwrap(), Outcome::Finished);
    let expected: Vec<u8> = places(&REGION).map(|(x, y)| label(x, y)).collect();
    assert!(read::<u8>(&product.path, 1) == expected);
    assert_eq!(names_in(&folder), ["labels.vrt"]);
    assert!(names_in(parts.folder()).len() > all_cells(&parts).len());
    Store::Objects.remove_folder(parts.folder(), MANIFEST).unwrap();
    Store::Objects.remove_folder(&folder, "").unwrap();
}

#[test]
fn an_object_is_never_its_own_source() {
    let folder = in_store("source");
    let parts = open_in(&folder, 1).unwrap();
    all_cells(&parts).into_iter().for_each(|cell| write(&parts, cell));
    finish(&parts, true).unwrap();
    let source = folder.join("labels.tif");
    let error = Parts::check_source(parts.products(), source.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("is what rastersrc reads"), "{error}");
    Parts::check_source(&products_in(&in_store("other")), source.to_str().unwrap()).unwrap();
}
