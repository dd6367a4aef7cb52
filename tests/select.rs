//! `onnxsegment select`: what is kept of passes against the engine that runs them, on which pixels models are compared, and the
//! command line. Temperatures are SciPy's: `tests/golden/make_select.py`.

mod scenes;

use std::path::Path;

use gstonnxsegment::engine::merge::{Domain, Merge};
use gstonnxsegment::engine::metrics::Counts;
use gstonnxsegment::engine::select::temperature::Logits;
use gstonnxsegment::engine::select::{
    Basis, Candidate, Cut, Options, Row, Selection, Study, Truth, Unseen, Window, labels,
};
use gstonnxsegment::engine::settings::{Named, Source};
use gstonnxsegment::engine::spec::Link;
use gstonnxsegment::engine::{Settings, tta};
use scenes::*;
use serde::Deserialize;

fn settings(models: &str, more: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    let models: Vec<String> =
        models.split(',').map(|name| root(&format!("tests/models/{name}.onnx")).display().to_string()).collect();
    settings.set("model-file", &models.join(","), Source::Property, Path::new("")).unwrap();
    for (name, value) in more {
        settings.set(name, value, Source::Property, Path::new("")).unwrap();
    }
    settings
}

fn windows(text: &str) -> Vec<Window> {
    text.split(';').map(|w| w.parse().unwrap()).collect()
}

fn options(sets: &[&str]) -> Options {
    let sets = sets.iter().map(|set| tta::parse(set).unwrap()).collect();
    Options { sets, block: 16, resamples: 200, ..Options::default() }
}

fn truth(classes: &[Option<u16>]) -> Truth<'_> {
    Truth { width: WIDTH, height: HEIGHT, classes }
}

/// Opens a study and runs its passes.
fn study(
    settings: &Settings,
    stated: &[&str],
    holdout: &[Window],
    classes: &[Option<u16>],
    options: Options,
) -> gstonnxsegment::engine::Result<Study> {
    let stated: Vec<Vec<Window>> = stated.iter().map(|text| windows(text)).collect();
    let mut study = Study::new(settings, &stated, holdout, truth(classes), FORMAT, options)?;
    study.run(&frame, |_, _| {})?;
    Ok(study)
}

const WHOLE: &str = "0,0,80,64";

/// The IoU of class 1 of labels by pixel.
fn iou(pixels: impl Iterator<Item = (u16, Option<u16>)>) -> f64 {
    Counts::of(pixels.map(|(label, truth)| (label == 1, truth == Some(1)))).iou().unwrap()
}

// ---- the same as the engine

/// Every merge, domain, set of transforms, with and without temperatures and thresholds.
fn candidates(members: &[usize], sets: &[&str]) -> Vec<Candidate> {
    let mut all = Vec::new();
    for set in sets {
        for (_, merge) in Merge::NAMES {
            for (_, domain) in Domain::NAMES {
                for (calibrated, cut) in [(false, Cut::Stated), (true, Cut::Stated), (true, Cut::Fitted(37))] {
                    let transforms = tta::parse(set).unwrap();
                    let plain = Candidate::plain(members.to_vec(), transforms);
                    all.push(Candidate { merge: *merge, domain: *domain, calibrated, cut, ..plain });
                }
            }
        }
    }
    all
}

/// Compares labels from kept passes with those of an ensemble that runs the same setting; how many could be.
fn compare(models: &str, more: &[(&str, &str)], classes_count: usize, members: &[usize], sets: &[&str]) -> usize {
    let settings = settings(models, more);
    let classes = classes(classes_count);
    let count = models.split(',').count();
    let study = study(&settings, &vec!["8,4,60,50"; count], &[], &classes, options(&["none", "d4"])).unwrap();
    let mut compared = 0;
    for candidate in candidates(members, sets) {
        if classes_count > 2 && candidate.cut != Cut::Stated {
            continue;
        }
        let whole = labels(&study.settings(&candidate), FORMAT, frame());
        match (study.labels(&candidate), whole) {
            (Ok(kept), Ok(whole)) => {
                let kept = kept.unwrap();
                assert_eq!(kept.len(), 60 * 50);
                let wrong = kept.iter().find(|(pixel, label)| whole[*pixel] != *label);
                assert_eq!(wrong, None, "{models}: {}", candidate.words());
                compared += 1;
            }
            (Err(_), Err(_)) => {}
            (kept, whole) => panic!("{}: {:?} {:?}", candidate.words(), kept.err(), whole.err()),
        }
    }
    compared
}

#[test]
fn kept_passes_are_decided_as_the_ensemble_decides() {
    // 7 merges of probabilities and 3 of logits, each three times.
    assert_eq!(compare("sigmoid,logit1-meta", &[], 2, &[0, 1], &["none", "flip3"]), 2 * 30);
    assert_eq!(compare("member-a,logit1-meta,member-b", &[], 2, &[0, 1, 2], &["none", "d4"]), 2 * 30);
    assert_eq!(compare("quarter,saturated1", &[("temperature", "1.5,0.7")], 2, &[0, 1], &["hflip"]), 30);
    let weights = [("weights", "1,0.2,3"), ("threshold", "0.4")];
    // Largest and smallest take no weights.
    assert_eq!(compare("member-a,member-c,sigmoid", &weights, 2, &[0, 2], &["rot90"]), 3 * 6);
}

#[test]
fn many_classes_and_labels_are_decided_as_the_ensemble_decides() {
    assert_eq!(compare("softmax4,logsoftmax4", &[], 4, &[0, 1], &["none", "flips"]), 2 * 20);
    // Labels are votes, which mean and vote count.
    assert_eq!(compare("label-i64,softmax4", &[], 4, &[0, 1], &["hflip"]), 4);
    assert_eq!(compare("label-u8,label-i64-bare", &[], 4, &[1], &["d4"]), 4);
}

#[test]
fn the_written_file_gives_the_labels_that_were_scored() {
    let settings = settings("member-a,sigmoid,member-c", &[("weights", "1,2,3"), ("mask-values", "0,255")]);
    let classes = classes(2);
    let study = study(&settings, &[WHOLE; 3], &[], &classes, options(&["none", "flips"])).unwrap();
    let candidate = |hundredths: u8| Candidate {
        domain: Domain::Logit,
        calibrated: true,
        cut: Cut::Fitted(hundredths),
        ..Candidate::plain(vec![0, 2], tta::parse("flips").unwrap())
    };
    let kept = |hundredths: u8| study.labels(&candidate(hundredths)).unwrap().unwrap();
    let both = |kept: &[(usize, u16)]| [0, 1].iter().all(|class| kept.iter().any(|(_, label)| label == class));
    let cut = (30..70).find(|hundredths| both(&kept(*hundredths))).unwrap();
    let (candidate, kept) = (candidate(cut), kept(cut));
    let file = std::env::temp_dir().join(format!("onnxsegment-select-{}.toml", std::process::id()));
    std::fs::write(&file, study.settings(&candidate).to_config(&std::env::temp_dir()).unwrap()).unwrap();
    let read = Settings::from_config(&file);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(
        text.contains("temperature = ") && text.contains(&format!("class-thresholds = [0.{}, 0.{cut}]", 100 - cut)),
        "{text}"
    );
    assert!(text.contains("mask-values = [0, 255]") && text.contains("weight = 3"), "{text}");
    let whole = labels(&read.unwrap(), FORMAT, frame()).unwrap();
    assert_eq!(kept.len(), WIDTH * HEIGHT);
    assert!(kept.iter().all(|(pixel, label)| whole[*pixel] == *label));
}

// ---- on which pixels

fn row<'a>(selection: &'a Selection, wanted: &Candidate) -> &'a Row {
    selection.rows.iter().find(|row| row.candidate == *wanted).unwrap()
}

#[test]
fn models_that_share_windows_are_compared_there_and_nowhere_else() {
    let settings = settings("sigmoid,member-a,logit1-meta", &[]);
    let classes = classes(2);
    let stated = ["0,0,50,64", "10,0,70,40;0,60,5,4", "0,20,80,44"];
    let study = study(&settings, &stated, &[], &classes, options(&["none", "hflip"])).unwrap();
    let selection = study.select().unwrap();
    // 10…49 × 20…39, and 0…4 × 60…63.
    assert_eq!((selection.basis, selection.pixels), (Basis::Shared, 40 * 20 + 5 * 4));
    let shared = |k: usize| {
        let (x, y) = (k % WIDTH, k / WIDTH);
        ((10..50).contains(&x) && (20..40).contains(&y)) || (x < 5 && y >= 60)
    };
    for members in [vec![0], vec![2], vec![0, 1], vec![0, 1, 2]] {
        for set in ["none", "hflip"] {
            let candidate = Candidate::plain(members.clone(), tta::parse(set).unwrap());
            let whole = labels(&study.settings(&candidate), FORMAT, frame()).unwrap();
            let expected = iou((0..WIDTH * HEIGHT).filter(|k| shared(*k)).map(|k| (whole[k], classes[k])));
            assert_eq!(row(&selection, &candidate).iou, expected, "{members:?} {set}");
        }
    }
    let sets = selection.rows.iter().filter(|row| !row.candidate.is_fitted() && row.candidate.merge == Merge::Mean);
    assert_eq!(sets.filter(|row| row.candidate.domain == Domain::Probability).count(), 7 * 2);
}

#[test]
fn folds_are_scored_one_by_one_on_their_own_pixels_and_all_are_taken() {
    let settings = settings("sigmoid,member-a,logit1-meta", &[]);
    let classes = classes(2);
    let stated = ["0,0,30,64", "30,0,20,64", "50,0,30,64"];
    let study = study(&settings, &stated, &[], &classes, options(&["none", "flips"])).unwrap();
    let selection = study.select().unwrap();
    assert_eq!((selection.basis, selection.pixels), (Basis::Folds, WIDTH * HEIGHT));
    assert!(selection.rows.iter().all(|row| row.candidate.members == [0, 1, 2]));
    for set in ["none", "flips"] {
        let transforms = tta::parse(set).unwrap();
        let alone = |m: usize| {
            let candidate = Candidate::plain(vec![m], transforms.clone());
            labels(&study.settings(&candidate), FORMAT, frame()).unwrap()
        };
        let alone: Vec<Vec<u16>> = (0..3).map(alone).collect();
        let fold = |k: usize| [30, 50, 80].iter().position(|end| k % WIDTH < *end).unwrap();
        let expected = iou((0..WIDTH * HEIGHT).map(|k| (alone[fold(k)][k], classes[k])));
        assert_eq!(row(&selection, &Candidate::plain(vec![0, 1, 2], transforms)).iou, expected, "{set}");
    }
    assert_eq!(study.labels(&selection.baseline).unwrap(), None, "there are no shared pixels");
    assert_eq!(selection.members[1].pixels, 20 * 64);
}

#[test]
fn temperatures_of_folds_are_tried_where_a_fold_merges_passes() {
    let settings = settings("sigmoid,member-a", &[]);
    let classes = classes(2);
    let tried = |set: &str| {
        let study = study(&settings, &["0,0,40,64", "40,0,40,64"], &[], &classes, options(&[set])).unwrap();
        study.select().unwrap().rows.iter().any(|row| row.candidate.calibrated)
    };
    assert_eq!((tried("none"), tried("flips")), (false, true));
}

#[test]
fn models_of_which_only_some_share_windows_are_not_compared() {
    let settings = settings("sigmoid,member-a,logit1-meta", &[]);
    let classes = classes(2);
    let stated = ["0,0,40,64", "30,0,20,64", "50,0,30,64"];
    let error = study(&settings, &stated, &[], &classes, options(&["none"])).err().unwrap().to_string();
    assert!(error.contains("sigmoid and member-a share") && error.contains("cross-validation"), "{error}");
    let folds = Options { folds: true, ..options(&["none"]) };
    let selection = study(&settings, &stated, &[], &classes, folds).unwrap().select().unwrap();
    assert_eq!((selection.basis, selection.pixels), (Basis::Folds, (40 + 20 + 30) * 64));
}

#[test]
fn the_holdout_decides_nothing() {
    let settings = settings("sigmoid,member-a", &[]);
    let known = classes(2);
    let holdout = windows("48,0,32,64");
    let unseen = |k: usize| k % WIDTH >= 48;
    // Everything about the holdout is another.
    let other: Vec<Option<u16>> =
        known.iter().enumerate().map(|(k, class)| if unseen(k) { class.map(|c| 1 - c) } else { *class }).collect();
    let options = options(&["none", "hflip"]);
    let run = |classes: &[Option<u16>]| {
        let study = study(&settings, &[WHOLE; 2], &holdout, classes, options.clone()).unwrap();
        let selection = study.select().unwrap();
        let unseen = Unseen::open(&study, &selection, &holdout, truth(classes)).unwrap();
        let chosen = study.settings(&selection.rows[selection.chosen].candidate);
        (format!("{:?}", selection.rows), selection.pixels, unseen.judge(&chosen, FORMAT, frame()).unwrap(), chosen)
    };
    let ((rows, pixels, judged, chosen), (other_rows, _, other_judged, _)) = (run(&known), run(&other));
    assert_eq!(pixels, 48 * 64);
    assert_eq!(rows, other_rows);
    assert_ne!(judged, other_judged);
    let whole = labels(&chosen, FORMAT, frame()).unwrap();
    let expected = iou((0..WIDTH * HEIGHT).filter(|k| unseen(*k)).map(|k| (whole[k], known[k])));
    assert_eq!((judged.score.unwrap().iou, judged.pixels), (expected, 32 * 64));
}

#[test]
fn pixels_of_unknown_class_count_for_nothing() {
    let settings = settings("sigmoid", &[]);
    let mut known = classes(2);
    known.iter_mut().take(WIDTH * 40).for_each(|class| *class = None);
    let selection = study(&settings, &[WHOLE], &[], &known, options(&["none"])).unwrap().select().unwrap();
    assert_eq!(selection.pixels, WIDTH * 24);
}

// ---- which is taken

#[test]
fn the_cheapest_within_the_interval_of_the_best_is_taken() {
    let settings = settings("sigmoid,member-a,logit1-meta", &[]);
    let classes = classes(2);
    let study = study(&settings, &[WHOLE; 3], &[], &classes, options(&["none", "hflip", "d4"])).unwrap();
    let selection = study.select().unwrap();
    let best = &selection.rows[selection.best];
    assert!(selection.rows.iter().all(|row| row.iou <= best.iou));
    let (low, high) = best.intervals.unwrap().0;
    assert!(low < best.iou && best.iou < high);
    let chosen = &selection.rows[selection.chosen];
    let within: Vec<&Row> = selection.rows.iter().filter(|row| row.iou >= low).collect();
    assert!(chosen.iou >= low && within.iter().all(|row| row.cost >= chosen.cost));
    let plain = |row: &&&Row| row.cost == chosen.cost && !row.candidate.is_fitted();
    if !chosen.candidate.is_fitted() {
        assert!(within.iter().filter(plain).all(|row| row.iou <= chosen.iou));
    }
    // The same again.
    let again = study.select().unwrap();
    assert_eq!((again.best, again.chosen), (selection.best, selection.chosen));
}

#[test]
fn a_fitted_threshold_is_scored_by_blocks_that_did_not_choose_it() {
    let settings = settings("sigmoid", &[]);
    let classes = classes(2);
    let study = study(&settings, &[WHOLE], &[], &classes, options(&["none"])).unwrap();
    let selection = study.select().unwrap();
    let fitted = selection.rows.iter().find(|row| row.candidate.cut != Cut::Stated).unwrap();
    let at = |cut: Cut| {
        let labels = study.labels(&Candidate { cut, ..fitted.candidate.clone() }).unwrap().unwrap();
        iou(labels.into_iter().map(|(pixel, label)| (label, classes[pixel])))
    };
    let best = at(fitted.candidate.cut);
    assert!((1..=99).all(|hundredths| at(Cut::Fitted(hundredths)) <= best));
    assert!(fitted.iou <= best, "{} {best}", fitted.iou);
    assert!(best > at(Cut::Stated), "this truth is not cut at one half");
}

#[test]
fn many_members_are_added_one_by_one() {
    let settings = settings("sigmoid,member-a,logit1-meta,member-b,member-c,softmax2,deepness1", &[]);
    let classes = classes(2);
    let study = study(&settings, &[WHOLE; 7], &[], &classes, options(&["none"])).unwrap();
    let selection = study.select().unwrap();
    let plain =
        |row: &&Row| row.candidate == Candidate::plain(row.candidate.members.clone(), vec![tta::Transform::Identity]);
    let sets: Vec<&Row> = selection.rows.iter().filter(plain).collect();
    assert_eq!(sets.len(), 7 * 8 / 2);
    for size in 1..=7 {
        assert_eq!(sets.iter().filter(|row| row.candidate.members.len() == size).count(), 8 - size);
    }
    // Each set but the first grows from the best one that is smaller by one.
    for size in 2..=7 {
        let of = |size: usize| sets.iter().filter(move |row| row.candidate.members.len() == size);
        let best = of(size - 1).reduce(|a, b| if b.iou > a.iou { b } else { a }).unwrap();
        assert!(of(size).all(|row| best.candidate.members.iter().all(|m| row.candidate.members.contains(m))));
    }
}

#[derive(Deserialize)]
struct Golden {
    name: String,
    link: String,
    channels: usize,
    logits: Vec<f32>,
    truth: Vec<u16>,
    temperature: f64,
    before: f64,
    after: f64,
}

#[test]
fn temperatures_are_those_of_scipy() {
    let text = std::fs::read_to_string(root("tests/golden/select.json")).unwrap();
    let cases: Vec<Golden> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let link = Link::parse("link", &case.link).unwrap();
        let logits = Logits { values: &case.logits, channels: case.channels, link, truth: &case.truth };
        assert!((logits.nll(1.0) - case.before).abs() < 1e-9, "{}: {} {}", case.name, logits.nll(1.0), case.before);
        let found = f64::from(logits.fit());
        assert!((found / case.temperature - 1.0).abs() < 6e-4, "{}: {found} {}", case.name, case.temperature);
        assert!((logits.nll(found) - case.after).abs() < 1e-6, "{}", case.name);
    }
}

// ---- the command line

const SCENE: &str = "--image scene.tif --truth truth.tif --block 16 --resamples 100 --tta none,hflip";

#[test]
fn a_table_a_file_and_a_plot_are_made() {
    let folder = Folder::new("whole");
    let ran = folder.run(
        "select",
        &format!(
            "%/sigmoid.onnx %/member-[ab].onnx {SCENE} --windows 0,0,60,64 --holdout 60,0,20,64 -o chosen.toml \
         --plot plot.png"
        ),
    );
    let (out, progress) = (text(&ran.stdout), text(&ran.stderr));
    assert!(ran.status.success(), "{progress}");
    assert_eq!(folder.files(), ["chosen.toml", "plot.png", "scene.tif", "truth.tif"]);
    assert!(progress.contains("pass 6 of 6: member-b hflip"), "{progress}");
    assert!(out.contains("IoU of class 1") && out.contains("3840 pixels"), "{out}");
    assert!(out.contains("| sigmoid + member-b | hflip"), "{out}");
    assert_eq!(out.matches("**take this**").count(), 1, "{out}");
    assert!(
        out.contains("1280 pixels") && out.contains("| recommended ") && out.contains("best single model"),
        "{out}"
    );

    // Lines are in the order of their scores.
    let scores: Vec<f64> = out
        .lines()
        .filter(|line| line.matches(" | ").count() == 6)
        .filter_map(|line| line.split('|').nth(4)?.trim().parse().ok())
        .collect();
    assert!(scores.len() > 5 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}\n{out}");

    let config = std::fs::read_to_string(folder.path("chosen.toml")).unwrap();
    assert!(config.starts_with("# Chosen by `onnxsegment select`"), "{config}");
    let settings = Settings::from_config(&folder.path("chosen.toml")).unwrap();
    labels(&settings, FORMAT, frame()).unwrap();

    let plot = gdal::Dataset::open(folder.path("plot.png")).unwrap();
    assert_eq!((plot.raster_size(), plot.raster_count()), ((1200, 800), 3));
    let dark = |band: usize| {
        let pixels = plot.rasterband(band).unwrap().read_as::<u8>((0, 0), (1200, 800), (1200, 800), None).unwrap();
        pixels.data().iter().filter(|v| **v < 128).count()
    };
    // Text, axes and bars, on white.
    assert!((2000..100_000).contains(&dark(1)), "{}", dark(1));
    assert!(dark(1) > dark(3), "blue bars");
}

#[test]
fn json_holds_every_candidate() {
    let folder = Folder::new("json");
    let ran = folder.run("select", &format!("%/sigmoid.onnx %/softmax2.onnx {SCENE} --windows 0,0,80,64 --json"));
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let json: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let candidates = json["candidates"].as_array().unwrap();
    let recommended = &candidates[json["recommended"].as_u64().unwrap() as usize];
    assert!(recommended["interval"][0].as_f64().unwrap() <= recommended["score"].as_f64().unwrap());
    assert_eq!((&json["basis"], &json["pixels"]), (&"shared".into(), &(WIDTH * HEIGHT).into()));
    assert!(candidates.iter().any(|c| c["models"] == serde_json::json!(["sigmoid", "softmax2"]) && c["passes"] == 4));
    assert!(json["holdout"].is_null());
}

#[test]
fn windows_come_from_metadata_and_folds_say_why_all_are_taken() {
    let folder = Folder::new("metadata");
    // The demo's snapshots were not trained on 0,498,190,230.
    let models = root("models");
    let ran = folder.run("select", &format!("{}/snap[01].onnx {SCENE}", models.display()));
    let error = text(&ran.stderr);
    assert!(error.contains("snap0=0,498,190,230") && error.contains("80x64"), "{error}");
    let stated = "--windows sigmoid=0,0,40,64 --windows member-a.onnx=40,0,20,64;60,0,20,10";
    let ran = folder.run("select", &format!("%/sigmoid.onnx %/member-a.onnx {SCENE} {stated}"));
    let out = text(&ran.stdout);
    assert!(out.contains("folds of a cross-validation") && out.contains("All 2 are taken"), "{out}");
}

#[test]
fn a_configuration_file_can_name_the_models() {
    let folder = Folder::new("config");
    let models = root("tests/models");
    let text_of = |name: &str| format!("[[member]]\nmodel-file = \"{}/{name}.onnx\"\n", models.display());
    let base = format!("{}activation = \"sigmoid\"\n{}", text_of("logit1"), text_of("member-a"));
    std::fs::write(folder.path("base.toml"), format!("mask-values = [0, 9]\n{base}")).unwrap();
    let ran = folder.run("select", &format!("--config-file base.toml {SCENE} --windows 0,0,80,64 -o out.toml"));
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let config = std::fs::read_to_string(folder.path("out.toml")).unwrap();
    assert!(config.contains("mask-values = [0, 9]"), "{config}");
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let folder = Folder::new("bad");
    folder.raster("dark.tif", 1, |_, _| 0);
    folder.raster("five.tif", 1, |k, _| (k % 6) as u8);
    let driver = gdal::DriverManager::get_driver_by_name("GTiff").unwrap();
    driver.create_with_band_type::<u8, _>(folder.path("small.tif"), 40, 30, 1).unwrap();
    let scene = "--image scene.tif --truth truth.tif --tta none";
    let window = "--windows 0,0,80,64";
    for (line, words) in [
        (
            format!("%/sigmoid.onnx {scene}"),
            &["sigmoid.onnx", "not trained on", "--windows sigmoid=", "validation_windows"][..],
        ),
        (format!("%/sigmoid.onnx {scene} --windows 0,0,81,64"), &["windows of sigmoid=0,0,81,64", "80x64"]),
        (format!("%/sigmoid.onnx {scene} --windows 0,0,0,64"), &["0,0,0,64", "x,y,width,height"]),
        (
            format!("%/sigmoid.onnx {scene} --windows other=0,0,8,8 {window}"),
            &["other=0,0,8,8", "no model has that name"],
        ),
        (
            format!("%/sigmoid.onnx {scene} {window} --holdout 0,0,80,64"),
            &["no pixel that may be looked at", "sigmoid"],
        ),
        (format!("%/sigmoid.onnx {scene} {window} --holdout 70,0,20,64"), &["holdout=70,0,20,64", "80x64"]),
        (format!("%/sigmoid.onnx --image scene.tif --truth small.tif {window}"), &["80x64", "40x30", "same pixels"]),
        (format!("%/sigmoid.onnx --image scene.tif --truth dark.tif {window}"), &["no pixel of class 1", "5120"]),
        (format!("%/sigmoid.onnx --image scene.tif --truth five.tif {window}"), &["class 5", "2 classes"]),
        (format!("%/sigmoid.onnx --image none.tif --truth dark.tif {window}"), &["none.tif", "cannot be opened"]),
        (format!("truth.tif {scene} {window}"), &["truth.tif", "not an ONNX model"]),
        (format!("none.onnx {scene} {window}"), &["none.onnx", "cannot be read"]),
        (format!("%/sigmoid.onnx {scene} {window} -o none/chosen.toml"), &["none/chosen.toml", "cannot be written"]),
        (format!("%/sigmoid.onnx {scene} {window} --plot ."), &["cannot be written", "no name of a file"]),
        (format!("%/sigmoid.onnx {scene} {window} --set tta=flips"), &["--set tta=flips", "is what is compared"]),
        (format!("%/sigmoid.onnx {scene} {window} --set sclae=1"), &["--set sclae=1", "no such setting"]),
        (format!("%/logit1.onnx {scene} {window}"), &["logit1.onnx", "activation"]),
        (format!("%/sigmoid.onnx %/softmax4.onnx {scene} {window}"), &["different numbers of classes"]),
        (format!("%/nan.onnx {scene} {window}"), &["nan.onnx", "NaN"]),
        (format!("%/fixed64.onnx {scene} {window}"), &["fixed64 takes images of 64x64", "80x64", "cut the scene"]),
    ] {
        let ran = folder.run("select", &line);
        let error = text(&ran.stderr);
        let last = error.lines().last().unwrap_or_default();
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(1), ""), "{line}: {error}");
        assert!(last.starts_with("onnxsegment: ") && words.iter().all(|word| last.contains(word)), "{line}: {last}");
    }
    for line in ["", "%/sigmoid.onnx", &format!("%/sigmoid.onnx {scene} --tta sideways")] {
        assert_eq!(folder.run("select", line).status.code(), Some(2), "{line}");
    }
    assert_eq!(folder.files(), ["dark.tif", "five.tif", "scene.tif", "small.tif", "truth.tif"]);
}
