//! Where rasters and their parts are kept: on a disk, or as objects of a store that GDAL reaches over the network.
//!
//! On a disk, what is written gets its name at the end, by a rename or a link. An object is there when its upload ends, whole,
//! and needs no other name before; but a store has no rename, no lock, and no folders: a folder is what names begin with.

mod objects;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use self::objects::Scratch;
use crate::files::{self, Temporary};

pub use objects::{Quiet, address, age};

/// Small uploads at a time.
const UPLOADS: usize = 8;

/// What keeps files, by their paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Disk,
    /// GDAL's `/vsis3/` and what is like it.
    Objects,
}

impl Store {
    pub fn of(path: &Path) -> Store {
        if files::is_virtual(path) { Store::Objects } else { Store::Disk }
    }

    /// Whether a folder is more than a beginning of names: it can go, and then takes no files any more.
    pub fn has_folders(self) -> bool {
        self == Store::Disk
    }

    /// Whether a file may come to lie at a path.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(self, path: &Path) -> Result<(), String> {
        if self == Store::Objects {
            return objects::check(path);
        }
        let folder = files::parent(path);
        match std::fs::metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(format!("{} is no folder", folder.display())),
            Err(e) => {
                return Err(format!("its folder {}: {}; make it first", folder.display(), files::words(&e)));
            }
        }
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err("is a folder; name a file".into()),
            Ok(found) if !found.is_file() => Err("is no ordinary file; name one, such as mask.tif".into()),
            Ok(found) if found.permissions().readonly() => Err("is there already and write-protected".into()),
            _ => Ok(()),
        }
    }

    /// Whether a file is there, as others see it now.
    pub fn exists(self, path: &Path) -> bool {
        match self {
            Store::Disk => path.exists(),
            Store::Objects => objects::exists(path),
        }
    }

    pub fn has_folder(self, folder: &Path) -> bool {
        match self {
            Store::Disk => folder.exists(),
            Store::Objects => objects::names(folder).is_ok(),
        }
    }

    /// Whether two paths are one file that is there.
    pub fn is_same(self, a: &Path, b: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let of = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
        match self {
            Store::Disk => of(a).is_some_and(|found| of(b) == Some(found)),
            Store::Objects => objects::is_same(a, b),
        }
    }

    /// The names in a folder.
    ///
    /// # Errors
    /// `NotFound` where there is none, and what the disk or the store says.
    pub fn names(self, folder: &Path) -> io::Result<Vec<String>> {
        match self {
            Store::Disk => files::names(folder),
            Store::Objects => objects::names(folder),
        }
    }

    /// A file as it is now.
    ///
    /// # Errors
    /// As [`Store::names`].
    pub fn read(self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Store::Disk => std::fs::read(path),
            Store::Objects => objects::read(path),
        }
    }

    /// Writes a file, or puts another in its place: at once.
    ///
    /// # Errors
    /// What the disk or the store says.
    pub fn replace(self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self {
            Store::Disk => files::replace(path, bytes),
            Store::Objects => objects::put(path, bytes),
        }
    }

    /// Makes a file with its content, at once. A store that knows no condition lets the last of several writers win, and tells
    /// that to all the others.
    ///
    /// # Errors
    /// `AlreadyExists` where another process is first.
    pub fn create(self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self {
            Store::Disk => files::create(path, bytes),
            Store::Objects => objects::create(path, bytes),
        }
    }

    /// Writes files of one folder. The first of them appears last.
    ///
    /// # Errors
    /// What the disk or the store says. Of the files that are not there yet, nothing is.
    pub fn write(self, folder: &Path, files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
        match self {
            Store::Disk => {
                let temporary =
                    |(path, bytes): &(PathBuf, Vec<u8>)| Ok((Temporary::write(folder, bytes)?, path.clone()));
                let whole = files.iter().map(temporary).collect::<io::Result<Vec<_>>>()?;
                whole.into_iter().rev().try_for_each(|(temporary, path)| temporary.rename(&path))?;
                files::sync_folder(Some(folder))
            }
            Store::Objects => files.iter().rev().try_for_each(|(path, bytes)| objects::put(path, bytes)),
        }
    }

    /// Writes files that have nothing to do with one another, all of one content.
    ///
    /// # Errors
    /// What the disk or the store says; some of them may be there then.
    pub fn write_all(self, folder: &Path, files: &[PathBuf], bytes: &[u8]) -> io::Result<()> {
        match self {
            Store::Disk => files.iter().try_for_each(|path| self.write(folder, &[(path.clone(), bytes.to_vec())])),
            // A request is short, and the way to the store long.
            Store::Objects => std::thread::scope(|scope| {
                let share = files.len().div_ceil(UPLOADS).max(1);
                let send = |files: &[PathBuf]| files.iter().try_for_each(|path| objects::put(path, bytes));
                let all: Vec<_> = files.chunks(share).map(|files| scope.spawn(move || send(files))).collect();
                all.into_iter().try_for_each(|one| one.join().unwrap_or(Err(io::ErrorKind::Other.into())))
            }),
        }
    }

    /// Deletes files; those that are not there are none to delete.
    ///
    /// # Errors
    /// What the disk or the store says.
    pub fn remove(self, files: &[PathBuf]) -> io::Result<()> {
        match self {
            Store::Disk => files.iter().try_for_each(|path| match std::fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }),
            Store::Objects => objects::remove(files),
        }
    }

    /// Makes a folder in one that is there, unless it is there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn make_folder(self, folder: &Path) -> io::Result<()> {
        match self {
            Store::Disk => match std::fs::create_dir(folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
                Err(_) => Ok(()),
                Ok(()) => files::sync_folder(folder.parent()),
            },
            Store::Objects => Ok(()),
        }
    }

    /// The same with all folders on the way to it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn make_folders(self, folder: &Path) -> io::Result<()> {
        match self {
            Store::Disk => std::fs::create_dir_all(folder),
            Store::Objects => Ok(()),
        }
    }

    /// Takes a folder of files away: at once, or where that cannot be, the file `first` before the others.
    ///
    /// # Errors
    /// What the disk or the store says.
    pub fn remove_folder(self, folder: &Path, first: &str) -> io::Result<()> {
        match self {
            Store::Disk => files::remove_folder(folder),
            Store::Objects => {
                objects::remove(&[folder.join(first)])?;
                match objects::names(folder) {
                    Ok(names) => objects::remove(&names.iter().map(|name| folder.join(name)).collect::<Vec<_>>()),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    Err(e) => Err(e),
                }
            }
        }
    }

    /// Deletes what processes that were killed have left: of a folder that they took away, of files that they made.
    pub fn sweep(self, folder: &Path) {
        match self {
            Store::Disk => files::sweep(folder),
            Store::Objects => Scratch::sweep(),
        }
    }

    /// Opens the file that processes lock; `None` where there are no locks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn open_lock(self, path: &Path) -> io::Result<Option<File>> {
        match self {
            Store::Disk => File::options().create(true).truncate(false).write(true).open(path).map(Some),
            Store::Objects => Ok(None),
        }
    }

    /// Has GDAL read files from here without needless questions, on this thread, until it is dropped.
    pub fn quiet(self) -> Quiet {
        match self {
            Store::Disk => Quiet::none(),
            Store::Objects => Quiet::reading(),
        }
    }

    /// A place for GDAL to make the raster that is to become `path`. Of the drafts of processes that were killed nothing stays;
    /// no other process may be making the same, where there are locks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn draft(self, path: &Path) -> io::Result<Draft> {
        match self {
            Store::Disk => {
                files::sweep_beside(path);
                Ok(Draft { path: files::beside(path), target: path.to_path_buf(), scratch: None })
            }
            Store::Objects => {
                let scratch = Scratch::new()?;
                let name = path.file_name().unwrap_or_default();
                Ok(Draft { path: scratch.path().join(name), target: path.to_path_buf(), scratch: Some(scratch) })
            }
        }
    }
}

/// The files that GDAL may make for one raster, the raster first.
pub fn siblings(path: &Path) -> Vec<PathBuf> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    ["", ".aux.xml", ".ovr", ".msk", ".ovr.tmp", ".msk.ovr.tmp"].map(with).into()
}

/// A raster under its temporary name, with the files beside it; deleted unless it is installed.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    target: PathBuf,
    scratch: Option<Scratch>,
}

impl Draft {
    /// Where the raster is made, on a disk.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Brings all of it to the disk, where it is to stay there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sync(&self) -> io::Result<()> {
        match self.scratch {
            None => siblings(&self.path).iter().filter(|p| p.exists()).try_for_each(|p| files::sync(p)),
            Some(_) => Ok(()),
        }
    }

    /// What went wrong with it, and where, if that is not where the raster was to be.
    pub fn explain(&self, problem: &str) -> String {
        match &self.scratch {
            None => problem.into(),
            Some(scratch) => format!(
                "{problem} (it is made in {} before it goes to the store; CPL_TMPDIR names another folder)",
                files::parent(scratch.path()).display()
            ),
        }
    }

    /// Gives it its name: what lies beside it first, so that the raster never lacks it. `progress` hears what share of an upload is
    /// done, and says whether to go on.
    ///
    /// # Errors
    /// What the disk or the store says; `Interrupted` when it was told to stop.
    pub fn install(self, progress: &mut dyn FnMut(f64) -> bool) -> io::Result<()> {
        let store = Store::of(&self.target);
        let (here, there) = (siblings(&self.path), siblings(&self.target));
        for (from, to) in here.iter().zip(&there).skip(1) {
            match (from.exists(), &self.scratch) {
                (true, None) => std::fs::rename(from, to)?,
                (true, Some(_)) => objects::upload(from, to, &mut |_| true)?,
                // That of the raster which this one replaces.
                (false, None) => store.remove(std::slice::from_ref(to))?,
                (false, Some(_)) => {}
            }
        }
        if self.scratch.is_none() {
            std::fs::rename(&self.path, &self.target)?;
            return files::sync_folder(self.target.parent());
        }
        // One question for all of them.
        let left = objects::beginning_with(&self.target)?;
        let stale = here.iter().zip(there).skip(1).filter(|(from, to)| !from.exists() && left.contains(to));
        store.remove(&stale.map(|(_, to)| to).collect::<Vec<_>>())?;
        objects::upload(&self.path, &self.target, progress)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        for path in siblings(&self.path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests;
