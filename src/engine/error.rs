//! One error type for the engine. Every text says what was found, what was expected and what to do.

/// What can go wrong between a user's settings and a finished mask.
///
/// Cloneable, because one failed pass is reported by every output that waited for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting (property, configuration key) whose value cannot be used.
    #[error("{}: {problem}", assignment(name, value))]
    Setting { name: String, value: String, problem: String },
    /// A file that is missing, unreadable, or not what it should be.
    #[error("{setting}={file}: {problem}")]
    File { setting: &'static str, file: String, problem: String },
    /// A model that loads, but cannot do what is asked of it.
    #[error("model-file={file}: {problem}")]
    Model { file: String, problem: String },
    /// ONNX Runtime's library cannot be found or opened.
    #[error("{0}")]
    Runtime(String),
    /// An execution provider that was demanded is not to be had.
    #[error("{0}")]
    Provider(String),
    /// A frame that these models cannot take.
    #[error("{0}")]
    Frame(String),
    /// There is not enough memory for a frame of this size.
    #[error("{0}")]
    Memory(String),
    /// The work was withdrawn (a flush or a state change); not a failure.
    #[error("cancelled")]
    Cancelled,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A setting that cannot be used, with what would be allowed.
    pub fn setting(name: &str, value: impl ToString, problem: impl Into<String>) -> Self {
        Error::Setting { name: name.into(), value: value.to_string(), problem: problem.into() }
    }

    /// A file that `setting` names.
    pub fn file(setting: &'static str, file: &std::path::Path, problem: impl Into<String>) -> Self {
        Error::File { setting, file: file.display().to_string(), problem: problem.into() }
    }

    pub fn model(file: &std::path::Path, problem: impl Into<String>) -> Self {
        Error::Model { file: file.display().to_string(), problem: problem.into() }
    }

    /// The same error for the whole of a list instead of one of its items.
    pub fn in_list(self, list: &str) -> Self {
        match self {
            Error::Setting { name, problem, .. } => Error::Setting { name, value: list.into(), problem },
            other => other,
        }
    }
}

fn assignment(name: &str, value: &str) -> String {
    if value.is_empty() { name.into() } else { format!("{name}={value}") }
}

/// A number of things: `1 value`, `2 values`, `3 classes`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    match (n, noun.ends_with('s')) {
        (1, _) => format!("1 {noun}"),
        (_, true) => format!("{n} {noun}es"),
        (_, false) => format!("{n} {noun}s"),
    }
}
