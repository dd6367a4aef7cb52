//! From masks to products: footprints and run-length rows, by the library and by the command.

#[path = "../scenes/mod.rs"]
mod scenes;

mod command;
mod footprints;
mod masks;
mod right_angles;
mod rows;
