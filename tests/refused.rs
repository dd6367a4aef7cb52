//! Every verb of the command line and bad input: one clear sentence, an exit code that is documented, nothing printed for
//! programs to read, and nothing written.

mod scenes;

use scenes::{Folder, text};

/// Folders and files that lines below name, besides the scene and its truth.
fn folder(name: &str) -> Folder {
    let folder = Folder::new(&format!("refused-{name}"));
    std::fs::create_dir(folder.path("empty")).unwrap();
    for name in ["prose.tif", "prose.onnx", "prose.json", "prose.toml", "prose.csv"] {
        std::fs::write(folder.path(name), "neither this nor that").unwrap();
    }
    let model = std::fs::read(scenes::root("tests/models/softmax2.onnx")).unwrap();
    std::fs::write(folder.path("cut.onnx"), &model[..model.len() / 2]).unwrap();
    folder
}

/// Tries lines of one verb: the line, its exit code, and what has to be said of it.
fn refused(verb: &str, lines: &[(&str, i32, &str)]) {
    let folder = folder(verb);
    let before = folder.files();
    for (line, code, told) in lines {
        let output = folder.run(verb, line);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(*code), "{verb} {line}: {said}{}", text(&output.stdout));
        assert_eq!(text(&output.stdout), "", "{verb} {line}");
        assert!(said.contains(told), "{verb} {line}: {told:?} is not in: {said}");
        // Wrong usage is the parser's to tell; all else is one error besides warnings, and no program's inside.
        let errors = said.lines().filter(|line| line.starts_with("onnxsegment: "));
        let errors = errors.filter(|line| !line.starts_with("onnxsegment: warning: "));
        match code {
            2 => assert!(said.starts_with("error: "), "{verb} {line}: {said}"),
            _ => assert!(said.starts_with("onnxsegment: ") && errors.count() == 1, "{verb} {line}: {said}"),
        }
        assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{verb} {line}: {said}");
        assert_eq!(folder.files(), before, "{verb} {line} left something behind");
        assert_eq!(std::fs::read_dir(folder.path("empty")).unwrap().count(), 0, "{verb} {line}");
    }
}

#[test]
fn run() {
    refused(
        "run",
        &[
            ("", 2, "--output <OUT>"),
            ("scene.tif -o m.tif", 1, "no model is named; use -m MODEL.onnx, or --config-file"),
            ("nowhere.tif -o m.tif -m %/softmax2.onnx", 1, "nowhere.tif: cannot be opened"),
            ("prose.tif -o m.tif -m %/softmax2.onnx", 1, "prose.tif: cannot be opened"),
            ("empty -o masks -m %/softmax2.onnx", 1, "there is no image in this folder"),
            ("no*.tif -o m.tif -m %/softmax2.onnx", 1, "no file has such a name"),
            ("scene.tif -o m.tif -m nowhere.onnx", 1, "nowhere.onnx: cannot be read"),
            ("scene.tif -o m.tif -m no*.onnx", 1, "matches no file"),
            ("scene.tif -o m.tif -m prose.onnx", 1, "is not an ONNX model"),
            ("scene.tif -o m.tif -m cut.onnx", 1, "truncated"),
            ("scene.tif -o m.tif --config-file prose.toml", 1, "prose.toml"),
            ("scene.tif -o m.tif -m %/logit1.onnx", 1, "activation"),
            ("scene.tif -o none/m.tif -m %/softmax2.onnx", 1, "make it first"),
            ("scene.tif -o none/m.png -m %/softmax2.onnx", 1, "there is no folder none"),
            ("scene.tif -o none/m.csv -m %/softmax2.onnx", 1, "there is no folder none; make it first"),
            ("scene.tif -o none/m.geojson -m %/softmax2.onnx", 1, "there is no folder none; make it first"),
            ("scene.tif -o m.tif -m %/softmax2.onnx --report none/r.html", 1, "there is no folder none; make it first"),
            ("scene.tif -o truth.tif/m.tif -m %/softmax2.onnx", 1, "truth.tif"),
            ("scene.tif -o scene.tif -m %/softmax2.onnx", 1, "is the input itself"),
            ("scene.tif -o m.xyz -m %/softmax2.onnx", 1, "nothing is written as .xyz"),
            ("scene.tif -o m.mkv -m %/softmax2.onnx", 1, "a video is written from a video only"),
            ("scene.tif truth.tif -o m.tif -m %/softmax2.onnx", 1, "gdalbuildvrt"),
            ("scene.tif -o m.tif -m %/softmax2.onnx --no-such", 2, "--no-such"),
            ("scene.tif -o m.tif -m %/softmax2.onnx --tile-size big", 2, "--tile-size"),
            ("scene.tif -o m.tif -m %/softmax2.onnx --blend soft", 2, "hann"),
            ("scene.tif -o m.tif -m %/softmax2.onnx --tta sideways", 1, "the transforms are identity"),
            ("scene.tif -o m.tif -m %/softmax2.onnx --bands 9", 1, "bands count from 1"),
            ("scene.tif -o m.tif -m %/softmax2.onnx --window 0,0,999,9", 1, "reaches beyond"),
            ("scene.tif -o m.tif -m %/gray.onnx", 1, "takes 1 channel, and the frame has 3"),
            ("scene.tif -o m.geojson -m %/softmax2.onnx --min-area lots", 2, "square metres, such as"),
            (
                "scene.tif -o m.tif -m %/softmax2.onnx --execution-provider cuda --provider-policy strict",
                1,
                "provider-policy=strict forbids going on",
            ),
        ],
    );
}

#[test]
fn pipeline_and_plan() {
    refused(
        "pipeline",
        &[
            ("", 2, "--output <OUT>"),
            ("scene.tif -o m.xyz -m %/softmax2.onnx", 1, "nothing is written as .xyz"),
            ("empty -o masks -m %/softmax2.onnx", 1, "there is no image in this folder"),
            ("scene.tif -o m.tif -m %/softmax2.onnx --blend soft", 2, "hann"),
        ],
    );
    refused(
        "plan",
        &[
            ("", 2, "--output <OUT>"),
            ("nowhere.tif -o m.tif -m %/softmax2.onnx", 1, "nowhere.tif: cannot be opened"),
            ("scene.tif -o m.tif -m nowhere.onnx", 1, "nowhere.onnx: cannot be read"),
            ("scene.tif -o none/m.tif -m %/softmax2.onnx", 1, "make it first"),
        ],
    );
}

#[test]
fn inspect() {
    refused(
        "inspect",
        &[
            ("", 1, "no model is named"),
            ("nowhere.onnx", 1, "nowhere.onnx: cannot be read"),
            ("no*.onnx", 1, "matches no file"),
            ("prose.onnx", 1, "is not an ONNX model"),
            ("cut.onnx", 1, "truncated"),
            ("--config-file nowhere.toml", 1, "nowhere.toml"),
            ("%/softmax2.onnx --config-file prose.toml", 2, "cannot be used with"),
            ("%/softmax2.onnx --set", 2, "--set <NAME=VALUE>"),
            ("%/softmax2.onnx --set scale", 1, "use NAME=VALUE"),
            ("%/softmax2.onnx --set no-such=1", 1, "there is no such setting; the settings are"),
            ("%/softmax2.onnx --write", 2, "deepness"),
            ("%/softmax2.onnx --write yaml", 2, "possible values: deepness, mlm"),
            ("%/softmax2.onnx --write mlm -o none/a.json", 1, "there is no folder none; make it first"),
            ("%/softmax2.onnx --write mlm -o empty", 1, "no name of a file"),
            ("%/softmax2.onnx --write mlm --model-card prose.json -o a.json", 1, "nothing is written, because"),
            ("%/softmax2.onnx -o a.json", 2, "--write"),
        ],
    );
}

#[test]
fn masks() {
    refused(
        "footprints",
        &[
            ("", 2, "--output <OUT>"),
            ("nowhere.tif -o a.geojson", 1, "nowhere.tif: cannot be opened"),
            ("prose.tif -o a.geojson", 1, "prose.tif: cannot be opened"),
            ("truth.tif -o a.txt", 1, ".geojson, .gpkg or .fgb"),
            ("truth.tif -o none/a.geojson", 1, "there is no folder none; make it first"),
            ("truth.tif -o a.geojson --classes house", 1, "use numbers from 0"),
            ("truth.tif -o a.geojson --min-area 10m2", 1, "use a number of pixels"),
            ("truth.tif -o a.geojson --simplify=-1", 2, "--simplify"),
            ("truth.tif -o a.geojson --angle-tolerance 10", 2, "--orthogonalise"),
            ("truth.tif -o a.geojson --probability nowhere.tif", 1, "nowhere.tif: cannot be opened"),
        ],
    );
    refused(
        "rle",
        &[
            ("", 2, "--output <OUT>"),
            ("nowhere.tif -o a.csv", 1, "nowhere.tif: cannot be opened"),
            ("prose.tif -o a.csv", 1, "prose.tif: cannot be opened"),
            ("truth.tif -o none/a.csv", 1, "there is no folder none; make it first"),
            ("truth.tif truth.tif -o a.csv", 1, "would both be the row truth"),
            ("truth.tif -o a.csv --class many", 2, "--class"),
            ("nowhere.csv -o masks --size 8x8", 1, "nowhere.csv"),
            ("prose.csv -o masks --size 8x8", 1, "has no tab between name and runs"),
            ("prose.csv -o masks --size 8", 2, "use WIDTHxHEIGHT"),
        ],
    );
    refused(
        "report",
        &[
            ("", 2, "--output <FILE.html>"),
            ("nowhere.tif truth.tif -o r.html", 1, "nowhere.tif: cannot be opened"),
            ("scene.tif prose.tif -o r.html", 1, "prose.tif: cannot be opened"),
            ("scene.tif truth.tif -o none/r.html", 1, "there is no folder none; make it first"),
            ("scene.tif truth.tif -o scene.tif", 1, "is an input"),
        ],
    );
    refused(
        "view",
        &[
            ("", 2, "<IMAGE>"),
            ("nowhere.tif", 1, "nowhere.tif: cannot be opened"),
            ("scene.tif prose.tif", 1, "prose.tif: cannot be opened"),
            ("scene.tif --footprints nowhere.geojson", 1, "there is no such file"),
            ("scene.tif --bands 1,2", 1, "name three"),
            ("scene.tif --port 99999", 2, "--port"),
        ],
    );
}

#[test]
fn scores_and_models() {
    refused(
        "eval",
        &[
            ("", 2, "--truth <MASK>"),
            ("--truth truth.tif", 1, "name models and --image, or --mask"),
            ("--image scene.tif --truth truth.tif", 1, "no model is named"),
            ("--mask nowhere.tif --truth truth.tif", 1, "nowhere.tif: cannot be opened"),
            ("--mask truth.tif --truth prose.tif", 1, "prose.tif: cannot be opened"),
            ("%/softmax2.onnx --mask truth.tif --truth truth.tif", 2, "cannot be used with"),
            ("--mask truth.tif --truth truth.tif --windows 1,2,3", 2, "use x,y,width,height"),
            ("--mask truth.tif --truth truth.tif --windows 1,2,3,999", 1, "reaches beyond"),
            ("--mask truth.tif --truth truth.tif --mask-values 0=0", 1, "255=CLASS or 255=ignore"),
            ("prose.onnx --image scene.tif --truth truth.tif", 1, "is not an ONNX model"),
        ],
    );
    refused(
        "select",
        &[
            ("", 2, "--image <IMAGE>"),
            ("--image scene.tif --truth truth.tif", 1, "no model is named"),
            (
                "%/member-a.onnx --windows 0,0,40,32 --image nowhere.tif --truth truth.tif",
                1,
                "nowhere.tif: cannot be opened",
            ),
            (
                "%/member-a.onnx --windows 0,0,40,32 --image scene.tif --truth nowhere.tif",
                1,
                "nowhere.tif: cannot be opened",
            ),
            ("nowhere.onnx --image scene.tif --truth truth.tif", 1, "nowhere.onnx: cannot be read"),
            (
                "%/member-a.onnx --windows 0,0,40,32 --image scene.tif --truth truth.tif -o none/a.toml",
                1,
                "there is no folder none",
            ),
            (
                "%/member-a.onnx --windows 0,0,40,32 --image scene.tif --truth truth.tif --plot none/a.png",
                1,
                "there is no folder none",
            ),
            (
                "%/member-a.onnx --windows 0,0,40,32 --image scene.tif --truth truth.tif --tta sideways",
                2,
                "the transforms are identity",
            ),
        ],
    );
    refused(
        "soup",
        &[
            ("", 2, "--output <OUT.onnx>"),
            ("nowhere.onnx %/softmax2.onnx -o a.onnx", 1, "nowhere.onnx"),
            ("prose.onnx %/softmax2.onnx -o a.onnx", 1, "is not an ONNX model"),
            ("%/softmax2.onnx -o a.onnx", 1, "at least two"),
            ("%/softmax2.onnx %/softmax4.onnx -o a.onnx", 1, "Only models of one architecture"),
            ("%/member-a.onnx %/member-b.onnx -o none/a.onnx", 1, "none: there is no such folder; make it first"),
            ("%/softmax2.onnx %/softmax2.onnx -o a.onnx --weights 1", 1, "give one per model"),
            ("%/member-a.onnx %/member-b.onnx -o a.onnx --greedy", 2, "--truth"),
        ],
    );
}

#[test]
fn the_rest() {
    refused("doctor", &[("--no-such", 2, "--no-such"), ("word", 2, "word")]);
    refused("completions", &[("", 2, "<SHELL>"), ("csh", 2, "possible values: bash")]);
    refused("man", &[("-o truth.tif/man", 1, "truth.tif/man")]);
    refused("work", &[("word", 2, "word")]);
    refused("no-such", &[("", 2, "unrecognized subcommand")]);
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let model = scenes::root("models/fold0.onnx").display().to_string();
    for line in [&["inspect", &model][..], &["completions", "zsh"], &["man"], &["run", "--help"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_onnxsegment"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command.args(line).stdout(writer).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{line:?}: {}", text(&output.stderr));
    }
}
