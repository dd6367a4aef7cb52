//! Mosaics by passes with Dropout, however they are cut.

use crate::common;
use crate::raster::{Folder, Raster, texture};

#[test]
fn samples_are_the_same_by_shards_windows_and_batches() {
    let _watchdog = common::start_for(120);
    let folder = Folder::new("samples");
    let source = folder.path("in.tif");
    Raster::new(3, (220, 150), texture).write(&source, None, false);
    let run = |name: &str, from: &str, model: &str| {
        let path = folder.path(name);
        common::launch(&format!(
            "rastersrc location={source} tile-size=64 overlap=16 {from} \
             ! onnxsegment model-file={{dropout}} size-multiple=4 samples=2 seed=9 {model} \
             ! rastersink location={path} part-size=48,32",
        ))
        .finish();
        path
    };
    let whole = Raster::<u8>::read(run("whole.tif", "", ""));
    for (k, from) in ["shard=2/3", "shard=3/3", "shard=1/3"].into_iter().enumerate() {
        run("shards.tif", from, ["", "threads=1", "batch-size=4"][k]);
    }
    assert!(Raster::<u8>::read(folder.path("shards.tif")).data == whole.data, "shards differ");
    let window = Raster::<u8>::read(run("window.tif", "window=70,40,100,80", "threads=3"));
    let cut: Vec<u8> = (40..120).flat_map(|y| whole.data[y * 220 + 70..y * 220 + 170].to_vec()).collect();
    assert!(window.data == cut, "a window differs");
    let other = Raster::<u8>::read(run("other.tif", "", "seed=10"));
    assert!(other.data != whole.data, "the seed has no effect");
}
