//! Frames of the pads beside the prediction, which wait for it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::elements::caps::Pixels;
use crate::elements::meta::SegmentationInfo;
use crate::engine::lock;

/// Frames that a pad may be ahead of the prediction.
const AHEAD: usize = 2;
/// How long the end of the prediction waits to learn whether a pad would have had more.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Truth,
    Probability,
}

impl Side {
    /// The pad's name.
    pub fn name(self) -> &'static str {
        match self {
            Side::Truth => "truth",
            Side::Probability => "probability",
        }
    }
}

/// A frame, and what its caps and its stream said.
pub struct Waiting {
    pub buffer: gst::Buffer,
    pub pixels: Pixels,
    pub info: Option<SegmentationInfo>,
}

/// One pad.
#[derive(Default)]
struct One {
    waiting: VecDeque<Waiting>,
    pixels: Option<Pixels>,
    info: Option<SegmentationInfo>,
    ended: bool,
    flushing: bool,
    /// What comes is of before a seek, and not wanted any more.
    stale: bool,
}

#[derive(Default)]
struct State {
    sides: [One; 2],
    /// The prediction's pad flushes, or the element stops.
    stopped: bool,
    /// The prediction has ended: nobody takes frames any more.
    over: bool,
}

/// The pads beside the prediction.
#[derive(Default)]
pub struct Sides {
    state: Mutex<State>,
    changed: Condvar,
}

impl Sides {
    fn change<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let result = f(&mut lock(&self.state));
        self.changed.notify_all();
        result
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(|e| e.into_inner())
    }

    /// Keeps a frame until the prediction asks for it.
    pub fn put(&self, side: Side, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let mut state = lock(&self.state);
        loop {
            let one = &mut state.sides[side as usize];
            if one.flushing {
                return Err(gst::FlowError::Flushing);
            }
            if one.stale {
                return Ok(gst::FlowSuccess::Ok);
            }
            let Some(pixels) = one.pixels.clone() else { return Err(gst::FlowError::NotNegotiated) };
            let info = one.info.clone();
            if one.waiting.len() < AHEAD {
                one.waiting.push_back(Waiting { buffer, pixels, info });
                drop(state);
                self.changed.notify_all();
                return Ok(gst::FlowSuccess::Ok);
            }
            if state.over {
                return Err(gst::FlowError::Eos);
            }
            state = self.wait(state);
        }
    }

    /// The next frame, when it has come; `None` after the last one.
    pub fn take(&self, side: Side) -> Result<Option<Waiting>, gst::FlowError> {
        let mut state = lock(&self.state);
        loop {
            if state.stopped {
                return Err(gst::FlowError::Flushing);
            }
            let one = &mut state.sides[side as usize];
            if let Some(waiting) = one.waiting.pop_front() {
                drop(state);
                self.changed.notify_all();
                return Ok(Some(waiting));
            }
            if one.ended {
                return Ok(None);
            }
            state = self.wait(state);
        }
    }

    /// Ends the prediction. Whether the side has, or soon gets, more than was taken.
    pub fn finish(&self, side: Side) -> bool {
        let state = lock(&self.state);
        let undecided = |state: &mut State| {
            let one = &state.sides[side as usize];
            !state.stopped && !one.flushing && !one.ended && one.waiting.is_empty()
        };
        let (mut state, _) =
            self.changed.wait_timeout_while(state, PATIENCE, undecided).unwrap_or_else(|e| e.into_inner());
        state.over = true;
        let more = !state.sides[side as usize].waiting.is_empty();
        drop(state);
        self.changed.notify_all();
        more
    }

    pub fn set_pixels(&self, side: Side, pixels: Pixels) {
        self.change(|state| state.sides[side as usize].pixels = Some(pixels));
    }

    pub fn set_info(&self, side: Side, info: SegmentationInfo) {
        self.change(|state| state.sides[side as usize].info = Some(info));
    }

    /// No more frames come from a side, or, after a flush or a new stream, some do again.
    pub fn set_ended(&self, side: Side, ended: bool) {
        self.change(|state| state.sides[side as usize].ended = ended);
    }

    pub fn set_flushing(&self, side: Side, flushing: bool) {
        self.change(|state| {
            let one = &mut state.sides[side as usize];
            one.flushing = flushing;
            if flushing {
                one.waiting.clear();
            } else {
                one.ended = false;
                one.stale = false;
            }
        });
    }

    /// A seek is on its way up a side: what comes before its flush does not count.
    pub fn set_stale(&self, side: Side, stale: bool) {
        self.change(|state| {
            let one = &mut state.sides[side as usize];
            one.stale = stale;
            if stale {
                one.waiting.clear();
                one.ended = false;
            }
        });
    }

    /// Wakes whoever waits for the sides, or lets them wait again.
    pub fn set_stopped(&self, stopped: bool) {
        self.change(|state| {
            state.stopped = stopped;
            if !stopped {
                state.over = false;
            }
        });
    }

    /// As in the beginning.
    pub fn reset(&self) {
        self.change(|state| *state = State::default());
    }
}
