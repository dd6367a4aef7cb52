//! The part of a scene that decides nothing: reported once, when everything is decided.

use super::candidate::Score;
use super::ground::{Ground, Truth, scored};
use super::study::{Options, Selection, Study};
use super::windows::{Area, Window};
use crate::engine::decide::Work;
use crate::engine::error::{Error, Result};
use crate::engine::pixels::{Frame, FrameFormat};
use crate::engine::{Ensemble, Settings};

/// The pixels that were kept from every decision, and what is true of them.
pub struct Unseen {
    area: Area,
    ground: Ground,
    classes: Vec<usize>,
    options: Options,
}

/// What a setting scores on pixels that decided nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// `None` where no class that counts is there or found.
    pub score: Option<Score>,
    pub pixels: usize,
    /// Those of a class that counts.
    pub positives: usize,
}

impl Unseen {
    /// The holdout of a study. It takes the selection as proof that all is decided.
    ///
    /// # Errors
    /// A window beyond the scene.
    pub fn open(study: &Study, _decided: &Selection, holdout: &[Window], truth: Truth<'_>) -> Result<Unseen> {
        let area = Area::of(holdout, (truth.width, truth.height))
            .map_err(|window| Error::setting("holdout", window, "reaches beyond the scene"))?
            .with(|pixel| truth.classes[pixel].is_some());
        let ground = Ground::new(&area, &truth, &[], study.options().block);
        Ok(Unseen { area, ground, classes: study.classes.clone(), options: study.options().clone() })
    }

    /// Runs settings over the scene as the element does, and scores them here.
    ///
    /// # Errors
    /// What loading or running them can meet.
    pub fn judge(&self, settings: &Settings, format: FrameFormat, frame: Box<dyn Frame>) -> Result<Judged> {
        let labels = labels(settings, format, frame)?;
        let counts = self.ground.count(self.area.pixels().map(|pixel| labels[pixel]));
        Ok(Judged {
            score: scored(&counts, &self.classes, &self.options),
            pixels: self.ground.truth.len(),
            positives: self.ground.of_classes(&self.classes),
        })
    }
}

/// The class of every pixel of a frame.
///
/// # Errors
/// What loading or running settings can meet.
pub fn labels(settings: &Settings, format: FrameFormat, frame: Box<dyn Frame>) -> Result<Vec<u16>> {
    let ensemble = Ensemble::load(settings)?;
    let merged = ensemble.run(format, frame)?;
    let mut labels = Vec::new();
    ensemble.decision().classes(&merged, 0, merged.height, &mut labels, &mut Work::default());
    Ok(labels)
}
