//! The page's server: which requests are answered, and with what.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cache::Cache;
use super::footprints::{Box, Footprints};
use super::grid::{TILE, apply};
use super::layer::{Choice, Kind, Layer};
use super::readers::Readers;

/// Finished tiles that are kept.
const CACHE_BYTES: usize = 64 << 20;

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const OPENLAYERS: &str = include_str!("page/ol.js");
const LICENCES: &str = include_str!("page/ol.licence.txt");

/// A tile of a layer: its place among the layers, level, column, row, and what of it is wanted.
type TileKey = (usize, (u32, u32, u32), Choice);

/// What all requests share.
pub struct Shared {
    pub readers: Arc<Readers>,
    pub footprints: Option<Arc<Footprints>>,
    /// Where the server listens.
    pub address: IpAddr,
    tiles: Mutex<Cache<TileKey, Bytes>>,
    /// A tile without a pixel.
    empty: Bytes,
}

/// What is wrong with a request, or became of it.
enum Refusal {
    NotFound(String),
    Bad(String),
    Failed(anyhow::Error),
}

type Answer<T> = std::result::Result<T, Refusal>;

impl Shared {
    pub fn new(readers: Readers, footprints: Option<Footprints>, address: IpAddr) -> Result<Self> {
        let side = TILE as usize;
        Ok(Shared {
            readers: Arc::new(readers),
            footprints: footprints.map(Arc::new),
            address,
            tiles: Mutex::new(Cache::new(CACHE_BYTES)),
            empty: encode(&vec![0; side * side * 4])?.into(),
        })
    }
}

/// Every answer there is. Nothing of a request becomes a path of a file.
pub fn router(shared: Arc<Shared>) -> Router {
    let file = |kind: &'static str, text: &'static str| get(move || async move { ([(CONTENT_TYPE, kind)], text) });
    let script = "text/javascript; charset=utf-8";
    Router::new()
        .route("/", file("text/html; charset=utf-8", PAGE))
        .route("/page.css", file("text/css; charset=utf-8", STYLE))
        .route("/page.js", file(script, SCRIPT))
        .route("/ol.js", file(script, OPENLAYERS))
        .route("/licences.txt", file("text/plain; charset=utf-8", LICENCES))
        .route("/info", get(info))
        .route("/tiles/{layer}/{level}/{column}/{row}", get(tile))
        .route("/at", get(at))
        .route("/footprints", get(footprints))
        .fallback(|uri: Uri| async move { Refusal::NotFound(format!("there is no {}", uri.path())) })
        .layer(middleware::from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Refuses requests for other hosts: a page from elsewhere, whose name was made to lead here, must not read the rasters.
/// Answers may not be kept, framed or load anything from elsewhere.
async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut response = match is_here(host, shared.address) {
        true => next.run(request).await,
        false => {
            (StatusCode::FORBIDDEN, format!("this server answers to its address only, and not to the host `{host}`\n"))
                .into_response()
        }
    };
    let policy =
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_SECURITY_POLICY, policy);
    set(CACHE_CONTROL, "no-store");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    response
}

/// Whether a Host header names this machine by an address, or as localhost. Other names prove nothing. The port may be
/// another one: that of a tunnel.
fn is_here(host: &str, address: IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    // Whoever listens beyond the loopback may be reached by any of the machine's addresses.
    name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || !address.is_loopback())
}

async fn info(State(shared): State<Arc<Shared>>) -> Answer<Json<Value>> {
    let readers = shared.readers.clone();
    let mut all = readers
        .run(|reader| {
            let count = reader.count();
            let layers = (0..count).map(|place| {
                let (layer, source) = reader.layer(place)?;
                layer.describe(source)
            });
            let layers = layers.collect::<Result<Vec<_>>>()?;
            Ok(json!({ "layers": layers }))
        })
        .await?;
    let image = &shared.readers.layers()[0].info;
    all["tile"] = json!(TILE);
    all["width"] = json!(image.width);
    all["height"] = json!(image.height);
    all["crs"] = json!(super::ground::name(&image.georeference));
    all["geotransform"] = json!(image.georeference.geotransform);
    all["metres"] = json!(image.ground.map(|(x, y)| [x, y]));
    all["footprints"] = json!(shared.footprints.as_ref().map(|f| f.count));
    Ok(Json(all))
}

#[derive(Deserialize)]
struct TileQuery {
    #[serde(default)]
    hide: String,
    band: Option<usize>,
}

async fn tile(
    State(shared): State<Arc<Shared>>,
    path: std::result::Result<Path<(String, u32, u32, String)>, PathRejection>,
    query: std::result::Result<Query<TileQuery>, QueryRejection>,
) -> Answer<Response> {
    let Path((name, level, column, row)) = path.map_err(|e| Refusal::NotFound(e.body_text()))?;
    let Query(query) = query.map_err(|e| Refusal::Bad(e.body_text()))?;
    let place = shared.place(&name)?;
    let layer = &shared.readers.layers()[place];
    let row = row.strip_suffix(".png").and_then(|row| row.parse().ok());
    let tile = row.map(|row| (level, column, row)).filter(|(z, x, y)| layer.levels.has(*z, *x, *y));
    let tile = tile.ok_or_else(|| Refusal::NotFound(format!("{name} has no such tile")))?;
    let choice = choice(&query, layer)?;

    let key = (place, tile, choice.clone());
    let cached = shared.tiles().get(&key);
    let bytes = match cached {
        Some(bytes) => bytes,
        None => {
            let work = move |reader: &mut super::readers::Reader<'_>| {
                let (layer, source) = reader.layer(place)?;
                layer.tile(source, tile, &choice)?.map(|pixels| encode(&pixels)).transpose()
            };
            let bytes = shared.readers.run(work).await?.map_or_else(|| shared.empty.clone(), Bytes::from);
            shared.tiles().put(key, bytes.clone());
            bytes
        }
    };
    Ok(([(CONTENT_TYPE, "image/png")], bytes).into_response())
}

fn choice(query: &TileQuery, layer: &Layer) -> Answer<Choice> {
    let mut choice = Choice::default();
    match layer.kind {
        Kind::Mask => {
            let values = query.hide.split(',').filter(|v| !v.is_empty()).map(str::parse::<i64>);
            choice.hidden = values
                .collect::<std::result::Result<_, _>>()
                .map_err(|_| Refusal::Bad(format!("hide={}: use values joined by commas", query.hide)))?;
        }
        Kind::Probability | Kind::Uncertainty => {
            choice.band = query.band.filter(|band| *band != layer.first_band());
            let count = layer.band_count();
            if let Some(band) = query.band.filter(|band| *band >= count) {
                return Err(Refusal::NotFound(format!("there is no band {band}: there are {count}, counted from 0")));
            }
        }
        Kind::Image => {}
    }
    Ok(choice)
}

#[derive(Deserialize)]
struct AtQuery {
    column: i64,
    row: i64,
}

/// The values of all layers at a pixel of the image.
async fn at(
    State(shared): State<Arc<Shared>>,
    query: std::result::Result<Query<AtQuery>, QueryRejection>,
) -> Answer<Json<Value>> {
    let Query(AtQuery { column, row }) = query.map_err(|e| Refusal::Bad(e.body_text()))?;
    let image = &shared.readers.layers()[0].info;
    if !(0..image.width).contains(&column) || !(0..image.height).contains(&row) {
        let (width, height) = (image.width, image.height);
        return Err(Refusal::NotFound(format!("column {column}, row {row} is outside the image of {width}x{height}")));
    }
    let mut all = shared
        .readers
        .run(move |reader| {
            let mut all = json!({ "column": column, "row": row });
            for place in 0..reader.count() {
                let (layer, source) = reader.layer(place)?;
                all[layer.kind.name()] = layer.at(source, column, row)?;
            }
            Ok(all)
        })
        .await?;
    if let Some(g) = image.georeference.geotransform {
        let (x, y) = apply(g, (column as f64 + 0.5, row as f64 + 0.5));
        all["ground"] = json!([x, y]);
        all["lonlat"] = json!(super::ground::lonlat(&image.georeference, (x, y)));
    }
    Ok(Json(all))
}

#[derive(Deserialize)]
struct BoxQuery {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    resolution: f64,
}

async fn footprints(
    State(shared): State<Arc<Shared>>,
    query: std::result::Result<Query<BoxQuery>, QueryRejection>,
) -> Answer<Json<Value>> {
    let Query(q) = query.map_err(|e| Refusal::Bad(e.body_text()))?;
    if ![q.left, q.top, q.right, q.bottom, q.resolution].iter().all(|v| v.is_finite()) {
        return Err(Refusal::Bad("the box has to be of finite numbers".into()));
    }
    let found = shared.footprints.clone();
    let found = found.ok_or_else(|| Refusal::NotFound("no footprints were named: --footprints".into()))?;
    let part = Box { left: q.left, top: q.top, right: q.right, bottom: q.bottom };
    Ok(Json(shared.readers.run(move |_| found.within(part, q.resolution)).await?))
}

impl Shared {
    fn place(&self, name: &str) -> Answer<usize> {
        let found = self.readers.layers().iter().position(|layer| layer.kind.name() == name);
        found.ok_or_else(|| Refusal::NotFound(format!("there is no layer {name}")))
    }

    fn tiles(&self) -> std::sync::MutexGuard<'_, Cache<TileKey, Bytes>> {
        self.tiles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<anyhow::Error> for Refusal {
    fn from(e: anyhow::Error) -> Self {
        Refusal::Failed(e)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Refusal::NotFound(text) => (StatusCode::NOT_FOUND, text),
            Refusal::Bad(text) => (StatusCode::BAD_REQUEST, text),
            Refusal::Failed(e) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{e:#}")),
        };
        (status, format!("{text}\n")).into_response()
    }
}

/// A tile of RGBA as PNG, quickly rather than small.
fn encode(pixels: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, TILE, TILE);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().context("a tile cannot be written as PNG")?;
    writer.write_image_data(pixels).context("a tile cannot be written as PNG")?;
    writer.finish().context("a tile cannot be written as PNG")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_localhost() {
        let here = |host: &str, address: &str| is_here(host, address.parse().unwrap());
        for host in ["127.0.0.1:8080", "127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:8080", "[::1]", "127.1.2.3:80"] {
            assert!(here(host, "127.0.0.1"), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "192.168.0.7:8080",
            "a:b",
            "127.0.0.1.nip.io",
        ] {
            assert!(!here(host, "127.0.0.1"), "{host}");
        }
        assert!(here("192.168.0.7:8080", "0.0.0.0") && here("[fe80::1]:8080", "::"));
        assert!(!here("evil.example:8080", "0.0.0.0"));
    }
}
