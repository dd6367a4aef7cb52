//! The tile windows and the blending of tiles.
