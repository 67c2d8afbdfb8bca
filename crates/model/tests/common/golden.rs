//! A golden batch as the model's input, and comparisons of outputs.

use std::collections::HashMap;

use candle_core::{DType, Tensor};
use vulpes_model::config::Head;
use vulpes_model::{Input, Pass, Transformer};
use vulpes_ops::CrossEntropyOptions;

use super::device;

/// Tensors by name.
pub type Tensors = HashMap<String, Tensor>;

/// The ids of a golden batch, with its padding and token types, and with position ids if `positions` is set.
pub fn input(golden: &Tensors, positions: bool) -> Input {
    let u32s = |name: &str| {
        golden.get(name).map(|tensor| tensor.to_dtype(DType::U32).unwrap().to_device(&device()).unwrap())
    };
    let mut input = Input {
        ids: u32s("input_ids").unwrap(),
        positions: None,
        token_types: u32s("token_type_ids"),
        padding_mask: Some(real(golden).into()),
        segments: None,
    };
    if positions {
        input.positions = u32s("position_ids");
    }
    input
}

/// 1 for a real token, 0 for padding.
pub fn real(golden: &Tensors) -> Vec<u8> {
    golden["attention_mask"].flatten_all().unwrap().to_dtype(DType::U8).unwrap().to_vec1().unwrap()
}

/// The values of a tensor.
pub fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The largest difference at rows of the leading dimensions (`[b, t, …]`) that belong to real tokens.
pub fn difference(ours: &Tensor, theirs: &Tensor, real: &[u8]) -> f64 {
    assert_eq!(ours.dims(), theirs.dims());
    let width = ours.elem_count() / real.len();
    let (ours, theirs) = (floats(ours), floats(theirs));
    let mut largest = 0.0;
    for (i, _) in real.iter().enumerate().filter(|(_, real)| **real == 1) {
        for at in i * width..(i + 1) * width {
            let difference = (ours[at] - theirs[at]).abs();
            assert!(!difference.is_nan());
            largest = f64::max(largest, difference);
        }
    }
    largest
}

/// The logits of a batch.
pub fn logits(model: &Transformer, input: &Input) -> Tensor {
    let hidden = model.forward(input, &mut Pass::inference()).unwrap();
    model.logits(&model.read_by_head(&hidden, input).unwrap(), &mut Pass::inference()).unwrap()
}

/// The positions at which logits are compared: all real ones; every row of a classifier.
pub fn rows(model: &Transformer, golden: &Tensors) -> Vec<u8> {
    match model.config().head {
        Head::Classify { .. } => vec![1; golden["input_ids"].dims()[0]],
        _ => real(golden),
    }
}

/// The targets of our loss: a causal model's labels shifted by one, which transformers does internally.
pub fn targets(model: &Transformer, golden: &Tensors) -> Vec<i64> {
    let labels = &golden["labels"];
    if model.config().head != Head::NextToken {
        return labels.flatten_all().unwrap().to_vec1().unwrap();
    }
    let rows: Vec<Vec<i64>> = labels.to_vec2().unwrap();
    rows.into_iter().flat_map(|row| row.into_iter().skip(1).chain([-100])).collect()
}

/// The mean loss of a golden batch.
pub fn loss(model: &Transformer, golden: &Tensors) -> Tensor {
    let pass = &mut Pass::inference();
    let input = input(golden, false);
    let hidden = model.forward(&input, pass).unwrap();
    let hidden = model.read_by_head(&hidden, &input).unwrap();
    let options = CrossEntropyOptions::default();
    model.loss(&hidden, &targets(model, golden), &options, pass).unwrap().mean().unwrap()
}
