//! The behaviour of the element: its whole streaming contract, one promise per test.

#[path = "../common/mod.rs"]
mod common;

mod cascade;
mod events;
mod flush;
mod live;
mod negotiation;
mod pads;
mod properties;
mod samples;
mod states;
mod streaming;
mod tiles;
