//! Weight decay: decoupled in AdamW, coupled in SGD.
#![allow(clippy::unwrap_used, reason = "a test")]

use candle_core::{DType, Device, Var};
use vulpes_ops::{AdamwStep, SgdStep, adamw, sgd};

fn var(value: f64) -> Var {
    Var::new(&[value, value], &Device::Cpu).unwrap()
}

fn value(var: &Var) -> f64 {
    var.get(0).unwrap().to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// Without a gradient the parameter shrinks by `lr · weight_decay`, and the moments stay zero.
#[test]
fn adamw_decay_is_decoupled() {
    let (param, m, v) = (var(2.0), var(0.0), var(0.0));
    let step = AdamwStep {
        lr: 0.5,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        grad_scale: 1.0,
    };
    adamw(&param, &m, &v, &var(0.0), &step).unwrap();
    assert_eq!((value(&param), value(&m), value(&v)), (2.0 - 0.5 * 0.1 * 2.0, 0.0, 0.0));
}

/// The decay is a part of the gradient, and thus of the velocity, which keeps shrinking the parameter.
#[test]
fn sgd_decay_is_coupled() {
    let (param, velocity) = (var(2.0), var(0.0));
    let step = SgdStep { lr: 0.5, momentum: 0.9, weight_decay: 0.1, grad_scale: 1.0 };
    sgd(&param, &velocity, &var(0.0), &step).unwrap();
    assert_eq!((value(&param), value(&velocity)), (2.0 - 0.5 * 0.2, 0.2));
    sgd(&param, &velocity, &var(0.0), &SgdStep { weight_decay: 0.0, ..step }).unwrap();
    assert!((value(&velocity) - 0.18).abs() < 1e-15 && value(&param) < 1.9);
}
