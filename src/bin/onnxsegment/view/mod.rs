//! `onnxsegment view`: a page that shows an image and what models made of it. It reads rasters and answers requests of this
//! machine; it runs no model and writes nothing.

mod cache;
mod colours;
mod footprints;
mod grid;
mod ground;
mod layer;
mod readers;
mod server;
mod warp;

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use footprints::Footprints;
use layer::{Kind, Layer};
use readers::Readers;
use server::Shared;

/// What GDAL may keep of blocks, where the user has not said how much.
const GDAL_CACHE: &str = "128MB";
/// How long reading may go on after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub struct Arguments {
    /// The image: any raster that GDAL opens
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// Classes by pixel
    #[arg(value_name = "MASK")]
    mask: Option<PathBuf>,

    /// Probabilities, a band per class or one for class 1
    #[arg(value_name = "PROBABILITY")]
    probability: Option<PathBuf>,

    /// How unsure the models are
    #[arg(value_name = "UNCERTAINTY")]
    uncertainty: Option<PathBuf>,

    /// Outlines to draw over them: GeoJSON, GeoPackage, FlatGeobuf or any other vectors that GDAL reads
    #[arg(long, value_name = "FILE")]
    footprints: Option<PathBuf>,

    /// Bands of the image to show as red, green and blue, or one as grey, counted from 1
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    bands: Vec<u32>,

    /// Where to listen. Beyond this machine everyone who reaches the address sees the rasters
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,

    /// Where to listen; 0 takes any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,

    /// Open a browser; without it one is opened from a terminal on a desktop
    #[arg(long, overrides_with = "no_open")]
    open: bool,

    /// Open no browser
    #[arg(long, overrides_with = "open")]
    no_open: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    if gdal::config::get_config_option("GDAL_CACHEMAX", "").is_ok_and(|value| value.is_empty()) {
        gdal::config::set_config_option("GDAL_CACHEMAX", GDAL_CACHE)?;
    }
    anyhow::ensure!(
        matches!(arguments.bands.len(), 0 | 1 | 3),
        "--bands names {} bands; name three for red, green and blue, or one",
        arguments.bands.len()
    );
    let bands = Some(arguments.bands.iter().map(|band| *band as usize).collect::<Vec<_>>());
    let image = Layer::open(Kind::Image, &arguments.image, bands.filter(|bands| !bands.is_empty()), None)?;
    let georeference = image.info.georeference.clone();
    let mut layers = vec![image];
    let others = [
        (Kind::Mask, &arguments.mask),
        (Kind::Probability, &arguments.probability),
        (Kind::Uncertainty, &arguments.uncertainty),
    ];
    for (kind, path) in others {
        if let Some(path) = path {
            layers.push(Layer::open(kind, path, None, layers.first())?);
        }
    }
    let footprints = arguments.footprints.as_ref().map(|path| Footprints::open(path, &georeference)).transpose()?;
    let shared = Arc::new(Shared::new(Readers::new(layers), footprints, arguments.address)?);

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_io()
        .build()
        .context("the server cannot be started")?;
    let result = runtime.block_on(serve(shared, &arguments));
    runtime.shutdown_timeout(PATIENCE);
    result
}

/// Until Ctrl-C.
async fn serve(shared: Arc<Shared>, arguments: &Arguments) -> Result<()> {
    let wanted = SocketAddr::new(arguments.address, arguments.port);
    let listener = TcpListener::bind(wanted).await.map_err(|e| in_words(&e, wanted))?;
    let bound = listener.local_addr().context("the server's address is not known")?;
    let mut shown = bound;
    if bound.ip().is_unspecified() {
        shown.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let url = format!("http://{shown}/");
    // Whoever has read the address may end the server.
    let mut interrupt = signal(SignalKind::interrupt()).context("Ctrl-C cannot be waited for")?;
    println!("{url}");
    std::io::stdout().flush().context("the address cannot be printed")?;
    if !bound.ip().is_loopback() {
        eprintln!(
            "onnxsegment: warning: everyone who reaches {bound} can see these rasters, without a password; leave out \
             --address to keep them on this machine"
        );
    }
    eprintln!("onnxsegment: open the address above in a browser; Ctrl-C ends the server");
    if arguments.open || (!arguments.no_open && std::io::stdout().is_terminal() && has_desktop()) {
        open(&url);
    }
    tokio::select! {
        served = axum::serve(listener, server::router(shared)) => served.context("the server stopped"),
        _ = interrupt.recv() => Ok(()),
    }
}

fn in_words(e: &std::io::Error, wanted: SocketAddr) -> anyhow::Error {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    match e.kind() {
        AddrInUse => {
            anyhow!("{wanted} is taken by another program; choose another port, or any that is free with --port 0")
        }
        AddrNotAvailable => anyhow!("--address {}: this machine has no such address", wanted.ip()),
        PermissionDenied => {
            anyhow!("{wanted}: permission denied; ports below 1024 are the system's: choose another with --port")
        }
        _ => anyhow!("{wanted} cannot be listened on: {e}"),
    }
}

fn has_desktop() -> bool {
    cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| std::env::var_os(name).is_some())
}

/// The address is printed too: whoever has no browser loses nothing.
fn open(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started =
        Command::new(opener).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(e) = started {
        eprintln!("onnxsegment: no browser was opened: {opener}: {e}");
    }
}
