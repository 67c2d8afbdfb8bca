//! The state of a training besides its tensors: counters, cursor and digests.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use vulpes_data::Cursor;

use crate::schedule::Cooldown;
use crate::spike::SpikeMean;

/// The format version of [`State`].
const FORMAT: u32 = 1;

/// Counters, the data's cursor, and digests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The format version.
    pub format: u32,
    /// Completed optimizer steps, skipped ones included.
    pub step: u64,
    /// The next row of the training set.
    pub cursor: Cursor,
    /// Tokens seen.
    pub tokens: u64,
    /// Updates that the optimizer has applied.
    pub updates: u64,
    /// Steps whose update was dropped because the loss spiked.
    pub skipped_steps: u64,
    /// The running mean that detects spikes.
    pub spike: SpikeMean,
    /// The validation loss at this step, if evaluated.
    pub val_loss: Option<f64>,
    /// The best validation loss so far, or the best of the run's metric, and its step.
    pub best: Option<Best>,
    /// Evaluations since the best one.
    #[serde(default, skip_serializing_if = "is_none_yet")]
    pub since_best: u64,
    /// The cooldown of a run without a fixed number of steps, once decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Cooldown>,
    /// BLAKE3 digest of the corpus's sizes and of rows from all over it.
    pub data: String,
    /// A chain of BLAKE3 digests over the losses and gradient norms of all steps so far.
    pub losses: String,
    /// BLAKE3 digest of parameters, optimizer state, cursor, counters and the chain of losses.
    pub digest: String,
    /// Seconds of work so far; not part of the digest.
    pub elapsed_secs: f64,
}

/// The best validation loss of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step after which it was measured.
    pub step: u64,
    /// The loss.
    pub val_loss: f64,
    /// The value of the run's metric, if that isn't the loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

fn is_none_yet(count: &u64) -> bool {
    *count == 0
}

impl State {
    /// The state before the first step.
    pub fn start() -> Self {
        Self {
            format: FORMAT,
            step: 0,
            cursor: Cursor::default(),
            tokens: 0,
            updates: 0,
            skipped_steps: 0,
            spike: SpikeMean::default(),
            val_loss: None,
            best: None,
            since_best: 0,
            cooldown: None,
            data: String::new(),
            losses: blake3::hash(b"vulpes losses").to_hex().to_string(),
            digest: String::new(),
            elapsed_secs: 0.0,
        }
    }

    /// Adds a step's loss and gradient norm to the chain.
    pub fn chain(&mut self, loss: f64, grad_norm: f64) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.losses.as_bytes());
        hasher.update(&self.step.to_le_bytes());
        hasher.update(&loss.to_bits().to_le_bytes());
        hasher.update(&grad_norm.to_bits().to_le_bytes());
        self.losses = hasher.finalize().to_hex().to_string();
    }

    /// The digest of the complete state: `tensors` are the parameters and the optimizer's, by name.
    ///
    /// # Errors
    /// Returns an error if a tensor can't be read back from its device.
    pub fn digest_with(&self, tensors: &BTreeMap<String, Tensor>) -> candle_core::Result<String> {
        let mut hasher = blake3::Hasher::new();
        for (name, tensor) in tensors {
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            for n in tensor.dims() {
                hasher.update(&(*n as u64).to_le_bytes());
            }
            hasher.update(&[0]);
            update(&mut hasher, tensor)?;
        }
        for number in [
            self.step,
            self.cursor.epoch,
            self.cursor.index,
            self.tokens,
            self.updates,
            self.skipped_steps,
            self.spike.mean.to_bits(),
            self.spike.n_steps,
            self.best.map_or(0, |best| best.step),
            self.best.map_or(0, |best| best.val_loss.to_bits()),
        ] {
            hasher.update(&number.to_le_bytes());
        }
        if let Some(Cooldown { from, last }) = self.cooldown {
            hasher.update(&from.to_le_bytes()).update(&last.to_le_bytes());
        }
        hasher.update(self.losses.as_bytes());
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// Elements of a tensor hashed at a time.
const AT_ONCE: usize = 1 << 18;

/// Hashes a tensor's elements as little-endian bytes.
fn update(hasher: &mut blake3::Hasher, tensor: &Tensor) -> candle_core::Result<()> {
    let flat = tensor.to_device(&Device::Cpu)?.flatten_all()?;
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut feed = |bytes: &[u8], last: bool| {
        buffer.extend_from_slice(bytes);
        if last || buffer.len() >= 1 << 16 {
            hasher.update(&buffer);
            buffer.clear();
        }
    };
    // A part at a time: a copy of a large table would take more memory than the step itself.
    for first in (0..flat.elem_count()).step_by(AT_ONCE) {
        let part = flat.narrow(0, first, AT_ONCE.min(flat.elem_count() - first))?;
        match part.dtype() {
            DType::F64 => part.to_vec1::<f64>()?.iter().for_each(|x| feed(&x.to_bits().to_le_bytes(), false)),
            _ => {
                let values = part.to_dtype(DType::F32)?.to_vec1::<f32>()?;
                values.iter().for_each(|x| feed(&x.to_bits().to_le_bytes(), false));
            }
        }
    }
    feed(&[], true);
    Ok(())
}
