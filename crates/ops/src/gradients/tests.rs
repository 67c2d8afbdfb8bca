//! Gradients kept in bfloat16 against those in the parameters' dtype.

use candle_core::{DType, Device};
use half::bf16;

use super::*;
use crate::{CrossEntropyOptions, embedding_sum, forward_for, lm_head, rms_norm};

fn var(shape: &[usize], seed: usize) -> Var {
    let n: usize = shape.iter().product();
    let numbers: Vec<f32> = (0..n).map(|i| ((i * 37 + seed * 11) % 19) as f32 / 9.0 - 1.0).collect();
    Var::from_tensor(&Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Gradients of a tied table and a norm's weight by `n` leaves of one row each.
fn leaves(n: usize, rounded: bool) -> Vec<Gradients> {
    let (table, weight) = (var(&[11, 8], 1), var(&[8], 2));
    let named = [("table", &table), ("weight", &weight)].map(|(name, var)| (name.to_owned(), var.clone()));
    let leaf = |leaf: usize| {
        let gradients = Gradients::new(&named).unwrap();
        let mut gradients = if rounded { gradients.rounded() } else { gradients };
        let ids = Tensor::from_vec(vec![3u32, 0, 3, leaf as u32 % 11], (1, 4), &Device::Cpu).unwrap();
        let loss = forward_for(&mut gradients, 0.25, || {
            let x = embedding_sum(&[(&ids, table.as_tensor())])?;
            let x = rms_norm(&x.reshape((4, 8))?, &weight, 1e-5)?;
            lm_head(&x, &table, None, &[0, 3, leaf as i64, 10], &CrossEntropyOptions::default())
        });
        backward(&loss.unwrap().sum.affine(0.25, 0.0).unwrap(), &mut gradients).unwrap();
        gradients
    };
    (0..n).map(leaf).collect()
}

fn numbers(gradient: &Tensor) -> Vec<f32> {
    gradient.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn rounded_gradients_are_the_nearest_bfloat16() {
    for n in [1, 2, 5] {
        let [mut full, mut rounded] = [false, true].map(|rounded| leaves(n, rounded));
        let others = |of: &mut Vec<Gradients>| of.split_off(1);
        let (others_full, others_rounded) = (others(&mut full), others(&mut rounded));
        let norm = sum_gradients(&mut full[0], &others_full).unwrap();
        let norm_rounded = sum_gradients(&mut rounded[0], &others_rounded).unwrap();
        assert!((norm - norm_rounded).abs() < 4e-3 * norm, "{n}: {norm} {norm_rounded}");
        for ((name, full), (_, rounded)) in full[0].iter().zip(rounded[0].iter()) {
            let (full, rounded) = (full.unwrap(), rounded.unwrap());
            assert_eq!(rounded.dtype(), DType::BF16);
            let full = numbers(full);
            // Each rounding is off by at most 2⁻⁸ of a value no larger than the sum.
            let most = full.iter().fold(0f32, |most, x| most.max(x.abs()));
            let steps = if name == "table" { n + 2 } else { n + 1 };
            for (full, rounded) in full.into_iter().zip(numbers(rounded)) {
                assert!((full - rounded).abs() <= most * steps as f32 / 256.0, "{name}: {full} {rounded}");
                if n == 1 && name == "weight" {
                    assert_eq!(bf16::from_f32(full).to_f32(), rounded);
                }
            }
        }
    }
}

#[test]
fn rounded_gradients_accumulate_over_backward_passes() {
    let x = var(&[8], 3);
    let mut gradients = Gradients::new(&[("x".to_owned(), x.clone())]).unwrap().rounded();
    for _ in 0..3 {
        backward(&x.affine(0.5, 0.0).unwrap().sum_all().unwrap(), &mut gradients).unwrap();
    }
    assert_eq!(numbers(gradients.get("x").unwrap()), [1.5; 8]);
    assert_eq!(grad_norm(&gradients).unwrap(), 18f64.sqrt());
    gradients.zero();
    assert!(gradients.get("x").is_none());
}

/// The loss of two parameters that are inputs of nodes themselves, and of one that is used twice.
fn loss_of([x, weight, table]: [&Var; 3]) -> Result<Tensor> {
    let x = rms_norm(&(rms_norm(x, weight, 1e-5)? + 0.5)?, weight, 1e-5)?;
    Ok(lm_head(&x, table, None, &[0, 3, 7, 10], &CrossEntropyOptions::default())?.sum)
}

#[test]
fn parameters_that_are_not_on_the_tape_have_the_same_gradients() {
    let vars = [var(&[4, 8], 1), var(&[8], 2), var(&[11, 8], 3)];
    let named = ["x", "weight", "table"].map(str::to_owned).into_iter().zip(vars.clone());
    let named: Vec<(String, Var)> = named.collect();
    let run = |promised: bool| -> Vec<Vec<u32>> {
        let mut gradients = Gradients::new(&named).unwrap();
        for _ in 0..2 {
            let forward = || loss_of(vars.each_ref());
            let loss = if promised { forward_for(&mut gradients, 0.5, forward) } else { forward() };
            backward(&loss.unwrap().affine(0.5, 0.0).unwrap(), &mut gradients).unwrap();
        }
        let bits = |(_, gradient): (&str, Option<&Tensor>)| {
            numbers(gradient.unwrap()).into_iter().map(f32::to_bits).collect()
        };
        gradients.iter().map(bits).collect()
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn a_promised_loss_is_only_differentiated_into_its_gradients() {
    let vars = [var(&[4, 8], 1), var(&[8], 2), var(&[11, 8], 3)];
    let named = [("x".to_owned(), vars[0].clone()), ("weight".to_owned(), vars[1].clone())];
    let mut gradients = Gradients::new(&named).unwrap();
    let mut loss = || forward_for(&mut gradients, 1.0, || loss_of(vars.each_ref())).unwrap();
    let error = loss().backward().unwrap_err().to_string();
    assert!(error.contains("must be differentiated by `backward`, into the same gradients"), "{error}");
    let mut others = Gradients::new(&named[1..]).unwrap();
    let error = backward(&loss(), &mut others).unwrap_err().to_string();
    assert!(error.contains("into the same gradients"), "{error}");
}
