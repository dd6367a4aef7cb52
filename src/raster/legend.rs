//! What the labels of a mask are called and painted with.

use serde::{Deserialize, Serialize};

/// Names and colours by label, from 0 on.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Legend {
    /// Empty for a label without a name.
    pub names: Vec<String>,
    pub colours: Vec<[u8; 3]>,
}
