//! Prefetched batches: the next ones are made while the current one is used.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::Dataset;
use crate::batch::Batch;
use crate::cursor::Cursor;
use crate::error::Result;

/// Which of several processes this is: rank `rank` of `of` takes its own rows of every batch.
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

/// The number of prefetched batches.
const READY: usize = 2;

/// An endless iterator of the training batches from a cursor on.
///
/// A thread prefetches them, so that a step need not wait for its data. The cursor to store after a step is that of
/// its batch: a new `Batches` from there returns exactly the next batch.
#[derive(Debug)]
pub struct Batches {
    receiver: Option<Receiver<Result<Batch>>>,
    thread: Option<JoinHandle<()>>,
    dataset: Arc<Dataset>,
    cursor: Cursor,
    /// The number of rows that all processes take together.
    stride: u64,
}

impl Batches {
    /// Batches of `rows` rows from `cursor` on; each of `rank.of` processes takes `rows` rows in turn.
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
    /// As for [`Dataset::batch`].
    pub fn next_batch(&mut self) -> Result<Batch> {
        let made = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
        // The thread ends after an error; or the system could not start one.
        let batch = match made {
            Some(batch) => batch?,
            None => {
                return Err(crate::error::Error::config("data", "the thread that makes batches has ended"));
            }
        };
        self.cursor = self.dataset.advance(self.cursor, self.stride);
        Ok(batch)
    }

    /// The cursor of the next batch.
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
        // The thread may be waiting to send a batch; without a receiver it ends.
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
