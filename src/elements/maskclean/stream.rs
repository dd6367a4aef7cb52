//! Masks that come in to masks that go out: frames one by one, tiles when the rows of all that touch them are decided.

use std::collections::VecDeque;

use gst_video::{VideoFormat, VideoInfo};

use super::settings::{Masks, Wanted};
use crate::elements::caps::{MappedFrame, Pixels};
use crate::elements::meta::{RasterInfo, SegmentationInfo, TileMeta};
use crate::elements::{labels, pads, resize};
use crate::engine::decide::NODATA_16;
use crate::engine::pixels::Frame as _;
use crate::raster::clean::{Cleaned, Cleaner, Mosaic, Recipe};
use crate::raster::{Error, Rect};

/// Why nothing comes out.
pub type Fault = pads::Fault<Error>;

fn fault(text: impl Into<String>) -> Fault {
    Fault::Error(Error::Tile(text.into()))
}

/// What is known of the stream.
#[derive(Default)]
pub struct Stream {
    /// What the settings said when the element started.
    pub wanted: Option<Wanted>,
    /// Of the frames that come now, and their caps.
    pub frames: Option<(VideoInfo, gst::Caps)>,
    pub info: Option<SegmentationInfo>,
    pub raster: Option<RasterInfo>,
    /// The region that a run is about, where a source has announced one.
    pub region: Option<Rect>,
    pub tiles: Option<Tiles>,
    seen: Seen,
    pub failed: bool,
}

/// Which labels have come, to tell when 255 may be a class.
#[derive(Default)]
struct Seen {
    class: bool,
    nodata: bool,
}

/// A mosaic of which some tiles have come.
pub struct Tiles {
    pub mosaic: Mosaic,
    recipe: Recipe,
    /// The caps without the size.
    kind: gst::Caps,
    /// The tiles that have come and not gone.
    waiting: VecDeque<Tile>,
}

/// A tile that waits for its labels.
struct Tile {
    meta: TileMeta,
    info: VideoInfo,
    caps: gst::Caps,
    /// Without memory: times, flags and metas.
    buffer: gst::Buffer,
}

impl Stream {
    pub fn new(wanted: Wanted) -> Self {
        Stream { wanted: Some(wanted), ..Stream::default() }
    }

    /// Takes a frame or a tile; gives what is cleaned by then, with its caps.
    pub fn take(&mut self, buffer: gst::Buffer) -> Result<Vec<(gst::Buffer, gst::Caps)>, Fault> {
        let (info, caps) = self.frames.clone().ok_or(gst::FlowError::NotNegotiated)?;
        match TileMeta::of(&buffer, info.width(), info.height())? {
            Some(meta) => self.take_tile(buffer, meta, info, caps),
            None => self.take_frame(buffer, info, caps),
        }
    }

    /// Whether nothing but the background and what is taken for pixels without data has come, and nobody has said so.
    pub fn seems_misread(&self) -> bool {
        let stated = self.raster.as_ref().and_then(|raster| raster.nodata).is_some() || self.info.is_some();
        let guessed = self.wanted.as_ref().is_some_and(Wanted::guesses_nodata) && !stated;
        guessed && self.seen.nodata && !self.seen.class
    }

    fn recipe(&self, info: &VideoInfo, tiles: bool) -> Result<Recipe, Fault> {
        let wanted = self.wanted.as_ref().ok_or(gst::FlowError::Flushing)?;
        let ground = self.raster.as_ref().and_then(|raster| raster.ground);
        Ok(wanted.recipe(&Masks { wide: is_wide(info), tiles, info: self.info.as_ref(), ground })?)
    }

    fn take_frame(
        &mut self,
        buffer: gst::Buffer,
        info: VideoInfo,
        caps: gst::Caps,
    ) -> Result<Vec<(gst::Buffer, gst::Caps)>, Fault> {
        if let Some(Tiles { mosaic, .. }) = &self.tiles {
            return Err(fault(format!(
                "a buffer without GstRasterTileMeta has come after {} of a mosaic's {} tiles; take out what drops metas \
                 before maskclean",
                mosaic.come(),
                mosaic.count()
            )));
        }
        let (width, height) = (i64::from(info.width()), i64::from(info.height()));
        if let Some(raster) = self.raster.as_ref().filter(|raster| (raster.width, raster.height) != (width, height)) {
            return Err(fault(format!(
                "a buffer of {width}x{height} pixels without GstRasterTileMeta has come, of a raster of {}x{}: maskclean \
                 cannot know where it belongs; take out what drops metas before it",
                raster.width, raster.height
            )));
        }
        let recipe = self.recipe(&info, false)?;
        let mut cleaner = Cleaner::new(&recipe, info.width() as usize);
        let mut shell = shell(&buffer);
        let labels = self.labels(&buffer, &info, Rect::new(0, 0, width, height), &recipe)?;
        let mut cleaned = Vec::with_capacity(labels.len());
        for row in labels.chunks_exact(info.width() as usize) {
            cleaner.push(row.to_vec(), |row| cleaned.extend(row))?;
        }
        cleaner.finish(|row| cleaned.extend(row));
        fill(&mut shell, &info, Rect::new(0, 0, width, height), &cleaned);
        Ok(vec![(shell, caps)])
    }

    fn take_tile(
        &mut self,
        buffer: gst::Buffer,
        meta: TileMeta,
        info: VideoInfo,
        caps: gst::Caps,
    ) -> Result<Vec<(gst::Buffer, gst::Caps)>, Fault> {
        let kind = resize::any_size(&caps);
        let mut tiles = match self.tiles.take() {
            Some(tiles) => tiles,
            None => {
                let recipe = self.recipe(&info, true)?;
                let region = self.region.unwrap_or(meta.grid.bounds());
                let mosaic = Mosaic::new(&recipe, meta.grid, region)?;
                Tiles { mosaic, recipe, kind: kind.clone(), waiting: VecDeque::new() }
            }
        };
        check(&tiles, &meta, &kind)?;
        let part = tiles.mosaic.part(meta.index);
        let area = meta.tile().area;
        let labels = match buffer.flags().contains(gst::BufferFlags::GAP) {
            true => vec![NODATA_16; part.area()],
            false => {
                let part = part.relative_to(area.x, area.y);
                let mut labels = self.labels(&buffer, &info, part, &tiles.recipe)?;
                if let Some(valid) = &meta.valid {
                    hide(&mut labels, part, valid, area.width as usize);
                }
                labels
            }
        };
        tiles.waiting.push_back(Tile { meta, info, caps, buffer: shell(&buffer) });
        let mut masks = Vec::new();
        let Tiles { mosaic, waiting, .. } = &mut tiles;
        mosaic.add(&labels, |cleaned| masks.extend(waiting.pop_front().map(|tile| finished(tile, &cleaned))))?;
        if mosaic.due().is_some() {
            self.tiles = Some(tiles);
        }
        masks.into_iter().collect()
    }

    /// The labels of a part of a frame.
    fn labels(
        &mut self,
        buffer: &gst::Buffer,
        info: &VideoInfo,
        part: Rect,
        recipe: &Recipe,
    ) -> Result<Vec<u16>, Fault> {
        let frame = MappedFrame::new(buffer.clone(), &Pixels::Video(info.clone()));
        let unreadable = || fault("a mask is smaller than its caps say; take out what changes its memory");
        let frame = frame.ok_or_else(unreadable)?;
        let nodata = self.wanted.as_ref().is_some_and(|wanted| wanted.has_nodata(is_wide(info), self.info.as_ref()));
        let labels = labels::of_part(&frame.view(), &part, nodata).ok_or_else(unreadable)?;
        if !self.seen.class {
            self.seen.class = labels.iter().any(|label| *label != recipe.background && *label != NODATA_16);
            self.seen.nodata |= labels.contains(&NODATA_16);
        }
        Ok(labels)
    }
}

fn is_wide(info: &VideoInfo) -> bool {
    info.format() == VideoFormat::Gray16Le
}

/// Whether a tile is the one that is due.
fn check(tiles: &Tiles, meta: &TileMeta, kind: &gst::Caps) -> Result<(), Fault> {
    let (mosaic, count) = (&tiles.mosaic, meta.grid.count());
    if tiles.kind != *kind {
        return Err(fault(format!(
            "the format changed from {} to {kind} after {} of a mosaic's {} tiles; change it between mosaics",
            tiles.kind,
            mosaic.come(),
            mosaic.count()
        )));
    }
    if *mosaic.grid() != meta.grid {
        return Err(fault(format!(
            "a tile of another grid has come, {:?} where the mosaic has {:?}; one maskclean takes one mosaic after the other",
            meta.grid,
            mosaic.grid()
        )));
    }
    match mosaic.due() {
        Some(due) if due == meta.index => Ok(()),
        due => Err(fault(format!(
            "tile {} of {count} has come where tile {} was due; let every tile through to maskclean, in order and from the \
             first on (a leaky queue drops some, and a seek leaves some out)",
            meta.index + 1,
            due.map_or(0, |due| due + 1)
        ))),
    }
}

/// Takes the labels from pixels that have no data.
fn hide(labels: &mut [u16], part: Rect, valid: &[u8], stride: usize) {
    let width = part.width as usize;
    for (labels, y) in labels.chunks_exact_mut(width).zip(part.y as usize..) {
        let at = y * stride + part.x as usize;
        for (label, valid) in labels.iter_mut().zip(&valid[at..at + width]) {
            if *valid == 0 {
                *label = NODATA_16;
            }
        }
    }
}

/// A buffer with another's times, flags and metas, that has no memory yet.
fn shell(buffer: &gst::BufferRef) -> gst::Buffer {
    let mut shell = gst::Buffer::new();
    let to = shell.make_mut();
    let _ = buffer.copy_into(to, gst::BufferCopyFlags::FLAGS | gst::BufferCopyFlags::TIMESTAMPS, ..);
    resize::copy_metas(buffer, to);
    shell
}

/// A tile with its labels.
fn finished(tile: Tile, cleaned: &Cleaned) -> Result<(gst::Buffer, gst::Caps), Fault> {
    let Tile { meta, info, caps, mut buffer } = tile;
    let area = meta.tile().area;
    fill(&mut buffer, &info, cleaned.rect.relative_to(area.x, area.y), &cleaned.labels);
    meta.attach(buffer.make_mut()).map_err(|_| fault("a tile takes no meta"))?;
    Ok((buffer, caps))
}

/// Gives a buffer the memory of a frame: labels in `part`, and no data elsewhere.
fn fill(buffer: &mut gst::Buffer, info: &VideoInfo, part: Rect, labels: &[u16]) {
    // 255, and in 16 bits 65535.
    let mut data = vec![u8::MAX; info.size()];
    let (stride, pixel) = (info.stride()[0] as usize, info.format_info().pixel_stride()[0] as usize);
    let width = part.width as usize;
    for (row, y) in labels.chunks_exact(width).zip(part.y as usize..) {
        let at = y * stride + part.x as usize * pixel;
        let to = &mut data[at..at + width * pixel];
        match is_wide(info) {
            true => to.as_chunks_mut::<2>().0.iter_mut().zip(row).for_each(|(to, v)| *to = v.to_le_bytes()),
            false => to.iter_mut().zip(row).for_each(|(to, v)| *to = *v as u8),
        }
    }
    buffer.make_mut().append_memory(gst::Memory::from_mut_slice(data));
}
