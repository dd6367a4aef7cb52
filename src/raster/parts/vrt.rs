//! Parts as one raster, in GDAL's own words for it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Kind;
use super::finish::{BLOCK, Look};
use crate::files;
use crate::raster::cells::Depth;
use crate::raster::georeference::{Georeference, MaskGrid};
use crate::raster::grid::Rect;
use crate::raster::source::messages::catch;

/// A file in memory, gone when this is.
pub struct InMemory(PathBuf);

impl InMemory {
    /// # Errors
    /// What GDAL says.
    fn new(text: String) -> Result<Self, String> {
        let path = files::in_memory("vrt");
        let (made, _) = catch(|| gdal::vsi::create_mem_file(&path, text.into_bytes()));
        made.map(|()| InMemory(path)).map_err(|e| e.to_string())
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        let _ = catch(|| gdal::vsi::unlink_mem_file(&self.0));
    }
}

/// Files side by side as one raster; relative paths are seen from its folder. `look` says what it tells.
pub fn mosaic(
    region: &Rect,
    georeference: &Georeference,
    depth: Depth,
    look: &Look,
    sources: &[(PathBuf, Rect)],
) -> String {
    let mut xml = format!(r#"<VRTDataset rasterXSize="{}" rasterYSize="{}">"#, region.width, region.height);
    let mut add = |text: std::fmt::Arguments<'_>| xml.write_fmt(text).expect("text grows in memory");
    if let Some(crs) = &georeference.crs {
        add(format_args!("<SRS>{}</SRS>", escape(crs)));
    }
    if let Some(g) = &georeference.geotransform {
        add(format_args!("<GeoTransform>{},{},{},{},{},{}</GeoTransform>", g[0], g[1], g[2], g[3], g[4], g[5]));
    }
    if !georeference.gcps.is_empty() {
        add(format_args!(r#"<GCPList Projection="{}">"#, escape(georeference.gcp_crs.as_deref().unwrap_or_default())));
        for p in &georeference.gcps {
            add(format_args!(
                r#"<GCP Id="{}" Pixel="{}" Line="{}" X="{}" Y="{}" Z="{}"/>"#,
                escape(&p.id),
                p.pixel,
                p.line,
                p.x,
                p.y,
                p.z
            ));
        }
        add(format_args!("</GCPList>"));
    }
    add(format_args!("<Metadata>"));
    let area_or_point = georeference.area_or_point.iter().map(|v| ("AREA_OR_POINT", v.as_str()));
    for (key, value) in area_or_point.chain(look.metadata.iter().map(|(k, v)| (k.as_str(), v.as_str()))) {
        add(format_args!(r#"<MDI key="{}">{}</MDI>"#, escape(key), escape(value)));
    }
    add(format_args!("</Metadata>"));
    let data_type = data_type(depth);
    for (k, description) in look.bands.iter().enumerate() {
        add(format_args!(r#"<VRTRasterBand dataType="{data_type}" band="{}">"#, k + 1));
        add(format_args!("<Description>{}</Description>", escape(description)));
        add(format_args!("<NoDataValue>{}</NoDataValue>", depth.nodata()));
        if let Some(scale) = look.scale {
            add(format_args!("<Offset>0</Offset><Scale>{scale}</Scale>"));
        }
        let colour = match look.palette.is_empty() {
            false => "Palette",
            // What else GeoTIFF would have to keep in a file beside it.
            true if k == 0 => "Gray",
            true => "Undefined",
        };
        add(format_args!("<ColorInterp>{colour}</ColorInterp>"));
        if !look.palette.is_empty() {
            add(format_args!("<ColorTable>"));
            for [r, g, b] in &look.palette {
                add(format_args!(r#"<Entry c1="{r}" c2="{g}" c3="{b}" c4="255"/>"#));
            }
            add(format_args!("</ColorTable>"));
        }
        if !look.categories.is_empty() {
            add(format_args!("<CategoryNames>"));
            for name in &look.categories {
                add(format_args!("<Category>{}</Category>", escape(name)));
            }
            add(format_args!("</CategoryNames>"));
        }
        for (path, rect) in sources {
            let (w, h) = (rect.width, rect.height);
            add(format_args!(
                r#"<SimpleSource><SourceFilename relativeToVRT="{}">{}</SourceFilename><SourceBand>{}</SourceBand>"#,
                u8::from(path.is_relative()),
                escape(&path.to_string_lossy()),
                k + 1
            ));
            // With these GDAL need not open a part before it reads it.
            add(format_args!(
                r#"<SourceProperties RasterXSize="{w}" RasterYSize="{h}" DataType="{data_type}" BlockXSize="{}" BlockYSize="{}"/>"#,
                w.min(BLOCK),
                h.min(BLOCK)
            ));
            add(format_args!(r#"<SrcRect xOff="0" yOff="0" xSize="{w}" ySize="{h}"/>"#));
            add(format_args!(
                r#"<DstRect xOff="{}" yOff="{}" xSize="{w}" ySize="{h}"/></SimpleSource>"#,
                rect.x, rect.y
            ));
        }
        add(format_args!("</VRTRasterBand>"));
    }
    xml + "</VRTDataset>"
}

/// The same, brought from the pixels of `region` to those of another grid, and the files in memory that it needs until it has
/// been read.
///
/// # Errors
/// What GDAL says.
pub fn brought_back(
    region: &Rect,
    grid: &MaskGrid,
    (kind, depth): (Kind, Depth),
    look: &Look,
    sources: &[(PathBuf, Rect)],
) -> Result<(String, Vec<InMemory>), String> {
    // Both in pixels of that grid.
    let (fx, fy) = grid.factors;
    let from = Spacing { start: (region.x as f64 * fx, region.y as f64 * fy), step: grid.factors };
    let window = grid.window;
    let to = Spacing { start: (window.x as f64, window.y as f64), step: (1.0, 1.0) };
    let place = Georeference { geotransform: Some(from.geotransform()), ..Georeference::default() };
    let plain = Look { bands: look.bands.clone(), ..Look::default() };
    let parts = InMemory::new(mosaic(region, &place, depth, &plain, sources))?;
    let layout = (kind, depth, look.bands.len());
    let warped = InMemory::new(resampled(&parts.0, layout, from, (to, window.width, window.height)))?;
    let whole = [(warped.0.clone(), Rect::new(0, 0, window.width, window.height))];
    let text = mosaic(&window, &grid.georeference.window(&window), depth, look, &whole);
    Ok((text, vec![warped, parts]))
}

/// Where pixels lie that are `step` apart.
#[derive(Debug, Clone, Copy)]
struct Spacing {
    start: (f64, f64),
    step: (f64, f64),
}

impl Spacing {
    fn geotransform(&self) -> [f64; 6] {
        [self.start.0, self.step.0, 0.0, self.start.1, 0.0, self.step.1]
    }

    fn inverse(&self) -> [f64; 6] {
        let ((x, y), (dx, dy)) = (self.start, self.step);
        [-x / dx, 1.0 / dx, 0.0, -y / dy, 0.0, 1.0 / dy]
    }
}

/// A raster brought to other pixels by GDAL's warper: labels by the nearest pixel; scores by bilinear interpolation, or by
/// the average of what a pixel covers where pixels grow. Pixels without data have no part in it.
fn resampled(
    source: &Path,
    (kind, depth, bands): (Kind, Depth, usize),
    from: Spacing,
    (to, width, height): (Spacing, i64, i64),
) -> String {
    let method = match kind {
        Kind::Labels => "NearestNeighbour",
        _ if from.step.0 < to.step.0 && from.step.1 < to.step.1 => "Average",
        _ => "Bilinear",
    };
    let (data_type, nodata) = (data_type(depth), depth.nodata());
    let list = |g: [f64; 6]| g.map(|v| v.to_string()).join(",");
    let of_bands = |text: &dyn Fn(usize) -> String| (1..=bands).map(text).collect::<String>();
    let declared = of_bands(&|band| {
        format!(
            r#"<VRTRasterBand dataType="{data_type}" band="{band}" subClass="VRTWarpedRasterBand"><NoDataValue>{nodata}</NoDataValue></VRTRasterBand>"#
        )
    });
    let mapped = of_bands(&|band| {
        format!(
            r#"<BandMapping src="{band}" dst="{band}"><SrcNoDataReal>{nodata}</SrcNoDataReal><SrcNoDataImag>0</SrcNoDataImag><DstNoDataReal>{nodata}</DstNoDataReal><DstNoDataImag>0</DstNoDataImag></BandMapping>"#
        )
    });
    format!(
        r#"<VRTDataset rasterXSize="{width}" rasterYSize="{height}" subClass="VRTWarpedDataset">
<GeoTransform>{to_pixels}</GeoTransform>{declared}<BlockXSize>{BLOCK}</BlockXSize><BlockYSize>{BLOCK}</BlockYSize>
<GDALWarpOptions><WarpMemoryLimit>67108864</WarpMemoryLimit><ResampleAlg>{method}</ResampleAlg>
<WorkingDataType>{data_type}</WorkingDataType><Option name="INIT_DEST">NO_DATA</Option>
<Option name="UNIFIED_SRC_NODATA">NO</Option><SourceDataset relativeToVRT="0">{source}</SourceDataset>
<Transformer><GenImgProjTransformer><SrcGeoTransform>{from_pixels}</SrcGeoTransform>
<SrcInvGeoTransform>{from_inverse}</SrcInvGeoTransform><DstGeoTransform>{to_pixels}</DstGeoTransform>
<DstInvGeoTransform>{to_inverse}</DstInvGeoTransform></GenImgProjTransformer></Transformer>
<BandList>{mapped}</BandList></GDALWarpOptions></VRTDataset>"#,
        source = escape(&source.to_string_lossy()),
        from_pixels = list(from.geotransform()),
        from_inverse = list(from.inverse()),
        to_pixels = list(to.geotransform()),
        to_inverse = list(to.inverse()),
    )
}

fn data_type(depth: Depth) -> &'static str {
    match depth {
        Depth::U8 => "Byte",
        Depth::U16 => "UInt16",
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no others.
            c if c < ' ' && !"\t\n\r".contains(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
