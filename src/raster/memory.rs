//! The memory that GDAL takes in this process.

use std::sync::{Mutex, PoisonError};

/// What GDAL's cache of blocks may take when nothing asks for more.
const LEAST: i64 = 32 << 20;

/// Bounds GDAL's own cache of blocks, which is there for what one reading leaves for the next, to the most that was ever
/// asked for. Left alone where the user has set `GDAL_CACHEMAX`.
pub fn bound_cache(bytes: i64) {
    static BOUND: Mutex<i64> = Mutex::new(0);
    let set_by_user = gdal::config::get_config_option("GDAL_CACHEMAX", "").is_ok_and(|v| !v.is_empty());
    let mut bound = BOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = bytes.clamp(LEAST, 1 << 31).max(*bound);
    if !set_by_user && wanted > *bound {
        *bound = wanted;
        // SAFETY: takes a number.
        unsafe { gdal_sys::GDALSetCacheMax64(wanted) };
    }
}

/// Gives free memory back to the system. Several threads leave it in pieces between what is in use, which the C library
/// does not give back by itself: without this, a process grows while overviews are made, the longer the larger they are.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes a number and the C library's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
