//! Windows at any scale against what GDAL reads, and what hides pixels in them.

use std::path::Path;

use gdal::raster::{Buffer, ColorEntry, ColorInterpretation, ColorTable, PaletteInterpretation};
use gstonnxsegment::raster::source::{Glance, Options, Pick, Source};
use proptest::prelude::*;

use super::folder;
use super::server::*;

fn open(path: &Path) -> Source {
    Source::open(&Options { location: path.display().to_string(), ..Options::default() }).unwrap()
}

fn glance(path: &Path, window: [f64; 4], size: (usize, usize), bands: &[usize], pick: Pick) -> Glance {
    open(path).glance(window, size, bands, pick).unwrap().unwrap()
}

#[test]
fn windows_of_their_own_size_are_what_gdal_reads() {
    let folder = folder();
    let raster = Raster { size: (150, 120), ..Raster::default() };
    let planes: Vec<Vec<f32>> = (0..2).map(|k| raster.plane(|x, y| f32::from(noise(x, y, k)) / 7.0 - 9.0)).collect();
    let path = raster.write(folder.path(), &planes);
    let source = open(&path);
    proptest!(ProptestConfig::with_cases(40), |(x in 0usize..150, y in 0usize..120, w in 1usize..150, h in 1usize..120)| {
        let (w, h) = (w.min(150 - x), h.min(120 - y));
        let window = [x, y, w, h].map(|v| v as f64);
        for pick in [Pick::Nearest, Pick::Average] {
            let found = source.glance(window, (w, h), &[1, 0], pick).unwrap().unwrap();
            prop_assert_eq!(&found.bands[0], &read(&path, 2, None, [x, y, w, h]));
            prop_assert_eq!(&found.bands[1], &read(&path, 1, None, [x, y, w, h]));
            prop_assert!(found.valid.is_none() && !found.coarse);
        }
    });
}

#[test]
fn a_window_that_is_enlarged_repeats_pixels() {
    let folder = folder();
    let raster = Raster { size: (20, 20), ..Raster::default() };
    let path = raster.write(folder.path(), &[raster.plane(|x, y| (20 * y + x) as u16)]);
    let found = glance(&path, [3.0, 4.0, 2.0, 2.0], (4, 4), &[0], Pick::Average);
    let expected = [83, 83, 84, 84].map(f64::from);
    assert_eq!((&found.bands[0][..4], &found.bands[0][4..8]), (&expected[..], &expected[..]));
    assert_eq!(found.bands[0][15], 104.0);
}

#[test]
fn nodata_and_not_a_number_are_no_data_and_do_not_count_in_averages() {
    let folder = folder();
    // As text, the nodata value of a float has more digits than the float.
    let raster = Raster { size: (4, 2), nodata: Some(-3.4e38), ..Raster::default() };
    let path = raster.write(folder.path(), &[vec![1.0f32, -3.4e38, -3.4e38, -3.4e38, 3.0, 2.0, -3.4e38, f32::NAN]]);
    let found = glance(&path, [0.0, 0.0, 4.0, 2.0], (4, 2), &[0], Pick::Nearest);
    assert_eq!(found.valid, Some(vec![1, 0, 0, 0, 1, 1, 0, 0]));
    let found = glance(&path, [0.0, 0.0, 2.0, 2.0], (1, 1), &[0], Pick::Average);
    assert_eq!((&found.bands[0][..], &found.valid), (&[2.0][..], &None));
}

#[test]
fn palettes_become_their_colours_and_alpha_hides() {
    let folder = folder();
    let raster = Raster { name: "palette.tif", size: (3, 1), geotransform: None, options: &[], ..Raster::default() };
    let path = folder.path().join(raster.name);
    raster.create::<u8>(&path, 1, |dataset| {
        let mut band = dataset.rasterband(1).unwrap();
        band.write((0, 0), (3, 1), &mut Buffer::new((3, 1), vec![0u8, 1, 1])).unwrap();
        let mut table = ColorTable::new(PaletteInterpretation::Rgba);
        table.set_color_entry(0, &ColorEntry::rgba(9, 8, 7, 255));
        table.set_color_entry(1, &ColorEntry::rgba(200, 100, 50, 255));
        band.set_color_table(&table);
    });
    let found = glance(&path, [0.0, 0.0, 3.0, 1.0], (3, 1), &[0], Pick::Average);
    assert_eq!(found.bands, [[9.0, 200.0, 200.0], [8.0, 100.0, 100.0], [7.0, 50.0, 50.0]]);

    let raster = Raster { name: "alpha.tif", options: &["ALPHA=YES"], ..raster };
    let path = folder.path().join(raster.name);
    raster.create::<u8>(&path, 2, |dataset| {
        for (k, plane) in [vec![5u8, 6, 7], vec![255u8, 0, 1]].into_iter().enumerate() {
            dataset.rasterband(k + 1).unwrap().write((0, 0), (3, 1), &mut Buffer::new((3, 1), plane)).unwrap();
        }
        assert_eq!(dataset.rasterband(2).unwrap().color_interpretation(), ColorInterpretation::AlphaBand);
    });
    let found = glance(&path, [0.0, 0.0, 3.0, 1.0], (3, 1), &[0], Pick::Nearest);
    assert_eq!((found.bands, found.valid), (vec![vec![5.0, 6.0, 7.0]], Some(vec![1, 0, 1])));
}

#[test]
fn a_huge_raster_without_overviews_is_sampled_and_says_so() {
    let folder = folder();
    let options = ["TILED=YES", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "SPARSE_OK=TRUE", "COMPRESS=DEFLATE"];
    let raster = Raster { size: (40_960, 40_960), options: &options, ..Raster::default() };
    let path = folder.path().join(raster.name);
    raster.create::<u8>(&path, 1, |dataset| {
        let mut block = Buffer::new((8192, 4096), vec![77u8; 8192 * 4096]);
        dataset.rasterband(1).unwrap().write((0, 0), (8192, 4096), &mut block).unwrap();
    });
    let found = glance(&path, [0.0, 0.0, 40_960.0, 40_960.0], (160, 160), &[0], Pick::Average);
    assert!(found.coarse);
    let valid = found.valid.unwrap();
    let value = |k: usize| if valid[k] != 0 { 77.0 } else { 0.0 };
    assert!((0..160 * 160).all(|k| found.bands[0][k] == value(k)));
    // A tenth of the rows and a fifth of the columns were written.
    let share = valid.iter().filter(|v| **v != 0).count() as f64 / (160.0 * 160.0);
    assert!(valid[0] != 0 && (0.01..0.04).contains(&share), "{share}");
    let all = [0.0, 20_000.0, 900.0, 900.0];
    assert_eq!(open(&path).glance(all, (30, 30), &[0], Pick::Average).unwrap(), None);
}

#[test]
fn samples_say_what_they_stand_for() {
    let folder = folder();
    let raster = Raster { size: (2, 1), ..Raster::default() };
    let path = folder.path().join(raster.name);
    raster.create::<u16>(&path, 2, |dataset| {
        let mut band = dataset.rasterband(2).unwrap();
        band.set_scale(0.25).unwrap();
        band.set_offset(-3.0).unwrap();
        gdal::Metadata::set_description(&mut band, "depth").unwrap();
    });
    let found = open(&path).meanings();
    assert_eq!((found[0].band, found[0].scale, found[0].offset, found[0].name.as_str()), (1, None, 0.0, ""));
    assert_eq!(
        (found[1].band, found[1].scale, found[1].offset, found[1].name.as_str()),
        (2, Some(0.25), -3.0, "depth")
    );
}
