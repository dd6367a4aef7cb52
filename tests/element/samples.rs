//! Passes with Dropout: random, and the same again.

use gst::prelude::*;

use crate::common::*;

const SIZE: (usize, usize) = (40, 32);

/// The masks of pictures that come in this order at these times.
fn masks(properties: &[(&str, &str)], frames: &[(usize, usize)]) -> Vec<Vec<u8>> {
    let element = element("dropout", properties);
    let mut harness = fed(&element, "RGB", SIZE);
    let mut mask = |&(seed, at): &(usize, usize)| {
        harness.push(stamped(picture(SIZE, seed), at)).unwrap();
        pixels(&harness.pull().unwrap(), &caps_of(&harness))
    };
    frames.iter().map(&mut mask).collect()
}

#[test]
fn a_frame_is_the_same_again_and_another_time_or_seed_draws_anew() {
    let _w = start();
    let drawn = masks(&[("samples", "3")], &[(1, 0), (1, 1), (2, 2)]);
    assert_ne!(drawn[0], drawn[1], "the same picture at another time");
    // In another order, on other numbers of threads.
    for threads in ["1", "3"] {
        let again = masks(&[("samples", "3"), ("threads", threads)], &[(2, 2), (1, 1), (1, 0)]);
        assert!(again.iter().rev().eq(drawn.iter()));
    }
    assert_ne!(masks(&[("samples", "3"), ("seed", "1")], &[(1, 0)])[0], drawn[0]);
    assert_ne!(masks(&[("samples", "4")], &[(1, 0)])[0], drawn[0]);
}

#[test]
fn what_samples_disagree_about_is_shown() {
    let _w = start();
    let element = element("dropout", &[("samples", "8"), ("uncertainty-kind", "mutual-information")]);
    let mut uncertainty = view(&element, "uncertainty");
    let mut harness = fed(&element, "RGB", SIZE);
    harness.push(picture(SIZE, 0)).unwrap();
    let shown = pixels(&uncertainty.pull().unwrap(), &caps_of(&uncertainty));
    let unsure = shown.iter().filter(|v| **v > 2).count();
    assert!(unsure > shown.len() / 2, "{unsure} of {} pixels", shown.len());
    let stats: gst::Structure = element.property("stats");
    assert_eq!(stats.get::<u64>("passes"), Ok(8));
}

#[test]
fn dropout_that_is_left_to_chance_is_warned_of() {
    let _w = start();
    for (properties, warned) in [(&[][..], true), (&[("samples", "1")], false)] {
        let element = element("dropout", properties);
        let bus = bus(&element);
        element.set_state(gst::State::Paused).unwrap();
        let told = bus.pop_filtered(&[gst::MessageType::Warning]);
        let text = told.map(|m| match m.view() {
            gst::MessageView::Warning(w) => w.error().message().to_string(),
            _ => String::new(),
        });
        element.set_state(gst::State::Null).unwrap();
        assert_eq!(text.is_some(), warned, "{text:?}");
        assert!(text.is_none_or(|text| text.contains("differ from run to run") && text.contains("samples=1")));
    }
}
