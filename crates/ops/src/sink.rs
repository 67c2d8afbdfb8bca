//! Writes parameter gradients during [`crate::backward`] directly into their buffers.
//!
//! candle would first add each gradient to a tensor of zeros. While a sink is installed on the thread, an operation
//! calls [`parameter`] instead, which lets it write or add to the buffer itself; without one, under candle's own
//! `backward`, the same call makes an ordinary gradient. Buffers may be kept in bfloat16: then an operation works in a
//! buffer of its own dtype, which is rounded when it is done.

use crate::kernel::float::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, tensor, with, with_mut};
use crate::kernel::scratch::{giving_back, scratch};
use crate::kernel::{bfloat16, by_dtype, elementwise, fits};
use crate::threads::Restore;
use candle_core::{DType, Result, Tensor, TensorId, Var, bail};
use foldhash::fast::FixedState;
use half::bf16;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A parameter's buffer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) var: Var,
    /// Allocated when it is first reached, and kept after that.
    pub(crate) buffer: Option<Tensor>,
    /// Whether the buffer has a gradient of this step.
    pub(crate) reached: bool,
    /// Whether the buffer is kept in bfloat16.
    pub(crate) rounded: bool,
}

impl Entry {
    /// The accumulated gradient, if any.
    pub(crate) fn sum(&self) -> Option<&Tensor> {
        self.buffer.as_ref().filter(|_| self.reached)
    }

    /// Adds to the buffer, or starts it.
    pub(crate) fn add(&mut self, gradient: &Tensor) -> Result<()> {
        let rounded = if self.rounded { Some(gradient.to_dtype(DType::BF16)?) } else { None };
        let gradient = rounded.as_ref().unwrap_or(gradient);
        match &self.buffer {
            Some(buffer) if self.rounded && self.reached && gradient.device().is_cpu() => {
                add_rounded(buffer, gradient)?;
            }
            Some(buffer) if fits(&[buffer, gradient]) => {
                let reached = self.reached;
                by_dtype!(buffer, write(buffer, gradient, reached))?;
            }
            Some(buffer) if self.reached => self.buffer = Some((buffer + gradient)?.detach()),
            _ => self.buffer = Some(gradient.force_contiguous()?.detach()),
        }
        self.reached = true;
        Ok(())
    }
}

/// Adds a gradient in bfloat16 to another.
pub(crate) fn add_rounded(to: &Tensor, gradient: &Tensor) -> Result<()> {
    with(gradient, |gradient: &[bf16]| {
        with_mut(to, |to: &mut [bf16]| {
            bfloat16::add_to(to, gradient);
            Ok(())
        })
    })
}

fn write<T: Float>(buffer: &Tensor, gradient: &Tensor, add: bool) -> Result<()> {
    with(gradient, |gradient: &[T]| {
        with_mut(buffer, |buffer: &mut [T]| {
            if add {
                elementwise::add_to(buffer, gradient);
            } else {
                buffer.copy_from_slice(gradient);
            }
            Ok(())
        })
    })
}

struct Sink {
    entries: Vec<Entry>,
    by_id: ById,
}

/// The index of each parameter's entry.
pub(crate) type ById = HashMap<TensorId, usize, FixedState>;

thread_local! {
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
    static SCALE: Cell<Option<f64>> = const { Cell::new(None) };
}

/// Runs `f`, a forward pass whose loss will be multiplied by `scale` and then differentiated into the installed sink.
pub(crate) fn with_promised_scale<R>(scale: f64, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&SCALE, SCALE.replace(Some(scale)));
    f()
}

/// The factor on the loss of this forward pass, if it is known before the backward pass.
pub(crate) fn promised_scale() -> Option<f64> {
    SCALE.get()
}

/// Runs `f` with these buffers as the thread's sink, and returns them to their owner, even if `f` fails.
pub(crate) fn with_sink<R>(entries: &mut Vec<Entry>, by_id: &mut ById, f: impl FnOnce() -> R) -> R {
    struct PutBack<'a> {
        entries: &'a mut Vec<Entry>,
        by_id: &'a mut ById,
        outer: Option<Sink>,
    }
    impl Drop for PutBack<'_> {
        fn drop(&mut self) {
            if let Some(sink) = SINK.replace(self.outer.take()) {
                *self.entries = sink.entries;
                *self.by_id = sink.by_id;
            }
        }
    }
    // Rounded gradients are for a training that takes little memory.
    let saves_memory = entries.iter().any(|entry| entry.rounded);
    let sink = Sink { entries: std::mem::take(entries), by_id: std::mem::take(by_id) };
    let outer = SINK.replace(Some(sink));
    let _put_back = PutBack { entries, by_id, outer };
    giving_back(saves_memory, f)
}

/// Whether a sink is installed that has a buffer for this input.
pub(crate) fn knows(input: &Tensor) -> bool {
    SINK.with_borrow(|sink| sink.as_ref().is_some_and(|sink| sink.by_id.contains_key(&input.id())))
}

/// Adds a gradient to a parameter's buffer.
///
/// # Errors
/// Returns an error if no sink with that parameter is installed.
pub(crate) fn add(parameter: TensorId, gradient: &Tensor) -> Result<()> {
    SINK.with_borrow_mut(|sink| {
        let found = sink.as_mut().and_then(|sink| sink.entries.get_mut(*sink.by_id.get(&parameter)?));
        match found {
            Some(entry) => entry.add(gradient),
            None => {
                bail!("a loss of `forward_for` must be differentiated by `backward`, into the same gradients")
            }
        }
    })
}

/// The gradient of an input that is usually a parameter: `f` writes it into the slice, or adds to its contents.
///
/// Returns `None` if the input leads to no parameter (`f` isn't run) or the sink has taken the gradient.
pub(crate) fn parameter<T: Float>(
    input: &Tensor,
    f: impl FnOnce(&mut [T], Write) -> Result<()>,
) -> Result<Option<Tensor>> {
    if !input.track_op() {
        return Ok(None);
    }
    let claim = claim(input);
    let at = claim.as_ref().map(|claim| claim.at);
    let gradient = match claim {
        Some(Claim { buffer, write, rounded: true, .. }) => round_result(input, buffer, write, f)?,
        Some(Claim { buffer: Some(kept), write, .. }) => {
            with_mut(&kept, |kept: &mut [T]| f(kept, write))?;
            kept
        }
        _ => {
            let mut gradient = buffer::<T>(input.elem_count());
            f(&mut gradient, Write::Store)?;
            tensor(gradient, input.shape())?
        }
    };
    let Some(at) = at else { return Ok(Some(gradient)) };
    keep(at, gradient);
    Ok(None)
}

/// Runs `f` on the values of a bfloat16 buffer, or on a new one's, and rounds the result into it.
fn round_result<T: Float>(
    input: &Tensor,
    kept: Option<Tensor>,
    write: Write,
    f: impl FnOnce(&mut [T], Write) -> Result<()>,
) -> Result<Tensor> {
    let mut whole = scratch::<T>(input.elem_count());
    if let (Some(kept), Write::Add) = (&kept, write) {
        with(kept, |kept: &[bf16]| {
            bfloat16::widen(kept, &mut whole);
            Ok(())
        })?;
    }
    f(&mut whole, write)?;
    // A new buffer is allocated only now: what `f` needs, such as logits, is free again.
    let kept = kept.map_or_else(|| zeros(input), Ok)?;
    with_mut(&kept, |kept: &mut [bf16]| {
        bfloat16::round(&whole, kept);
        Ok(())
    })?;
    Ok(kept)
}

/// Adds to a few rows of a table that the sink keeps in bfloat16; returns `None`, without running `f`, for any other.
pub(crate) fn rounded_rows(
    table: &Tensor,
    f: impl FnOnce(&mut [bf16], Write) -> Result<()>,
) -> Option<Result<()>> {
    let Claim { at, buffer: kept, write, rounded: true } = claim(table)? else { return None };
    let add = || {
        let kept = kept.map_or_else(|| zeros(table), Ok)?;
        with_mut(&kept, |kept: &mut [bf16]| f(kept, write))?;
        keep(at, kept);
        Ok(())
    };
    Some(add())
}

/// A new buffer for a rounded gradient.
fn zeros(parameter: &Tensor) -> Result<Tensor> {
    Tensor::zeros(parameter.shape(), DType::BF16, parameter.device())
}

/// The buffer of a parameter that the sink knows.
struct Claim {
    /// The index of its entry.
    at: usize,
    /// `None` if it isn't allocated yet.
    buffer: Option<Tensor>,
    write: Write,
    rounded: bool,
}

/// What the sink has for a parameter; `None` if it doesn't know it.
fn claim(input: &Tensor) -> Option<Claim> {
    SINK.with_borrow(|sink| {
        let sink = sink.as_ref()?;
        let at = *sink.by_id.get(&input.id())?;
        let Entry { buffer, reached, rounded, .. } = &sink.entries[at];
        let write = if *reached { Write::Add } else { Write::Store };
        Some(Claim { at, buffer: buffer.clone(), write, rounded: *rounded })
    })
}

/// Keeps a parameter's gradient, which is reached now.
fn keep(at: usize, gradient: Tensor) {
    SINK.with_borrow_mut(|sink| {
        if let Some(entry) = sink.as_mut().and_then(|sink| sink.entries.get_mut(at)) {
            (entry.buffer, entry.reached) = (Some(gradient), true);
        }
    });
}
