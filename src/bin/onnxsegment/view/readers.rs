//! Handles of all layers for a few threads: GDAL reads with one handle on one thread at a time.

use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use gstonnxsegment::raster::source::Source;
use tokio::sync::Semaphore;

use super::layer::Layer;

/// Threads that read, at most: more would wait for the disk and for GDAL's cache.
const MOST: usize = 4;

pub struct Readers {
    layers: Arc<[Layer]>,
    /// Handles that no thread uses, by layer; opened when first needed.
    idle: Mutex<Vec<Vec<Option<Source>>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub fn new(layers: Vec<Layer>) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, NonZero::get).clamp(2, MOST);
        Readers { layers: layers.into(), idle: Mutex::default(), permits: Arc::new(Semaphore::new(threads)) }
    }

    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Does some work with layers on a thread of its own, when one is free. Whoever gives up waiting is forgotten.
    pub async fn run<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Reader<'_>) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let permit = self.permits.clone().acquire_owned().await?;
        let all = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let idle = || all.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let handles = idle().pop().unwrap_or_else(|| all.layers.iter().map(|_| None).collect());
            let mut reader = Reader { layers: &all.layers, handles };
            let result = work(&mut reader);
            idle().push(reader.handles);
            result
        });
        task.await.map_err(|e| anyhow!("reading was broken off: {e}"))?
    }
}

/// Handles of all layers for the time of one piece of work.
pub struct Reader<'a> {
    layers: &'a [Layer],
    handles: Vec<Option<Source>>,
}

impl Reader<'_> {
    /// How many layers there are.
    pub fn count(&self) -> usize {
        self.layers.len()
    }

    /// A layer, and what reads it.
    pub fn layer(&mut self, place: usize) -> Result<(&Layer, &Source)> {
        let layer = &self.layers[place];
        if self.handles[place].is_none() {
            self.handles[place] = Some(layer.source()?);
        }
        // Just opened, if it was not before.
        self.handles[place].as_ref().map(|source| (layer, source)).ok_or_else(|| anyhow!("the raster is not open"))
    }
}
