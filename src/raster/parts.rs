//! A mosaic run as a set of finished parts.
