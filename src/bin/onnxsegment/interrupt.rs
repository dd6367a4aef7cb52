//! Ctrl-C, and a polite end by the system: asked for once, work stops where it leaves nothing half done; asked for again, at once.

use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell reports of a command that was stopped by Ctrl-C.
pub const EXIT_CODE: i32 = 130;

static WANTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(signal: libc::c_int) {
    if WANTED.swap(true, Ordering::Relaxed) {
        // SAFETY: both calls are allowed in a signal handler; the signal then does what it does by itself.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
    }
}

/// From now on signals are noted.
pub fn listen() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only touches an atomic, and makes calls that are allowed in one.
        unsafe { libc::signal(signal, note as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    }
}

/// Whether somebody wants this to end.
pub fn is_wanted() -> bool {
    WANTED.load(Ordering::Relaxed)
}
