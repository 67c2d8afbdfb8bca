//! Dropout with masks keyed by name: the same on every device, for every sharding and every padding.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor, bail};
use cpu::node;
use vulpes_random::{Key, Stream};

/// Which elements to drop: with probability `p`, by the streams of `key`.
///
/// Row `r` (of the first dimension) draws from `key.row(first_row + r)`. In [`crate::dropout()`] its element `e` takes
/// the `e`-th word of that stream, so more padding after the row, or another sharding of the batch, changes nothing. In
/// [`crate::attention()`] the weight of (head, query, key) takes a word whose index depends only on these three.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// The dropout probability, in `0..1`.
    pub p: f32,
    /// The key of the mask; no two locations in a model may share one.
    pub key: Key,
    /// The index of the first row in the entire batch.
    pub first_row: u64,
}

/// Bits of a query's and a key's position in the word index of an attention weight: two million positions.
const POSITION_BITS: u32 = 21;

impl Dropout {
    /// Checks `p`.
    pub(crate) fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.p) {
            bail!("dropout: p = {} is not in 0..1 (1 would drop everything)", self.p);
        }
        Ok(())
    }

    /// The factor on the kept values, which preserves the expectation.
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

    /// Seeks a row's stream to the words of (head, query, key..): positions count from the start of the sequence.
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
/// Returns an error if p is not in 0..1.
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
