//! The kernels against float64, on lengths around every edge, and the team against one thread.

use super::*;
use vulpes_random::Key;

fn numbers(n: usize, seed: u64) -> Vec<f32> {
    let mut stream = Key::new(seed, "decode").stream();
    (0..n).map(|_| stream.normal() as f32).collect()
}

#[test]
fn matrix_times_vector() {
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
        // A row's bits don't depend on the rows beside it.
        for row in 0..o {
            let mut alone = [0.0];
            matvec_no_grad(&weight[row * i..(row + 1) * i], &x, Some(&bias[row..=row]), &mut alone);
            assert_eq!(alone[0].to_bits(), out[row].to_bits());
        }
    }
}

#[test]
fn one_query_attends() {
    let (s, k) = (9, 20);
    let (q, keys, values) = (numbers(k, 1), numbers(s * k, 2), numbers(s * k, 3));
    let (mut scores, mut out) = (vec![0.0; s], vec![0.0; k]);
    attend_no_grad(&q, &keys, &values, 0.3, &mut scores, &mut out);
    let dot = |j: usize| (0..k).map(|c| f64::from(q[c]) * f64::from(keys[j * k + c])).sum::<f64>() * 0.3;
    let powers: Vec<f64> = (0..s).map(|j| dot(j).exp()).collect();
    let sum: f64 = powers.iter().sum();
    for c in 0..k {
        let exact: f64 = (0..s).map(|j| powers[j] / sum * f64::from(values[j * k + c])).sum();
        assert!((f64::from(out[c]) - exact).abs() < 1e-6);
    }
}

#[test]
fn activations_are_those_of_the_model() {
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
fn a_team_does_what_one_does_in_any_size_and_after_a_nap() {
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
fn a_panic_in_the_team_is_a_panic() {
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
