//! Tiles, read ahead on a thread of their own.
//!
//! A unit of the file is read for the first tile that needs it and kept until the last one has had it. As the tiles to come
//! are known, it is known when each unit is needed next: it goes when that is never, and when the cache is full, the
//! one that is needed last goes first.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::load::{Coverage, Fill, Unit};
use super::sample::{Layout, Sample, SampleType, Samples};
use super::units::touched;
use super::{Counters, Source};
use crate::raster::grid::{Tile, reflect};
use crate::raster::{Error, Grid, Rect, Result};

/// Tiles that wait to be taken: no more than this many, whatever their size.
const MOST_TILES: usize = 64;

/// What to read, and how.
#[derive(Debug, Clone)]
pub struct Reading {
    pub grid: Grid,
    /// Indices of the tiles, in order.
    pub tiles: Arc<[usize]>,
    /// Per band, what takes the place of pixels without data.
    pub fill: Vec<f64>,
    /// Pixel after pixel; else band after band.
    pub interleaved: bool,
    /// Rows take a multiple of this many bytes.
    pub row_multiple: usize,
    /// Bytes of units that are kept for tiles to come.
    pub cache: usize,
    /// Bytes of tiles that are read ahead; two tiles are, whatever their size.
    pub ahead: usize,
}

/// A tile's pixels.
#[derive(Debug, PartialEq)]
pub struct TilePixels {
    /// Which of the tiles that are read, from 0.
    pub position: usize,
    pub tile: Tile,
    /// `None` where no pixel has data.
    pub pixels: Option<Samples>,
    /// One byte per pixel, 0 where there is no data; `None` = data everywhere.
    pub valid: Option<Vec<u8>>,
    /// What GDAL warned of since the last tile.
    pub warnings: Vec<String>,
}

/// The thread that reads tiles, as others see it.
pub struct ReadAhead {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A tile is there, or nobody is to wait any more.
    filled: Condvar,
    /// There is room for a tile, or something else to do.
    wanted: Condvar,
}

#[derive(Default)]
struct State {
    tiles: VecDeque<Result<TilePixels>>,
    bytes: usize,
    /// The tile to be read next.
    next: usize,
    /// Grows with every seek: what was begun before is not wanted any more.
    generation: u64,
    /// An error has come; nothing is read after it.
    failed: bool,
    interrupted: bool,
    stopped: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAhead {
    /// Begins to read, from the tile at `position` on.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(source: Source, reading: Reading, position: usize) -> Result<Self> {
        let shared = Arc::<Shared>::default();
        shared.state().next = position;
        let counters = source.counters().clone();
        let own = shared.clone();
        let location = source.info().location.clone();
        let read = move || match source.info().sample {
            SampleType::U8 => Reader::<u8>::new(source, reading).run(&own),
            SampleType::U16 => Reader::<u16>::new(source, reading).run(&own),
            SampleType::I16 => Reader::<i16>::new(source, reading).run(&own),
            SampleType::F32 => Reader::<f32>::new(source, reading).run(&own),
        };
        let thread = std::thread::Builder::new().name("rastersrc".into()).spawn(read);
        let thread = thread.map_err(|e| Error::read("location", location, format!("no thread to read it: {e}")))?;
        Ok(ReadAhead { shared, counters, thread: Some(thread) })
    }

    /// The next tile; `None` after the last.
    ///
    /// # Errors
    /// A file that cannot be read any further; `Cancelled` when interrupted.
    pub fn next(&self, count: usize) -> Result<Option<TilePixels>> {
        let mut state = self.shared.state();
        loop {
            if state.interrupted {
                return Err(Error::Cancelled);
            }
            if let Some(tile) = state.tiles.pop_front() {
                let tile = tile?;
                state.bytes -= tile.bytes();
                self.shared.wanted.notify_all();
                return Ok(Some(tile));
            }
            if state.next >= count || state.failed {
                return Ok(None);
            }
            state = self.shared.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whoever waits for a tile is not to wait, until this is taken back.
    pub fn interrupt(&self, interrupted: bool) {
        self.shared.state().interrupted = interrupted;
        self.shared.filled.notify_all();
    }

    /// Goes on from the tile at `position`.
    pub fn seek(&self, position: usize) {
        let mut state = self.shared.state();
        state.tiles.clear();
        (state.bytes, state.next, state.failed) = (0, position, false);
        state.generation += 1;
        self.shared.wanted.notify_all();
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.wanted.notify_all();
        // It ends with the unit that it is reading.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl TilePixels {
    fn bytes(&self) -> usize {
        self.pixels.as_ref().map_or(0, |p| p.as_ref().len()) + self.valid.as_ref().map_or(0, Vec::len)
    }
}

/// The pixels of a side that a range is made of, which may reach beyond it.
fn hull(range: Range<i64>, n: i64) -> Range<i64> {
    if range.start >= 0 && range.end <= n {
        return range;
    }
    if range.end - range.start >= 2 * n {
        return 0..n;
    }
    let (low, high) = range.fold((n, -1), |(low, high), i| {
        let at = reflect(i, n);
        (low.min(at), high.max(at))
    });
    low..high + 1
}

/// Units that are kept.
struct Cache<U> {
    kept: HashMap<usize, Kept<U>>,
    bytes: usize,
    most: usize,
    /// One bit for each unit that was read before.
    before: Vec<u64>,
    layout: Layout,
}

struct Kept<U> {
    unit: Arc<Unit<U>>,
    /// The tile that needs it next.
    next: usize,
}

impl<U: Sample> Cache<U> {
    fn new(units: usize, most: usize, layout: Layout) -> Self {
        Cache { kept: HashMap::new(), bytes: 0, most, before: vec![0; units.div_ceil(64)], layout }
    }

    fn size(unit: &Unit<U>) -> usize {
        unit.pixels.len() * size_of::<U>() + unit.valid.as_ref().map_or(0, Vec::len)
    }

    fn remove(&mut self, key: usize) {
        if let Some(kept) = self.kept.remove(&key) {
            self.bytes -= Self::size(&kept.unit);
        }
    }

    /// Keeps a unit, if only until others are needed sooner. Returns whether a unit that is still needed had to go.
    fn keep(&mut self, key: usize, unit: Arc<Unit<U>>, next: usize) -> bool {
        self.bytes += Self::size(&unit);
        self.kept.insert(key, Kept { unit, next });
        let mut crowded = false;
        while self.bytes > self.most {
            let Some(last) = self.kept.iter().max_by_key(|(key, kept)| (kept.next, **key)).map(|(key, _)| *key) else {
                break;
            };
            self.remove(last);
            crowded = true;
        }
        crowded
    }

    /// Whether a unit was read before; from now on it was.
    fn again(&mut self, key: usize) -> bool {
        let (word, bit) = (key / 64, 1 << (key % 64));
        let again = self.before[word] & bit != 0;
        self.before[word] |= bit;
        again
    }
}

/// Units as tiles take them, or, where the raster is resampled, as the resampling does.
enum Caches<T> {
    Own(Cache<T>),
    Resampled(Cache<f32>),
}

/// What the thread works with.
struct Reader<T> {
    plan: Plan,
    caches: Caches<T>,
    fill: Vec<T>,
    layout: Layout,
    /// Rows take a multiple of this many samples.
    multiple: usize,
}

/// Which units tiles need.
struct Plan {
    source: Source,
    reading: Reading,
    /// Per column of units, the columns of tiles that need it; the same for rows.
    unit_columns: Vec<Range<i64>>,
    unit_rows: Vec<Range<i64>>,
}

impl Plan {
    fn new(source: Source, reading: Reading) -> Self {
        let mut plan = Plan { source, reading, unit_columns: Vec::new(), unit_rows: Vec::new() };
        let (grid, units) = (plan.reading.grid, &plan.source.units);
        let mut columns = vec![0..0; units.columns()];
        let mut rows = vec![0..0; units.rows()];
        let needs = |ranges: &mut Vec<Range<i64>>, lines: &[i64], pixels: Range<i64>, k: i64| {
            for unit in touched(lines, &pixels) {
                let range = &mut ranges[unit];
                *range = if range.is_empty() { k..k + 1 } else { range.start.min(k)..range.end.max(k + 1) };
            }
        };
        for k in 0..grid.x.count() {
            let file = plan.file(Rect::new(grid.x.tile(k).start, 0, grid.x.tile(k).end - grid.x.tile(k).start, 1));
            needs(&mut columns, &units.x, file.x..file.right(), k);
        }
        for k in 0..grid.y.count() {
            let file = plan.file(Rect::new(0, grid.y.tile(k).start, 1, grid.y.tile(k).end - grid.y.tile(k).start));
            needs(&mut rows, &units.y, file.y..file.bottom(), k);
        }
        (plan.unit_columns, plan.unit_rows) = (columns, rows);
        plan
    }

    /// The pixels of the raster that an area, which may reach beyond it, is made of.
    fn hull(&self, area: Rect) -> Rect {
        let grid = &self.reading.grid;
        let (x, y) = (hull(area.x..area.right(), grid.x.length), hull(area.y..area.bottom(), grid.y.length));
        Rect::new(x.start, y.start, x.end - x.start, y.end - y.start)
    }

    /// The pixels of the file that an area is made of.
    fn file(&self, area: Rect) -> Rect {
        self.source.scale.sources(self.hull(area))
    }

    /// The first tile from `position` on that needs a unit.
    fn next_use(&self, column: usize, row: usize, position: usize) -> Option<usize> {
        let tiles = &self.reading.tiles;
        let (columns, rows) = (&self.unit_columns[column], &self.unit_rows[row]);
        let across = self.reading.grid.x.count();
        rows.clone().find_map(|row| {
            let at = |column: i64| (row * across + column) as usize;
            let found = position + tiles[position.min(tiles.len())..].partition_point(|t| *t < at(columns.start));
            (found < tiles.len() && tiles[found] < at(columns.end)).then_some(found)
        })
    }

    /// Shows all units that lie in `file`, each with the part of it that does; `None` for a unit without data.
    fn visit<U: Sample>(
        &self,
        cache: &mut Cache<U>,
        fill: Fill<'_, U>,
        file: Rect,
        position: usize,
        mut show: impl FnMut(Option<&Unit<U>>, Rect),
    ) -> Result<()> {
        let units = &self.source.units;
        for row in touched(&units.y, &(file.y..file.bottom())) {
            for column in touched(&units.x, &(file.x..file.right())) {
                let key = row * units.columns() + column;
                let rect = units.rect(column, row);
                let part = rect.intersect(&file);
                let next = self.next_use(column, row, position + 1);
                if let Some(kept) = cache.kept.get_mut(&key) {
                    show(Some(&kept.unit), part);
                    match next {
                        Some(next) => kept.next = next,
                        None => cache.remove(key),
                    }
                    continue;
                }
                let Some(unit) = self.source.load(rect, cache.layout, fill)? else {
                    show(None, part);
                    continue;
                };
                let again = cache.again(key);
                self.source.counters.count(again);
                show(Some(&unit), part);
                if let Some(next) = next
                    && cache.keep(key, Arc::new(unit), next)
                {
                    self.source.counters.crowded.store(true, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Forgets what no tile from `position` on needs, after a jump.
    fn jump<U: Sample>(&self, cache: &mut Cache<U>, position: usize) {
        let columns = self.source.units.columns();
        let next: Vec<_> =
            cache.kept.keys().map(|key| (*key, self.next_use(key % columns, key / columns, position))).collect();
        for (key, next) in next {
            match (next, cache.kept.get_mut(&key)) {
                (Some(next), Some(kept)) => kept.next = next,
                _ => cache.remove(key),
            }
        }
    }
}

impl<T: Sample> Reader<T> {
    fn new(source: Source, reading: Reading) -> Self {
        let bands = source.info().bands;
        let layout = Layout { bands, interleaved: reading.interleaved };
        let (units, most) = (source.units.count(), reading.cache);
        let caches = match source.scale.is_some() {
            true => Caches::Resampled(Cache::new(units, most, Layout { bands, interleaved: false })),
            false => Caches::Own(Cache::new(units, most, layout)),
        };
        let fill = (0..bands).map(|b| T::from_f64(reading.fill.get(b).copied().unwrap_or(0.0))).collect();
        let multiple = (reading.row_multiple / size_of::<T>()).max(1);
        Reader { plan: Plan::new(source, reading), caches, fill, layout, multiple }
    }

    fn run(mut self, shared: &Shared) {
        let reading = &self.plan.reading;
        let (count, ahead) = (reading.tiles.len(), reading.ahead);
        let mut last = None;
        loop {
            let (position, generation) = {
                let mut state = shared.state();
                loop {
                    if state.stopped {
                        return;
                    }
                    let n = state.tiles.len();
                    let room = n < MOST_TILES && (n < 2 || state.bytes < ahead);
                    if room && !state.failed && state.next < count {
                        break (state.next, state.generation);
                    }
                    state = shared.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if last != Some((generation, position.wrapping_sub(1))) {
                match &mut self.caches {
                    Caches::Own(cache) => self.plan.jump(cache, position),
                    Caches::Resampled(cache) => self.plan.jump(cache, position),
                }
            }
            last = Some((generation, position));
            // A panic is a fault of this program; whoever waits must hear of it.
            let tile = catch_unwind(AssertUnwindSafe(|| self.tile(position))).unwrap_or_else(|_| {
                let location = &self.plan.source.info().location;
                Err(Error::read("location", location, "internal error while reading; please report it"))
            });
            let mut state = shared.state();
            if state.generation == generation {
                match &tile {
                    Ok(tile) => state.bytes += tile.bytes(),
                    Err(_) => state.failed = true,
                }
                state.next += 1;
                state.tiles.push_back(tile);
                shared.filled.notify_all();
            }
        }
    }

    fn tile(&mut self, position: usize) -> Result<TilePixels> {
        let tile = self.plan.reading.grid.tile(self.plan.reading.tiles[position]);
        let found = self.pixels(tile.area, position)?;
        let (pixels, valid) = found.unzip();
        let warnings = self.plan.source.take_warnings();
        Ok(TilePixels { position, tile, pixels: pixels.map(T::wrap), valid: valid.flatten(), warnings })
    }

    /// The pixels of an area, and their validity; `None` where no pixel of the raster in it has data.
    #[allow(clippy::type_complexity)] // pixels, and validity where not everything is valid
    fn pixels(&mut self, area: Rect, position: usize) -> Result<Option<(Vec<T>, Option<Vec<u8>>)>> {
        let hull = self.plan.hull(area);
        let file = self.plan.source.scale.sources(hull);
        if self.plan.source.coverage(file) == Coverage::Empty {
            return Ok(None);
        }
        // Without reflection, the hull is the tile already.
        let multiple = if hull == area { self.multiple } else { 1 };
        let (pixels, valid) = match &mut self.caches {
            Caches::Own(cache) => {
                let mut canvas = Canvas::<T>::new(hull, self.layout, multiple);
                let fill = Fill::With(&self.fill);
                let empty: Vec<T> = (0..self.layout.bands).map(|b| fill.of(b, self.plan.source.unwritten(b))).collect();
                self.plan.visit(cache, fill, file, position, |unit, part| canvas.put(unit, part, &empty))?;
                (canvas.pixels, canvas.valid)
            }
            Caches::Resampled(cache) => {
                let Some(mut sums) = self.plan.source.scale.begin(hull, self.layout.bands) else {
                    return Ok(None); // this cache is there for scales alone
                };
                self.plan.visit(cache, Fill::Marked(f32::NAN), file, position, |unit, part| {
                    if let Some(unit) = unit {
                        sums.add(unit, part);
                    }
                })?;
                self.settled(&sums.finish(), hull, multiple)
            }
        };
        let bounds = self.plan.reading.grid.bounds();
        let inside = area.intersect(&bounds).relative_to(hull.x, hull.y);
        if let Some(valid) = &valid {
            let row = |y: i64| {
                let start = (y * hull.width + inside.x) as usize;
                &valid[start..start + inside.width as usize]
            };
            if (inside.y..inside.bottom()).all(|y| row(y).iter().all(|v| *v == 0)) {
                return Ok(None);
            }
        }
        // What lacks data in a unit may lie beside the tile.
        let valid = valid.filter(|v| v.contains(&0));
        if hull == area {
            return Ok(Some((pixels, valid)));
        }
        let valid = valid.map(|valid| {
            let one = Layout { bands: 1, interleaved: false };
            self.reflected(&valid, hull, area, one, 1)
        });
        let pixels = self.reflected(&pixels, hull, area, self.layout, self.multiple);
        Ok(Some((pixels, valid)))
    }

    /// Resampled pixels as they leave.
    fn settled(&self, values: &[f32], rect: Rect, multiple: usize) -> (Vec<T>, Option<Vec<u8>>) {
        let (width, height) = (rect.width as usize, rect.height as usize);
        let n = width * height;
        let bands = self.layout.bands;
        let strides = self.layout.strides(width, height, multiple);
        let mut valid = vec![0u8; n];
        for (k, v) in values.iter().enumerate() {
            valid[k % n] |= !v.is_nan() as u8;
        }
        let mut pixels = vec![T::default(); self.layout.samples(width, height, multiple)];
        for band in 0..bands {
            let empty = Fill::With(&self.fill).of(band, self.plan.source.unwritten(band));
            for y in 0..height {
                for x in 0..width {
                    let v = values[band * n + y * width + x];
                    let v = if v.is_nan() { empty } else { T::from_f64(v as f64) };
                    pixels[y * strides.row + x * strides.pixel + band * strides.band] = v;
                }
            }
        }
        (pixels, Some(valid).filter(|v| v.contains(&0)))
    }

    /// An area that reaches beyond the raster, from the pixels that it is made of.
    fn reflected<V: Sample>(&self, pixels: &[V], hull: Rect, area: Rect, layout: Layout, multiple: usize) -> Vec<V> {
        let grid = &self.plan.reading.grid;
        let (width, height) = (area.width as usize, area.height as usize);
        let from = layout.strides(hull.width as usize, hull.height as usize, 1);
        let to = layout.strides(width, height, multiple);
        let at = |i: i64, n: i64, origin: i64| (reflect(i, n) - origin) as usize;
        // What lies in the raster is copied in one run per row, the rest pixel by pixel.
        let inside = area.intersect(&grid.bounds());
        let (left, run) = ((inside.x - area.x) as usize, inside.width as usize);
        let beyond: Vec<(usize, usize)> = (0..width)
            .filter(|x| !(left..left + run).contains(x))
            .map(|x| (x, at(area.x + x as i64, grid.x.length, hull.x)))
            .collect();
        let first = (inside.x - hull.x) as usize;
        let samples = if layout.interleaved { run * layout.bands } else { run };
        let mut out = vec![V::default(); layout.samples(width, height, multiple)];
        for y in 0..height {
            let row = at(area.y + y as i64, grid.y.length, hull.y);
            for band in 0..layout.bands {
                let (start, source) = (y * to.row + band * to.band, row * from.row + band * from.band);
                if band == 0 || !layout.interleaved {
                    let (to, from) = (start + left * to.pixel, source + first * from.pixel);
                    out[to..to + samples].copy_from_slice(&pixels[from..from + samples]);
                }
                for (x, column) in &beyond {
                    out[start + x * to.pixel] = pixels[source + column * from.pixel];
                }
            }
        }
        out
    }
}

/// A rectangle that is put together from units.
struct Canvas<T> {
    rect: Rect,
    layout: Layout,
    multiple: usize,
    pixels: Vec<T>,
    valid: Option<Vec<u8>>,
}

impl<T: Sample> Canvas<T> {
    fn new(rect: Rect, layout: Layout, multiple: usize) -> Self {
        let pixels = vec![T::default(); layout.samples(rect.width as usize, rect.height as usize, multiple)];
        Canvas { rect, layout, multiple, pixels, valid: None }
    }

    /// Puts a part of a unit where it belongs; where there is no unit, `empty`, per band.
    fn put(&mut self, unit: Option<&Unit<T>>, part: Rect, empty: &[T]) {
        let to = self.layout.strides(self.rect.width as usize, self.rect.height as usize, self.multiple);
        let there = part.relative_to(self.rect.x, self.rect.y);
        let (x, width) = (there.x as usize, there.width as usize);
        let here = unit.map_or(part, |u| part.relative_to(u.rect.x, u.rect.y));
        let valid = unit.map(|u| u.valid.as_deref());
        if valid != Some(None) && self.valid.is_none() {
            self.valid = Some(vec![1; self.rect.area()]);
        }
        // Runs of samples that lie side by side in both.
        let (runs, run) = match self.layout.interleaved {
            true => (1, width * self.layout.bands),
            false => (self.layout.bands, width),
        };
        for y in 0..there.height as usize {
            for band in 0..runs {
                let start = (there.y as usize + y) * to.row + x * to.pixel + band * to.band;
                let samples = &mut self.pixels[start..start + run];
                match unit {
                    Some(unit) => {
                        let from = self.layout.strides(unit.rect.width as usize, unit.rect.height as usize, 1);
                        let start = (here.y as usize + y) * from.row + here.x as usize * from.pixel + band * from.band;
                        samples.copy_from_slice(&unit.pixels[start..start + run]);
                    }
                    None if self.layout.interleaved => {
                        samples.chunks_exact_mut(empty.len()).for_each(|pixel| pixel.copy_from_slice(empty));
                    }
                    None => samples.fill(empty[band]),
                }
            }
            if let Some(own) = &mut self.valid {
                let start = (there.y as usize + y) * self.rect.width as usize + x;
                match (unit, valid) {
                    (Some(unit), Some(Some(valid))) => {
                        let from = (here.y as usize + y) * unit.rect.width as usize + here.x as usize;
                        own[start..start + width].copy_from_slice(&valid[from..from + width]);
                    }
                    (None, _) => own[start..start + width].fill(0),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_hull_has_the_pixels_that_are_seen_and_no_others(start in -90i64..90, length in 1i64..120, n in 1i64..40) {
            let range = start..start + length;
            let seen: std::collections::BTreeSet<i64> = range.clone().map(|i| reflect(i, n)).collect();
            prop_assert_eq!(hull(range, n).collect::<Vec<_>>(), seen.into_iter().collect::<Vec<_>>());
        }
    }

    fn unit(side: i64) -> Arc<Unit<u8>> {
        let rect = Rect::new(0, 0, side, side);
        Arc::new(Unit { rect, pixels: vec![0; rect.area()], valid: None })
    }

    #[test]
    fn a_full_cache_drops_what_is_needed_last() {
        let mut cache = Cache::new(9, 300, Layout { bands: 1, interleaved: false });
        assert!(!cache.keep(0, unit(10), 7));
        assert!(!cache.keep(1, unit(10), 3));
        assert!(!cache.keep(2, unit(10), 5));
        assert_eq!(cache.bytes, 300);
        assert!(cache.keep(3, unit(10), 4));
        let mut kept: Vec<_> = cache.kept.keys().copied().collect();
        kept.sort_unstable();
        assert_eq!((kept, cache.bytes), (vec![1, 2, 3], 300));
        // What is needed after all others does not push them out.
        assert!(cache.keep(4, unit(10), 9));
        assert!(!cache.kept.contains_key(&4));
        cache.remove(1);
        cache.remove(1);
        assert_eq!(cache.bytes, 200);
        assert!(!cache.again(8) && cache.again(8) && !cache.again(7));
    }

    /// Waits for a tile that nobody reads.
    fn waiting() -> (Arc<ReadAhead>, JoinHandle<Result<Option<TilePixels>>>) {
        let reader = ReadAhead { shared: Arc::default(), counters: Arc::default(), thread: None };
        let reader = Arc::new(reader);
        let own = reader.clone();
        (reader, std::thread::spawn(move || own.next(1)))
    }

    #[test]
    fn whoever_waits_can_be_interrupted() {
        let (reader, waiter) = waiting();
        reader.interrupt(true);
        assert!(matches!(waiter.join(), Ok(Err(Error::Cancelled))));
        assert!(matches!(reader.next(1), Err(Error::Cancelled)));
        reader.interrupt(false);
        reader.seek(1);
        assert!(matches!(reader.next(1), Ok(None)), "the last tile was the one before");
    }
}
