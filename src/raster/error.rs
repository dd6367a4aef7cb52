//! What can go wrong with a raster, in words for its user.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// An error that a user can cause. Its text says what was found, what was expected, and what to do.
#[derive(Debug, Clone, Error)]
pub enum Error {
    /// A setting with a value that it cannot have.
    #[error("{name}={value}: {problem}")]
    Setting { name: &'static str, value: String, problem: String },
    /// A raster that cannot be read.
    #[error("{name}={}: {problem}", path.display())]
    Read { name: &'static str, path: PathBuf, problem: String },
    /// Something that cannot be written. Finished parts are kept.
    #[error("{name}={}: {problem}", path.display())]
    Write { name: &'static str, path: PathBuf, problem: String },
    /// Parts that belong to another run.
    #[error("{0}")]
    Refused(String),
    /// A tile that does not fit its grid.
    #[error("{0}")]
    Tile(String),
    /// Stopped on request.
    #[error("stopped")]
    Cancelled,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn setting(name: &'static str, value: impl ToString, problem: impl Into<String>) -> Self {
        Error::Setting { name, value: value.to_string(), problem: problem.into() }
    }

    pub fn read(name: &'static str, path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::Read { name, path: path.as_ref().to_path_buf(), problem: problem.into() }
    }

    pub fn write(name: &'static str, path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::Write { name, path: path.as_ref().to_path_buf(), problem: problem.into() }
    }
}
