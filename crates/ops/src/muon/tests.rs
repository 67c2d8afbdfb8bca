//! Muon against its reference, and the orthogonality that it reaches.

use super::*;
use crate::threads::with_kernel_threads;
use candle_core::{DType, Device};
use vulpes_random::Key;

fn normal(key: u64, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(key, "test").stream();
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn largest(x: &Tensor) -> f64 {
    x.abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

const STEP: MuonStep = MuonStep {
    lr: 0.02,
    momentum: 0.95,
    nesterov: true,
    weight_decay: 0.1,
    cautious: false,
    scaling: MuonScaling::Original,
    orthogonalizer: Orthogonalizer::Quintic,
    grad_scale: 0.7,
};

#[test]
fn steps_match_the_reference() {
    let steps = [
        STEP,
        MuonStep { nesterov: false, scaling: MuonScaling::MatchRmsAdamw, ..STEP },
        MuonStep { cautious: true, orthogonalizer: Orthogonalizer::PolarExpress, ..STEP },
    ];
    for (shape, step) in [[24, 10], [9, 28], [16, 16], [1, 12], [12, 1], [130, 200], [201, 97]]
        .into_iter()
        .zip(steps.iter().cycle())
    {
        let [fast, plain] = [(); 2].map(|()| {
            let zeros = Tensor::zeros(&shape, DType::F64, &Device::Cpu).unwrap();
            (Var::from_tensor(&normal(1, &shape)).unwrap(), Var::from_tensor(&zeros).unwrap())
        });
        for round in 0..3 {
            let grad = normal(2 + round, &shape);
            muon(&fast.0, &fast.1, &grad, step).unwrap();
            reference::muon(&plain.0, &plain.1, &grad, step).unwrap();
        }
        assert!(largest(&(&*fast.0 - &*plain.0).unwrap()) < 1e-12, "{shape:?}");
        assert!(largest(&(&*fast.1 - &*plain.1).unwrap()) < 1e-12, "{shape:?}");
        assert!(largest(&(&*fast.0 - normal(1, &shape)).unwrap()) > 1e-2, "{shape:?} moves");
    }
}

#[test]
fn rows_of_the_result_are_nearly_orthogonal() {
    for how in [Orthogonalizer::Quintic, Orthogonalizer::PolarExpress] {
        let u = orthogonalized(&normal(5, &[20, 60]), how).unwrap();
        let gram = u.matmul(&u.t().unwrap()).unwrap();
        let eye = Tensor::eye(20, DType::F64, &Device::Cpu).unwrap();
        assert!(largest(&(gram - eye).unwrap()) < 0.6, "{how:?}");
    }
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    let x = normal(6, &[200, 310]).to_dtype(DType::F32).unwrap();
    let of = |threads| {
        let u = with_kernel_threads(threads, || orthogonalized(&x, Orthogonalizer::Quintic)).unwrap();
        u.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    assert!(of(1) == of(2) && of(1) == of(5));
}

#[test]
fn tensors_that_are_not_matrices_are_refused() {
    let x = normal(7, &[4]);
    assert!(orthogonalized(&x, Orthogonalizer::Quintic).is_err());
    let (param, other) = (normal(8, &[3, 4]), Var::from_tensor(&normal(9, &[4, 3])).unwrap());
    let error = muon(&param, &other, &param, &STEP).unwrap_err().to_string();
    assert!(error.contains("momentum is F64 [4, 3], but the parameter is F64 [3, 4]"), "{error}");
}
