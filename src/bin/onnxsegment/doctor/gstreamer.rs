//! GStreamer: whether it finds this program's plugin, and the elements that pipelines around it are made of.

use super::{Part, apt};

/// The elements of the plugin.
const OWN: &[&str] = &["onnxsegment", "rastersrc", "rastersink", "tilesplit", "tilemerge", "maskclean", "maskmetrics"];

const BASE: &str = "gstreamer1.0-plugins-base";
const GOOD: &str = "gstreamer1.0-plugins-good";

/// What pipelines need besides: the element, its package, what it is for, and whether `make setup` installs it.
const OTHERS: &[(&str, &str, &str, bool)] = &[
    ("videoconvert", BASE, "pixel formats of any source", true),
    ("videoscale", BASE, "frames for models of a fixed size", true),
    ("decodebin", BASE, "video and picture files of any kind", true),
    ("appsrc", BASE, "frames from a program, and `bench`", true),
    ("pngdec", GOOD, "reads PNG", true),
    ("pngenc", GOOD, "writes PNG", true),
    ("jpegdec", GOOD, "reads JPEG", true),
    ("multifilesrc", GOOD, "folders of pictures", true),
    ("vp8enc", GOOD, "writes VP8 video", true),
    ("vp8dec", GOOD, "reads VP8 video", true),
    ("webmmux", GOOD, "writes .webm", true),
    ("matroskamux", GOOD, "writes .mkv", true),
    ("matroskademux", GOOD, "reads .mkv and .webm", true),
    ("qtdemux", GOOD, "reads .mp4 and .mov", true),
    ("v4l2src", GOOD, "cameras", false),
    ("autovideosink", GOOD, "a window to watch", false),
    ("avdec_h264", "gstreamer1.0-libav", "reads H.264 and H.265 video, which most .mp4 files hold", false),
    ("x264enc", "gstreamer1.0-plugins-ugly", "writes H.264 video", false),
];

pub fn look() -> Part {
    let mut part = Part::new("GStreamer");
    if let Err(e) = gst::init() {
        part.missing("GStreamer", format!("does not start: {e}"), "every pipeline", &apt("gstreamer1.0-tools"));
        return part;
    }
    let (major, minor, micro, _) = gst::version();
    part.ok("GStreamer", format!("{major}.{minor}.{micro}"), "every pipeline");
    own(&mut part);
    for (name, package, purpose, needed) in OTHERS {
        match (gst::ElementFactory::find(name), needed) {
            (Some(_), _) => part.ok(name, "found", purpose),
            (None, true) => part.missing(name, "not found", purpose, &apt(package)),
            (None, false) => part.note(name, "not found", purpose, &apt(package)),
        }
    }
    let tool = "gst-launch-1.0";
    match in_path(tool) {
        Some(path) => part.ok(tool, path, "pipelines from the command line"),
        None => part.note(tool, "not in PATH", "pipelines from the command line", &apt("gstreamer1.0-tools")),
    }
    part
}

/// The file of a program that the shell would find.
pub fn in_path(program: &str) -> Option<String> {
    let paths = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&paths).map(|folder| folder.join(program)).find(|path| path.is_file());
    found.map(|path| path.display().to_string())
}

/// The plugin that belongs to this program.
fn own(part: &mut Part) {
    const PURPOSE: &str = "the elements of this program in pipelines";
    let path = match std::env::var("GST_PLUGIN_PATH").unwrap_or_default() {
        path if path.is_empty() => "GST_PLUGIN_PATH is not set".to_string(),
        path => format!("GST_PLUGIN_PATH is {path}"),
    };
    let get = format!(
        "to get it: run `make install` in the source folder, which puts libgstonnxsegment.so into \
         ~/.local/share/gstreamer-1.0/plugins, or set GST_PLUGIN_PATH to its folder ({path})"
    );
    let Some(plugin) = gst::Registry::get().find_plugin("onnxsegment") else {
        part.missing("plugin onnxsegment", "GStreamer does not know it", PURPOSE, &get);
        return;
    };
    let file = plugin.filename().map_or("an unknown file".to_string(), |file| file.display().to_string());
    if plugin.plugin_flags().contains(gst::PluginFlags::BLACKLISTED) {
        let get = format!(
            "run `ldd {file}` to see what it lacks; when it is there, delete ~/.cache/gstreamer-1.0 so that GStreamer looks again"
        );
        part.missing("plugin onnxsegment", format!("{file} could not be loaded"), PURPOSE, &get);
        return;
    }
    // GStreamer has loaded it in a process of its own; here it would register types that this program has too.
    let (found, own) = (plugin.version(), concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")));
    match found == own {
        true => part.ok("plugin onnxsegment", format!("{found}, {file}"), PURPOSE),
        false => part.note(
            "plugin onnxsegment",
            format!("{found}, {file}; this command is {own}"),
            PURPOSE,
            "they are of different builds: run `make install` again, or set GST_PLUGIN_PATH to the folder of the one that is meant",
        ),
    }
    let lacking: Vec<&str> = OWN.iter().filter(|name| gst::ElementFactory::find(name).is_none()).copied().collect();
    match lacking.is_empty() {
        true => part.ok("its elements", OWN.join(", "), ""),
        false => part.missing(
            "its elements",
            format!("it has no {}", lacking.join(", ")),
            "",
            "it is an older build, or built without the feature `raster`: run `make install` again",
        ),
    }
}
