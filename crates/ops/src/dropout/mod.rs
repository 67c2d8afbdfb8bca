//! Dropout whose pattern is named by a key: the same on every device, for every cut of the batch and every padding.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor, bail};
use cpu::node;
use vulpes_random::{Key, Stream};

/// Which elements to drop: with probability `p`, by the streams of `key`.
///
/// Row `r` (of the first dimension) draws from `key.row(first_row + r)`. In [`crate::dropout()`] its element number
/// `e` takes the `e`-th word of that stream, so more padding behind the row, or another cut of the batch into
/// shards, changes nothing. In [`crate::attention()`] the weight of (head, query, key) takes a word whose number
/// depends on these three alone.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The probability of zero, in `0..1`.
    pub p: f32,
    /// Names the pattern; no two places of a model may share one.
    pub key: Key,
    /// The number of the first row in the whole batch.
    pub first_row: u64,
}

/// Bits of a query's and of a key's position in the word number of an attention weight: two million positions.
const POSITION_BITS: u32 = 21;

impl Dropout {
    /// Checks `p`.
    pub(crate) fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.p) {
            bail!("dropout: p = {} is not in 0..1 (1 would drop everything)", self.p);
        }
        Ok(())
    }

    /// What is kept is multiplied by this, so that the expectation stays.
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (1.0 - f64::from(self.p))
    }

    /// Words below this are dropped.
    pub(crate) fn threshold(&self) -> u32 {
        (f64::from(self.p) * f64::from(u32::MAX)) as u32
    }

    /// The stream of row `row` of this tensor.
    pub(crate) fn row(&self, row: usize) -> Stream {
        self.key.row(self.first_row + row as u64)
    }

    /// Moves a row's stream to the words of (head, query, key..): positions count from the start of the sequence.
    pub(crate) fn seek_weights(stream: &mut Stream, head: usize, query: usize, key: usize) {
        let word = ((head as u64) << (2 * POSITION_BITS)) | ((query as u64) << POSITION_BITS);
        stream.seek(word | key as u64);
    }
}

/// Sets each element to zero with probability p, and multiplies the others by 1/(1 − p)
/// ([Srivastava and others 2014](https://jmlr.org/papers/v15/srivastava14a.html), inverted).
///
/// # Shape
/// [b, ..]; the result has the same.
///
/// # Errors
/// Where p is not in 0..1.
pub fn dropout(x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
    dropout.check()?;
    if dropout.p == 0.0 || x.elem_count() == 0 {
        Ok(x.clone())
    } else if fits(&[x]) {
        by_dtype!(x, node(x, dropout))
    } else {
        reference::dropout(x, dropout)
    }
}
