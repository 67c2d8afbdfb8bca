//! Many tensors as one flat array, for exchanging parts of it.
//!
//! The array may be cut at [`Flat::cuts`]: at the start of a tensor, and inside one at the kernels' blocks. A sum of
//! squares is built from sums over blocks, so the norm follows from the blocks' sums, bit for bit ([`Flat::norm`]).

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, WithDType, bail};

use crate::kernel::parallel::{BLOCK, n_blocks};
use crate::kernel::read::{with, with_mut};
use crate::kernel::{by_dtype, elementwise, fits};

/// Tensors, one after another, as one flat array that shares their memory.
#[derive(Clone, Debug)]
pub struct Flat {
    /// Each with one dimension.
    tensors: Vec<Tensor>,
    /// The start of each, and the end of the last.
    starts: Vec<usize>,
}

impl Flat {
    /// The flat array of these tensors.
    ///
    /// # Errors
    /// Returns an error if one isn't contiguous.
    pub fn new<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<Self> {
        let mut flat = Self { tensors: Vec::new(), starts: vec![0] };
        let mut end = 0;
        for tensor in tensors {
            if !tensor.is_contiguous() {
                bail!("flat: a tensor {:?} is not contiguous", tensor.dims());
            }
            end += tensor.elem_count();
            flat.tensors.push(tensor.detach().flatten_all()?);
            flat.starts.push(end);
        }
        Ok(flat)
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The start of each tensor, and the end of the last.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// The start of each block, and the end of the last.
    pub fn cuts(&self) -> Vec<usize> {
        let of_one = |bounds: &[usize]| (bounds[0]..bounds[1]).step_by(BLOCK);
        self.starts.windows(2).flat_map(of_one).chain([self.len()]).collect()
    }

    /// The parts of `range`: a tensor and the range of its elements.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = (&Tensor, Range<usize>)> {
        let first = self.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        let ends = self.starts[first..].windows(2).zip(&self.tensors[first..]);
        let parts = ends.take_while({
            let end = range.end;
            move |(bounds, _)| bounds[0] < end
        });
        parts.filter_map(move |(bounds, tensor)| {
            let part = range.start.max(bounds[0])..range.end.min(bounds[1]);
            (!part.is_empty()).then(|| (tensor, part.start - bounds[0]..part.end - bounds[0]))
        })
    }

    /// Copies the elements from `start` on into `out`.
    ///
    /// # Errors
    /// Returns an error if the tensors have another dtype than `T`, or the device fails.
    pub fn read<T: WithDType>(&self, start: usize, out: &mut [T]) -> Result<()> {
        let mut rest = out;
        for (tensor, part) in self.parts(start..start + rest.len()) {
            let (own, others) = rest.split_at_mut(part.len());
            rest = others;
            if tensor.device().is_cpu() {
                with(tensor, |values: &[T]| {
                    own.copy_from_slice(&values[part]);
                    Ok(())
                })?;
            } else {
                own.copy_from_slice(&tensor.narrow(0, part.start, part.len())?.to_vec1::<T>()?);
            }
        }
        Ok(())
    }

    /// Copies `values` to the elements from `start` on.
    ///
    /// # Errors
    /// As [`Flat::read`].
    pub fn write<T: WithDType>(&self, start: usize, values: &[T]) -> Result<()> {
        self.each(start, values, |place, value| *place = value)
    }

    /// Adds `values` to the elements from `start` on.
    ///
    /// # Errors
    /// As [`Flat::read`].
    pub fn add<T: WithDType>(&self, start: usize, values: &[T]) -> Result<()> {
        self.each(start, values, |place, value| *place += value)
    }

    fn each<T: WithDType>(&self, start: usize, values: &[T], f: impl Fn(&mut T, T)) -> Result<()> {
        let mut rest = values;
        for (tensor, part) in self.parts(start..start + values.len()) {
            let (own, others) = rest.split_at(part.len());
            rest = others;
            let into =
                |places: &mut [T]| places.iter_mut().zip(own).for_each(|(place, value)| f(place, *value));
            if tensor.device().is_cpu() {
                with_mut(tensor, |values: &mut [T]| {
                    into(&mut values[part]);
                    Ok(())
                })?;
            } else {
                let mut places = tensor.narrow(0, part.start, part.len())?.to_vec1::<T>()?;
                into(&mut places);
                let new = Tensor::from_vec(places, part.len(), &Device::Cpu)?.to_device(tensor.device())?;
                tensor.slice_set(&new, 0, part.start)?;
            }
        }
        Ok(())
    }

    /// `Σ x²` in float64 of each block of `range`, which begins and ends at cuts.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn squares(&self, range: Range<usize>) -> Result<Vec<f64>> {
        fn of<T: crate::kernel::Float>(tensor: &Tensor, part: Range<usize>) -> Result<Vec<f64>> {
            with(tensor, |values: &[T]| Ok(elementwise::block_squares(&values[part])))
        }
        let mut all = Vec::new();
        for (tensor, part) in self.parts(range) {
            if fits(&[tensor]) {
                all.extend(by_dtype!(tensor, of(tensor, part))?);
                continue;
            }
            for start in part.clone().step_by(BLOCK) {
                let block = tensor.narrow(0, start, BLOCK.min(part.end - start))?;
                all.push(block.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_device(&Device::Cpu)?.to_scalar()?);
            }
        }
        Ok(all)
    }

    /// The norm of the entire array from the sums of squares of all its blocks, added up as by [`crate::grad_norm`].
    pub fn norm(&self, squares: &[f64]) -> f64 {
        let mut rest = squares;
        let of_each = self.starts.windows(2).map(|bounds| {
            let (own, others) = rest.split_at(n_blocks(bounds[1] - bounds[0]).min(rest.len()));
            rest = others;
            own.iter().sum::<f64>()
        });
        of_each.sum::<f64>().sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 5.0).collect()
    }

    #[test]
    fn reads_and_writes_span_tensors() {
        let shapes: [&[usize]; 4] = [&[3], &[2, 20_000], &[1, 1], &[5, 7]];
        let tensors: Vec<Tensor> = shapes
            .iter()
            .map(|shape| Tensor::from_vec(values(shape.iter().product()), *shape, &Device::Cpu).unwrap())
            .collect();
        let flat = Flat::new(&tensors).unwrap();
        assert_eq!(flat.len(), 40_039);
        assert_eq!(flat.cuts(), [0, 3, 16_387, 32_771, 40_003, 40_004, 40_039]);
        let mut out = vec![0f32; 40_039];
        flat.read(0, &mut out).unwrap();
        let wanted: Vec<f32> =
            tensors.iter().flat_map(|x| x.flatten_all().unwrap().to_vec1().unwrap()).collect();
        assert_eq!(out, wanted);
        flat.write(40_000, &[1f32, 2.0, 3.0, 4.0, 5.0]).unwrap();
        flat.add(40_002, &[10f32, 10.0]).unwrap();
        let mut part = [0f32; 6];
        flat.read(39_999, &mut part).unwrap();
        assert_eq!(part, [wanted[39_999], 1.0, 2.0, 13.0, 14.0, 5.0]);
        assert_eq!(tensors[2].to_vec2::<f32>().unwrap(), [[14.0]], "the memory is shared with the tensors");
    }

    #[test]
    fn squares_of_parts_add_up_to_the_norm() {
        let x = Tensor::from_vec(values(50_000), 50_000, &Device::Cpu).unwrap();
        let y = Tensor::from_vec(values(7), 7, &Device::Cpu).unwrap();
        let flat = Flat::new([&x, &y]).unwrap();
        let cuts = flat.cuts();
        let whole = flat.squares(0..flat.len()).unwrap();
        let parts: Vec<f64> =
            cuts.windows(2).flat_map(|bounds| flat.squares(bounds[0]..bounds[1]).unwrap()).collect();
        assert_eq!(whole, parts);
        let vars = [("x", x), ("y", y)].map(|(name, x)| {
            let var = candle_core::Var::from_tensor(&x.zeros_like().unwrap()).unwrap();
            (name.to_owned(), var, x)
        });
        let mut gradients = crate::Gradients::new(&vars.clone().map(|(name, var, _)| (name, var))).unwrap();
        let loss = vars.iter().map(|(_, var, x)| (var.as_tensor() * x).unwrap().sum_all().unwrap());
        let loss = loss.reduce(|a, b| (a + b).unwrap()).unwrap();
        crate::backward(&loss, &mut gradients).unwrap();
        assert_eq!(flat.norm(&whole).to_bits(), crate::grad_norm(&gradients).unwrap().to_bits());
    }
}
