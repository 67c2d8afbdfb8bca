//! Moment estimates in bfloat16: the effects of their rounding.

use candle_core::{DType, Device, Result, Tensor, Var};
use half::bf16;

use super::kept::{Kept, noise};
use super::{AdamwItem, AdamwStep, Noise, adamw_all};
use crate::threads::with_kernel_threads;

#[test]
fn rounding_is_unbiased_and_keeps_representable_values() {
    for value in [1.003f32, -0.6171, 3.1e-5, 7.7e20, 1e-40] {
        let n = 200_000u64;
        let kept: Vec<f64> =
            (0..n).map(|i| f64::from(<bf16 as Kept<f32>>::kept(value, noise(7, i)).to_f32())).collect();
        let (mean, step) =
            (kept.iter().sum::<f64>() / n as f64, kept.iter().fold(f64::MIN, |a, &b| a.max(b)));
        let step = step - kept.iter().fold(f64::MAX, |a, &b| a.min(b));
        // Two neighbors, and their mean within five standard errors.
        assert!(step > 0.0 && step <= f64::from(value.abs()) / 64.0 || value == 1e-40, "{value}: {step}");
        assert!((mean - f64::from(value)).abs() < 5.0 * step / 2.0 / (n as f64).sqrt(), "{value}: {mean}");
    }
    for exact in [0.0f32, 1.0, -2.5, f32::INFINITY, f32::NEG_INFINITY] {
        for bits in [0, 0x7fff, 0xffff] {
            assert_eq!(<bf16 as Kept<f32>>::kept(exact, bits).to_f32(), exact);
        }
    }
    // A NaN whose payload is only in the lower half.
    assert!(<bf16 as Kept<f32>>::kept(f32::from_bits(0x7f80_0001), 0xffff).is_nan());
}

fn tensor(n: usize, f: impl Fn(usize) -> f32) -> Tensor {
    Tensor::from_vec((0..n).map(f).collect::<Vec<_>>(), n, &Device::Cpu).unwrap()
}

/// Steps on constant gradients; returns the parameters and second moments after them.
fn steps(n: usize, count: u64, cut: Option<usize>) -> Result<[Vec<f32>; 2]> {
    let (param, grad) =
        (Var::from_tensor(&tensor(n, |i| i as f32 / 97.0))?, tensor(n, |i| (i % 13) as f32 - 6.0));
    let zeros = |n: usize| Var::zeros(n, DType::BF16, &Device::Cpu);
    let parts: Vec<(usize, usize)> = match cut {
        Some(cut) => vec![(0, cut), (cut, n - cut)],
        None => vec![(0, n)],
    };
    let moments: Vec<(Var, Var)> =
        parts.iter().map(|part| Ok((zeros(part.1)?, zeros(part.1)?))).collect::<Result<_>>()?;
    for step in 1..=count {
        let step = AdamwStep {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            grad_scale: 0.5,
        };
        for ((first, len), (m, v)) in parts.iter().zip(&moments) {
            let param = param.as_detached_tensor().narrow(0, *first, *len)?;
            let grad = grad.narrow(0, *first, *len)?;
            let noise = Noise { key: 5 + step.step, first: *first as u64 };
            adamw_all(&[AdamwItem { param: &param, m, v, grad: &grad, step, noise }])?;
        }
    }
    let v: Vec<Tensor> = moments.iter().map(|(_, v)| v.as_detached_tensor()).collect();
    Ok([param.to_vec1()?, Tensor::cat(&v, 0)?.to_dtype(DType::F32)?.to_vec1()?])
}

#[test]
fn bits_depend_neither_on_threads_nor_on_the_split_of_a_parameter() -> Result<()> {
    let n = 50_000;
    let whole = steps(n, 3, None)?;
    assert!(with_kernel_threads(3, || steps(n, 3, None))? == whole, "threads");
    assert!(steps(n, 3, Some(16_384))? == whole, "the cut");
    Ok(())
}

/// With rounding to the nearest, v would stop at a fraction of its limit: steps of a thousandth are lost.
#[test]
fn second_moments_converge_in_bfloat16() -> Result<()> {
    let (n, count) = (13_000, 2_000);
    let [_, v] = steps(n, count, None)?;
    for residue in 0..13 {
        let of: Vec<f64> = v.iter().skip(residue).step_by(13).map(|&v| f64::from(v)).collect();
        let mean = of.iter().sum::<f64>() / of.len() as f64;
        let right = (0.5 * (residue as f64 - 6.0)).powi(2) * (1.0 - 0.999f64.powi(count as i32));
        assert!((mean - right).abs() <= 0.01 * right, "{residue}: {mean}, {right}");
    }
    Ok(())
}

#[test]
fn other_types_are_refused_by_name() {
    let (param, grad) = (tensor(3, |_| 1.0), tensor(3, |_| 1.0));
    let zeros = |dtype| Var::zeros(3, dtype, &Device::Cpu).unwrap();
    let step = AdamwStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 1,
        grad_scale: 1.0,
    };
    let run = |m: DType, v: DType| {
        let (m, v) = (zeros(m), zeros(v));
        adamw_all(&[AdamwItem { param: &param, m: &m, v: &v, grad: &grad, step, noise: Noise::default() }])
    };
    assert!(run(DType::BF16, DType::BF16).is_ok());
    assert!(run(DType::BF16, DType::F32).unwrap_err().to_string().contains("v is F32"));
    assert!(run(DType::F32, DType::BF16).unwrap_err().to_string().contains("v is BF16"));
}
