//! Files that appear whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file that is going to be written. It is there under its name once all of it is.
pub struct Output {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Output {
    /// Prepares to write, so that a long computation need not end where nothing can be written.
    ///
    /// # Errors
    /// A folder that is not there or takes no files.
    pub fn create(path: &Path) -> Result<Self> {
        let wrong = || format!("{} cannot be written", path.display());
        let name = path.file_name().context("it is no name of a file").with_context(wrong)?;
        anyhow::ensure!(!path.is_dir(), "{}: it is a folder", wrong());
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&temporary).with_context(wrong)?;
        Ok(Output { path: path.to_path_buf(), temporary, file })
    }

    /// Writes the whole of it and gives it its name.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(mut self, bytes: &[u8]) -> Result<()> {
        let wrong = || format!("{} cannot be written", self.path.display());
        self.file.write_all(bytes).and_then(|()| self.file.sync_all()).with_context(wrong)?;
        std::fs::rename(&self.temporary, &self.path).with_context(wrong)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // After a rename it is gone already.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
