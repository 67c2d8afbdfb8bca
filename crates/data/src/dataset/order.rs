//! The row order of an epoch: a keyed permutation, optionally bucketed by length.

use std::sync::Mutex;

use vulpes_random::{Key, Permutation};

use super::rows::Rows;
use crate::cursor::Cursor;

/// How many buckets are filled from one section of the permutation.
const BUCKETS: u64 = 64;

/// The order of the rows of each epoch, computed from the index alone.
#[derive(Debug)]
pub(super) struct Order {
    shuffle: Option<Key>,
    bucket: Option<u64>,
    /// The section sorted last, by epoch and number.
    sorted: Mutex<Option<(u64, u64, Vec<u64>)>>,
}

impl Order {
    pub(super) fn new(shuffle: Option<Key>, bucket: Option<u64>) -> Self {
        Self { shuffle, bucket, sorted: Mutex::new(None) }
    }

    /// The numbers of the `n` rows from `cursor` on.
    pub(super) fn rows(&self, rows: &Rows, cursor: Cursor, n: usize) -> Vec<u64> {
        let n_rows = rows.len();
        let mut epoch: Option<(u64, Option<Permutation>)> = None;
        let places = (0..n as u64).map(|number| cursor.advance(number, n_rows));
        let numbers = places.map(|place| {
            if epoch.as_ref().is_none_or(|(number, _)| *number != place.epoch) {
                let key = self.shuffle.as_ref().map(|key| key.with(&place.epoch));
                epoch = Some((place.epoch, key.map(|key| Permutation::new(&key, n_rows))));
            }
            let order = epoch.as_ref().and_then(|(_, order)| order.as_ref());
            match self.bucket {
                Some(bucket) => self.bucketed(rows, order, place, bucket),
                None => order.map_or(place.index, |order| order.at(place.index)),
            }
        });
        numbers.collect()
    }

    fn bucketed(&self, rows: &Rows, order: Option<&Permutation>, place: Cursor, bucket: u64) -> u64 {
        let stretch = bucket * BUCKETS;
        let number = place.index / stretch;
        let within = (place.index % stretch) as usize;
        // A thread that panicked here left at worst a section that is computed again.
        let mut sorted = self.sorted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match sorted.as_ref() {
            Some((epoch, last, all)) if (*epoch, *last) == (place.epoch, number) => all[within],
            _ => {
                let all = self.stretch(rows, order, place.epoch, number, bucket);
                let row = all[within];
                *sorted = Some((place.epoch, number, all));
                row
            }
        }
    }

    /// One section of the permutation, sorted by length; its buckets are then shuffled, so that the lengths vary at
    /// random during a run.
    fn stretch(
        &self,
        rows: &Rows,
        order: Option<&Permutation>,
        epoch: u64,
        number: u64,
        bucket: u64,
    ) -> Vec<u64> {
        let start = number * bucket * BUCKETS;
        let end = (start + bucket * BUCKETS).min(rows.len());
        let mut all: Vec<u64> = (start..end).map(|at| order.map_or(at, |order| order.at(at))).collect();
        // The sort is stable: rows of one length stay in random order.
        all.sort_by_key(|&row| rows.len_of(row));
        let Some(key) = &self.shuffle else { return all };
        // A last bucket that is not full stays last: the others keep their size.
        let n_full = all.len() as u64 / bucket;
        let shuffled = Permutation::new(&key.with(&epoch).with("bucket").with(&number), n_full);
        let mut out = Vec::with_capacity(all.len());
        for at in 0..n_full {
            let from = (shuffled.at(at) * bucket) as usize;
            out.extend_from_slice(&all[from..from + bucket as usize]);
        }
        out.extend_from_slice(&all[(n_full * bucket) as usize..]);
        out
    }
}
