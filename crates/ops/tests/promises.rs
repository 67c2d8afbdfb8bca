//! Guarantees of the operations beyond agreement with their references.
#![allow(clippy::unwrap_used, clippy::panic)]

use candle_core::{DType, Device, Result, Tensor, Var};
use vulpes_ops::{
    AdamwItem, AdamwStep, AttentionOptions, CrossEntropyOptions, Dropout, Gradients, Mask, Noise, SgdStep,
    adamw, adamw_all, attention, attention_pattern, backward, cross_entropy, dropout, fold_tree, grad_norm,
    linear, reference, sgd, sum_gradients, threads,
};
use vulpes_random::Key;

fn normal(key: u64, shape: &[usize]) -> Tensor {
    let mut stream = Key::new(key, "test").stream();
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| stream.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn bits(x: &Tensor) -> Vec<u64> {
    x.flatten_all().unwrap().to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
}

#[test]
fn a_fully_masked_row_has_zero_outputs_and_gradients() -> Result<()> {
    let vars: Vec<Var> = (0..3).map(|i| Var::from_tensor(&normal(i, &[2, 3, 2, 4])).unwrap()).collect();
    // Every key of batch row 1 is padding.
    let mask = Mask::causal().padding(2, 3, [1, 1, 1, 0, 0, 0].into());
    let options = AttentionOptions { scale: 0.5, mask: &mask, dropout: None };
    let context = attention(&vars[0], &vars[1], &vars[2], &options)?;
    assert!(context.get(1)?.abs()?.sum_all()?.to_scalar::<f64>()? == 0.0);
    let store = context.sqr()?.sum_all()?.backward()?;
    for var in &vars {
        let gradient = store.get(var).unwrap();
        assert_eq!(gradient.get(1)?.abs()?.sum_all()?.to_scalar::<f64>()?, 0.0);
        let rest = gradient.get(0)?.abs()?.sum_all()?.to_scalar::<f64>()?;
        assert!(rest > 0.0 && rest.is_finite());
    }
    let pattern = attention_pattern(&vars[0], &vars[1], &vars[2], &options)?;
    let sums = pattern.weights_bhts.sum(3)?.flatten_all()?.to_vec1::<f64>()?;
    assert!(sums[..6].iter().all(|sum| (sum - 1.0).abs() < 1e-12) && sums[6..].iter().all(|&sum| sum == 0.0));
    Ok(())
}

#[test]
fn masked_values_do_not_change_a_bit() -> Result<()> {
    let (q, k, v) = (normal(1, &[1, 5, 2, 4]), normal(2, &[1, 5, 2, 4]), normal(3, &[1, 5, 2, 4]));
    let mask = Mask::causal();
    let options = AttentionOptions { scale: 0.5, mask: &mask, dropout: None };
    let whole = attention(&q, &k, &v, &options)?;
    let (mut k2, mut v2) = (vec![k.narrow(1, 0, 3)?], vec![v.narrow(1, 0, 3)?]);
    k2.push(normal(7, &[1, 2, 2, 4]));
    v2.push(normal(8, &[1, 2, 2, 4]));
    let changed = attention(&q, &Tensor::cat(&k2, 1)?, &Tensor::cat(&v2, 1)?, &options)?;
    assert_eq!(bits(&whole.narrow(1, 0, 3)?), bits(&changed.narrow(1, 0, 3)?));
    assert_ne!(bits(&whole.narrow(1, 3, 2)?), bits(&changed.narrow(1, 3, 2)?));
    Ok(())
}

#[test]
fn dropout_depends_neither_on_padding_nor_on_sharding() -> Result<()> {
    let (p, key) = (0.4, Key::new(5, "dropout"));
    let rule = |first_row| Dropout { p, key: key.clone(), first_row };
    let ones = |shape: &[usize]| Tensor::ones(shape, candle_core::DType::F64, &Device::Cpu).unwrap();
    let whole = dropout(&ones(&[3, 5, 4]), &rule(0))?;
    assert_eq!(bits(&dropout(&ones(&[2, 5, 4]), &rule(1))?), bits(&whole.narrow(0, 1, 2)?));
    assert_eq!(bits(&dropout(&ones(&[3, 2, 4]), &rule(0))?), bits(&whole.narrow(1, 0, 2)?));
    let kept = whole.ne(0.0)?.to_dtype(candle_core::DType::F64)?;
    assert_eq!(bits(&whole), bits(&kept.affine(1.0 / (1.0 - f64::from(p)), 0.0)?));

    let many = dropout(&ones(&[4, 10_000]), &rule(0))?.mean_all()?.to_scalar::<f64>()?;
    assert!((many - 1.0).abs() < 0.02, "{many}");
    assert!(dropout(&ones(&[1]), &Dropout { p: 1.0, key: key.clone(), first_row: 0 }).is_err());

    // The same for attention weights: the mask of the first 3 positions is the same in a row of 3 and of 6.
    let (q, k, v) = (normal(1, &[2, 6, 2, 4]), normal(2, &[2, 6, 2, 4]), normal(3, &[2, 6, 2, 4]));
    let (mask, rule) = (Mask::causal(), rule(0));
    let options = AttentionOptions { scale: 0.5, mask: &mask, dropout: Some(&rule) };
    let long = attention(&q, &k, &v, &options)?;
    let short = |x: &Tensor| x.narrow(1, 0, 3);
    let alone = attention(&short(&q)?, &short(&k)?, &short(&v)?, &options)?;
    let difference = (short(&long)? - alone)?.abs()?.max_all()?.to_scalar::<f64>()?;
    assert!(difference < 1e-14, "{difference}");
    assert!(
        (long - attention(&q, &k, &v, &AttentionOptions { dropout: None, ..options })?)?
            .abs()?
            .max_all()?
            .to_scalar::<f64>()?
            > 0.1
    );
    Ok(())
}

#[test]
fn gradients_distinguish_unreached_from_zero_and_accumulate() -> Result<()> {
    let parameters: Vec<(String, Var)> = ["a", "b", "unused"]
        .iter()
        .enumerate()
        .map(|(i, name)| (name.to_string(), Var::from_tensor(&normal(i as u64, &[3, 3])).unwrap()))
        .collect();
    let mut gradients = Gradients::new(&parameters)?;
    let loss = linear(&parameters[0].1, &parameters[1].1, None)?.sqr()?.sum_all()?;
    backward(&loss, &mut gradients)?;
    assert!(gradients.get("a").is_some() && gradients.get("unused").is_none());
    let once = gradients.get("b").unwrap().copy()?;
    let norm = grad_norm(&gradients)?;
    let loss = linear(&parameters[0].1, &parameters[1].1, None)?.sqr()?.sum_all()?;
    backward(&loss, &mut gradients)?;
    let twice = gradients.get("b").unwrap();
    assert!((twice - (once * 2.0)?)?.abs()?.max_all()?.to_scalar::<f64>()? < 1e-12);
    assert!((grad_norm(&gradients)? / norm - 2.0).abs() < 1e-12);
    let mut sum = Gradients::new(&parameters)?;
    let gradients = [gradients];
    sum_gradients(&mut sum, &gradients)?;
    sum_gradients(&mut sum, &gradients)?;
    assert!((grad_norm(&sum)? / norm - 4.0).abs() < 1e-12);
    sum.zero();
    assert!(sum.get("a").is_none() && grad_norm(&sum)? == 0.0);
    let names: Vec<_> = sum.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["a", "b", "unused"]);

    assert!(backward(&normal(1, &[2]), &mut sum).is_err());
    assert!(Gradients::new(&[parameters[0].clone(), parameters[0].clone()]).is_err());
    Ok(())
}

#[test]
fn optimizers_match_pytorch() -> Result<()> {
    // By hand, one element: p = 1, g = 0.5, first step.
    let var = |x: f64| Var::new(&[x], &Device::Cpu).unwrap();
    let value = |x: &Var| x.to_vec1::<f64>().unwrap()[0];
    let (p, m, v, g) = (var(1.0), var(0.0), var(0.0), Tensor::new(&[1.0], &Device::Cpu)?);
    let step = AdamwStep {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.2,
        step: 1,
        grad_scale: 0.5,
    };
    adamw(&p, &m, &v, &g, &step)?;
    assert!((value(&p) - (0.98 - 0.1 * 0.5 / (0.5 + 1e-8))).abs() < 1e-12);
    assert!((value(&m) - 0.05).abs() < 1e-12 && (value(&v) - 0.0025).abs() < 1e-12);

    let (p, u) = (var(1.0), var(2.0));
    let step = SgdStep { lr: 0.1, momentum: 0.9, weight_decay: 0.2, grad_scale: 0.5 };
    sgd(&p, &u, &g, &step)?;
    assert!((value(&u) - 2.5).abs() < 1e-12 && (value(&p) - 0.75).abs() < 1e-12);
    sgd(&p, &u, &g, &SgdStep { momentum: 0.5, weight_decay: 0.0, ..step })?;
    assert!((value(&u) - 1.75).abs() < 1e-12 && (value(&p) - (0.75 - 0.1 * 1.75)).abs() < 1e-12);
    assert!(sgd(&p, &Var::new(&[1.0, 2.0], &Device::Cpu)?, &g, &step).is_err());
    Ok(())
}

#[test]
fn invalid_targets_are_named() {
    let logits = normal(1, &[2, 3]);
    let error = |targets: &[i64]| {
        cross_entropy(&logits, targets, &CrossEntropyOptions::default()).unwrap_err().to_string()
    };
    assert!(error(&[0, 3]).contains("target 3 of row 1"), "{}", error(&[0, 3]));
    assert!(error(&[-1, 0]).contains("target -1 of row 0"));
    assert!(error(&[0]).contains("1 targets for 2 rows"));
    let options = CrossEntropyOptions { label_smoothing: 1.5, ..Default::default() };
    assert!(cross_entropy(&logits, &[0, 1], &options).is_err());
    let options = CrossEntropyOptions { weights: [1.0, 2.0].into(), ..Default::default() };
    let error = cross_entropy(&logits, &[0, 1], &options).unwrap_err().to_string();
    assert!(error.contains("2 weights for 3 classes"), "{error}");
}

#[test]
fn a_weight_multiplies_the_loss_of_its_targets() -> Result<()> {
    let logits = normal(1, &[3, 3]);
    let loss = |targets: &[i64], weights: &[f64]| -> Result<f64> {
        let options = CrossEntropyOptions { weights: weights.into(), ..Default::default() };
        cross_entropy(&logits, targets, &options)?.sum.to_dtype(DType::F64)?.to_scalar()
    };
    let one = |row: usize, target: i64| {
        let targets: Vec<i64> = (0..3).map(|other| if other == row { target } else { -100 }).collect();
        loss(&targets, &[])
    };
    let wanted = 0.5 * one(0, 0)? + 3.0 * one(1, 2)? + 0.5 * one(2, 0)?;
    assert!((loss(&[0, 2, 0], &[0.5, 7.0, 3.0])? - wanted).abs() < 1e-5);
    Ok(())
}

#[test]
fn optimizers_agree_with_their_references() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for n in [0usize, 1, 7, 33, 40_001] {
            let make = |key: u64| -> Result<[Var; 4]> {
                let x = |i| Var::from_tensor(&normal(key + i, &[n]).to_dtype(dtype)?);
                Ok([x(0)?, x(1)?, Var::from_tensor(&x(2)?.sqr()?)?, x(3)?])
            };
            let (a, b) = (make(1)?, make(1)?);
            let step = AdamwStep {
                lr: 0.1,
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-6,
                weight_decay: 0.2,
                step: 3,
                grad_scale: 0.5,
            };
            let sgd_step = SgdStep { lr: 0.1, momentum: 0.9, weight_decay: 0.2, grad_scale: 0.5 };
            threads::with_kernel_threads(3, || adamw(&a[0], &a[1], &a[2], &a[3], &step))?;
            sgd(&a[0], &a[1], &a[3], &sgd_step)?;
            if n == 0 {
                continue;
            }
            reference::adamw(&b[0], &b[1], &b[2], &b[3], &step)?;
            reference::sgd(&b[0], &b[1], &b[3], &sgd_step)?;
            for (a, b) in a.iter().zip(&b) {
                let difference = (a.as_tensor() - b.as_tensor())?.abs()?.max_all()?.to_dtype(DType::F64)?;
                let bound = if dtype == DType::F32 { 2e-6 } else { 1e-14 };
                assert!(difference.to_scalar::<f64>()? < bound, "{dtype:?} {n} {difference}");
            }
        }
    }
    Ok(())
}

/// The shards' gradients are added along the tree, whichever of them exist.
#[test]
fn shards_add_up_along_the_tree() -> Result<()> {
    let vars = vec![("w".to_owned(), Var::from_tensor(&normal(1, &[40_000]))?)];
    for n in 1..=8 {
        for missing in [vec![], vec![0], vec![1, 2], vec![0, 1, 2, 4]] {
            let shards = (0..n).map(|leaf| {
                let mut gradients = Gradients::new(&vars)?;
                if !missing.contains(&leaf) {
                    let x = normal(10 + leaf as u64, &[40_000]);
                    backward(&vars[0].1.mul(&x)?.sum_all()?, &mut gradients)?;
                }
                Ok(gradients)
            });
            let mut shards = shards.collect::<Result<Vec<_>>>()?;
            let leaves: Vec<Option<Tensor>> = shards
                .iter()
                .map(|shard| shard.get("w").map(Tensor::copy).transpose())
                .collect::<Result<_>>()?;
            let right = fold_tree(leaves, |a, b| a + b)?;
            let (first, others) = shards.split_first_mut().unwrap();
            let norm = sum_gradients(first, others)?;
            assert_eq!(norm.to_bits(), grad_norm(first)?.to_bits());
            assert_eq!(first.get("w").map(bits), right.as_ref().map(bits), "{n} shards without {missing:?}");
        }
    }
    Ok(())
}

/// More tensors than are locked at a time, of sizes around a block's, with gradients that not every shard reached.
#[test]
fn batched_optimizer_steps_equal_single_ones() -> Result<()> {
    let lens: Vec<usize> = (0..150).map(|i| [3, 17, 16 * 1024, 16 * 1024 + 1][i % 4]).collect();
    let vars: Vec<(String, Var)> =
        (0..150).map(|i| (i.to_string(), Var::from_tensor(&normal(i as u64, &[lens[i]])).unwrap())).collect();
    let shard = |number: usize| -> Result<Gradients> {
        let mut gradients = Gradients::new(&vars)?;
        // Shard n leaves out every parameter whose index is n more than a multiple of seven.
        let used = vars.iter().enumerate().filter(|(i, _)| i % 7 != number);
        let terms = used.map(|(_, (_, var))| var.sqr()?.affine((number + 1) as f64, 0.0)?.sum_all());
        let loss = Tensor::stack(&terms.collect::<Result<Vec<_>>>()?, 0)?.sum_all()?;
        backward(&loss, &mut gradients)?;
        Ok(gradients)
    };
    let run = |threads: usize| -> Result<(f64, Gradients)> {
        let (mut first, others) = (shard(0)?, [shard(1)?, shard(2)?]);
        let norm = threads::with_kernel_threads(threads, || sum_gradients(&mut first, &others))?;
        Ok((norm, first))
    };
    let (norm, sum) = run(1)?;
    assert!((norm / grad_norm(&sum)? - 1.0).abs() < 1e-14);
    for (i, (found, (_, var))) in sum.iter().zip(&vars).enumerate() {
        let factor: usize = (0..3).filter(|number| i % 7 != *number).map(|number| number + 1).sum();
        let off = (found.1.unwrap() - var.affine(2.0 * factor as f64, 0.0)?)?.abs()?.max_all()?;
        assert!(off.to_scalar::<f64>()? < 1e-12, "parameter {i}");
    }
    for threads in [2, 3, 7] {
        let (other_norm, other) = run(threads)?;
        assert_eq!(norm.to_bits(), other_norm.to_bits());
        assert!(sum.iter().zip(other.iter()).all(|(a, b)| bits(a.1.unwrap()) == bits(b.1.unwrap())));
    }

    let step = |i: usize| AdamwStep {
        lr: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-6,
        weight_decay: 0.1 * (i % 2) as f64,
        step: 3,
        grad_scale: 0.5,
    };
    let copies = || -> Result<Vec<[Var; 3]>> {
        let copy = |x: &Tensor| Var::from_tensor(&x.copy()?);
        vars.iter().map(|(_, var)| Ok([copy(var)?, copy(var)?, copy(&var.sqr()?)?])).collect()
    };
    let (together, apart) = (copies()?, copies()?);
    let grads: Vec<&Tensor> = sum.iter().map(|(_, grad)| grad.unwrap()).collect();
    let items: Vec<AdamwItem> = together
        .iter()
        .enumerate()
        .map(|(i, [param, m, v])| AdamwItem {
            param,
            m,
            v,
            grad: grads[i],
            step: step(i),
            noise: Noise::default(),
        })
        .collect();
    threads::with_kernel_threads(3, || adamw_all(&items))?;
    for (i, (together, apart)) in together.iter().zip(&apart).enumerate() {
        adamw(&apart[0], &apart[1], &apart[2], grads[i], &step(i))?;
        assert!(together.iter().zip(apart).all(|(a, b)| bits(a) == bits(b)), "parameter {i}");
    }
    Ok(())
}

#[test]
fn the_returned_pattern_is_the_one_used() -> Result<()> {
    let (q, k, v) = (normal(1, &[2, 70, 4, 8]), normal(2, &[2, 70, 2, 8]), normal(3, &[2, 70, 2, 8]));
    let mask = Mask::causal();
    let options = AttentionOptions { scale: 0.35, mask: &mask, dropout: None };
    for dtype in [DType::F32, DType::F64] {
        let (q, k, v) = (q.to_dtype(dtype)?, k.to_dtype(dtype)?, v.to_dtype(dtype)?);
        let pattern = attention_pattern(&q, &k, &v, &options)?;
        let context = attention(&q, &k, &v, &options)?;
        assert_eq!(
            bits(&context.to_dtype(DType::F64)?),
            bits(&pattern.context_bthk.to_dtype(DType::F64)?),
            "the unfused context differs"
        );
        // Head h of the queries attends to keys and values of group h / 2.
        let v_bhsk = Tensor::stack(&[&v, &v], 3)?.reshape((2, 70, 4, 8))?.transpose(1, 2)?.contiguous()?;
        let summed = pattern.weights_bhts.matmul(&v_bhsk)?.transpose(1, 2)?;
        let difference = (context - summed)?.abs()?.max_all()?.to_dtype(DType::F64)?;
        assert!(difference.to_scalar::<f64>()? < 1e-6, "{difference}");
    }
    Ok(())
}

/// Forward and backward passes of every kernel that divides its work, at sizes that occupy several threads.
#[test]
fn bits_do_not_depend_on_the_threads() -> Result<()> {
    let run = |n: usize| -> Result<Vec<Vec<u64>>> {
        threads::with_kernel_threads(n, || {
            let var = |key, shape: &[usize]| Var::from_tensor(&normal(key, shape));
            let (x, w, b) = (var(1, &[2, 150, 96])?, var(2, &[96, 96])?, var(3, &[96])?);
            let (scale, table) = (var(4, &[96])?, var(5, &[301, 96])?);
            let named = [("x", &x), ("w", &w), ("b", &b), ("scale", &scale), ("table", &table)];
            let named: Vec<_> = named.iter().map(|(name, var)| (name.to_string(), (*var).clone())).collect();
            let mut gradients = Gradients::new(&named)?;
            let mask = Mask::causal();
            let options = AttentionOptions { scale: 0.2, mask: &mask, dropout: None };
            let y = linear(&vulpes_ops::layer_norm(&x, &scale, Some(&b), 1e-5)?, &w, Some(&b))?;
            let y = vulpes_ops::gelu_tanh(&y)?.reshape((2, 150, 6, 16))?;
            let y = attention(&y, &y, &y, &options)?.reshape((300, 96))?;
            let y = vulpes_ops::softmax(&vulpes_ops::swiglu(&y, &y)?)?;
            let targets: Vec<i64> = (0..300).collect();
            let loss = vulpes_ops::lm_head(&y, &table, None, &targets, &CrossEntropyOptions::default())?.sum;
            backward(&loss, &mut gradients)?;
            let mut all: Vec<Vec<u64>> = gradients.iter().map(|(_, g)| bits(g.unwrap())).collect();
            all.push(bits(&loss));
            all.push(vec![grad_norm(&gradients)?.to_bits()]);
            Ok(all)
        })
    };
    let one = run(1)?;
    for threads in [2, 3, 4, 7] {
        assert!(one == run(threads)?, "{threads} threads give other bits");
    }
    Ok(())
}

#[test]
fn references_can_be_requested() -> Result<()> {
    let x = normal(1, &[3, 5]);
    let before = threads::n_fast_forms();
    let plain = reference::with_reference(|| vulpes_ops::gelu_tanh(&x))?;
    assert_eq!(bits(&plain), bits(&reference::gelu_tanh(&x)?));
    assert_eq!(threads::n_fast_forms(), before, "no fast form runs if the reference is requested");
    vulpes_ops::gelu_tanh(&x)?;
    assert_eq!(threads::n_fast_forms(), before + 1);
    Ok(())
}
