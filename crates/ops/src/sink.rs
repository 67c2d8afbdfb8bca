//! Where the gradients of parameters go during [`crate::backward`]: straight into their buffers.
//!
//! candle would add each gradient to a tensor of zeros first. While a sink is installed on the thread, an operation
//! asks [`parameter`] instead, which lets it write, or add, to the buffer itself; without one, under candle's own
//! `backward`, the same call makes an ordinary gradient.

use crate::gradients::Entry;
use crate::kernel::Float;
use crate::kernel::matmul::Write;
use crate::kernel::read::{buffer, tensor, with_mut};
use candle_core::{Result, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;

struct Sink {
    entries: Vec<Entry>,
    by_id: HashMap<TensorId, usize>,
}

thread_local! {
    static SINK: RefCell<Option<Sink>> = const { RefCell::new(None) };
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
