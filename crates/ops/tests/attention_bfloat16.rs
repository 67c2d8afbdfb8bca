//! Attention in bfloat16 against its definition: the same values rounded, everything else in float64.
#![allow(clippy::unwrap_used, clippy::panic)]

mod masks;

use candle_core::{DType, Device, Result, Tensor, Var};
use masks::masks;
use vulpes_ops::{AttentionOptions, Dropout, Mask, attention, threads};
use vulpes_random::Key;

/// Keys per block: their weights are rounded relative to the largest score so far.
const KEYS: usize = 256;

#[derive(Clone, Copy)]
struct Sizes {
    b: usize,
    t: usize,
    past: usize,
    h: usize,
    g: usize,
    k: usize,
}

fn normal(key: u64, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(key, "test").stream();
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The nearest bfloat16 value.
fn bf(x: f64) -> f64 {
    half::bf16::from_f32(x as f32).to_f64()
}

fn in_bfloat16<R>(f: impl FnOnce() -> R) -> R {
    threads::with_precision(threads::Precision::Bfloat16, f)
}

/// Each weight's dropout factor, [b, h, t, s], read off attention with equal weights on one-hot values.
fn factors(Sizes { b, t, past, h, g, .. }: Sizes, options: &AttentionOptions) -> Result<Vec<f64>> {
    let s = past + t;
    let zeros = |heads, n| Tensor::zeros((b, n, heads, s), DType::F64, &Device::Cpu);
    let keys = Tensor::eye(s, DType::F64, &Device::Cpu)?.reshape((1, s, 1, s))?.broadcast_as((b, s, g, s))?;
    let seen = attention(&zeros(h, t)?, &zeros(g, s)?, &keys.contiguous()?, options)?;
    let mut found = numbers(&seen.transpose(1, 2)?.contiguous()?);
    for (at, row) in found.chunks_mut(s).enumerate() {
        let (row_of_batch, query) = (at / (h * t), at % t);
        let n = (0..s).filter(|&key| options.mask.allows(row_of_batch, query, key)).count();
        row.iter_mut().for_each(|factor| *factor *= n as f64);
    }
    Ok(found)
}

/// The context, and the gradients of q, k and v for the incoming gradient `dout`.
fn by_definition(
    sizes: Sizes,
    options: &AttentionOptions,
    [q, k, v, dout]: [&Tensor; 4],
) -> Result<[Vec<f64>; 4]> {
    let Sizes { b, t, past, h, g, k: width } = sizes;
    let s = past + t;
    let factors = factors(sizes, options)?;
    let [q, k, v, dout] = [q, k, v, dout].map(|x| numbers(x).into_iter().map(bf).collect::<Vec<_>>());
    let (mut context, mut dq) = (vec![0.0; q.len()], vec![0.0; q.len()]);
    let (mut dk, mut dv) = (vec![0.0; k.len()], vec![0.0; k.len()]);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let add = |out: &mut [f64], a: f64, x: &[f64]| out.iter_mut().zip(x).for_each(|(out, x)| *out += a * x);
    for at in 0..b * h * t {
        let (row, head, query) = (at / (h * t), at / t % h, at % t);
        let of_query = |x: usize| x * width..(x + 1) * width;
        let own = of_query((row * t + query) * h + head);
        let key = |j: usize| of_query((row * s + j) * g + head / (h / g));
        let seen: Vec<usize> = (0..s).filter(|&j| options.mask.allows(row, query, j)).collect();
        let score = |j: usize| dot(&q[own.clone()], &k[key(j)]) * options.scale;
        let factor = |j: usize| factors[at * s + j];
        let (mut max, mut sum) = (f64::NEG_INFINITY, 0.0);
        for block in seen.chunk_by(|a, b| a / KEYS == b / KEYS) {
            let before = max;
            max = block.iter().map(|&j| score(j)).fold(max, f64::max);
            let shrink = (before - max).exp();
            sum *= shrink;
            context[own.clone()].iter_mut().for_each(|x| *x *= shrink);
            for &j in block {
                let weight = (score(j) - max).exp();
                sum += weight;
                add(&mut context[own.clone()], bf(weight * factor(j)), &v[key(j)]);
            }
        }
        if seen.is_empty() {
            continue;
        }
        context[own.clone()].iter_mut().for_each(|x| *x /= sum);
        // The context is kept for the backward pass in bfloat16.
        let kept: Vec<f64> = context[own.clone()].iter().map(|&x| bf(x)).collect();
        let mean = dot(&dout[own.clone()], &kept);
        for &j in &seen {
            let weight = (score(j) - max).exp() / sum;
            let dscore = weight * (dot(&dout[own.clone()], &v[key(j)]) * factor(j) - mean) * options.scale;
            add(&mut dv[key(j)], bf(weight * factor(j)), &dout[own.clone()]);
            add(&mut dq[own.clone()], bf(dscore), &k[key(j)]);
            add(&mut dk[key(j)], bf(dscore), &q[own.clone()]);
        }
    }
    Ok([context, dq, dk, dv])
}

/// The same from the operation under test.
fn found(options: &AttentionOptions, [q, k, v, dout]: [&Tensor; 4], rounds: bool) -> Result<[Tensor; 4]> {
    let [q, k, v] = [q, k, v].map(|x| Var::from_tensor(x).unwrap());
    let forward = || attention(&q, &k, &v, options);
    let context = if rounds { in_bfloat16(forward)? } else { forward()? };
    // Outside: the backward pass keeps the precision of the forward pass.
    let gradients = (&context * dout)?.sum_all()?.backward()?;
    let [dq, dk, dv] = [&q, &k, &v].map(|x| gradients.get(x).unwrap().clone());
    Ok([context.detach(), dq, dk, dv])
}

/// The mean and the largest difference, relative to the largest value.
fn apart(found: &Tensor, right: &[f64]) -> (f64, f64) {
    let size = right.iter().fold(0.0, |size: f64, x| size.max(x.abs()));
    let off: Vec<f64> = numbers(found).iter().zip(right).map(|(a, b)| (a - b).abs() / size).collect();
    assert!(off.len() == right.len() && off.iter().all(|off| off.is_finite()));
    (off.iter().sum::<f64>() / off.len() as f64, off.into_iter().fold(0.0, f64::max))
}

fn check(sizes: Sizes, mask: Mask, dropout: Option<&Dropout>) -> Result<()> {
    let Sizes { b, t, past, h, g, k } = sizes;
    let mask = mask.past(past);
    let options = AttentionOptions { scale: 0.4, mask: &mask, dropout };
    let (queries, keys) = ([b, t, h, k], [b, past + t, g, k]);
    let inputs = [normal(1, &queries), normal(2, &keys), normal(3, &keys), normal(4, &queries)];
    let inputs = inputs.each_ref();
    let right = by_definition(sizes, &options, inputs)?;
    let rounded = found(&options, inputs, true)?;
    let exact = found(&options, inputs, false)?;
    for (i, what) in ["context", "dq", "dk", "dv"].into_iter().enumerate() {
        let name = format!("{what} of {b} {t} {past} {h} {g} {k}, {mask:?}");
        // A value that float32 puts on the other side of a tie is rounded the other way: rare, and each is off by 2⁻⁸.
        let (mean, most) = apart(&rounded[i], &right[i]);
        assert!(mean < 2e-5 && most < 3e-3, "{name}: {mean:e} off, {most:e} at most");
        let (unrounded, _) = apart(&exact[i], &right[i]);
        assert!(unrounded > 10.0 * mean, "{name}: float32 is only {unrounded:e} off, this {mean:e}");
    }
    Ok(())
}

#[test]
fn attention_rounds_its_factors_and_saved_context() -> Result<()> {
    for (b, t, past, (h, g), k) in [(2, 7, 0, (2, 2), 5), (2, 5, 3, (4, 2), 3), (1, 70, 2, (3, 1), 16)] {
        let s = past + t;
        let dropout = Dropout { p: 0.25, key: Key::new(2, "weights"), first_row: 1 };
        for mask in masks(b, s) {
            for dropout in [None, Some(&dropout)] {
                check(Sizes { b, t, past, h, g, k }, mask.clone(), dropout)?;
            }
        }
    }
    Ok(())
}

/// Several tiles of queries, several blocks of keys, and more blocks than stripes of the backward pass.
#[test]
fn long_rows_match_the_definition() -> Result<()> {
    let long = |t, past| Sizes { b: 1, t, past, h: 2, g: 1, k: 4 };
    check(long(300, 0), Mask::causal(), None)?;
    check(long(2, 1300), Mask::full(), None)?;
    check(long(330, 0), Mask::causal().window(40), None)?;
    check(long(3, 530), Mask::causal(), None)
}

#[test]
fn heads_wider_than_a_summation_block_match_the_definition() -> Result<()> {
    check(Sizes { b: 1, t: 3, past: 0, h: 1, g: 1, k: 801 }, Mask::causal(), None)
}

#[test]
fn results_are_bit_identical_on_any_number_of_threads() -> Result<()> {
    let dropout = Dropout { p: 0.25, key: Key::new(2, "weights"), first_row: 1 };
    for (b, t, h, g, dropout) in [(1, 600, 3, 3, None), (3, 90, 4, 2, Some(&dropout))] {
        let mask = Mask::causal();
        let options = AttentionOptions { scale: 0.4, mask: &mask, dropout };
        let (queries, keys) = ([b, t, h, 8], [b, t, g, 8]);
        let inputs = [normal(1, &queries), normal(2, &keys), normal(3, &keys), normal(4, &queries)];
        let run = |n| -> Result<Vec<Vec<u32>>> {
            let found = threads::with_kernel_threads(n, || found(&options, inputs.each_ref(), true))?;
            let bits = |x: &Tensor| -> Result<Vec<u32>> {
                Ok(x.flatten_all()?.to_vec1::<f32>()?.into_iter().map(f32::to_bits).collect())
            };
            found.iter().map(bits).collect()
        };
        let one = run(1)?;
        for n in [2, 3, 7, 16] {
            assert!(one == run(n)?, "{b} {t} {h}: {n} threads");
        }
    }
    Ok(())
}
