//! Where the gradients of parameters go during [`crate::backward`]: straight into their buffers.
//!
//! candle would add each gradient to a tensor of zeros first. While a sink is installed on the thread, an operation
//! asks [`parameter`] instead, which lets it write, or add, to the buffer itself; without one, under candle's own
//! `backward`, the same call makes an ordinary gradient.

use crate::kernel::float::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, tensor, with, with_mut};
use crate::kernel::{by_dtype, elementwise, fits};
use crate::threads::Restore;
use candle_core::{Result, Tensor, TensorId, Var};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

/// A parameter's buffer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) var: Var,
    /// Made when it is first reached, and kept after that.
    pub(crate) buffer: Option<Tensor>,
    /// Whether the buffer holds anything of this step.
    pub(crate) reached: bool,
}

impl Entry {
    /// What was added up, if anything was.
    pub(crate) fn sum(&self) -> Option<&Tensor> {
        self.buffer.as_ref().filter(|_| self.reached)
    }

    /// Adds to what is there, or begins with it.
    pub(crate) fn add(&mut self, gradient: &Tensor) -> Result<()> {
        match &self.buffer {
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
    by_id: HashMap<TensorId, usize>,
}

thread_local! {
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
    static SCALE: Cell<Option<f64>> = const { Cell::new(None) };
}

/// Runs `f`, a forward pass whose loss will be multiplied by `scale` and then differentiated into the sink that is
/// installed.
pub(crate) fn with_promised_scale<R>(scale: f64, f: impl FnOnce() -> R) -> R {
    let _restore = Restore(&SCALE, SCALE.replace(Some(scale)));
    f()
}

/// What the loss of this forward pass will be multiplied by, where that is known before its backward pass.
pub(crate) fn promised_scale() -> Option<f64> {
    SCALE.get()
}

/// Runs `f` with these buffers as the thread's sink, and puts them back, also when `f` fails.
pub(crate) fn with_sink<R>(
    entries: &mut Vec<Entry>,
    by_id: &mut HashMap<TensorId, usize>,
    f: impl FnOnce() -> R,
) -> R {
    struct PutBack<'a> {
        entries: &'a mut Vec<Entry>,
        by_id: &'a mut HashMap<TensorId, usize>,
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
    let sink = Sink { entries: std::mem::take(entries), by_id: std::mem::take(by_id) };
    let outer = SINK.replace(Some(sink));
    let _put_back = PutBack { entries, by_id, outer };
    f()
}

/// The gradient of an input that is as a rule a parameter: `f` writes it into the slice, or adds it to what is there.
///
/// Gives none where the input leads to no parameter (`f` isn't run) or the sink has taken the gradient.
pub(crate) fn parameter<T: Float>(
    input: &Tensor,
    f: impl FnOnce(&mut [T], Write) -> Result<()>,
) -> Result<Option<Tensor>> {
    if !input.track_op() {
        return Ok(None);
    }
    match SINK.with_borrow_mut(|sink| claim::<T>(sink.as_mut()?, input)) {
        Some(claimed) => {
            let (buffer, write) = claimed?;
            with_mut(&buffer, |buffer: &mut [T]| f(buffer, write))?;
            Ok(None)
        }
        None => {
            let mut gradient = buffer::<T>(input.elem_count());
            f(&mut gradient, Write::Store)?;
            tensor(gradient, input.shape()).map(Some)
        }
    }
}

/// The buffer of a parameter that the sink knows, and whether to write or to add; marks it as reached.
fn claim<T: Float>(sink: &mut Sink, input: &Tensor) -> Option<Result<(Tensor, Write)>> {
    let entry = &mut sink.entries[*sink.by_id.get(&input.id())?];
    let made = match &entry.buffer {
        Some(made) => Ok(made.clone()),
        None => tensor(buffer::<T>(input.elem_count()), input.shape()),
    };
    Some(made.map(|made| {
        let write = if entry.reached { Write::Add } else { Write::Store };
        entry.buffer = Some(made.clone());
        entry.reached = true;
        (made, write)
    }))
}
