//! A mosaic run as a set of finished parts, in a folder beside the raster that it is to become: to resume a run, to
//! share it between processes and between machines are one idea.
//!
//! The folder holds `manifest.json`, which says what run the parts belong to, and for each finished cell of the
//! lattice one small GeoTIFF per product, or one empty file where no pixel has data. Everything appears whole. The first
//! product's part comes last: with it, the cell is finished.
//!
//! A folder on a disk that was taken away takes no parts any more. In a store of objects it is but a name, so there the manifest
//! stands for it: it is the first to go, and whoever has added a part looks whether it is still there, and takes the part back
//! where it is not. Parts without a manifest are what is left of a run that was being taken away.

mod finish;
mod manifest;
mod vrt;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use super::cells::{Depth, Samples};
use super::error::{Error, Result};
use super::grid::{Cell, Rect};
use super::store::Store;
use crate::files;

pub(super) use finish::is_part_of;
pub use finish::{Format, Look, Outcome};
pub use manifest::{Entry, Manifest};

/// What a raster shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Labels,
    /// One band per class; of one-channel models class 1 alone.
    Probability,
    Uncertainty,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Labels, Kind::Probability, Kind::Uncertainty];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Labels => "labels",
            Kind::Probability => "probability",
            Kind::Uncertainty => "uncertainty",
        }
    }

    /// The property that names its file.
    pub fn property(self) -> &'static str {
        match self {
            Kind::Labels => "location",
            Kind::Probability => "probability-location",
            Kind::Uncertainty => "uncertainty-location",
        }
    }
}

/// A raster that a run makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    pub kind: Kind,
    pub depth: Depth,
    /// The file that it becomes.
    pub path: PathBuf,
}

/// What to do with parts that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// Go on with them where they belong to this run; else refuse.
    #[default]
    Auto,
    /// There must be some.
    True,
    /// Throw them away.
    False,
}

/// The parts of a run.
#[derive(Debug)]
pub struct Parts {
    folder: PathBuf,
    store: Store,
    products: Vec<Product>,
    manifest: Manifest,
    identity: String,
    /// Another process has finished the run before this one began.
    finished: bool,
    /// This process has begun the run, and shares it with no other.
    own: bool,
    /// The manifest was this run's when it was looked at after it was written.
    standing: AtomicBool,
}

/// How a run stands while a process is at it.
#[derive(Debug)]
enum Standing {
    Open,
    /// Another process has made the rasters.
    Finished,
    Gone,
    /// Another run has begun in its place.
    Replaced(Error),
}

const MANIFEST: &str = "manifest.json";
const LOCK: &str = "lock";
const SUFFIX: &str = "tif";
/// Of a cell without data.
const NONE: &str = "none";

/// The folder of parts of a raster.
pub fn folder(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".parts");
    PathBuf::from(name)
}

fn stem(kind: Kind, cell: Cell) -> String {
    format!("{}_r{:05}_c{:05}", kind.name(), cell.row, cell.column)
}

/// Reads a part's name; the flag says whether it has data.
fn parse(name: &str) -> Option<(Kind, Cell, bool)> {
    let (stem, suffix) = name.split_once('.')?;
    let (kind, place) = stem.split_once("_r")?;
    let (row, column) = place.split_once("_c")?;
    let kind = Kind::ALL.into_iter().find(|k| k.name() == kind)?;
    let cell = Cell { row: row.parse().ok()?, column: column.parse().ok()? };
    let has_data = [NONE, SUFFIX].iter().position(|s| *s == suffix)? == 1;
    (self::stem(kind, cell) == stem).then_some((kind, cell, has_data))
}

/// Whether a file of the folder is one that runs put there.
fn is_ours(name: &str) -> bool {
    parse(name).is_some() || name == MANIFEST || name == LOCK || files::is_temporary(name)
}

impl Parts {
    /// Opens or begins the parts of a run in the folder beside its first product. `shared` says that other processes have
    /// their shares of the run.
    ///
    /// # Errors
    /// A folder that cannot be written, and parts that belong to another run: the text says in what it differs.
    pub fn open(products: Vec<Product>, manifest: Manifest, resume: Resume, shared: bool) -> Result<Parts> {
        let mut parts = Parts::new(products, manifest)?;
        parts.store.sweep(&parts.folder);
        if resume == Resume::False {
            if shared {
                return Err(parts.refused(format!(
                    "resume=false where several processes share a run: each would throw away the parts of the others; \
                     delete {} once and begin them without it",
                    parts.folder.display()
                )));
            }
            parts.discard()?;
        }
        if let Some(there) = parts.read_manifest()? {
            parts.check(&there)?;
            return Ok(parts);
        }
        // One of many shards may come when the others are through.
        if resume != Resume::False && shared && parts.is_finished() {
            parts.finished = true;
            return Ok(parts);
        }
        if resume == Resume::True {
            return Err(parts.refused(format!(
                "resume=true, and there are no parts in {}; use resume=auto to begin, or if they were begun elsewhere, see \
                 that this machine sees the same folder",
                parts.folder.display()
            )));
        }
        parts.own = parts.begin()? && !shared;
        Ok(parts)
    }

    /// The cells of a run that are finished, in order, whether it has begun or not. Nothing is written.
    ///
    /// # Errors
    /// As [`Parts::open`].
    pub fn look(products: Vec<Product>, manifest: Manifest) -> Result<Vec<Cell>> {
        let mut parts = Parts::new(products, manifest)?;
        match parts.read_manifest()? {
            Some(there) => parts.check(&there)?,
            None if parts.is_finished() => parts.finished = true,
            None => return Ok(Vec::new()),
        }
        parts.done()
    }

    fn new(products: Vec<Product>, manifest: Manifest) -> Result<Parts> {
        products.iter().try_for_each(check_target)?;
        let (folder, identity) = (folder(&products[0].path), manifest.identity());
        let store = Store::of(&folder);
        let standing = AtomicBool::new(store.has_folders());
        Ok(Parts { folder, store, products, manifest, identity, finished: false, own: false, standing })
    }

    /// The folder of the parts.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn products(&self) -> &[Product] {
        &self.products
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// A name for the run: the same wherever parts are parts of one another.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    fn refused(&self, problem: impl AsRef<str>) -> Error {
        let first = &self.products[0];
        Error::Refused(format!("{}={}: {}", first.kind.property(), first.path.display(), problem.as_ref()))
    }

    fn failed(&self, problem: impl Into<String>) -> Error {
        Error::write(self.products[0].kind.property(), &self.products[0].path, problem)
    }

    fn manifest_text(&self) -> io::Result<String> {
        let bytes = self.store.read(&self.folder.join(MANIFEST))?;
        String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text"))
    }

    /// The manifest that is there; `None` where no run has begun.
    fn read_manifest(&self) -> Result<Option<String>> {
        let path = self.folder.join(MANIFEST);
        match self.manifest_text() {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let known = match self.store.names(&self.folder) {
                    Ok(names) => names,
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(e) => return Err(self.failed(format!("{}: {}", self.folder.display(), files::words(&e)))),
                };
                if let Some(stranger) = known.iter().find(|name| !is_ours(name)) {
                    return Err(self.refused(format!(
                        "{} is where parts are kept, and it holds {stranger}, which is none; move that folder away or \
                         write elsewhere",
                        self.folder.display()
                    )));
                }
                if known.iter().all(|name| parse(name).is_none()) {
                    return Ok(None);
                }
                // Another process has begun between the two looks; else the manifest is lost.
                let again = self.manifest_text().map(Some);
                if again.is_err() && !self.store.has_folders() {
                    return Ok(None);
                }
                again.map_err(|_| {
                    self.refused(format!(
                        "{} holds parts without {MANIFEST}, so nobody knows what they belong to; delete it",
                        self.folder.display()
                    ))
                })
            }
            Err(e) => Err(self.failed(format!("{}: {}", path.display(), files::words(&e)))),
        }
    }

    /// Whether parts belong to this run.
    fn check(&self, there: &str) -> Result<()> {
        let folder = self.folder.display();
        match self.manifest.difference(there) {
            Ok(None) => Ok(()),
            Ok(Some(difference)) => Err(self.refused(format!(
                "{folder} belongs to another run: {difference}. Delete it, set resume=false to start over, or write \
                 elsewhere"
            ))),
            Err(e) => Err(self.refused(format!(
                "{folder}/{MANIFEST} cannot be read as what rastersink writes ({e}); delete {folder} or set \
                 resume=false to start over"
            ))),
        }
    }

    /// Takes the folder away again where nothing has come of the run, so that a corrected one finds nothing in its way.
    pub fn abandon(&self) {
        let nothing = |names: Vec<String>| names.iter().all(|name| is_ours(name) && parse(name).is_none());
        if self.own && self.store.names(&self.folder).is_ok_and(nothing) {
            let _ = self.store.remove_folder(&self.folder, MANIFEST);
        }
    }

    /// Makes the folder and its manifest, unless another process is first; then adopts that one's. Whether this is first.
    fn begin(&self) -> Result<bool> {
        let unwritable = |e: &io::Error| {
            self.failed(format!("the folder of parts {} cannot be made: {}", self.folder.display(), files::words(e)))
        };
        self.store.make_folder(&self.folder).map_err(|e| unwritable(&e))?;
        if !self.store.has_folders() {
            let names = self.store.names(&self.folder).unwrap_or_default();
            let left = names.iter().filter(|name| parse(name).is_some()).map(|name| self.folder.join(name));
            self.store.remove(&left.collect::<Vec<_>>()).map_err(|e| unwritable(&e))?;
        }
        let text = self.manifest.text();
        match self.store.create(&self.folder.join(MANIFEST), text.as_bytes()) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let there = self.manifest_text().map_err(|e| unwritable(&e))?;
                self.check(&there).map(|()| false)
            }
            Err(e) => Err(unwritable(&e)),
        }
    }

    /// Throws away what is there.
    fn discard(&self) -> Result<()> {
        let failed =
            |e: io::Error| self.failed(format!("{} cannot be deleted: {}", self.folder.display(), files::words(&e)));
        let names = match self.store.names(&self.folder) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        if let Some(stranger) = names.iter().find(|name| !is_ours(name)) {
            return Err(self.refused(format!(
                "resume=false would delete {}, but it holds {stranger}, which is no part; move that away",
                self.folder.display()
            )));
        }
        self.store.remove_folder(&self.folder, MANIFEST).map_err(failed)
    }

    /// The finished cells of the region, and whether they have data.
    fn scan(&self) -> io::Result<Vec<(Cell, bool)>> {
        let names = self.store.names(&self.folder)?;
        let found: BTreeSet<(Kind, Cell, bool)> = names.iter().filter_map(|name| parse(name)).collect();
        let whole = |cell: Cell| self.products.iter().all(|p| found.contains(&(p.kind, cell, true)));
        let blank = |cell: Cell| Kind::ALL.iter().any(|kind| found.contains(&(*kind, cell, false)));
        let cells = self.manifest.lattice.cells(&self.manifest.region).into_iter();
        Ok(cells.map(|cell| (cell, whole(cell))).filter(|(cell, whole)| *whole || blank(*cell)).collect())
    }

    /// The finished cells of the region, in order.
    ///
    /// # Errors
    /// A folder that cannot be read any more.
    pub fn done(&self) -> Result<Vec<Cell>> {
        if self.finished {
            return Ok(self.manifest.lattice.cells(&self.manifest.region));
        }
        match self.scan() {
            Ok(cells) => Ok(cells.into_iter().map(|(cell, _)| cell).collect()),
            Err(_) if self.is_finished() => Ok(self.manifest.lattice.cells(&self.manifest.region)),
            Err(e) => Err(self.lost("the parts cannot be read", &e)),
        }
    }

    /// Number of cells of the region.
    pub fn total(&self) -> usize {
        self.manifest.lattice.cells(&self.manifest.region).len()
    }

    fn gone(&self) -> Error {
        let folder = self.folder.display();
        self.failed(format!(
            "the folder of parts {folder} has gone while the run was using it; run again to begin anew"
        ))
    }

    /// What to say of a folder or a file in it that cannot be used any more.
    fn lost(&self, problem: &str, e: &io::Error) -> Error {
        let folder = self.folder.display();
        if e.kind() == io::ErrorKind::NotFound && !self.store.has_folder(&self.folder) {
            return self.gone();
        }
        let kept = self.scan().map(|cells| cells.len()).unwrap_or_default();
        self.failed(format!(
            "{problem}: {}; {kept} of {} parts are kept in {folder}: run again to resume",
            files::words(e),
            self.total()
        ))
    }

    /// Writes a cell's part: the samples of each product, in their order, or nothing where no pixel has data.
    ///
    /// # Errors
    /// What keeps the part from being written; nothing of it stays.
    pub fn write(&self, cell: Cell, rect: &Rect, samples: Option<&[Samples]>) -> Result<()> {
        let place = |kind, suffix| self.folder.join(format!("{}.{suffix}", stem(kind, cell)));
        self.add(|| {
            // The first product last: its part says that all are there.
            let files = match samples {
                Some(all) => {
                    let encoded = |(product, samples): (&Product, &Samples)| {
                        let bytes = finish::encode(product.kind, rect, samples).map_err(io::Error::other)?;
                        Ok((place(product.kind, SUFFIX), bytes))
                    };
                    self.products.iter().zip(all).map(encoded).collect::<io::Result<Vec<_>>>()?
                }
                None => vec![(place(self.products[0].kind, NONE), Vec::new())],
            };
            self.store.write(&self.folder, &files)?;
            Ok(files.into_iter().map(|(path, _)| path).collect())
        })
    }

    /// Writes the parts of cells in which no pixel has data.
    ///
    /// # Errors
    /// What keeps a part from being written.
    pub fn write_without_data(&self, cells: &[Cell]) -> Result<()> {
        if cells.is_empty() {
            return Ok(());
        }
        self.add(|| {
            let place = |cell: &Cell| self.folder.join(format!("{}.{NONE}", stem(self.products[0].kind, *cell)));
            let files: Vec<PathBuf> = cells.iter().map(place).collect();
            self.store.write_all(&self.folder, &files, &[])?;
            Ok(files)
        })
    }

    /// Adds parts to the run that `write` writes, whose files it returns.
    fn add(&self, write: impl FnOnce() -> io::Result<Vec<PathBuf>>) -> Result<()> {
        if !self.standing.load(Ordering::Relaxed) {
            match self.standing()? {
                Standing::Open => self.standing.store(true, Ordering::Relaxed),
                Standing::Finished => return Ok(()),
                Standing::Gone => return Err(self.gone()),
                Standing::Replaced(e) => return Err(e),
            }
        }
        match write() {
            Ok(_) if self.store.has_folders() => Ok(()),
            Ok(files) => self.keep(&files),
            // Somebody else has finished the run with the same pixels.
            Err(_) if !self.store.has_folder(&self.folder) && self.is_finished() => Ok(()),
            Err(e) => Err(self.lost("a part cannot be written", &e)),
        }
    }

    /// Takes files of a part back that were added to a run which was taken away meanwhile.
    fn keep(&self, files: &[PathBuf]) -> Result<()> {
        let outcome = match self.standing()? {
            Standing::Open => return Ok(()),
            Standing::Finished => Ok(()),
            Standing::Gone => Err(self.gone()),
            Standing::Replaced(e) => Err(e),
        };
        self.store.remove(files).map_err(|e| self.lost("a part cannot be taken back", &e))?;
        outcome
    }

    /// How the run stands, by its manifest.
    fn standing(&self) -> Result<Standing> {
        match self.manifest_text() {
            Ok(text) => Ok(self.check(&text).map_or_else(Standing::Replaced, |()| Standing::Open)),
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.is_finished() => Ok(Standing::Finished),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Standing::Gone),
            Err(e) => Err(self.lost("the manifest of the parts cannot be read", &e)),
        }
    }

    /// Whether every product is there, made by this very run.
    fn is_finished(&self) -> bool {
        self.products.iter().all(|p| finish::identity_of(&p.path).as_deref() == Some(&self.identity))
    }
}

/// Whether a file may come to lie where a product is to.
fn check_target(product: &Product) -> Result<()> {
    let Product { kind, path, .. } = product;
    Store::of(path).check(path).map_err(|problem| Error::write(kind.property(), path, problem))
}

#[cfg(test)]
mod tests;
