//! The slices of parameters and optimizer state that each process owns, and their exchange.
//!
//! The trained parameters, concatenated, are one flat row ([`Flat`]); each process owns a slice of it. It receives the
//! summed gradients of its slice, updates the parameters there, and broadcasts them. The optimizer's rules only see
//! parts of tensors.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use candle_core::{DType, Device, Tensor, Var, WithDType};
use half::bf16;
use vulpes_collective::{Number, Numbers, Processes, SumPlan, share, slices, sum};
use vulpes_ops::{Flat, Gradients, sum_nodes};

use crate::error::{Error, Result};

/// The first byte of a process's report of a step: results follow, …
const MADE: u8 = 0;
/// … or an error message.
const FAILED: u8 = 1;

/// A process's own results of a step.
pub(crate) struct Made {
    /// The sum of the losses of each of its leaves.
    pub(crate) losses: Vec<f64>,
    /// Its nodes of the tree, in order.
    pub(crate) nodes: Vec<(Range<usize>, Gradients)>,
}

/// The results of all processes of a step.
pub(crate) struct Report {
    /// The sum of the losses of each leaf.
    pub(crate) losses: Vec<f64>,
    /// Whether a gradient reached each parameter, on any process.
    pub(crate) reached: Vec<bool>,
}

/// The slices of all processes.
pub(crate) struct Slices {
    processes: Processes,
    /// The parameters, sharing memory with the model.
    row: Flat,
    dtype: DType,
    /// The index of each parameter in the row.
    index: HashMap<String, usize>,
    /// Where the row may be cut.
    cuts: Vec<usize>,
    of_each: Vec<Range<usize>>,
}

impl Slices {
    /// The slices of these parameters, cut at the blocks in which norms are summed, but not inside an `undivided`
    /// parameter.
    ///
    /// # Errors
    /// Returns an error if a parameter isn't contiguous.
    pub(crate) fn new(
        processes: &Processes,
        parameters: &[(String, Var)],
        undivided: &BTreeSet<String>,
    ) -> Result<Self> {
        let row = Flat::new(parameters.iter().map(|(_, var)| var.as_tensor()))?;
        let cuts = row.cuts();
        let is_between = |cut: &usize| {
            let at = row.starts().partition_point(|start| start <= cut).saturating_sub(1);
            row.starts()[at] == *cut || parameters.get(at).is_none_or(|(name, _)| !undivided.contains(name))
        };
        let between: Vec<usize> = cuts.iter().copied().filter(is_between).collect();
        let of_each = slices(&between, processes.size());
        let dtype = parameters.first().map_or(DType::F32, |(_, var)| var.dtype());
        let index = parameters.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
        Ok(Self { processes: processes.clone(), row, dtype, index, cuts, of_each })
    }

    /// The elements of a parameter that this process owns.
    pub(crate) fn own(&self, name: &str) -> Range<usize> {
        self.of(self.processes.rank(), name)
    }

    fn of(&self, rank: usize, name: &str) -> Range<usize> {
        let Some(at) = self.index.get(name) else { return 0..0 };
        let (begin, end) = (self.row.starts()[*at], self.row.starts()[at + 1]);
        let slice = &self.of_each[rank];
        slice.start.clamp(begin, end) - begin..slice.end.clamp(begin, end) - begin
    }

    /// Exchanges the results of all processes of a step.
    ///
    /// # Errors
    /// Returns the failure of one process, on all of them.
    pub(crate) fn report(&self, made: Result<Made>) -> Result<(Made, Report)> {
        if self.processes.is_alone() {
            let made = made?;
            return Ok((
                Made { losses: Vec::new(), ..made },
                Report { losses: made.losses, reached: Vec::new() },
            ));
        }
        let mut reached = vec![0u8; self.index.len()];
        let own = match &made {
            Ok(made) => {
                for (_, gradients) in &made.nodes {
                    reached.iter_mut().zip(gradients.reached()).for_each(|(any, own)| *any |= u8::from(own));
                }
                [&[MADE], reached.as_slice(), bytemuck::cast_slice(&made.losses)].concat()
            }
            Err(error) => [&[FAILED], error.to_string().as_bytes()].concat(),
        };
        let mut losses = Vec::new();
        for (rank, said) in self.processes.gather(&own)?.iter().enumerate() {
            let Some((MADE, said)) = said.split_first().map(|(how, said)| (*how, said)) else {
                let message = String::from_utf8_lossy(said.get(1..).unwrap_or_default()).into_owned();
                return Err(Error::Process { rank, size: self.processes.size(), message });
            };
            let (any, numbers) = said.split_at(reached.len().min(said.len()));
            reached.iter_mut().zip(any).for_each(|(any, said)| *any |= said);
            losses.extend(numbers.chunks_exact(size_of::<f64>()).map(bytemuck::pod_read_unaligned::<f64>));
        }
        Ok((made?, Report { losses, reached: reached.into_iter().map(|any| any > 0).collect() }))
    }

    /// Sums the nodes of all processes; returns the norm of the sum, the gradients with this process's slice of it, and
    /// the buffers no longer needed. `reached` marks the parameters that a gradient reached on any process.
    ///
    /// # Errors
    /// Returns an error if a process has ended, or a device operation fails.
    pub(crate) fn sum(
        &self,
        n_leaves: usize,
        nodes: Vec<(Range<usize>, Gradients)>,
        reached: &[bool],
    ) -> Result<(f64, Gradients, Vec<Gradients>)> {
        let mut nodes = nodes.into_iter();
        let Some((node, mut total)) = nodes.next() else {
            return Err(vulpes_collective::Error::TooMany { size: self.processes.size(), n_leaves }.into());
        };
        let (leaves, mut others): (Vec<usize>, Vec<Gradients>) =
            nodes.map(|(node, gradients)| (node.start, gradients)).unzip();
        if self.processes.is_alone() {
            let others_at: Vec<(usize, &Gradients)> = leaves.into_iter().zip(&others).collect();
            let norm = sum_nodes((node.start, &mut total), &others_at, n_leaves)?;
            return Ok((norm, total, others));
        }
        let plan = SumPlan::new(n_leaves, &self.of_each)?;
        let rows = std::iter::once(&mut total).chain(&mut others).map(Gradients::flat);
        let rows = rows.collect::<candle_core::Result<Vec<Flat>>>()?;
        match self.dtype {
            DType::F64 => self.exchange::<f64>(&plan, &rows)?,
            _ => self.exchange::<f32>(&plan, &rows)?,
        }
        total.set_reached(reached);
        Ok((self.norm(&rows[0])?, total, others))
    }

    fn exchange<T: Number + WithDType>(&self, plan: &SumPlan, rows: &[Flat]) -> Result<()> {
        let mut rows: Vec<Row> = rows.iter().map(Row).collect();
        let mut rows: Vec<&mut dyn Numbers<T>> =
            rows.iter_mut().map(|row| row as &mut dyn Numbers<T>).collect();
        Ok(sum(&self.processes, plan, &mut rows)?)
    }

    /// The norm of a row that is distributed over the processes.
    fn norm(&self, row: &Flat) -> Result<f64> {
        let own = row.squares(self.of_each[self.processes.rank()].clone())?;
        let joined = self.processes.join(&own)?;
        let mut rest = joined.as_slice();
        // Slices aren't in the order of the ranks.
        let mut of_slices: Vec<(usize, &[f64])> = Vec::new();
        for slice in &self.of_each {
            let n_blocks = self.cuts.partition_point(|cut| *cut < slice.end)
                - self.cuts.partition_point(|cut| *cut < slice.start);
            let (blocks, others) = rest.split_at(n_blocks.min(rest.len()));
            of_slices.push((slice.start, blocks));
            rest = others;
        }
        of_slices.sort_by_key(|(start, _)| *start);
        let squares: Vec<f64> =
            of_slices.into_iter().flat_map(|(_, blocks)| blocks.iter().copied()).collect();
        Ok(row.norm(&squares))
    }

    /// The union of the names of all processes, in the order of the parameters.
    ///
    /// # Errors
    /// Returns an error if a process has ended.
    pub(crate) fn any_of(&self, names: &[String]) -> Result<Vec<String>> {
        let mut counts = vec![0u64; self.index.len()];
        names.iter().filter_map(|name| self.index.get(name)).for_each(|at| counts[*at] += 1);
        let counts = self.processes.sum_whole(&counts)?;
        let mut named: Vec<(&usize, &String)> =
            self.index.iter().map(|(name, at)| (at, name)).filter(|(at, _)| counts[**at] > 0).collect();
        named.sort_unstable();
        Ok(named.into_iter().map(|(_, name)| name.clone()).collect())
    }

    /// Broadcasts the updated parameters.
    ///
    /// # Errors
    /// Returns an error if a process has ended, or a device operation fails.
    pub(crate) fn share(&self) -> Result<()> {
        if self.processes.is_alone() {
            return Ok(());
        }
        match self.dtype {
            DType::F64 => share::<f64>(&self.processes, &self.of_each, &mut Row(&self.row))?,
            _ => share::<f32>(&self.processes, &self.of_each, &mut Row(&self.row))?,
        }
        Ok(())
    }

    /// Collects the complete state tensor of a parameter in `dtype`, of which each process has its slice: on the first
    /// process; `None` on the others.
    ///
    /// # Errors
    /// Returns an error if a process has ended, or a device operation fails.
    pub(crate) fn collect(
        &self,
        name: &str,
        shape: &[usize],
        dtype: DType,
        own: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        match dtype {
            DType::F64 => self.collect_as::<f64>(name, shape, own),
            DType::BF16 => self.collect_as::<bf16>(name, shape, own),
            _ => self.collect_as::<f32>(name, shape, own),
        }
    }

    fn collect_as<T: bytemuck::Pod + WithDType>(
        &self,
        name: &str,
        shape: &[usize],
        own: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let values = match own {
            Some(own) => own.flatten_all()?.to_vec1::<T>()?,
            None => Vec::new(),
        };
        if !self.processes.is_first() {
            self.processes.exchange(0, bytemuck::cast_slice(&values), &mut [])?;
            return Ok(None);
        }
        let mut whole = vec![T::zeroed(); shape.iter().product()];
        whole[self.own(name)].copy_from_slice(&values);
        for rank in 1..self.processes.size() {
            let part = &mut whole[self.of(rank, name)];
            self.processes.exchange(rank, &[], bytemuck::cast_slice_mut(part))?;
        }
        Ok(Some(Tensor::from_vec(whole, shape, &Device::Cpu)?))
    }
}

/// A row of tensors for sums and messages.
struct Row<'a>(&'a Flat);

impl<T: Number + WithDType> Numbers<T> for Row<'_> {
    fn read(&self, start: usize, out: &mut [T]) -> vulpes_collective::Result<()> {
        self.0.read(start, out).map_err(numbers)
    }

    fn write(&mut self, start: usize, values: &[T]) -> vulpes_collective::Result<()> {
        self.0.write(start, values).map_err(numbers)
    }

    fn add(&mut self, start: usize, values: &[T]) -> vulpes_collective::Result<()> {
        self.0.add(start, values).map_err(numbers)
    }
}

fn numbers(error: candle_core::Error) -> vulpes_collective::Error {
    vulpes_collective::Error::Numbers(Box::new(error))
}
