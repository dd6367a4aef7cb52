//! Mosaics from file to file: against the Python reference, against whole-image inference, killed and resumed, real
//! and large ones. What single elements promise is tested elsewhere.
#![cfg(feature = "raster")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/reference.rs"]
mod reference;

mod cascade;
mod cells;
mod child;
mod golden;
mod grid;
mod killed;
mod large;
mod raster;
mod real;
mod refused;
mod samples;
mod sink;
mod states;
mod whole;
