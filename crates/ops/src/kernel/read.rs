//! Tensors as slices, whatever their strides, and slices as tensors.
#![allow(unsafe_code)]

use super::Float;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Shape, Storage, Tensor, WithDType, bail};
use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;

/// The elements of a storage under a layout, in order: borrowed if they are contiguous, else copied.
fn elements<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [T]>> {
    let data = storage.as_slice::<T>()?;
    Ok(match layout.contiguous_offsets() {
        // An empty part of an empty storage may start beyond its end.
        Some((start, end)) => Cow::Borrowed(data.get(start..end).unwrap_or_default()),
        None => Cow::Owned(gather(data, layout)),
    })
}

/// The elements of any layout, the last dimension fastest.
fn gather<T: Copy>(data: &[T], layout: &Layout) -> Vec<T> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let count = layout.shape().elem_count();
    let mut out = Vec::with_capacity(count);
    let mut index = vec![0; dims.len()];
    let mut at = layout.start_offset();
    while out.len() < count {
        out.push(data[at]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            at -= dims[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    out
}

/// Calls `f` with the elements of a tensor on the CPU, in order.
pub(crate) fn with<T: WithDType, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(&elements(storage, layout)?),
        _ => bail!("a tensor on {:?} reached a CPU kernel", x.device()),
    }
}

/// As [`with`], for two tensors.
pub(crate) fn with2<T: WithDType, R>(
    x: &Tensor,
    y: &Tensor,
    f: impl FnOnce(&[T], &[T]) -> Result<R>,
) -> Result<R> {
    with(x, |x: &[T]| with(y, |y: &[T]| f(x, y)))
}

/// As [`with`], for three tensors.
pub(crate) fn with3<T: WithDType, R>(
    x: &Tensor,
    y: &Tensor,
    z: &Tensor,
    f: impl FnOnce(&[T], &[T], &[T]) -> Result<R>,
) -> Result<R> {
    with2(x, y, |x: &[T], y: &[T]| with(z, |z: &[T]| f(x, y, z)))
}

/// As [`with`], for an optional tensor.
pub(crate) fn with_option<T: WithDType, R>(
    x: Option<&Tensor>,
    f: impl FnOnce(Option<&[T]>) -> Result<R>,
) -> Result<R> {
    match x {
        Some(x) => with(x, |x: &[T]| f(Some(x))),
        None => f(None),
    }
}

/// Calls `f` with the elements of a contiguous tensor on the CPU for writing.
pub(crate) fn with_mut<T: WithDType, R>(x: &Tensor, f: impl FnOnce(&mut [T]) -> Result<R>) -> Result<R> {
    struct Op<T, R, F>(RefCell<(Option<F>, Option<R>)>, std::marker::PhantomData<T>);
    impl<T: WithDType, R, F: FnOnce(&mut [T]) -> Result<R>> InplaceOp1 for Op<T, R, F> {
        fn name(&self) -> &'static str {
            "write"
        }
        fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
            let Some((start, end)) = layout.contiguous_offsets() else {
                bail!("a tensor to write to is not contiguous: {layout:?}")
            };
            let data = as_mut_slice::<T>(storage)?;
            let f = self.0.borrow_mut().0.take();
            if let Some(f) = f {
                let result = f(&mut data[start..end])?;
                self.0.borrow_mut().1 = Some(result);
            }
            Ok(())
        }
    }
    if x.elem_count() == 0 {
        return f(&mut []);
    }
    let op = Op(RefCell::new((Some(f), None)), std::marker::PhantomData);
    x.inplace_op1(&op)?;
    match op.0.into_inner().1 {
        Some(result) => Ok(result),
        None => bail!("a tensor on {:?} reached a CPU kernel", x.device()),
    }
}

/// The maximum number of tensors for [`with_all`] and [`with_all_mut`]: their locks nest, and each takes some stack.
pub(crate) const MOST_AT_ONCE: usize = 128;

/// As [`with`], for up to [`MOST_AT_ONCE`] tensors.
pub(crate) fn with_all<T: WithDType, R>(
    tensors: &[&Tensor],
    f: impl FnOnce(&[&[T]]) -> Result<R>,
) -> Result<R> {
    fn level<T: WithDType>(
        tensors: &[&Tensor],
        held: &mut Vec<*const [T]>,
        f: &mut dyn FnMut(&[*const [T]]) -> Result<()>,
    ) -> Result<()> {
        let Some((first, rest)) = tensors.split_first() else { return f(held) };
        with(first, |x: &[T]| {
            held.push(x);
            level(rest, held, f)
        })
    }
    let (mut f, mut result) = (Some(f), None);
    level(tensors, &mut Vec::with_capacity(tensors.len()), &mut |all: &[*const [T]]| {
        // SAFETY: every slice is borrowed by a caller of this closure.
        let all: Vec<&[T]> = all.iter().map(|&x| unsafe { &*x }).collect();
        let all = &all[..];
        result = f.take().map(|f| f(all)).transpose()?;
        Ok(())
    })?;
    result.ok_or_else(|| candle_core::Error::Msg("tensors were not read".into()))
}

/// As [`with_mut`], for up to [`MOST_AT_ONCE`] tensors, no two of which share memory.
pub(crate) fn with_all_mut<T: WithDType, R>(
    tensors: &[&Tensor],
    f: impl FnOnce(&mut [&mut [T]]) -> Result<R>,
) -> Result<R> {
    fn level<T: WithDType>(
        tensors: &[&Tensor],
        held: &mut Vec<*mut [T]>,
        f: &mut dyn FnMut(&[*mut [T]]) -> Result<()>,
    ) -> Result<()> {
        let Some((first, rest)) = tensors.split_first() else { return f(held) };
        with_mut(first, |x: &mut [T]| {
            held.push(x);
            level(rest, held, f)
        })
    }
    let (mut f, mut result) = (Some(f), None);
    level(tensors, &mut Vec::with_capacity(tensors.len()), &mut |all: &[*mut [T]]| {
        // SAFETY: every slice is borrowed by a caller of this closure, which does nothing else with it, and a tensor
        // that occurred twice would have waited for its own lock.
        let mut all: Vec<&mut [T]> = all.iter().map(|&x| unsafe { &mut *x }).collect();
        result = f.take().map(|f| f(&mut all)).transpose()?;
        Ok(())
    })?;
    result.ok_or_else(|| candle_core::Error::Msg("tensors were not written".into()))
}

fn as_mut_slice<T: WithDType>(storage: &mut CpuStorage) -> Result<&mut [T]> {
    let dtype = storage.dtype();
    let vector: &mut dyn Any = match storage {
        CpuStorage::F32(vector) => vector,
        CpuStorage::F64(vector) => vector,
        CpuStorage::BF16(vector) => vector,
        _ => bail!("a kernel writes float32, float64 or bfloat16, not {dtype:?}"),
    };
    match vector.downcast_mut::<Vec<T>>() {
        Some(vector) => Ok(vector),
        None => bail!("a tensor of {dtype:?} can't be written as {:?}", T::DTYPE),
    }
}

/// A vector as a tensor on the CPU, without a tape.
pub(crate) fn tensor<T: Float>(values: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &candle_core::Device::Cpu)
}

/// A vector whose elements are all written before they are read; it starts with zeros, which cost nothing for large
/// ones and little for the rest.
pub(crate) fn buffer<T: Float>(len: usize) -> Vec<T> {
    vec![T::default(); len]
}
