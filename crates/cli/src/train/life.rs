//! A sign of life within a long step.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use vulpes_runs::duration;

use crate::ending::say;

/// On a terminal, a step that takes longer than this shows its own time.
const LONG_ON_A_BAR: Duration = Duration::from_secs(2);
/// How often it is then updated.
const TICK: Duration = Duration::from_secs(1);
/// Otherwise a line is printed after this time within a step, then each time the step has taken twice as long.
const LONG_AS_A_LINE: Duration = Duration::from_secs(30);

/// A thread that shows how long the current step has taken so far.
pub(super) struct Life {
    /// Receives each completed step; closed at the end.
    done: Option<Sender<u64>>,
    thread: Option<JoinHandle<()>>,
}

impl Life {
    /// Watches the steps after `first_step` of `steps`: shown on `bar` if there is one, else in separate lines.
    pub(super) fn watch(first_step: u64, steps: u64, bar: Option<ProgressBar>) -> Self {
        let (done, steps_done) = mpsc::channel();
        let watch = move || {
            let (mut step, mut since) = (first_step, Instant::now());
            let first = if bar.is_some() { LONG_ON_A_BAR } else { LONG_AS_A_LINE };
            let mut wait = first;
            loop {
                match steps_done.recv_timeout(wait) {
                    Ok(done) => (step, since, wait) = (done, Instant::now(), first),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if step >= steps => wait = LONG_AS_A_LINE,
                    Err(RecvTimeoutError::Timeout) => {
                        let words = format!("step {} for {} so far", step + 1, duration(since.elapsed()));
                        match &bar {
                            Some(bar) => bar.set_message(words),
                            None => say(&words),
                        }
                        wait = if bar.is_some() { TICK } else { since.elapsed() };
                    }
                }
            }
        };
        // If no thread can be started, nothing is shown, which does no harm.
        let thread = std::thread::Builder::new().name("life".into()).spawn(watch).ok();
        Self { done: Some(done), thread }
    }

    /// Records that a step is done.
    pub(super) fn step(&self, step: u64) {
        if let Some(done) = &self.done {
            // If the thread is gone, there is nothing to show.
            let _ = done.send(step);
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.done = None;
        self.thread.take().map(JoinHandle::join);
    }
}
