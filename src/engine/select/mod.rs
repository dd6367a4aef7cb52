//! Which models, transforms and merges to run: every combination scored on pixels that none of its models was trained on,
//! and the cheapest one that is not told apart from the best.
//!
//! Models run once per transform; combinations are merged from what that gave, by the engine's own merge, so
//! that they get the scores that the element would give. Reading scenes and showing results is the command line's.

mod candidate;
mod ground;
mod passes;
mod search;
mod study;
pub mod temperature;
mod unseen;
pub mod windows;

pub use candidate::{Candidate, Cut, Score, score};
pub use ground::Truth;
pub use study::{Basis, Cost, Fit, MemberReport, Options, Row, Selection, Study};
pub use unseen::{Judged, Unseen, labels};
pub use windows::Window;
