//! Writes parts on a thread of its own, so that compressing and syncing them keeps no inference waiting.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::engine::lock;
use crate::raster::cells::Whole;
use crate::raster::parts::Parts;
use crate::raster::{Error, Result};

/// Cells that may wait to be written.
const WAITING: usize = 4;

pub struct Writer {
    queue: Option<SyncSender<Whole>>,
    thread: Option<JoinHandle<()>>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Writer {
    /// `written` hears of each part that is there.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn start(parts: Arc<Parts>, written: impl Fn(&Whole) + Send + 'static) -> Result<Self> {
        let (queue, cells) = sync_channel::<Whole>(WAITING);
        let failure = Arc::new(Mutex::new(None));
        let failed = failure.clone();
        let work = move || {
            for whole in cells {
                // After a failure nothing more is written, but whoever waits to hand over a cell goes on.
                if lock(&failed).is_some() {
                    continue;
                }
                match parts.write(whole.cell, &whole.rect, whole.samples.as_deref()) {
                    Ok(()) => written(&whole),
                    Err(e) => {
                        lock(&failed).get_or_insert(e);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("rastersink".into()).spawn(work);
        let thread = thread.map_err(|e| Error::Tile(format!("a thread for writing cannot be started: {e}")))?;
        Ok(Writer { queue: Some(queue), thread: Some(thread), failure })
    }

    /// Hands a cell over, waiting while too many wait.
    ///
    /// # Errors
    /// What kept an earlier one from being written.
    pub fn write(&self, whole: Whole) -> Result<()> {
        if let Some(e) = lock(&self.failure).clone() {
            return Err(e);
        }
        let sent = self.queue.as_ref().is_some_and(|queue| queue.send(whole).is_ok());
        sent.then_some(())
            .ok_or_else(|| Error::Tile("internal error in the thread that writes; please report it".into()))
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// What kept a part from being written.
    pub fn finish(&mut self) -> Result<()> {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err(Error::Tile("internal error in the thread that writes; please report it".into()));
        }
        lock(&self.failure).clone().map_or(Ok(()), Err)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Whatever it says, nobody listens any more; parts that were handed over are written all the same.
        let _ = self.finish();
    }
}
