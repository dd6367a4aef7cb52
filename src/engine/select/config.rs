//! A candidate as a `config-file`.
