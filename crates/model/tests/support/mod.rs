//! Small models of every kind, and comparisons of their outputs.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "helpers of several test files"
)]

use candle_core::{DType, Device, Tensor};
use vulpes_model::config::{
    BlockKind, Family, FeedForwardKind, LayerOverride, NormKind, Pooling, Positions, QkNorm,
};
use vulpes_model::{Head, Input, ModelConfig, ModelSection, Pass, Transformer};

/// A small version of the model in `configs/fox.toml`.
pub fn fox() -> ModelConfig {
    let section = ModelSection { family: Some(Family::Fox), d_model: Some(6), ..ModelSection::default() };
    section.resolve(11, Head::NextToken)
}

/// A small version of the model in `configs/fox-multihead.toml`.
pub fn multihead() -> ModelConfig {
    small(Family::Gpt2).resolve(11, Head::NextToken)
}

/// A small version of the model in `configs/fox-bert.toml`: the same blocks under a full mask.
pub fn bert() -> ModelConfig {
    small(Family::Bert).resolve(11, Head::MaskedToken)
}

/// A small Llama with two query heads per key/value head.
pub fn llama() -> ModelConfig {
    ModelSection { n_kv_head: Some(1), ..small(Family::Llama) }.resolve(11, Head::NextToken)
}

/// An encoder without a head.
pub fn small_encoder() -> ModelConfig {
    small(Family::Bert).resolve(11, Head::Hidden { pooler: false })
}

/// A classifier of three labels.
pub fn classifier() -> ModelConfig {
    small(Family::Bert).resolve(11, Head::Classify { n_labels: 3 })
}

/// A pre-norm model with squared ReLU and a window of two tokens.
pub fn windowed() -> ModelConfig {
    let section = ModelSection { window: Some(2), ..small(Family::Llama) };
    let kind = Some(FeedForwardKind::Relu2);
    ModelSection { feed_forward: kind, positions: Some(Positions::None), ..section }
        .resolve(11, Head::NextToken)
}

/// A Llama whose layers differ: a window of two tokens with its own rotary base, then all tokens without positions.
pub fn mixed() -> ModelConfig {
    let layers = vec![
        LayerOverride { window: Some(2), rope_theta: Some(100.0), ..LayerOverride::default() },
        LayerOverride { positions: Some(Positions::None), ..LayerOverride::default() },
    ];
    ModelSection { layers: Some(layers), ..small(Family::Llama) }.resolve(11, Head::NextToken)
}

/// A small model of each other family, and of each of its heads.
pub fn families() -> Vec<ModelConfig> {
    let labels = Head::Classify { n_labels: 3 };
    let near = LayerOverride { window: Some(2), rope_theta: Some(100.0), ..LayerOverride::default() };
    let two_kinds = Some(vec![near, LayerOverride::default()]);
    let granite = ModelSection {
        residual_multiplier: Some(0.4),
        embedding_scale: Some(3.0),
        logit_divisor: Some(1.7),
        attention_scale: Some(0.3),
        ..small(Family::Granite)
    };
    let gemma = ModelSection { layers: two_kinds.clone(), n_kv_head: Some(1), ..small(Family::Gemma3) };
    let bag = LayerOverride { positions: Some(Positions::None), ..LayerOverride::default() };
    let smollm = ModelSection { layers: Some(vec![bag, LayerOverride::default()]), ..small(Family::Smollm3) };
    let modern = ModelSection { layers: two_kinds, ..small(Family::Modernbert) };
    let mean = ModelSection { pooling: Some(Pooling::Mean), ..modern.clone() };
    [
        (ModelSection { n_kv_head: Some(1), ..small(Family::Qwen2) }, Head::NextToken),
        (small(Family::Qwen2), labels),
        (ModelSection { n_kv_head: Some(1), d_head: Some(6), ..small(Family::Qwen3) }, Head::NextToken),
        (small(Family::Olmo2), Head::NextToken),
        (smollm, Head::NextToken),
        (granite, Head::NextToken),
        (ModelSection { rotary_fraction: Some(0.5), ..small(Family::GptNeox) }, Head::NextToken),
        (ModelSection { qk_norm: Some(QkNorm::Head), ..small(Family::Phi) }, Head::NextToken),
        (ModelSection { logit_softcap: Some(2.0), ..gemma.clone() }, Head::NextToken),
        (gemma, labels),
        (small(Family::Roberta), Head::MaskedToken),
        (small(Family::Roberta), labels),
        (small(Family::Distilbert), labels),
        (small(Family::Mpnet), Head::MaskedToken),
        (modern.clone(), Head::MaskedToken),
        (modern, labels),
        (mean, labels),
    ]
    .into_iter()
    .map(|(section, head)| section.resolve(11, head))
    .collect()
}

/// Combinations of switches that no family has.
pub fn mixtures() -> Vec<ModelConfig> {
    let of = |section: ModelSection, head| section.resolve(11, head);
    vec![
        of(
            ModelSection {
                block: Some(BlockKind::Sandwich),
                norm: Some(NormKind::Layer),
                qk_norm: Some(QkNorm::Whole),
                residual_multiplier: Some(0.5),
                relative_bias: Some(32),
                feed_forward: Some(FeedForwardKind::Reglu),
                ..small(Family::Gpt2)
            },
            Head::NextToken,
        ),
        of(
            ModelSection {
                block: Some(BlockKind::Reordered),
                norm: Some(NormKind::RmsPlusOne),
                embedding_norm: Some(true),
                embedding_scale: Some(2.0),
                rotary_fraction: Some(0.5),
                positions: Some(Positions::Rotary),
                feed_forward: Some(FeedForwardKind::Silu),
                dropout: Some(0.2),
                ..small(Family::Bert)
            },
            Head::MaskedToken,
        ),
        of(
            ModelSection {
                block: Some(BlockKind::Parallel),
                skip_first_norm: Some(true),
                positions: Some(Positions::Counted),
                pad_id: Some(2),
                dropout: Some(0.2),
                head_bias: Some(true),
                ..small(Family::Llama)
            },
            Head::NextToken,
        ),
        modern(),
    ]
}

/// The switches of recent small decoders together.
pub fn modern() -> ModelConfig {
    let section = ModelSection {
        norm: Some(NormKind::RmsBare),
        embedding_norm: Some(true),
        qk_norm: Some(QkNorm::Head),
        feed_forward: Some(FeedForwardKind::Relu2),
        tied_head: Some(false),
        embedding_init: Some(2.0),
        head_init: Some(0.5),
        branch_init: Some(0.0),
        logit_softcap: Some(3.0),
        value_embeddings: Some(2),
        bigrams: Some(true),
        n_kv_head: Some(1),
        ..small(Family::Llama)
    };
    section.resolve(11, Head::NextToken)
}

fn small(family: Family) -> ModelSection {
    ModelSection {
        family: Some(family),
        n_layer: Some(2),
        n_head: Some(2),
        d_model: Some(8),
        d_ff: Some(12),
        context_len: Some(8),
        ..ModelSection::default()
    }
}

/// The device of the tests: the CPU, or that of `VULPES_DEVICE`.
pub fn device() -> Device {
    let name = std::env::var("VULPES_DEVICE").unwrap_or_else(|_| "cpu".to_string());
    vulpes_model::device::parse(Some(&name)).unwrap_or_else(|error| panic!("VULPES_DEVICE: {error}"))
}

/// A model whose parameters are all drawn at random, including biases and norms, so that nothing is initially zero.
pub fn shaken(config: &ModelConfig) -> Transformer {
    shaken_on(config, DType::F64, &device())
}

/// The same values in another dtype or on another device.
pub fn shaken_on(config: &ModelConfig, dtype: DType, device: &Device) -> Transformer {
    let model = Transformer::init(config, 7, dtype, device).unwrap();
    for (name, var) in model.parameters().iter() {
        let mut stream = vulpes_random::Key::new(1, "shake").with(name).stream();
        let values: Vec<f64> = (0..var.elem_count()).map(|_| 0.3 * stream.normal()).collect();
        let noise = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
        let noise = noise.to_dtype(dtype).unwrap().to_device(device).unwrap();
        let norm_weight = name.contains("norm") && name.ends_with("weight");
        var.set(&if norm_weight { (noise + 1.0).unwrap() } else { noise }).unwrap();
    }
    model
}

/// An input of `rows` rows.
pub fn input(ids: &[u32], rows: usize) -> Input {
    Input::new(ids, rows, &device()).unwrap()
}

/// The logits of an input.
pub fn logits(model: &Transformer, input: &Input) -> Tensor {
    let hidden = model.forward(input, &mut Pass::inference()).unwrap();
    model.logits(&hidden, &mut Pass::inference()).unwrap()
}

/// All values of a tensor, in order.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The values of rows `tokens` of one row of `[b, t, v]`.
pub fn at(logits: &Tensor, row: usize, tokens: std::ops::Range<usize>) -> Vec<f64> {
    let row = logits.narrow(0, row, 1).unwrap();
    values(&row.narrow(1, tokens.start, tokens.len()).unwrap())
}

/// Panics with the largest difference if two lists differ by more than `tolerance`.
#[track_caller]
pub fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "largest difference {worst:e} > {tolerance:e}");
}
