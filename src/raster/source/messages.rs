//! GDAL's messages: caught for the user's error text instead of printed.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int};

use gdal_sys::CPLErr;

/// What GDAL said during one piece of work.
#[derive(Debug, Default)]
pub struct Messages {
    pub failures: Vec<String>,
    pub warnings: Vec<String>,
    /// What a server answered to requests that failed, where [`REASONS`] is on: GDAL's failures do not say it.
    pub reasons: Vec<String>,
}

/// GDAL's option that has it tell the reasons of failed requests too, of the stores that are written to. More would be printed
/// where GDAL does not let this be caught.
pub const REASONS: (&str, &str) = ("CPL_DEBUG", "S3,GS,OSS");

impl Messages {
    /// All failures as one text.
    pub fn words(&self) -> String {
        match self.failures.is_empty() {
            true => "GDAL gives no reason".into(),
            false => self.failures.join("; "),
        }
    }
}

/// Does some work with GDAL and returns what GDAL said of it.
pub fn catch<R>(work: impl FnOnce() -> R) -> (R, Messages) {
    struct Pop;
    impl Drop for Pop {
        fn drop(&mut self) {
            // SAFETY: pops what was pushed below, on the same thread.
            unsafe { gdal_sys::CPLPopErrorHandler() }
        }
    }
    let messages = RefCell::<Messages>::default();
    // SAFETY: `messages` lives until `Pop` has taken the handler away; handlers belong to their thread.
    unsafe { gdal_sys::CPLPushErrorHandlerEx(Some(note), std::ptr::from_ref(&messages).cast_mut().cast()) };
    let pop = Pop;
    let result = work();
    drop(pop);
    (result, messages.into_inner())
}

unsafe extern "C" fn note(class: CPLErr::Type, _number: c_int, text: *const c_char) {
    // SAFETY: the user data is what `catch` pushed with this handler, and nothing else borrows it now.
    let messages = unsafe { &*gdal_sys::CPLGetErrorHandlerUserData().cast::<RefCell<Messages>>() };
    if text.is_null() {
        return;
    }
    // SAFETY: GDAL passes a text that ends with 0.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().replace('\n', " ");
    let Ok(mut messages) = messages.try_borrow_mut() else { return };
    let list = match class {
        CPLErr::CE_Failure | CPLErr::CE_Fatal => &mut messages.failures,
        CPLErr::CE_Warning => &mut messages.warnings,
        CPLErr::CE_Debug if is_reason(&text) => &mut messages.reasons,
        _ => return,
    };
    // A damaged file may fail for every band alike.
    if list.len() < 8 && !list.contains(&text) {
        list.push(text);
    }
}

/// A server's answer as XML, the lack of one, or what curl says.
fn is_reason(text: &str) -> bool {
    text.contains("<Code>") || text.ends_with(": (null)") || text.contains("curl error msg=")
}
