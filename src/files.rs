//! Files that appear whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

/// Ends the names of files that are being written.
const TEMPORARY: &str = ".tmp";
/// Ends the names of folders that are being deleted.
const GONE: &str = ".gone";

/// What happened, in words.
pub fn words(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::StorageFull => "there is no space left on the device".into(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".into(),
        io::ErrorKind::FileTooLarge => "the file would become larger than the system allows".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::NotFound => "there is no such file or folder".into(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        _ => e.to_string(),
    }
}

/// Why a file cannot be made: the same, and where its folder is not there, which.
pub fn words_of(e: &io::Error, path: &Path) -> String {
    let folder = parent(path);
    match e.kind() == io::ErrorKind::NotFound && !is_virtual(path) && !folder.exists() {
        true => format!("there is no folder {}; make it first", folder.display()),
        false => words(e),
    }
}

/// The same for a library's messages, where one of them says that the disk takes no more: the others follow from it.
pub fn of_disk(messages: &[String]) -> Option<String> {
    let errors = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG].map(io::Error::from_raw_os_error);
    let said = |e: &io::Error| {
        let text = e.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        messages.iter().any(|message| message.contains(text))
    };
    errors.iter().find(|e| said(e)).map(words)
}

/// The folder of a file.
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// A file as seen from a folder; the whole path where they have nothing in common.
pub fn relative(folder: &Path, file: &Path) -> PathBuf {
    let whole = |folder: &Path| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        folder.canonicalize().or_else(|_| std::path::absolute(folder)).unwrap_or_else(|_| folder.to_path_buf())
    };
    // The file itself may be a link, and is to be named as it was.
    let (here, there) = (whole(folder), whole(file.parent().unwrap_or(Path::new(""))));
    let common = here.components().zip(there.components()).take_while(|(a, b)| a == b).count();
    if !matches!(there.components().nth(common.saturating_sub(1)), Some(Component::Normal(_))) {
        return there.join(file.file_name().unwrap_or_default());
    }
    let up = here.components().skip(common).map(|_| Component::ParentDir);
    up.chain(there.components().skip(common)).collect::<PathBuf>().join(file.file_name().unwrap_or_default())
}

/// A name that no other process and no other call uses.
fn unique() -> String {
    format!("{}-{:016x}", std::process::id(), fastrand::u64(..))
}

/// Whether a path is on one of GDAL's virtual file systems, and no file to the system.
pub fn is_virtual(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().starts_with(b"/vsi")
}

/// A name in GDAL's memory that nothing else uses.
pub fn in_memory(extension: &str) -> PathBuf {
    PathBuf::from(format!("/vsimem/onnxsegment-{:016x}.{extension}", fastrand::u64(..)))
}

pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

/// Where a file is written before it gets its name, in the same folder.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = prefix(path);
    name.push(unique());
    name.push(TEMPORARY);
    parent(path).join(name)
}

/// How names by [`beside`] begin.
fn prefix(path: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or(OsStr::new("raster")));
    name.push(".");
    name
}

/// Deletes what earlier processes have left by [`beside`]. No other process may be writing.
pub fn sweep_beside(path: &Path) {
    let prefix = prefix(path);
    let ours = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        // Sidecars and overviews that GDAL writes have more behind it.
        name.starts_with(prefix.as_encoded_bytes()) && name.windows(TEMPORARY.len()).any(|w| w == TEMPORARY.as_bytes())
    };
    let Ok(entries) = std::fs::read_dir(parent(path)) else { return };
    for entry in entries.flatten().filter(|entry| ours(&entry.file_name())) {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// A file that is deleted unless it gets its name.
pub struct Temporary(PathBuf);

impl Temporary {
    /// Writes a file, down to the disk.
    pub fn write(folder: &Path, bytes: &[u8]) -> io::Result<Self> {
        Self::write_all(folder, [bytes])
    }

    /// The same for what lies in pieces.
    pub fn write_all<'a>(folder: &Path, pieces: impl IntoIterator<Item = &'a [u8]>) -> io::Result<Self> {
        let path = folder.join(format!(".{}{TEMPORARY}", unique()));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        let temporary = Temporary(path);
        for bytes in pieces {
            file.write_all(bytes)?;
        }
        file.sync_all()?;
        Ok(temporary)
    }

    /// A name beside a file for whoever else writes it.
    pub fn beside(path: &Path) -> Self {
        Temporary(beside(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Brings it to the disk, and then under its name.
    pub fn publish(self, to: &Path) -> io::Result<()> {
        sync(&self.0)?;
        self.rename(to)?;
        sync_folder(Some(&parent(to)))
    }

    pub fn rename(self, to: &Path) -> io::Result<()> {
        std::fs::rename(&self.0, to)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a file, or puts another in its place: at once, down to the disk.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = parent(path);
    Temporary::write(&folder, bytes)?.rename(path)?;
    sync_folder(Some(&folder))
}

/// Makes a file with its content, at once.
///
/// # Errors
/// `AlreadyExists` where another process is first.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = parent(path);
    let temporary = Temporary::write(&folder, bytes)?;
    match std::fs::hard_link(&temporary.0, path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(e),
        // A file system without links. Whoever reads it half written refuses, and nothing is lost.
        Err(_) => {
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            file.write_all(bytes)?;
            file.sync_all()?;
        }
    }
    sync_folder(Some(&folder))
}

/// Brings a folder's names to the disk.
pub fn sync_folder(folder: Option<&Path>) -> io::Result<()> {
    let folder = folder.filter(|f| *f != Path::new("")).unwrap_or(Path::new("."));
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some file systems have no such thing.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result,
    }
}

/// Brings a file that somebody else has written to the disk.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The names in a folder.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// Takes a folder away at once, and then deletes it; [`sweep`] deletes what stays of it.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    let mut gone = folder.as_os_str().to_owned();
    gone.push(format!(".{}{GONE}", unique()));
    let gone = PathBuf::from(gone);
    std::fs::rename(folder, &gone)?;
    let _ = std::fs::remove_dir_all(gone);
    Ok(())
}

/// Deletes what is left of folders that [`remove_folder`] took away and did not come to delete.
pub fn sweep(folder: &Path) {
    let mut prefix = folder.file_name().unwrap_or_default().to_owned();
    prefix.push(".");
    let ours = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.starts_with(prefix.as_encoded_bytes()) && name.ends_with(GONE.as_bytes())
    };
    let Ok(entries) = std::fs::read_dir(parent(folder)) else { return };
    for entry in entries.flatten().filter(|entry| ours(&entry.file_name())) {
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_from_the_folder_on() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let model = root.join("models/fold0.onnx");
        assert_eq!(relative(&root.join("models"), &model), Path::new("fold0.onnx"));
        assert_eq!(relative(&root.join("tests/golden"), &model), Path::new("../../models/fold0.onnx"));
        assert_eq!(relative(root, Path::new("/onnx/x.onnx")), Path::new("/onnx/x.onnx"));
    }
}
