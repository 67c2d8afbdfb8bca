//! An operation and its gradient: RMSNorm, checked against a finite difference for one element.
//!
//! `cargo run --release -p vulpes --example ops`

use vulpes::ops::rms_norm;
use vulpes::prelude::*;

/// The loss: Σ rms_norm(x, w)³.
fn loss(x: &Tensor, weight: &Tensor) -> vulpes::Result<Tensor> {
    Ok(rms_norm(x, weight, 1e-6)?.powf(3.0)?.sum_all()?)
}

fn main() -> vulpes::Result<()> {
    let x = Var::new(&[[1.0f64, -2.0, 3.0], [0.5, 0.25, -1.0]], &Device::Cpu)?;
    let weight = Var::new(&[1.0f64, 0.5, 2.0], &Device::Cpu)?;
    let mut gradients = Gradients::new(&[("x".into(), x.clone()), ("weight".into(), weight.clone())])?;
    backward(&loss(&x, &weight)?, &mut gradients)?;
    let of_x = gradients.get("x").ok_or(Error::msg("no gradient reached x"))?.to_vec2::<f64>()?;

    // The same for x[0, 1] alone: how the loss changes if it is slightly larger or smaller.
    let step = 1e-6;
    let nudged = |by: f64| -> vulpes::Result<f64> {
        let x = Tensor::new(&[[1.0, -2.0 + by, 3.0], [0.5, 0.25, -1.0]], &Device::Cpu)?;
        Ok(loss(&x, &weight)?.to_scalar()?)
    };
    let by_hand = (nudged(step)? - nudged(-step)?) / (2.0 * step);
    println!("by the operation {:.6}\nby hand          {by_hand:.6}", of_x[0][1]);
    if (of_x[0][1] - by_hand).abs() > 1e-5 {
        return Err(Error::msg("the two should agree"));
    }
    Ok(())
}
