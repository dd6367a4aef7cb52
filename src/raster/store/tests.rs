use super::*;

/// A folder in GDAL's memory, which speaks the same as stores do.
fn memory(name: &str) -> PathBuf {
    PathBuf::from(format!("/vsimem/onnxsegment-store-{name}-{}", std::process::id()))
}

fn names(folder: &Path) -> Vec<String> {
    let mut names = Store::Objects.names(folder).unwrap_or_default();
    names.sort();
    names
}

#[test]
fn the_beginning_of_a_path_says_what_keeps_it() {
    for (path, store) in [
        ("/vsis3/bucket/mask.tif", Store::Objects),
        ("/vsimem/mask.tif", Store::Objects),
        ("/data/vsis3/mask.tif", Store::Disk),
        ("mask.tif", Store::Disk),
    ] {
        assert_eq!(Store::of(Path::new(path)), store, "{path}");
    }
}

#[test]
fn paths_that_can_be_no_object_are_refused() {
    for (path, words) in [
        ("/vsizip/a.zip/mask.tif", "write to a disk, to /vsis3/, /vsigs/ or /vsioss/"),
        ("/vsiaz/container/mask.tif", "do not appear whole or not at all"),
        ("/vsis3/mask.tif", "names no object; write /vsis3/BUCKET/NAME.tif"),
        ("/vsis3/bucket/", "names no object"),
        ("/vsigs/", "names no object; write /vsigs/BUCKET/NAME.tif"),
    ] {
        let said = Store::of(Path::new(path)).check(Path::new(path)).unwrap_err();
        assert!(said.contains(words), "{path}: {said}");
    }
    Store::Objects.check(&memory("any").join("mask.tif")).unwrap();
}

#[test]
fn objects_are_read_listed_and_deleted() {
    let (store, folder) = (Store::Objects, memory("objects"));
    let (a, b) = (folder.join("a"), folder.join("b.tif"));
    assert_eq!(store.names(&folder).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(store.read(&a).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!store.has_folder(&folder) && !store.exists(&a));
    let large: Vec<u8> = (0..3_000_000u32).map(|k| (k % 251) as u8).collect();
    store.replace(&a, b"before").unwrap();
    store.replace(&a, &large).unwrap();
    store.write(&folder, &[(b.clone(), Vec::new())]).unwrap();
    assert!(store.read(&a).unwrap() == large);
    assert_eq!(store.read(&b).unwrap(), b"");
    assert_eq!(names(&folder), ["a", "b.tif"]);
    // A beginning of a name is no name, and no folder a file.
    assert!(store.exists(&b) && !store.exists(&folder.join("b")) && !store.exists(&folder));
    store.remove(&[folder.join("nothing"), b.clone()]).unwrap();
    store.remove(&[b]).unwrap();
    assert_eq!(names(&folder), ["a"]);
    store.remove_folder(&folder, "a").unwrap();
    store.remove_folder(&folder, "a").unwrap();
    assert!(!store.has_folder(&folder));
}

#[test]
fn who_comes_second_is_told() {
    let (store, folder) = (Store::Objects, memory("create"));
    let path = folder.join("manifest.json");
    store.create(&path, b"one").unwrap();
    // GDAL's memory knows no condition: it stands for stores that know none either.
    store.create(&path, b"other").unwrap();
    assert_eq!(store.read(&path).unwrap(), b"other");
    store.remove_folder(&folder, "").unwrap();
}

#[test]
fn two_paths_of_one_object_are_one() {
    let same = |a: &str, b: &str| Store::Objects.is_same(Path::new(a), Path::new(b));
    assert!(same("/vsis3/bucket/a.tif", "/vsis3/bucket//a.tif"));
    assert!(same("/vsis3/bucket/a.tif", "/vsis3_streaming/bucket/a.tif"));
    assert!(!same("/vsis3/bucket/a.tif", "/vsis3/other/a.tif"));
}

#[test]
fn a_draft_is_made_on_the_disk_and_goes_up_whole() {
    let (store, folder) = (Store::Objects, memory("draft"));
    let target = folder.join("mask.tif");
    // The sidecars of the raster that is replaced, one that comes anew and one that does not; and a stranger.
    for name in ["mask.tif", "mask.tif.aux.xml", "mask.tif.ovr", "mask.tiff"] {
        store.replace(&folder.join(name), b"old").unwrap();
    }
    let draft = store.draft(&target).unwrap();
    let place = draft.path().to_path_buf();
    std::fs::write(&place, "new").unwrap();
    std::fs::write(siblings(&place)[1].clone(), "new").unwrap();
    draft.sync().unwrap();
    assert!(draft.explain("full").contains("full (it is made in ") && draft.explain("full").contains("CPL_TMPDIR"));
    assert_eq!(store.read(&target).unwrap(), b"old");
    let mut heard = 0;
    draft
        .install(&mut |_| {
            heard += 1;
            true
        })
        .unwrap();
    assert_eq!(names(&folder), ["mask.tif", "mask.tif.aux.xml", "mask.tiff"]);
    assert_eq!(
        (store.read(&target).unwrap(), store.read(&siblings(&target)[1]).unwrap()),
        (b"new".into(), b"new".into())
    );
    assert!(heard > 0 && !place.exists() && !files::parent(&place).exists());
    store.remove_folder(&folder, "").unwrap();
}

#[test]
fn what_a_killed_process_has_left_is_swept_and_what_is_in_use_is_not() {
    let root = std::env::temp_dir();
    let left = root.join(format!("onnxsegment-draft-left-{}", std::process::id()));
    std::fs::create_dir_all(&left).unwrap();
    for name in ["held", "mask.tif"] {
        std::fs::write(left.join(name), "").unwrap();
    }
    // Not begun yet: it has no lock that could be had.
    let young = root.join(format!("onnxsegment-draft-young-{}", std::process::id()));
    std::fs::create_dir_all(&young).unwrap();
    let draft = Store::Objects.draft(&memory("sweep").join("mask.tif")).unwrap();
    std::fs::write(draft.path(), "x").unwrap();
    Store::Objects.sweep(Path::new("/vsimem/any"));
    assert!(!left.exists() && young.exists() && draft.path().exists());
    std::fs::remove_dir(young).unwrap();
}

#[test]
fn a_disk_is_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("mask.tif");
    let store = Store::of(&target);
    store.check(&target).unwrap();
    std::fs::write(siblings(&target)[2].clone(), "old").unwrap();
    let draft = store.draft(&target).unwrap();
    assert_eq!((files::parent(draft.path()), draft.explain("full")), (folder.path().to_path_buf(), "full".into()));
    std::fs::write(draft.path(), "new").unwrap();
    draft.install(&mut |_| true).unwrap();
    assert_eq!(files::names(folder.path()).unwrap(), ["mask.tif"]);
    let error = store.create(&target, b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(store.open_lock(&folder.path().join("lock")).unwrap().is_some());
    assert!(Store::Objects.open_lock(Path::new("/vsimem/lock")).unwrap().is_none());
    drop(store.draft(&target).unwrap());
    store.remove(&[target.clone(), target]).unwrap();
    assert_eq!(files::names(folder.path()).unwrap(), ["lock"]);
}
