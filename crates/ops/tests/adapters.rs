//! Adapters beyond the harness: magnitudes, whose norm is treated as a constant, and narrow weights.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{DType, Device, Result, Tensor, Var};
use proptest::prelude::*;
use vulpes_ops::{
    Adapter, CrossEntropyOptions, Gradients, Linear, adapted_linear, backward, embedding, linear, lm_head,
    merged_no_grad, of_blocks, reference, to_blocks_no_grad, widened,
};
use vulpes_random::Key;

fn normal(key: u64, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(key, "test").stream();
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn off(one: &Tensor, other: &Tensor) -> f64 {
    values(one).iter().zip(values(other)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

type Form = fn(&Tensor, Linear<&Tensor>, Option<&vulpes_ops::Dropout>) -> Result<Tensor>;

/// The result and all gradients of a projection with a magnitude.
fn with_magnitude(form: Form, vars: &[Var]) -> (Tensor, Vec<Tensor>) {
    let [x, weight, bias, a, b, magnitude] = vars else { panic!("six") };
    let adapter = Adapter {
        a: a.as_tensor(),
        b: b.as_tensor(),
        magnitude: Some(magnitude.as_tensor()),
        scale: 0.7,
        draw: 0,
    };
    let projection =
        Linear { weight: weight.as_tensor(), bias: Some(bias.as_tensor()), adapter: Some(adapter) };
    let y = form(x, projection, None).unwrap();
    let named: Vec<(String, Var)> =
        vars.iter().enumerate().map(|(number, var)| (number.to_string(), var.clone())).collect();
    let mut gradients = Gradients::new(&named).unwrap();
    backward(&(&y * normal(50, y.dims())).unwrap().sum_all().unwrap(), &mut gradients).unwrap();
    let found = gradients.iter().map(|(_, gradient)| gradient.unwrap().copy().unwrap()).collect();
    (y, found)
}

fn magnitudes(n: usize, i: usize, o: usize, rank: usize) {
    let shapes: [&[usize]; 6] = [&[n, 2, i], &[o, i], &[o], &[rank, i], &[o, rank], &[o]];
    let vars: Vec<Var> =
        shapes.iter().zip(1..).map(|(shape, key)| Var::from_tensor(&normal(key, shape)).unwrap()).collect();
    let (ours, theirs) =
        (with_magnitude(adapted_linear, &vars), with_magnitude(reference::adapted_linear, &vars));
    assert!(off(&ours.0, &theirs.0) < 1e-9);
    for (number, (ours, theirs)) in ours.1.iter().zip(&theirs.1).enumerate() {
        assert!(off(ours, theirs) < 1e-9, "gradient {number} of {n} {i} {o} {rank}");
    }
    // It equals the merged weight's result.
    let [x, weight, bias, a, b, magnitude] = &vars[..] else { panic!("six") };
    let adapter = Adapter {
        a: a.as_tensor(),
        b: b.as_tensor(),
        magnitude: Some(magnitude.as_tensor()),
        scale: 0.7,
        draw: 0,
    };
    let merged =
        merged_no_grad(Linear { weight: weight.as_tensor(), bias: None, adapter: Some(adapter) }).unwrap();
    assert!(off(&linear(x, &merged, Some(bias)).unwrap(), &ours.0) < 1e-9);
}

#[test]
fn bfloat16_weights_equal_their_widened_values() -> Result<()> {
    let narrow = |key: u64, shape: &[usize]| normal(key, shape).to_dtype(DType::BF16);
    narrow_weights_are_wide_ones(&narrow(1, &[7, 5])?, &narrow(2, &[11, 5])?)
}

#[test]
fn block_weights_equal_their_widened_values() -> Result<()> {
    let narrow =
        |key: u64, shape: &[usize]| of_blocks(&to_blocks_no_grad(&normal(key, shape).to_dtype(DType::F32)?)?);
    let (weight, table) = (narrow(1, &[7, 64])?, narrow(2, &[4000, 64])?);
    narrow_weights_are_wide_ones(&weight, &table)?;
    // Within half a step of the largest of 32.
    let whole = normal(1, &[7, 64]);
    assert!(off(&widened(&weight, DType::F64)?, &whole) < 4.0 / 127.0);
    let error = to_blocks_no_grad(&whole.narrow(1, 0, 40)?.to_dtype(DType::F32)?).unwrap_err().to_string();
    assert!(error.contains("rows of 40 values; expected a multiple of 32"), "{error}");
    // Merging uses the values that were computed with.
    let (a, b) = (normal(3, &[2, 64]).to_dtype(DType::F32)?, normal(4, &[7, 2]).to_dtype(DType::F32)?);
    let adapter = Adapter { a: &a, b: &b, magnitude: None, scale: 0.5, draw: 0 };
    let merged = |weight: &Tensor| merged_no_grad(Linear { weight, bias: None, adapter: Some(adapter) });
    assert_eq!(values(&merged(&weight)?), values(&merged(&widened(&weight, DType::F32)?)?));
    Ok(())
}

/// Lookup, projection, head and the gradients of their inputs are bit-identical.
fn narrow_weights_are_wide_ones(weight: &Tensor, table: &Tensor) -> Result<()> {
    let (wide_weight, wide_table) = (widened(weight, DType::F32)?, widened(table, DType::F32)?);
    let ids = Tensor::new(&[3u32, 0, 10, 3], &Device::Cpu)?;
    let x = embedding(&ids, table)?;
    assert_eq!(x.dtype(), DType::F32);
    assert_eq!(values(&x), values(&embedding(&ids, &wide_table)?));
    let var = Var::from_tensor(&x)?;
    let run = |weight: &Tensor, table: &Tensor| -> Result<(Vec<f64>, Vec<f64>)> {
        let y = linear(&linear(&var, weight, None)?, &wide_weight.t()?.contiguous()?, None)?;
        let loss = lm_head(&y, table, None, &[1, 4, -100, 9], &CrossEntropyOptions::default())?;
        let mut gradients = Gradients::new(&[("x".to_owned(), var.clone())])?;
        backward(&loss.sum, &mut gradients)?;
        Ok((values(&loss.sum), values(gradients.get("x").unwrap())))
    };
    assert_eq!(run(weight, table)?, run(&wide_weight, &wide_table)?);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_magnitude_matches_the_reference(n in 1usize..4, i in 1usize..12, o in 1usize..12, rank in 1usize..4) {
        magnitudes(n, i, o, rank);
    }
}
