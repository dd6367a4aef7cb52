//! Files that the command line writes: there whole, or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use gstonnxsegment::files::{self, Temporary};
use gstonnxsegment::raster::store::Store;

/// A file that is going to be written.
pub struct Output(PathBuf);

impl Output {
    /// Tries whether it can be, so that a long computation need not end where nothing can be written.
    ///
    /// # Errors
    /// A folder that is not there or takes no files.
    pub fn create(path: &Path) -> Result<Self> {
        let wrong = || format!("{} cannot be written", path.display());
        ensure!(path.file_name().is_some() && !path.is_dir(), "{}: it is no name of a file", wrong());
        match Store::of(path) {
            // Gone again when it is dropped.
            Store::Disk => Temporary::write(&files::parent(path), b"").map(drop),
            store => {
                store.check(path).map_err(|problem| anyhow!(problem)).with_context(wrong)?;
                let tried = files::beside(path);
                store.replace(&tried, b"").and_then(|()| store.remove(&[tried]))
            }
        }
        .map_err(|e| anyhow!(files::words_of(&e, path)))
        .with_context(wrong)?;
        Ok(Output(path.to_path_buf()))
    }

    /// Writes the whole of it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(self, bytes: &[u8]) -> Result<()> {
        let wrong = || format!("{} cannot be written", self.0.display());
        Store::of(&self.0).replace(&self.0, bytes).map_err(|e| anyhow!(files::words(&e))).with_context(wrong)
    }
}
