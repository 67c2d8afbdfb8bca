//! The kernels against float64, at lengths around every edge, and the team against one thread.

use super::*;
use vulpes_random::Key;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut stream = Key::new(seed, "decode").stream();
    (0..n).map(|_| stream.normal() as f32).collect()
}

#[test]
fn matrix_vector_products_match_float64() {
    for (o, i) in [(1, 1), (3, 7), (4, 16), (5, 17), (9, 31), (8, 48), (13, 200), (0, 5)] {
        let (weight, x, bias) = (numbers(o * i, 1), numbers(i, 2), numbers(o, 3));
        let mut out = vec![f32::NAN; o];
        matvec_no_grad(&weight, &x, Some(&bias), &mut out);
        for row in 0..o {
            let exact: f64 = (0..i).map(|c| f64::from(weight[row * i + c]) * f64::from(x[c])).sum();
            assert!(
                (f64::from(out[row]) - exact - f64::from(bias[row])).abs() < 1e-4,
                "{o} x {i}, row {row}"
            );
        }
        // A row's bits don't depend on the other rows.
        for row in 0..o {
            let mut alone = [0.0];
            matvec_no_grad(&weight[row * i..(row + 1) * i], &x, Some(&bias[row..=row]), &mut alone);
            assert_eq!(alone[0].to_bits(), out[row].to_bits());
        }
    }
}

#[test]
fn single_query_attention_matches_float64() {
    let (s, k) = (9, 20);
    let (q, keys, values) = (numbers(k, 1), numbers(s * k, 2), numbers(s * k, 3));
    let (mut scores, mut out) = (vec![0.0; s], vec![0.0; k]);
    attend_no_grad(&q, Held::Floats(&keys), Held::Floats(&values), 0.3, &mut scores, &mut out);
    let dot = |j: usize| (0..k).map(|c| f64::from(q[c]) * f64::from(keys[j * k + c])).sum::<f64>() * 0.3;
    let powers: Vec<f64> = (0..s).map(|j| dot(j).exp()).collect();
    let sum: f64 = powers.iter().sum();
    for c in 0..k {
        let exact: f64 = (0..s).map(|j| powers[j] / sum * f64::from(values[j * k + c])).sum();
        assert!((f64::from(out[c]) - exact).abs() < 1e-6);
    }
}

#[test]
fn activations_match_those_of_training() {
    use candle_core::{Device, Tensor};
    let x: Vec<f32> = (-400..400).map(|i| i as f32 * 0.05).collect();
    let tensor = Tensor::from_slice(&x, x.len(), &Device::Cpu).unwrap();
    let close = |ours: &[f32], exact: Tensor| {
        for (ours, exact) in ours.iter().zip(exact.to_vec1::<f32>().unwrap()) {
            assert!((ours - exact).abs() <= 1e-6 * (1.0 + exact.abs()), "{ours} and {exact}");
        }
    };
    use crate::activation::Activation;
    for f in [Activation::GeluTanh, Activation::GeluErf, Activation::Silu, Activation::Relu2] {
        let mut ours = x.clone();
        activate_no_grad(f, &mut ours);
        close(&ours, f.reference(&tensor).unwrap());
        let mut ours = vec![1.0; x.len()];
        gate_no_grad(f, &x, &mut ours);
        close(&ours, f.reference(&tensor).unwrap());
    }
    let mut ours = vec![2.0; x.len()];
    gate_no_grad(Activation::Silu, &x, &mut ours);
    close(&ours, (crate::reference::silu(&tensor).unwrap() * 2.0).unwrap());
}

#[test]
fn a_team_of_any_size_matches_one_thread_even_after_sleeping() {
    let weight = numbers(37 * 24, 1);
    let x = numbers(24, 2);
    let work = |first: usize, part: &mut [f32]| {
        matvec_no_grad(&weight[first * 24..(first + part.len()) * 24], &x, None, part);
    };
    let mut one = vec![0.0; 37];
    Team::new(1).split(&mut one, 1, &work);
    for n in [0, 2, 3, 7] {
        let mut team = Team::new(n);
        for round in 0..100 {
            let mut out = vec![0.0; 37];
            team.split(&mut out, 5, &work);
            assert_eq!(out, one, "{n} threads");
            if round == 50 {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        }
        team.split(&mut [], 4, &|_, _| ());
    }
}

#[test]
fn a_panic_in_the_team_propagates() {
    for culprit in [0, 20] {
        let mut team = Team::new(2);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.split(&mut [0.0; 40], 20, &|first, _| assert_ne!(first, culprit));
        }));
        assert!(panicked.is_err());
        let mut out = [0.0; 40];
        team.split(&mut out, 1, &|_, part| part.fill(1.0));
        assert_eq!(out, [1.0; 40]);
    }
}

/// Panels in part, one and several groups of them.
#[test]
fn blocks_are_packed_as_the_numbers_that_they_stand_for() {
    use crate::kernel::quantized::Quant;
    for (to, quant) in [(PackedType::Q8_0, Quant::Q8_0), (PackedType::Q4_0, Quant::Q4_0)] {
        for (n_out, n_in) in [(1, 32), (37, 64), (300, 96)] {
            let matrix = numbers(n_out * n_in, 5);
            let width = to.n_row_bytes(n_in).unwrap();
            let mut blocks = vec![0u8; n_out * width];
            quant.quantize(&matrix, &mut blocks);
            let mut arena = Arena::new(2 * to.n_bytes(n_out, n_in));
            let mut team = Team::new(2);
            let own = Packed::new(to, n_out, n_in, (&mut arena, &mut team), &|rows, out| {
                out.copy_from_slice(&matrix[rows.start * n_in..rows.end * n_in]);
            });
            let rows = |row: usize| &blocks[row * width..(row + 1) * width];
            let theirs = Packed::from_blocks(to, n_out, n_in, (&mut arena, &mut team), &rows);
            let (mut a, mut b, mut c) = (vec![0.0; n_in], vec![0.0; n_in], vec![0.0; n_in]);
            for row in 0..n_out {
                own.row(row, &mut a);
                theirs.row(row, &mut b);
                to.widen_blocks(rows(row), &mut c);
                assert!(a == b && b == c, "{to:?}, row {row} of {n_out}");
            }
        }
    }
    assert_eq!((PackedType::Bf16.n_row_bytes(32), PackedType::Q8_0.n_row_bytes(33)), (None, None));
}
