//! What is and isn't rounded if products are in bfloat16.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{DType, Device, Result, Tensor, Var};
use vulpes_ops::{
    Activation, AttentionLayer, AttentionOptions, AttentionPart, FeedForward, Inside, Linear, Mask, Norm,
    attention_layer, attention_layer_unfused, feed_forward, linear, linear_residual, rms_norm, stored,
    threads,
};
use vulpes_random::Key;

fn normal(key: u64, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(key, "test").stream();
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A float32 parameter, scaled to preserve variances.
fn var(key: u64, shape: &[usize]) -> Var {
    let scale = 1.0 / (shape[shape.len() - 1] as f64).sqrt();
    Var::from_tensor(&normal(key, shape).affine(scale, 0.0).unwrap().to_dtype(DType::F32).unwrap()).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn in_bfloat16<R>(f: impl FnOnce() -> R) -> R {
    threads::with_precision(threads::Precision::Bfloat16, f)
}

/// In bfloat16, a projection and its gradients are those of rounded factors, multiplied and summed exactly:
/// `bf(x) bf(W)ᵀ`, `bf(dy) bf(W)`, `bf(dy)ᵀ bf(x)`, up to float32's rounding. The backward pass keeps the precision of
/// the forward pass.
#[test]
fn bfloat16_projections_round_only_their_factors() -> Result<()> {
    let single = |key: u64, shape: &[usize]| normal(key, shape).to_dtype(DType::F32);
    let rounded = |x: &Tensor| x.to_dtype(DType::BF16)?.to_dtype(DType::F64);
    let (x, w) = (Var::from_tensor(&single(1, &[70, 45])?)?, Var::from_tensor(&single(2, &[33, 45])?)?);
    let (bias, dy) = (Var::from_tensor(&single(3, &[33])?)?, single(4, &[70, 33])?);
    let y = in_bfloat16(|| linear(&x, &w, Some(&bias)))?;
    let gradients = (&y * &dy)?.sum_all()?.backward()?;
    let (rx, rw, rdy) = (rounded(&x)?, rounded(&w)?, rounded(&dy)?);
    let right_y = rx.matmul(&rw.t()?)?.broadcast_add(&bias.to_dtype(DType::F64)?)?;
    let pairs = [
        (y.detach(), right_y),
        (gradients.get(&x).unwrap().clone(), rdy.matmul(&rw)?),
        (gradients.get(&w).unwrap().clone(), rdy.t()?.matmul(&rx)?),
        (gradients.get(&bias).unwrap().clone(), dy.to_dtype(DType::F64)?.sum(0)?),
    ];
    for (found, right) in pairs {
        let off = (found.to_dtype(DType::F64)? - &right)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(off < 2e-5, "{off:e} off");
    }
    // Rounding takes place: float32 differs.
    let exact = linear(&x, &w, Some(&bias))?;
    assert!((exact - y)?.abs()?.max_all()?.to_scalar::<f32>()? > 1e-3);
    Ok(())
}

/// The largest difference of the gradients of two results with respect to the same parameters, relative to the largest
/// gradient.
fn apart(a: &Tensor, b: &Tensor, parameters: &[&Var]) -> Result<f64> {
    let upstream = normal(90, a.dims()).to_dtype(DType::F32)?;
    let store = |y: &Tensor| (y * &upstream)?.sum_all()?.backward();
    let (of_a, of_b) = (store(a)?, store(b)?);
    let mut most = 0f64;
    for parameter in parameters {
        let (a, b) = (of_a.get(parameter).unwrap(), of_b.get(parameter).unwrap());
        let off = (a - b)?.abs()?.max_all()?.to_scalar::<f32>()?;
        most = most.max(f64::from(off / a.abs()?.max_all()?.to_scalar::<f32>()?));
    }
    Ok(most)
}

/// The projections' factors, and the stored queries, keys and values, are rounded; the unfused form rounds in the same
/// places, each by a separate operation whose gradient passes straight through.
#[test]
fn fused_attention_rounds_where_its_parts_do() -> Result<()> {
    struct Nobody;
    impl Inside for Nobody {
        fn wants(&self, _: AttentionPart) -> bool {
            false
        }
        fn record(&mut self, _: AttentionPart, _: &Tensor) {}
    }
    let (b, t, d, k) = (2, 9, 24, 8);
    let x = var(1, &[b, t, d]);
    let weights: Vec<Var> = (2..6).map(|key| var(key, &[d, d])).collect();
    let (scale, mask) = (var(6, &[d]), Mask::causal());
    let linear = |at: usize| Linear { weight: weights[at].as_tensor(), bias: None, adapter: None };
    let parts = AttentionLayer {
        norm: Some(Norm::Rms { weight: &scale, eps: 1e-5 }),
        query: linear(0),
        key: linear(1),
        value: linear(2),
        output: Some(linear(3)),
        query_norm: None,
        key_norm: None,
        d_head: k,
        rotary: None,
        bias: None,
        added_values: None,
        attention: AttentionOptions { scale: 0.35, mask: &mask, dropout: None },
        residual: true,
        dropout: None,
        adapter_dropout: None,
    };
    let fused = in_bfloat16(|| attention_layer(&x, &parts))?;
    let unfused = in_bfloat16(|| attention_layer_unfused(&x, &parts, &mut Nobody))?;
    assert_eq!(bits(&fused), bits(&unfused));
    let mut parameters: Vec<&Var> = weights.iter().chain([&x, &scale]).collect();
    assert!(apart(&fused, &unfused, &parameters)? < 2e-3);
    // Rounding takes place.
    parameters.truncate(3);
    assert!(apart(&fused, &attention_layer(&x, &parts)?, &parameters)? > 2e-3);
    Ok(())
}

#[test]
fn fused_feed_forward_rounds_where_its_parts_do() -> Result<()> {
    let (n, d, f) = (13, 24, 40);
    let x = var(1, &[n, d]);
    let (gate, up, down) = (var(2, &[f, d]), var(3, &[f, d]), var(4, &[d, f]));
    let (bias, scale) = (var(5, &[f]), var(6, &[d]));
    for gated in [false, true] {
        let of = |weight, bias| Linear { weight, bias, adapter: None };
        let parts = FeedForward {
            norm: Some(Norm::Rms { weight: &scale, eps: 1e-5 }),
            gate: gated.then(|| of(gate.as_tensor(), None)),
            up: of(up.as_tensor(), Some(bias.as_tensor())),
            down: of(down.as_tensor(), None),
            activation: Activation::GeluTanh,
            residual: true,
            dropout: None,
            adapter_dropout: None,
        };
        let fused = in_bfloat16(|| feed_forward(&x, &parts))?;
        let by_parts = in_bfloat16(|| -> Result<Tensor> {
            let normed = rms_norm(&x, &scale, 1e-5)?;
            let inner = stored(&linear(&normed, &up, Some(&bias))?)?;
            let inner = match gated {
                true => (Activation::GeluTanh.apply(&stored(&linear(&normed, &gate, None)?)?)? * inner)?,
                false => Activation::GeluTanh.apply(&inner)?,
            };
            linear_residual(Some(&x), &inner, parts.down, None)
        })?;
        assert_eq!(bits(&fused), bits(&by_parts), "gated: {gated}");
        let mut parameters = vec![&x, &up, &down, &bias, &scale];
        parameters.extend(gated.then_some(&gate));
        assert!(apart(&fused, &by_parts, &parameters)? < 2e-3, "gated: {gated}");
        assert!(apart(&fused, &feed_forward(&x, &parts)?, &parameters)? > 2e-3, "gated: {gated}");
    }
    Ok(())
}

#[test]
fn stored_values_are_rounded_to_nearest_with_a_straight_through_gradient() -> Result<()> {
    let x = var(1, &[5, 7]);
    let exact = stored(&x)?;
    assert_eq!(bits(&exact), bits(&x), "in float32 nothing is rounded");
    let rounded = in_bfloat16(|| stored(&x))?;
    assert_eq!(bits(&rounded), bits(&x.to_dtype(DType::BF16)?.to_dtype(DType::F32)?));
    let plain = in_bfloat16(|| vulpes_ops::reference::with_reference(|| stored(&x)))?;
    assert_eq!(bits(&rounded), bits(&plain));
    for y in [rounded, plain] {
        let gradient = y.affine(3.0, 0.0)?.sum_all()?.backward()?.get(&x).unwrap().clone();
        assert_eq!(bits(&gradient), vec![3f32.to_bits(); 35]);
    }
    Ok(())
}
