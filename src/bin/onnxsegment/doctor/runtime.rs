//! ONNX Runtime: which library, whether it runs a model, and whether its GPU providers can be opened.

use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use gstonnxsegment::engine::settings::Source;
use gstonnxsegment::engine::{Ensemble, Settings, runtime};

use super::Part;

/// A 1 × 1 convolution of three channels.
const MODEL: &[u8] = include_bytes!("../../../../tests/models/identity1x1.onnx");

const GPU: &str = "to get it: an NVIDIA GPU with its driver, CUDA and cuDNN, and `make setup ORT=gpu`";

pub fn look() -> Part {
    let mut part = Part::new("ONNX Runtime");
    const PURPOSE: &str = "runs the models";
    let library = match runtime::library_path() {
        Ok(library) => library,
        Err(e) => {
            let get = "to get it: run `make setup` in the source folder; or apt-get install libonnxruntime1.21, where the system \
                       has it (Debian 13); or set ORT_DYLIB_PATH to a libonnxruntime.so of version 1.20 or newer";
            // Its own advice is for those who ask no doctor.
            let text = e.to_string();
            part.missing("library", text.split(". To get it").next().unwrap_or(&text), PURPOSE, get);
            return part;
        }
    };
    let how = match std::env::var_os("ORT_DYLIB_PATH").is_some_and(|v| !v.is_empty()) {
        true => "named by ORT_DYLIB_PATH",
        false => "found by itself",
    };
    let file = library.canonicalize().unwrap_or_else(|_| library.to_path_buf());
    let version = version(library).unwrap_or_else(|| "of unknown version".into());
    part.ok("library", format!("{version}, {}, {how}", file.display()), PURPOSE);
    match runs("cpu") {
        Ok(()) => part.ok("execution-provider=cpu", "runs a model", ""),
        Err(e) => part.missing("execution-provider=cpu", e, PURPOSE, "run `make setup` again, or take another version"),
    }
    let compiled = providers();
    part.ok("providers compiled in", compiled.join(", "), "");
    let folder = file.parent().unwrap_or(Path::new("."));
    for (name, full, purpose) in [
        ("cuda", "CUDAExecutionProvider", "runs the models on an NVIDIA GPU"),
        ("tensorrt", "TensorrtExecutionProvider", "the same, with engines built for the GPU"),
    ] {
        let what = format!("execution-provider={name}");
        if !compiled.iter().any(|provider| provider == full) {
            part.note(&what, "this library is built without it", purpose, GPU);
            continue;
        }
        let plugin = folder.join(format!("libonnxruntime_providers_{name}.so"));
        match opens(folder, &plugin).and_then(|()| runs(name)) {
            Ok(()) => part.ok(&what, "runs a model", purpose),
            Err(e) => part.note(&what, e, purpose, GPU),
        }
    }
    part
}

/// Runs a small model on one provider, or says why not.
fn runs(provider: &str) -> Result<(), String> {
    let file = tempfile::Builder::new().suffix(".onnx").tempfile().map_err(|e| e.to_string())?;
    std::fs::write(file.path(), MODEL).map_err(|e| format!("{}: {e}", file.path().display()))?;
    let mut settings = Settings { models: vec![file.path().to_path_buf()], ..Settings::default() };
    for (name, value) in [("execution-provider", provider), ("provider-policy", "strict"), ("threads", "1")] {
        settings.set(name, value, Source::Property, Path::new("")).map_err(|e| e.to_string())?;
    }
    // Opening a model probes it.
    let ensemble = Ensemble::load(&settings).map_err(|e| e.to_string())?;
    match ensemble.active_provider().split(',').next() {
        Some(active) if active == provider => Ok(()),
        active => Err(format!("the model ran on {} instead", active.unwrap_or("nothing"))),
    }
}

/// Opens a provider's library, or names the libraries that it lacks.
fn opens(folder: &Path, plugin: &Path) -> Result<(), String> {
    if !plugin.exists() {
        return Err(format!("{} does not exist", plugin.display()));
    }
    // The provider takes functions from this one.
    let _ = dlopen(&folder.join("libonnxruntime_providers_shared.so"), libc::RTLD_LAZY | libc::RTLD_GLOBAL);
    let Err(first) = dlopen(plugin, libc::RTLD_LAZY | libc::RTLD_LOCAL) else { return Ok(()) };
    // The loader names only the first.
    let ldd = Command::new("ldd").arg(plugin).output().ok();
    let text = ldd.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
    match lacking(&text) {
        list if list.is_empty() => Err(format!("{} cannot be opened: {first}", plugin.display())),
        list => Err(format!("{} lacks {}", plugin.display(), list.join(", "))),
    }
}

/// The libraries that `ldd` does not find.
fn lacking(ldd: &str) -> Vec<String> {
    let missing = ldd.lines().filter(|line| line.contains("not found"));
    let mut names: Vec<String> = missing.filter_map(|line| Some(line.split("=>").next()?.trim().to_string())).collect();
    names.dedup();
    names
}

/// Loads a library and keeps it, as unloading those of GPUs is not safe. The loader's words on failure.
pub fn dlopen(path: &Path, flags: i32) -> Result<*mut c_void, String> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: the name ends with 0; libraries of ONNX Runtime and CUDA may be loaded at any time.
    let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: the text belongs to this thread until its next call of the loader.
    let text = unsafe { libc::dlerror() };
    match text.is_null() {
        true => Err("the loader gives no reason".into()),
        // SAFETY: not null, and ends with 0.
        false => Err(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()),
    }
}

/// What the library says of its version.
fn version(library: &Path) -> Option<String> {
    let handle = dlopen(library, libc::RTLD_NOW | libc::RTLD_LOCAL).ok()?;
    // SAFETY: the name ends with 0, and the library stays loaded.
    let function = unsafe { libc::dlsym(handle, c"OrtGetApiBase".as_ptr()) };
    if function.is_null() {
        return None;
    }
    // SAFETY: the function of this name has this type in every version of ONNX Runtime.
    let base = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> *const ort::sys::OrtApiBase>(function) };
    // SAFETY: it gives a table that lives as long as the library, whose function gives a text that ends with 0.
    let text = unsafe { CStr::from_ptr(((*base()).GetVersionString)()) };
    Some(text.to_string_lossy().into_owned())
}

/// The providers that the library is built with. The library has been found.
fn providers() -> Vec<String> {
    let api = ort::api();
    let (mut names, mut count): (*mut *mut c_char, i32) = (std::ptr::null_mut(), 0);
    // SAFETY: both are filled in; a status other than null is an error, which only lack of memory can cause.
    let status = unsafe { (api.GetAvailableProviders)(&mut names, &mut count) };
    if !status.0.is_null() || names.is_null() {
        return Vec::new();
    }
    let name = |k: i32| {
        // SAFETY: there are `count` texts that end with 0.
        unsafe { CStr::from_ptr(*names.offset(k as isize)) }.to_string_lossy().into_owned()
    };
    let list = (0..count).map(name).collect();
    // SAFETY: the list is ONNX Runtime's own, and is not used any more.
    let _ = unsafe { (api.ReleaseAvailableProviders)(names, count) };
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_names_what_is_lacking() {
        let text = "\tlinux-vdso.so.1 (0x0)\n\tlibcudart.so.12 => not found\n\tlibcudnn.so.9 => not found\n\
                    \tlibc.so.6 => /lib/libc.so.6 (0x0)\n";
        assert_eq!(lacking(text), ["libcudart.so.12", "libcudnn.so.9"]);
        assert!(lacking("").is_empty());
    }
}
