//! Objects by GDAL's virtual file systems: whole ones, read as they are now, and GDAL's failures in words.

use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

use gdal::cpl::CslStringList;
use tempfile::TempDir;

use crate::files;
use crate::raster::source::messages::{Messages, REASONS, catch};

/// A store whose uploads end with a whole object or with none.
struct Kind {
    /// What GDAL's names begin with.
    prefix: &'static str,
    /// What others' do.
    scheme: Option<&'static str>,
    /// The condition under which it takes an object only if it is the first of its name.
    condition: Option<&'static str>,
}

const STORES: [Kind; 4] = [
    Kind { prefix: "/vsis3/", scheme: Some("s3://"), condition: Some("If-None-Match=*") },
    Kind { prefix: "/vsigs/", scheme: Some("gs://"), condition: Some("x-goog-if-generation-match=0") },
    Kind { prefix: "/vsioss/", scheme: Some("oss://"), condition: Some("x-oss-forbid-overwrite=true") },
    // For tests: nobody else sees what GDAL's memory keeps.
    Kind { prefix: MEMORY, scheme: None, condition: None },
];
const MEMORY: &str = "/vsimem/";

/// Bytes of an upload that are handed to GDAL at once.
const PIECE: usize = 1 << 20;

/// GDAL's settings of this thread, as they were again when it is dropped. What users have set stays.
pub struct Quiet(Vec<(&'static str, String)>);

impl Quiet {
    pub fn none() -> Self {
        Quiet(Vec::new())
    }

    /// For reading rasters of which nothing lies beside them, and which are small.
    pub fn reading() -> Self {
        Self::new(&[
            ALONE,
            // Most parts come whole with the first request.
            ("GDAL_INGESTED_BYTES_AT_OPEN", "1048576"),
            RETRIES[0],
            RETRIES[1],
        ])
    }

    fn new(options: &[(&'static str, &str)]) -> Self {
        // What is said is caught, and what is listed may be old: these two are not for users to choose.
        let own = |(name, _): &&(&'static str, &str)| {
            [REASONS.0, ALONE.0].contains(name) || gdal::config::get_config_option(name, "").is_ok_and(|v| v.is_empty())
        };
        let set = |(name, value): &(&'static str, &str)| {
            let before = gdal::config::get_thread_local_config_option(name, "").ok()?;
            gdal::config::set_thread_local_config_option(name, value).ok().map(|()| (*name, before))
        };
        Quiet(options.iter().filter(own).filter_map(set).collect())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        for (name, before) in &self.0 {
            let _ = match before.is_empty() {
                true => gdal::config::clear_thread_local_config_option(name),
                false => gdal::config::set_thread_local_config_option(name, before),
            };
        }
    }
}

/// Else GDAL lists the whole folder of a file, believes what it has listed once, and asks for files beside each.
const ALONE: (&str, &str) = ("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR");

/// A store that is too busy for a moment is asked again.
const RETRIES: [(&str, &str); 2] = [("GDAL_HTTP_MAX_RETRY", "4"), ("GDAL_HTTP_RETRY_DELAY", "0.5")];

// Of GDAL's cpl_vsi_error.h, which gdal-sys leaves out.
unsafe extern "C" {
    fn VSIErrorReset();
    fn VSIGetLastErrorMsg() -> *const c_char;
}

/// Asks a store for something; also what it says.
fn ask<R>(work: impl FnOnce() -> R) -> (R, Messages) {
    let _settings = Quiet::new(&[REASONS, ALONE, RETRIES[0], RETRIES[1]]);
    // SAFETY: takes nothing, and is of this thread.
    unsafe { VSIErrorReset() };
    let (done, mut said) = catch(work);
    // SAFETY: GDAL returns a text of this thread's that ends with 0 and lives until its next error.
    let more = unsafe { CStr::from_ptr(VSIGetLastErrorMsg()) }.to_string_lossy();
    if !more.is_empty() {
        said.reasons.push(format!("{LACK}{more}"));
    }
    (done, said)
}

/// Before what GDAL says of itself, without having asked the store.
const LACK: &str = "GDAL: ";

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The store of a path, and what follows in it: a bucket, and the name of an object.
fn split(path: &Path) -> Option<(&'static Kind, &str)> {
    let whole = path.to_str()?;
    STORES.iter().find_map(|kind| Some((kind, whole.strip_prefix(kind.prefix)?)))
}

/// An object as others than GDAL name it.
pub fn address(path: &Path) -> Option<PathBuf> {
    let (kind, name) = split(path)?;
    Some(PathBuf::from(format!("{}{name}", kind.scheme?)))
}

fn bucket(path: &Path) -> &str {
    split(path).and_then(|(_, name)| name.split('/').next()).unwrap_or_default()
}

/// Whether an object may come to lie at a path.
///
/// # Errors
/// Why not, in words.
pub fn check(path: &Path) -> Result<(), String> {
    let Some((Kind { prefix, .. }, name)) = split(path) else {
        return Err(
            "is on a virtual file system of GDAL's where files do not appear whole or not at all; write to a disk, to \
                    /vsis3/, /vsigs/ or /vsioss/"
                .into(),
        );
    };
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
    if name.ends_with('/') || parts.len() < if *prefix == MEMORY { 1 } else { 2 } {
        return Err(format!("names no object; write {prefix}BUCKET/NAME.tif"));
    }
    if *prefix == MEMORY {
        return Ok(());
    }
    match entries(&files::parent(path), &file_name(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(files::words(&e)),
        _ => Ok(()),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The names in a folder that begin in a way, and whether they are folders themselves. Asks the store, whatever GDAL remembers.
fn entries(folder: &Path, beginning: &str) -> io::Result<Vec<(String, bool)>> {
    let path = text(folder)?;
    let mut options = CslStringList::new();
    let set =
        [("PREFIX", beginning), ("CACHE_ENTRIES", "NO")].iter().try_for_each(|(k, v)| options.set_name_value(k, v));
    set.map_err(io::Error::other)?;
    let (found, said) = ask(|| {
        // SAFETY: path and options live until the end of the call.
        let dir = unsafe { gdal_sys::VSIOpenDir(path.as_ptr(), 0, options.as_ptr().cast_const().cast()) };
        if dir.is_null() {
            return None;
        }
        let mut found = Vec::new();
        // SAFETY: the list is open until it is closed below; an entry lives until the next one is asked for.
        unsafe {
            while let Some(entry) = gdal_sys::VSIGetNextDirEntry(dir).as_ref() {
                let name = CStr::from_ptr(entry.pszName).to_string_lossy().into_owned();
                let is_folder = entry.nMode as libc::mode_t & libc::S_IFMT == libc::S_IFDIR;
                found.push((name, is_folder));
            }
            gdal_sys::VSICloseDir(dir);
        }
        Some(found)
    });
    match found {
        // One that breaks off ends like one that is complete.
        _ if !said.reasons.is_empty() || !said.failures.is_empty() => Err(reason(&said, folder)),
        None => Err(io::ErrorKind::NotFound.into()),
        Some(found) => Ok(found.into_iter().filter(|(name, _)| name.starts_with(beginning)).collect()),
    }
}

/// The objects of a folder. Without any, there is no folder.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    Ok(entries(folder, "")?.into_iter().map(|(name, _)| name).collect())
}

pub fn exists(path: &Path) -> bool {
    let name = file_name(path);
    let there = entries(&files::parent(path), &name);
    forget(path);
    there.is_ok_and(|found| found.iter().any(|(other, is_folder)| *other == name && !is_folder))
}

/// What is there whose name begins as this one.
pub fn beginning_with(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = files::parent(path);
    match entries(&folder, &file_name(path)) {
        Ok(found) => Ok(found.into_iter().map(|(name, _)| folder.join(name)).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Whether two paths name one object.
pub fn is_same(a: &Path, b: &Path) -> bool {
    let plain = |path: &Path| -> Vec<String> {
        let parts = path.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
        // Another way to read the same.
        parts.map(|part| part.strip_suffix("_streaming").map(str::to_string).unwrap_or(part)).collect()
    };
    plain(a) == plain(b)
}

/// Has GDAL forget what it knows of a path, which others may have changed.
fn forget(path: &Path) {
    if let Ok(path) = text(path) {
        // SAFETY: the path lives until the end of the call.
        unsafe { gdal_sys::VSICurlPartialClearCache(path.as_ptr()) };
    }
}

pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    match ingest(path)? {
        Ok(bytes) => Ok(bytes),
        // GDAL does not say why a file cannot be opened. It may have come since.
        Err(_) => match entries(&files::parent(path), &file_name(path))?.iter().any(|(n, _)| *n == file_name(path)) {
            true => ingest(path)?.map_err(|said| reason(&said, path)),
            false => Err(io::ErrorKind::NotFound.into()),
        },
    }
}

/// All bytes of an object as it is now, or what was said of it.
fn ingest(path: &Path) -> io::Result<Result<Vec<u8>, Messages>> {
    forget(path);
    let name = text(path)?;
    let (bytes, said) = ask(|| {
        let (mut data, mut size) = (null_mut(), 0);
        // SAFETY: the path lives until the end of the call, which takes a null handle and opens the file itself.
        let done = unsafe { gdal_sys::VSIIngestFile(null_mut(), name.as_ptr(), &mut data, &mut size, -1) };
        if done == 0 {
            return None;
        }
        // SAFETY: GDAL has put `size` bytes there, which are ours to free.
        unsafe {
            let bytes = std::slice::from_raw_parts(data, size as usize).to_vec();
            gdal_sys::VSIFree(data.cast());
            Some(bytes)
        }
    });
    Ok(bytes.ok_or(said))
}

pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    send(path, bytes, None, &mut |_| true)
}

/// The same if no such object is there. What is there afterwards is compared: a store may know no condition.
///
/// # Errors
/// `AlreadyExists` where the object is not this one.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let condition = split(path).and_then(|(kind, _)| kind.condition);
    match send(path, bytes, condition, &mut |_| true) {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => put(path, bytes)?,
        // Perhaps this very one, whose answer was lost on the way.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        sent => sent?,
    }
    if read(path)? == bytes { Ok(()) } else { Err(io::ErrorKind::AlreadyExists.into()) }
}

/// Uploads a file.
///
/// # Errors
/// `Interrupted` when it was told to stop; then there is no new object.
pub fn upload(file: &Path, path: &Path, progress: &mut dyn FnMut(f64) -> bool) -> io::Result<()> {
    let file = File::open(file)?;
    let all = file.metadata()?.len().max(1) as f64;
    send(path, file, None, &mut |done| progress(done as f64 / all))
}

/// Sends one object. It is there when its end was sent, whole; what goes wrong before leaves what was there.
fn send(
    path: &Path,
    mut from: impl Read,
    condition: Option<&str>,
    goes_on: &mut dyn FnMut(u64) -> bool,
) -> io::Result<()> {
    let name = text(path)?;
    let mut options = CslStringList::new();
    if let Some(condition) = condition {
        options.add_string(condition).map_err(io::Error::other)?;
    }
    let mut piece = vec![0; PIECE];
    let (sent, said) = ask(|| {
        // SAFETY: path, mode and options live until the end of the call.
        let file = unsafe { gdal_sys::VSIFOpenEx2L(name.as_ptr(), c"wb".as_ptr(), 0, options.as_ptr()) };
        if file.is_null() {
            return Ok(false);
        }
        let mut done = 0;
        let mut fill = || -> io::Result<bool> {
            loop {
                let n = match from.read(&mut piece) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    read => read?,
                };
                if n == 0 {
                    return Ok(true);
                }
                if !goes_on(done) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                // SAFETY: the handle is open, and the piece holds so many bytes.
                if unsafe { gdal_sys::VSIFWriteL(piece.as_ptr().cast(), 1, n, file) } != n {
                    return Ok(false);
                }
                done += n as u64;
            }
        };
        let filled = fill();
        // Closed, it would become an object. GDAL gives up an upload in which somebody wants to go back.
        // SAFETY: the handle is open until it is closed below.
        unsafe {
            if !matches!(filled, Ok(true)) {
                gdal_sys::VSIFSeekL(file, done + 1, libc::SEEK_SET);
            }
            let closed = gdal_sys::VSIFCloseL(file) == 0;
            filled.map(|whole| whole && closed)
        }
    });
    match sent {
        Ok(true) => Ok(()),
        Ok(false) => Err(reason(&said, path)),
        Err(e) => Err(e),
    }
}

pub fn remove(paths: &[PathBuf]) -> io::Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let mut list = CslStringList::new();
    for path in paths {
        list.add_string(&path.to_string_lossy()).map_err(io::Error::other)?;
    }
    let (gone, said) = ask(|| {
        // SAFETY: the list lives until the end of the call; what comes back is a number for each of it, and ours to free.
        unsafe {
            let done = gdal_sys::VSIUnlinkBatch(list.as_ptr());
            if done.is_null() {
                return false;
            }
            let all = std::slice::from_raw_parts(done, paths.len()).iter().all(|done| *done != 0);
            gdal_sys::VSIFree(done.cast());
            all
        }
    });
    if gone {
        return Ok(());
    }
    if !said.reasons.is_empty() {
        return Err(reason(&said, &paths[0]));
    }
    // What is not there is no failure; and of those that are, only one that is deleted by itself tells what is wrong.
    let Some(left) = paths.iter().find(|path| exists(path)) else { return Ok(()) };
    let name = text(left)?;
    // SAFETY: the path lives until the end of the call.
    let (done, said) = ask(|| unsafe { gdal_sys::VSIUnlink(name.as_ptr()) });
    match done {
        0 => remove(paths),
        _ => Err(reason(&said, left)),
    }
}

/// What a store said, in words that say what to do.
fn reason(said: &Messages, path: &Path) -> io::Error {
    let answer = said.reasons.iter().find(|text| text.contains("<Code>"));
    let of = |tag: &str| -> String {
        let found = answer.and_then(|text| text.split_once(&format!("<{tag}>"))?.1.split_once("</"));
        found.map(|(value, _)| value.trim().trim_end_matches('.').to_string()).unwrap_or_default()
    };
    let (code, message) = (of("Code"), of("Message"));
    let variables = match split(path) {
        Some((Kind { prefix: "/vsis3/", .. }, _)) => " (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)",
        _ => "",
    };
    let words = match code.as_str() {
        "" => match unreachable(said).or_else(|| unreachable(&probe(path))) {
            Some(why) => {
                let hint = if path.starts_with("/vsis3") { "AWS_S3_ENDPOINT, AWS_HTTPS" } else { "its address" };
                format!("the store cannot be reached: {why}; check {hint} and the network")
            }
            None => match said.reasons.iter().find_map(|text| text.strip_prefix(LACK)) {
                Some(lack) if lack.contains("not defined") => format!("no credentials are known: {lack}"),
                Some(lack) => lack.into(),
                None if said.failures.is_empty() => "the store gives no reason".into(),
                None => said.words(),
            },
        },
        "NoSuchBucket" => format!("the store has no bucket {}; make it, or name another", bucket(path)),
        "NoSuchKey" => return io::ErrorKind::NotFound.into(),
        "PreconditionFailed" | "ConditionalRequestConflict" | "FileAlreadyExists" => {
            return io::ErrorKind::AlreadyExists.into();
        }
        "NotImplemented" => return io::ErrorKind::Unsupported.into(),
        "AccessDenied" => {
            format!("the store denies access ({message}); what is needed is to list, read, write and delete objects")
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "InvalidSecurity" => {
            format!("the store does not accept the key ({message}); check the credentials{variables}")
        }
        _ => format!("the store says {code}: {message}"),
    };
    io::Error::other(words)
}

/// What curl says where there was no answer.
fn unreachable(said: &Messages) -> Option<String> {
    said.reasons.iter().find_map(|text| Some(text.split_once("curl error msg=")?.1.trim().to_string()))
}

/// Asks for an object so that GDAL tells what curl says, which it does not for other requests.
fn probe(path: &Path) -> Messages {
    forget(path);
    ask(|| status(path)).1
}

/// What is known of a file.
fn status(path: &Path) -> Option<libc::stat64> {
    let name = text(path).ok()?;
    // SAFETY: plain numbers, which GDAL fills in.
    let mut found: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: the path lives until the end of the call; GDAL's structure is the system's.
    let done = unsafe { gdal_sys::VSIStatL(name.as_ptr(), std::ptr::from_mut(&mut found).cast()) };
    (done == 0).then_some(found)
}

/// Size and time of a file on a virtual file system, or of the archive in it that holds it; `None` for what is no file there.
pub fn age(path: &Path) -> Option<(u64, i64)> {
    let of = |path: &Path| {
        let found = catch(|| status(path)).0?;
        (found.st_mode & libc::S_IFMT == libc::S_IFREG).then_some((found.st_size as u64, found.st_mtime))
    };
    // A bucket is no file.
    path.ancestors().take_while(|p| p.components().count() > 3).find_map(of)
}

/// A folder on this machine for what is made before it is uploaded. Gone when it is dropped; of a process that was killed, another
/// one deletes it.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
    _lock: File,
}

const SCRATCH: &str = "onnxsegment-draft-";
const HELD: &str = "held";

impl Scratch {
    /// # Errors
    /// What the disk says.
    pub fn new() -> io::Result<Self> {
        Self::sweep();
        let root = Self::root();
        let named = |e: io::Error| {
            io::Error::other(format!("{}: {}; CPL_TMPDIR names another folder", root.display(), files::words(&e)))
        };
        let folder = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&root).map_err(named)?;
        // Locked before it is called so: nobody takes it for one that was left.
        let before = folder.path().join("new");
        let lock = File::create(&before)?;
        let _ = lock.try_lock();
        std::fs::rename(before, folder.path().join(HELD))?;
        Ok(Scratch { folder, _lock: lock })
    }

    /// As GDAL has it for its own.
    fn root() -> PathBuf {
        let set = gdal::config::get_config_option("CPL_TMPDIR", "").unwrap_or_default();
        if set.is_empty() { std::env::temp_dir() } else { set.into() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Deletes what processes have left that are gone.
    pub fn sweep() {
        let root = Self::root();
        for name in files::names(&root).unwrap_or_default().iter().filter(|name| name.starts_with(SCRATCH)) {
            let folder = root.join(name);
            let is_left = File::open(folder.join(HELD)).is_ok_and(|held| held.try_lock().is_ok());
            if is_left {
                let _ = std::fs::remove_dir_all(folder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(answers: &[&str], path: &str) -> String {
        let said = Messages { reasons: answers.iter().map(|text| text.to_string()).collect(), ..Messages::default() };
        files::words(&reason(&said, Path::new(path)))
    }

    fn answer(code: &str) -> String {
        format!("S3: <?xml version=\"1.0\"?> <Error><Code>{code}</Code><Message>So it is.</Message></Error>")
    }

    #[test]
    fn what_a_store_answers_has_its_words() {
        let said = |code: &str| words(&[&answer(code)], "/vsis3/bucket/mask.tif");
        assert_eq!(said("NoSuchBucket"), "the store has no bucket bucket; make it, or name another");
        assert_eq!(
            said("AccessDenied"),
            "the store denies access (So it is); what is needed is to list, read, write and delete objects"
        );
        assert_eq!(
            said("SignatureDoesNotMatch"),
            "the store does not accept the key (So it is); check the credentials (AWS_ACCESS_KEY_ID, \
             AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)"
        );
        assert_eq!(said("SlowDown"), "the store says SlowDown: So it is");
        for (code, kind) in [
            ("NoSuchKey", io::ErrorKind::NotFound),
            ("PreconditionFailed", io::ErrorKind::AlreadyExists),
            ("NotImplemented", io::ErrorKind::Unsupported),
        ] {
            let said = Messages { reasons: vec![answer(code)], ..Messages::default() };
            assert_eq!(reason(&said, Path::new("/vsis3/bucket/a")).kind(), kind);
        }
    }

    #[test]
    fn what_keeps_a_store_from_answering_has_its_words() {
        let curl = "S3: GetFileSize(http://x): response_code=0, curl error msg=Failed to connect to x port 1";
        assert_eq!(
            words(&["S3: (null)", curl], "/vsis3/bucket/mask.tif"),
            "the store cannot be reached: Failed to connect to x port 1; check AWS_S3_ENDPOINT, AWS_HTTPS and the network"
        );
        let lack = format!("{LACK}AWS_SECRET_ACCESS_KEY not defined, and ~/.aws/credentials not filled");
        assert_eq!(
            words(&[&lack], "/vsimem/mask.tif"),
            "no credentials are known: AWS_SECRET_ACCESS_KEY not defined, and ~/.aws/credentials not filled"
        );
    }
}
