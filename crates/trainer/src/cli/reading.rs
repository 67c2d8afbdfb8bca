//! A bar on stderr while a large corpus is read, counted and tokenized.

use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use vulpes_data::{Progress, Stage};

/// Smaller corpora are through before a bar could be read.
const SHOWN_FROM_BYTES: u64 = 16 << 20;

/// Shows how far the data's preparation has come.
pub(crate) struct Reading {
    shown: Option<Mutex<Option<(Stage, ProgressBar)>>>,
}

impl Reading {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { shown: (!quiet).then(|| Mutex::new(None)) }
    }

    pub(crate) fn finish(&self) {
        if let Some(Ok(mut bar)) = self.shown.as_ref().map(Mutex::lock)
            && let Some((_, bar)) = bar.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Progress for Reading {
    fn report(&self, stage: Stage, done: u64, total: u64) {
        let Some(Ok(mut shown)) = self.shown.as_ref().map(Mutex::lock) else { return };
        if total < SHOWN_FROM_BYTES {
            return;
        }
        if shown.as_ref().is_none_or(|(of, _)| *of != stage) {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            let bar = ProgressBar::new(total);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes} {msg}, {eta} left")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_message(stage.to_string());
            *shown = Some((stage, bar));
        }
        if let Some((_, bar)) = shown.as_ref() {
            bar.set_position(done);
        }
    }
}
