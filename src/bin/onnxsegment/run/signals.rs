//! Ctrl-C and SIGTERM: the first asks a run to stop where it can go on later, the second ends the program.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// How the program ends when a user has stopped it: 128 + SIGINT, as shells have it.
pub const INTERRUPTED: u8 = 130;

static ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Begins to listen.
///
/// # Errors
/// What the system says of it.
pub fn listen() -> Result<()> {
    for signal in [SIGINT, SIGTERM] {
        // Parts are written whole or not at all, so that the program may end at any moment.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), ASKED.clone())
            .and_then(|_| flag::register(signal, ASKED.clone()))
            .context("Ctrl-C cannot be listened to")?;
    }
    Ok(())
}

/// Whether a user wants to stop.
pub fn stop() -> bool {
    ASKED.load(Ordering::SeqCst)
}
