//! Operations with any number of inputs on candle's tape, each one node with its own backward pass.
//!
//! candle's custom operations take up to three arguments, and its `backward` allocates a tensor of zeros and adds to it
//! for each. [`record`] makes a node of any number of inputs: the first two are on the node itself; the others, usually
//! parameters, are below it in *packs*, whose one-element results represent them. The node's backward pass leaves the
//! gradients of packed inputs in a shared slot, from which each pack takes them.
//!
//! A parameter of an installed sink ([`crate::forward_for`]) needs no place on the tape: the node's backward pass writes
//! its gradient into the sink, and candle neither walks to it nor allocates for it.

use crate::kernel::Float;
use crate::sink;
use crate::threads::{precision, with_precision};
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, TensorId, bail,
};
use std::sync::{Arc, Mutex, PoisonError};

/// One gradient for each input; `None` if it needs none, or the sink of [`crate::backward`] has taken it.
pub(crate) type InputGradients = Vec<Option<Tensor>>;

type Backward = dyn Fn(&Tensor) -> Result<InputGradients> + Send + Sync;

/// Gradients on their way from a node to its packs, by the index of the input.
type Deposits = Arc<Mutex<InputGradients>>;

/// Puts a computed value on the tape: `backward` turns the gradient of the result into those of the inputs.
///
/// Inputs that lead to no parameter are left out; if none remain, no node is made.
pub(crate) fn record<T: Float>(
    inputs: &[&Tensor],
    value: Vec<T>,
    shape: impl Into<Shape>,
    backward: impl Fn(&Tensor) -> Result<InputGradients> + Send + Sync + 'static,
) -> Result<Tensor> {
    let shape = shape.into();
    let tracked = inputs.iter().enumerate().filter(|(_, input)| input.track_op());
    let (mut of_sink, mut on_tape): (Vec<_>, Vec<_>) = tracked.partition(|(_, input)| sink::knows(input));
    if on_tape.is_empty() {
        // The result must lead to something.
        on_tape.extend(of_sink.pop());
    }
    if on_tape.is_empty() {
        return Tensor::from_vec(value, shape, &Device::Cpu);
    }
    // The backward pass runs in the precision of the forward pass, wherever it is called.
    let precision = precision();
    let backward = move |dout: &Tensor| with_precision(precision, || backward(dout));
    let deposits = Deposits::default();
    let mut args: Vec<(Tensor, Option<usize>)> =
        on_tape.into_iter().map(|(slot, input)| (Tensor::clone(input), Some(slot))).collect();
    if args.len() > 3 {
        let handle = pack(args.split_off(2), &deposits)?;
        args.push((handle, None));
    }
    let slots = args.iter().map(|(_, slot)| *slot).collect();
    let value = Mutex::new(Some((T::to_cpu_storage_owned(value), shape)));
    let of_sink = of_sink.into_iter().map(|(slot, input)| (slot, input.id())).collect();
    apply(&args, Node { value, slots, deposits, kind: Kind::Operation(Box::new(backward), of_sink) })
}

/// Packs repeatedly until a single handle is left.
fn pack(mut level: Vec<(Tensor, Option<usize>)>, deposits: &Deposits) -> Result<Tensor> {
    loop {
        let mut above = Vec::with_capacity(level.len().div_ceil(3));
        for group in level.chunks(3) {
            let value = Mutex::new(Some((CpuStorage::F32(vec![0.0]), Shape::from(1))));
            let slots = group.iter().map(|(_, slot)| *slot).collect();
            let node = Node { value, slots, deposits: deposits.clone(), kind: Kind::Pack };
            above.push((apply(group, node)?, None));
        }
        match above.pop() {
            Some((handle, _)) if above.is_empty() => return Ok(handle),
            Some(last) => above.push(last),
            None => bail!("tape: nothing to pack"),
        }
        level = above;
    }
}

fn apply(args: &[(Tensor, Option<usize>)], node: Node) -> Result<Tensor> {
    match args {
        [(a, _)] => a.apply_op1(node),
        [(a, _), (b, _)] => a.apply_op2(b, node),
        [(a, _), (b, _), (c, _)] => a.apply_op3(b, c, node),
        _ => bail!("tape: {} arguments on one node", args.len()),
    }
}

enum Kind {
    /// The inputs of the second are parameters that aren't on the tape.
    Operation(Box<Backward>, Vec<(usize, TensorId)>),
    Pack,
}

struct Node {
    /// The result of the forward pass, until candle takes it.
    value: Mutex<Option<(CpuStorage, Shape)>>,
    /// The input of each argument; `None` for the handle of a pack.
    slots: Vec<Option<usize>>,
    deposits: Deposits,
    kind: Kind,
}

impl Node {
    const NAME: &'static str = "vulpes";

    fn take(&self) -> Result<(CpuStorage, Shape)> {
        match self.value.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(value) => Ok(value),
            None => bail!("tape: a node's value was requested twice"),
        }
    }

    /// The gradients of the arguments, in their order.
    fn gradients(&self, args: &[&Tensor], grad: &Tensor) -> Result<InputGradients> {
        let mut found = match &self.kind {
            Kind::Operation(backward, of_sink) => {
                let mut found = backward(grad)?;
                for (slot, id) in of_sink {
                    if let Some(gradient) = found.get_mut(*slot).and_then(Option::take) {
                        sink::add(*id, &gradient)?;
                    }
                }
                if self.slots.contains(&None) {
                    // Only what the packs take: the deposits live as long as the loss.
                    let of_packs = found
                        .iter_mut()
                        .enumerate()
                        .map(|(slot, gradient)| gradient.take_if(|_| !self.slots.contains(&Some(slot))));
                    *self.deposits.lock().unwrap_or_else(PoisonError::into_inner) = of_packs.collect();
                }
                found
            }
            Kind::Pack => {
                let mut deposits = self.deposits.lock().unwrap_or_else(PoisonError::into_inner);
                let mut own = vec![None; deposits.len()];
                for slot in self.slots.iter().flatten() {
                    if let Some(deposit) = deposits.get_mut(*slot) {
                        own[*slot] = deposit.take();
                    }
                }
                own
            }
        };
        let mut out = Vec::with_capacity(args.len());
        for (arg, slot) in args.iter().zip(&self.slots) {
            let gradient = match slot {
                Some(slot) => found.get_mut(*slot).and_then(Option::take),
                None => None,
            };
            out.push(match gradient {
                Some(gradient) => Some(gradient),
                None if arg.is_variable() => None,
                // candle requires a gradient for every tensor between a parameter and the loss.
                None => Some(Tensor::zeros(arg.shape(), arg.dtype(), &Device::Cpu)?),
            });
        }
        Ok(out)
    }
}

impl CustomOp1 for Node {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, a: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.gradients(&[a], grad)?.swap_remove(0))
    }
}

impl CustomOp2 for Node {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut found = self.gradients(&[a, b], grad)?;
        Ok((found[0].take(), found[1].take()))
    }
}

impl CustomOp3 for Node {
    fn name(&self) -> &'static str {
        Self::NAME
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let mut found = self.gradients(&[a, b, c], grad)?;
        Ok((found[0].take(), found[1].take(), found[2].take()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    /// `Σ_i (i + 1) x_i` of any number of scalars-in-a-vector, as one node.
    fn weighted(inputs: &[&Tensor]) -> Result<Tensor> {
        let value = inputs.iter().enumerate().try_fold(0.0, |sum, (i, x)| {
            Ok::<f64, candle_core::Error>(sum + (i + 1) as f64 * x.to_vec1::<f64>()?[0])
        })?;
        let n = inputs.len();
        record(inputs, vec![value], 1, move |grad| {
            (0..n).map(|i| Ok(Some((grad * (i + 1) as f64)?))).collect()
        })
    }

    #[test]
    fn gradients_reach_any_number_of_inputs() -> Result<()> {
        for n in 1..=40 {
            let vars: Vec<Var> =
                (0..n).map(|i| Var::new(&[i as f64], &Device::Cpu)).collect::<Result<_>>()?;
            // Every third is behind another operation, every fourth is not a parameter.
            let inputs: Vec<Tensor> = vars
                .iter()
                .enumerate()
                .map(|(i, var)| match i {
                    _ if i % 4 == 1 => Ok(var.as_detached_tensor()),
                    _ if i % 3 == 0 => var.affine(10.0, 0.0),
                    _ => Ok(var.as_tensor().clone()),
                })
                .collect::<Result<_>>()?;
            let y = weighted(&inputs.iter().collect::<Vec<_>>())?;
            let store = (&y + y.affine(2.0, 0.0)?)?.sum_all()?.backward()?;
            for (i, var) in vars.iter().enumerate() {
                let found = store.get(var).map(|g| g.to_vec1::<f64>().unwrap()[0]);
                let chain = if i % 3 == 0 { 10.0 } else { 1.0 };
                let expected = if i % 4 == 1 { None } else { Some(3.0 * chain * (i + 1) as f64) };
                assert_eq!(found, expected, "input {i} of {n}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_node_keeps_only_gradients_that_its_packs_take() -> Result<()> {
        let x = Tensor::new(&[1f64], &Device::Cpu)?;
        let backward = |grad: &Tensor| Ok(vec![Some(grad.clone()); 4]);
        let deposits = Deposits::default();
        let node = Node {
            value: Mutex::new(None),
            slots: vec![Some(0), Some(2), None],
            deposits: Arc::clone(&deposits),
            kind: Kind::Operation(Box::new(backward), Vec::new()),
        };
        assert!(node.gradients(&[&x, &x, &x], &x)?.iter().all(Option::is_some));
        let kept: Vec<bool> = deposits.lock().unwrap().iter().map(Option::is_some).collect();
        assert_eq!(kept, [false, true, false, true]);
        Ok(())
    }

    #[test]
    fn constants_record_no_node() -> Result<()> {
        let x = Tensor::new(&[1f64], &Device::Cpu)?;
        assert!(!weighted(&[&x, &x, &x, &x, &x])?.track_op());
        Ok(())
    }
}
