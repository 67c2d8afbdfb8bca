//! Batches one after the other, the next ones made while the present one is used.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::Dataset;
use crate::batch::Batch;
use crate::cursor::Cursor;
use crate::error::Result;

/// Which of several processes this one is: rank `rank` of `of` takes its own rows of every batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// The number of this process, from 0.
    pub rank: u64,
    /// The number of processes.
    pub of: u64,
}

impl Default for Rank {
    fn default() -> Self {
        Self { rank: 0, of: 1 }
    }
}

/// How many batches lie ready.
const READY: usize = 2;

/// The training batches from a cursor on, without end.
///
/// A thread makes them ahead, so that a step never waits for its data. The cursor that goes with a batch is the one
/// to store after the step: a new `Batches` from there gives exactly the next batch.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
    dataset: Arc<Dataset>,
    cursor: Cursor,
    /// The rows that all processes take together.
    stride: u64,
}

impl Batches {
    /// Batches of `rows` rows from `cursor` on; of `rank.of` processes each takes `rows` rows in turn.
    pub fn new(dataset: Arc<Dataset>, cursor: Cursor, rows: usize, rank: Rank) -> Self {
        let (sender, receiver) = sync_channel(READY);
        let stride = rows as u64 * rank.of.max(1);
        let maker = dataset.clone();
        let start = dataset.advance(cursor, rows as u64 * rank.rank);
        let thread = std::thread::Builder::new()
            .name("batches".into())
            .spawn(move || make(&maker, start, rows, stride, &sender))
            .ok();
        Self { receiver: Some(receiver), thread, dataset, cursor, stride }
    }

    /// The next batch.
    ///
    /// # Errors
    /// As [`Dataset::batch`].
    pub fn next_batch(&mut self) -> Result<Batch> {
        let made = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
        // The thread ends after an error; the system may also have had no thread to give.
        let batch = match made {
            Some(batch) => batch?,
            None => {
                return Err(crate::error::Error::config("data", "the thread that makes batches has ended"));
            }
        };
        self.cursor = self.dataset.advance(self.cursor, self.stride);
        Ok(batch)
    }

    /// The cursor of the batch that comes next.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }
}

fn make(dataset: &Dataset, start: Cursor, rows: usize, stride: u64, sender: &SyncSender<Result<Batch>>) {
    let mut cursor = start;
    loop {
        let batch = dataset.batch(cursor, rows);
        let failed = batch.is_err();
        if sender.send(batch).is_err() || failed {
            return;
        }
        cursor = dataset.advance(cursor, stride);
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // The thread may be waiting to hand over a batch; without a receiver it ends.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
