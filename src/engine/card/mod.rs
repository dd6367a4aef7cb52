//! Model cards: files beside a model that say what it takes and means. A STAC item with the Machine Learning Model extension
//! ([`mlm`]) ranks above the model's own metadata, GStreamer's `.modelinfo` ([`modelinfo`]) below it.

pub mod mlm;
pub mod modelinfo;
pub mod scaling;
pub mod write;

use std::path::{Path, PathBuf};

use super::error::{Error, Result};
use super::settings::{Fact, Facts, ModelCard};
use super::spec::{Port, Tiling};
use super::tta::Transform;
use scaling::Scaling;

/// Larger files are no cards; reading them whole would serve nobody.
const LARGEST: u64 = 16 << 20;

/// A colour for each class; `None` where the card is silent.
pub type Colours = Vec<Option<[u8; 3]>>;

/// What a STAC item says of a model.
#[derive(Debug, Clone)]
pub struct Card {
    pub file: PathBuf,
    /// All but the scaling.
    pub facts: Facts,
    /// An error here matters only where nothing else is stated.
    pub scaling: Result<Option<Scaling>>,
    pub bands: Option<Fact<Vec<String>>>,
    pub class_names: Option<Fact<Vec<String>>>,
    pub colours: Option<Fact<Colours>>,
    pub threshold: Option<Fact<f32>>,
    pub tiling: Tiling,
    pub tta: Option<Fact<Vec<Transform>>>,
}

impl Card {
    /// The card of a model: the one that is named, else the one beside it.
    ///
    /// # Errors
    /// A named file that cannot be read or is no MLM item, and what an item says that cannot be used.
    pub fn of(model: &Path, stated: Option<&ModelCard>, inputs: &[&Port], outputs: &[Port]) -> Result<Option<Card>> {
        match stated {
            Some(ModelCard::None) => Ok(None),
            Some(ModelCard::File(file)) => {
                let text = std::fs::read(file).map_err(|e| {
                    let problem = format!("cannot be read: {e}; expected a STAC item with the MLM extension, or none");
                    Error::file("model-card", file, problem)
                })?;
                mlm::read(file, &text, inputs, outputs)?.map(Some).ok_or_else(|| {
                    Error::file(
                        "model-card",
                        file,
                        "is no STAC item with the MLM extension (https://stac-extensions.github.io/mlm/v1.5.2/schema.json \
                         in stac_extensions); name another file, or set model-card=none",
                    )
                })
            }
            None => {
                for file in beside(model) {
                    if let Some(text) = small(&file)
                        && let Some(card) = mlm::read(&file, &text, inputs, outputs)?
                    {
                        return Ok(Some(card));
                    }
                }
                Ok(None)
            }
        }
    }
}

/// Where a model's item may lie: `fold0.stac.json`, then `fold0.json`, for `fold0.onnx`. Other files of these names are left
/// alone.
fn beside(model: &Path) -> [PathBuf; 2] {
    ["stac.json", "json"].map(|extension| model.with_extension(extension))
}

/// A file's bytes, where it is there and small enough to be a card.
fn small(file: &Path) -> Option<Vec<u8>> {
    let metadata = std::fs::metadata(file).ok().filter(|m| m.is_file() && m.len() <= LARGEST)?;
    (metadata.len() > 0).then(|| std::fs::read(file).ok()).flatten()
}
