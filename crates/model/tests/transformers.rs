//! The way to transformers and back: every family and head, trained a few steps from scratch, is loaded by the real
//! thing, which must find every tensor, none too many, and compute the same.
//!
//! Runs where `VULPES_PYTHON` names a Python that has torch and transformers (4 or 5).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use candle_core::{DType, Device, Var};
use serde_json::{Value, json};
use vulpes_model::config::{
    ActivationKind, BlockKind, Family, FeedForwardKind, LayerOverride, NormKind, Pooling, Positions, QkNorm,
    RopeScaling, ScalingKind,
};
use vulpes_model::{Head, Input, ModelConfig, ModelSection, Run, Transformer, folder};
use vulpes_ops::{AdamwStep, CrossEntropyOptions, Gradients, adamw, backward};

const ROWS: usize = 3;
const LEN: usize = 11;
const VOCABULARY: usize = 43;

fn section(family: Family) -> ModelSection {
    ModelSection {
        family: Some(family),
        n_layer: Some(2),
        n_head: Some(3),
        d_model: Some(36),
        context_len: Some(16),
        init_std: Some(0.2),
        ..ModelSection::default()
    }
}

/// What is tried: the auto class, the class that transformers is to choose, the model.
fn models() -> Vec<(&'static str, &'static str, ModelConfig)> {
    let gpt2 = section(Family::Gpt2);
    let bert = section(Family::Bert);
    let llama = section(Family::Llama);
    let scaling =
        RopeScaling {
            kind: ScalingKind::Llama3,
            factor: 4.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context_len: 8,
        };
    let (causal, masked) = (Head::NextToken, Head::MaskedToken);
    let classes = Head::Classify { n_labels: 5 };
    let of = |section: &ModelSection, head| section.resolve(VOCABULARY, head);
    vec![
        ("AutoModelForCausalLM", "GPT2LMHeadModel", of(&gpt2, causal)),
        // Without a head of its own; a tied one could always be used, and is read as such.
        (
            "AutoModel",
            "GPT2Model",
            of(&ModelSection { tied_head: Some(false), ..gpt2.clone() }, Head::Hidden { pooler: false }),
        ),
        (
            "AutoModelForCausalLM",
            "GPT2LMHeadModel",
            of(
                &ModelSection {
                    feed_forward: Some(FeedForwardKind::Relu2),
                    tied_head: Some(false),
                    d_ff: Some(50),
                    ..gpt2.clone()
                },
                causal,
            ),
        ),
        ("AutoModelForCausalLM", "LlamaForCausalLM", of(&llama, causal)),
        ("AutoModel", "LlamaModel", of(&llama, Head::Hidden { pooler: false })),
        (
            "AutoModelForCausalLM",
            "LlamaForCausalLM",
            of(
                &ModelSection {
                    n_kv_head: Some(1),
                    d_head: Some(10),
                    tied_head: Some(true),
                    attention_bias: Some(true),
                    feed_forward_bias: Some(true),
                    rope_theta: Some(300.0),
                    rope_scaling: Some(scaling),
                    norm_eps: Some(1e-3),
                    ..llama.clone()
                },
                causal,
            ),
        ),
        ("AutoModelForMaskedLM", "BertForMaskedLM", of(&bert, masked)),
        (
            "AutoModelForMaskedLM",
            "BertForMaskedLM",
            of(
                &ModelSection {
                    feed_forward: Some(FeedForwardKind::GeluTanh),
                    tied_head: Some(false),
                    n_token_type: Some(3),
                    ..bert.clone()
                },
                masked,
            ),
        ),
        ("AutoModelForSequenceClassification", "BertForSequenceClassification", of(&bert, classes)),
        ("AutoModel", "BertModel", of(&bert, Head::Hidden { pooler: true })),
    ]
    .into_iter()
    .chain(decoders())
    .chain(encoders())
    .collect()
}

type Tried = (&'static str, &'static str, ModelConfig);

/// The decoders with each switch that their layout has otherwise than usual.
fn decoders() -> Vec<Tried> {
    let (causal, labels) = (Head::NextToken, Head::Classify { n_labels: 5 });
    let windowed = |window| LayerOverride { window: Some(window), ..LayerOverride::default() };
    let local = LayerOverride { rope_theta: Some(50.0), rope_scaled: Some(false), ..windowed(4) };
    let bag = LayerOverride { positions: Some(Positions::None), ..LayerOverride::default() };
    let stretched = Some(RopeScaling::linear(2.5));
    let of = |section: ModelSection, head| {
        // Classifiers find the last token by the padding's id.
        let pad_id = matches!(head, Head::Classify { .. }).then_some(0);
        ModelSection { pad_id, ..section }.resolve(VOCABULARY, head)
    };
    let lm = "AutoModelForCausalLM";
    let cls = "AutoModelForSequenceClassification";
    let gemma = ModelSection {
        n_layer: Some(3),
        n_kv_head: Some(1),
        d_head: Some(10),
        layers: Some(vec![local, LayerOverride::default()]),
        attention_scale: Some(1.0 / 5f64.sqrt()),
        logit_softcap: Some(3.0),
        rope_scaling: stretched,
        ..section(Family::Gemma3)
    };
    let neox = ModelSection { rotary_fraction: Some(0.4), ..section(Family::GptNeox) };
    vec![
        (cls, "LlamaForSequenceClassification", of(section(Family::Llama), labels)),
        (cls, "GPT2ForSequenceClassification", of(section(Family::Gpt2), labels)),
        (lm, "Qwen2ForCausalLM", of(section(Family::Qwen2), causal)),
        (
            lm,
            "Qwen2ForCausalLM",
            of(
                ModelSection {
                    n_kv_head: Some(1),
                    d_head: Some(10),
                    tied_head: Some(false),
                    layers: Some(vec![windowed(3), LayerOverride::default()]),
                    feed_forward: Some(FeedForwardKind::GegluTanh),
                    rope_scaling: stretched,
                    ..section(Family::Qwen2)
                },
                causal,
            ),
        ),
        (cls, "Qwen2ForSequenceClassification", of(section(Family::Qwen2), labels)),
        (
            lm,
            "Qwen3ForCausalLM",
            of(
                ModelSection {
                    d_model: Some(40),
                    d_head: Some(14),
                    attention_bias: Some(true),
                    window: Some(4),
                    ..section(Family::Qwen3)
                },
                causal,
            ),
        ),
        ("AutoModel", "Qwen3Model", {
            let untied = ModelSection { tied_head: Some(false), ..section(Family::Qwen3) };
            of(untied, Head::Hidden { pooler: false })
        }),
        (
            lm,
            "Olmo2ForCausalLM",
            of(
                ModelSection {
                    n_kv_head: Some(1),
                    attention_bias: Some(true),
                    tied_head: Some(true),
                    ..section(Family::Olmo2)
                },
                causal,
            ),
        ),
        (
            lm,
            "SmolLM3ForCausalLM",
            of(
                ModelSection {
                    n_layer: Some(3),
                    layers: Some(vec![bag, windowed(5), LayerOverride { window: Some(5), ..bag }]),
                    feed_forward_bias: Some(true),
                    ..section(Family::Smollm3)
                },
                causal,
            ),
        ),
        (
            lm,
            "GraniteForCausalLM",
            of(
                ModelSection {
                    residual_multiplier: Some(0.4),
                    embedding_scale: Some(3.0),
                    logit_divisor: Some(1.7),
                    attention_scale: Some(0.3),
                    feed_forward_bias: Some(true),
                    ..section(Family::Granite)
                },
                causal,
            ),
        ),
        (lm, "GPTNeoXForCausalLM", of(neox.clone(), causal)),
        (
            lm,
            "GPTNeoXForCausalLM",
            of(
                ModelSection {
                    block: Some(BlockKind::Pre),
                    attention_bias: Some(false),
                    tied_head: Some(true),
                    rotary_fraction: Some(1.0),
                    feed_forward: Some(FeedForwardKind::Relu),
                    ..neox.clone()
                },
                causal,
            ),
        ),
        (cls, "GPTNeoXForSequenceClassification", of(neox, labels)),
        (lm, "PhiForCausalLM", of(section(Family::Phi), causal)),
        (
            lm,
            "PhiForCausalLM",
            of(ModelSection { qk_norm: Some(QkNorm::Head), n_kv_head: Some(1), ..section(Family::Phi) }, causal),
        ),
        (lm, "Gemma3ForCausalLM", of(gemma.clone(), causal)),
        (lm, "Gemma3ForCausalLM", of(section(Family::Gemma3), causal)),
        (cls, "Gemma3TextForSequenceClassification", of(gemma, labels)),
    ]
}

/// The encoders likewise.
fn encoders() -> Vec<Tried> {
    let (masked, labels) = (Head::MaskedToken, Head::Classify { n_labels: 5 });
    let of = |section: ModelSection, head| section.resolve(VOCABULARY, head);
    let mlm = "AutoModelForMaskedLM";
    let cls = "AutoModelForSequenceClassification";
    let roberta = ModelSection { pad_id: Some(0), n_token_type: Some(2), ..section(Family::Roberta) };
    let xlm = ModelSection { pad_id: Some(0), tied_head: Some(false), ..section(Family::XlmRoberta) };
    let local = LayerOverride { window: Some(3), rope_theta: Some(50.0), ..LayerOverride::default() };
    let modern = ModelSection {
        n_layer: Some(3),
        layers: Some(vec![local, LayerOverride::default()]),
        norm: Some(NormKind::Layer),
        attention_bias: Some(true),
        feed_forward_bias: Some(true),
        head_dense_bias: Some(true),
        head_activation: Some(ActivationKind::Relu),
        feed_forward: Some(FeedForwardKind::Swiglu),
        ..section(Family::Modernbert)
    };
    let mean = ModelSection { pooling: Some(Pooling::Mean), ..section(Family::Modernbert) };
    let unbiased = ModelSection { head_bias: Some(false), ..section(Family::Modernbert) };
    vec![
        (mlm, "RobertaForMaskedLM", of(roberta.clone(), masked)),
        (cls, "RobertaForSequenceClassification", of(roberta.clone(), labels)),
        ("AutoModel", "RobertaModel", of(roberta, Head::Hidden { pooler: true })),
        (mlm, "XLMRobertaForMaskedLM", of(xlm, masked)),
        (mlm, "DistilBertForMaskedLM", of(section(Family::Distilbert), masked)),
        (
            cls,
            "DistilBertForSequenceClassification",
            of(
                ModelSection { feed_forward: Some(FeedForwardKind::Relu), ..section(Family::Distilbert) },
                labels,
            ),
        ),
        ("AutoModel", "DistilBertModel", of(section(Family::Distilbert), Head::Hidden { pooler: false })),
        (mlm, "MPNetForMaskedLM", of(ModelSection { relative_bias: Some(35), ..section(Family::Mpnet) }, masked)),
        (cls, "MPNetForSequenceClassification", of(section(Family::Mpnet), labels)),
        ("AutoModel", "MPNetModel", of(section(Family::Mpnet), Head::Hidden { pooler: true })),
        (mlm, "ModernBertForMaskedLM", of(modern.clone(), masked)),
        (mlm, "ModernBertForMaskedLM", of(unbiased, masked)),
        (cls, "ModernBertForSequenceClassification", of(modern, labels)),
        (cls, "ModernBertForSequenceClassification", of(mean, labels)),
        ("AutoModel", "ModernBertModel", of(section(Family::Modernbert), Head::Hidden { pooler: false })),
    ]
}

/// Three rows, the second of 5 tokens and the third of 1, filled up on the right.
fn rows() -> (Vec<u32>, Vec<u8>, Vec<u32>) {
    let keep: Vec<u8> = [LEN, 5, 1].iter().flat_map(|n| (0..LEN).map(move |i| u8::from(i < *n))).collect();
    let ids =
        keep.iter().enumerate().map(|(i, real)| (i * i * 7 + 3) as u32 % 43 * u32::from(*real)).collect();
    let types = keep.iter().enumerate().map(|(i, real)| (i % LEN / 6) as u32 * u32::from(*real)).collect();
    (ids, keep, types)
}

fn input(config: &ModelConfig) -> Input {
    let (ids, keep, types) = rows();
    let input = Input::new(&ids, ROWS, &Device::Cpu).unwrap().with_keep(keep.into());
    if config.n_token_type > 1 { input.with_token_types(&types).unwrap() } else { input }
}

/// Three steps of AdamW on the rows.
fn trained(config: &ModelConfig) -> Transformer {
    let model = Transformer::init(config, 5, DType::F32, &Device::Cpu).unwrap();
    if matches!(config.head, Head::Hidden { .. }) {
        return model;
    }
    let parameters: Vec<(String, Var)> =
        model.parameters().iter().map(|(name, var)| (name.to_string(), var.clone())).collect();
    let zeros = |var: &Var| Var::from_tensor(&var.zeros_like().unwrap()).unwrap();
    let moments: Vec<(Var, Var)> = parameters.iter().map(|(_, var)| (zeros(var), zeros(var))).collect();
    let targets: Vec<i64> = match config.head {
        Head::Classify { .. } => vec![4, 0, 2],
        _ => (0..ROWS * LEN).map(|i| if i % 3 == 0 { (i % VOCABULARY) as i64 } else { -100 }).collect(),
    };
    for step in 1..=3 {
        let run = &mut Run::inference();
        let input = input(config);
        let hidden = model.forward(&input, run).unwrap();
        let hidden = model.read_by_head(&hidden, &input).unwrap();
        let loss = model.loss(&hidden, &targets, &CrossEntropyOptions::default(), run).unwrap();
        let mut gradients = Gradients::new(&parameters).unwrap();
        backward(&loss.mean().unwrap(), &mut gradients).unwrap();
        let update = AdamwStep {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            grad_scale: 1.0,
        };
        for ((name, var), (m, v)) in parameters.iter().zip(&moments) {
            adamw(var, m, v, gradients.get(name).unwrap(), &update).unwrap();
        }
    }
    model
}

fn asked(python: &std::ffi::OsStr, tasks: &Value) -> Vec<Value> {
    let mut child = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/loads.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(tasks.to_string().as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

mod needs_transformers {
    use super::*;

    #[test]
    #[ignore = "needs VULPES_PYTHON with torch and transformers"]
    fn transformers_loads_every_family_and_computes_the_same() {
        let python = std::env::var_os("VULPES_PYTHON")
            .expect("VULPES_PYTHON names a Python with torch and transformers");
        let out = tempfile::tempdir().unwrap();
        let (ids, keep, types) = rows();
        let table = |flat: &[u32]| -> Value { flat.chunks(LEN).map(|row| json!(row)).collect() };
        let real: Vec<u32> = keep.iter().map(|real| u32::from(*real)).collect();
        let mut tasks = Vec::new();
        let mut trained_models = Vec::new();
        for (number, (auto_class, class, config)) in models().into_iter().enumerate() {
            let model = trained(&config);
            let folder = out.path().join(number.to_string());
            folder::save(&folder, &model, &folder::Extra::default()).unwrap();
            let mut inputs = json!({"input_ids": table(&ids), "attention_mask": table(&real)});
            if config.n_token_type > 1 {
                inputs["token_type_ids"] = table(&types);
            }
            tasks.push(json!({"folder": folder, "auto_class": auto_class, "inputs": inputs}));
            trained_models.push((folder, class, config, model));
        }
        let answers = asked(&python, &Value::from(tasks));
        assert_eq!(answers.len(), trained_models.len());
        for (answer, (folder, class, config, model)) in answers.iter().zip(&trained_models) {
            let what = format!("{class} in transformers {}", answer["version"]);
            assert_eq!(answer["class"], *class, "{what}");
            for (key, names) in answer["report"].as_object().unwrap() {
                assert_eq!(names, &json!([]), "{what}: {key}");
            }
            if config.tied_head || !matches!(config.head, Head::MaskedToken) {
                // An untied decoder brings a second bias, which nothing reads.
                assert_eq!(answer["n_parameters"], model.parameters().numel(), "{what}");
            }
            let run = &mut Run::inference();
            let input = input(config);
            let hidden = model.forward(&input, run).unwrap();
            let hidden = model.read_by_head(&hidden, &input).unwrap();
            let logits = model.logits(&hidden, run).unwrap();
            assert_eq!(answer["shape"], json!(logits.dims()), "{what}");
            let a_row_each = matches!(config.head, Head::Classify { .. });
            let width = logits.elem_count() / keep.len();
            let ours: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
            for (at, theirs) in answer["logits"].as_array().unwrap().iter().enumerate() {
                let off = (f64::from(ours[at]) - theirs.as_f64().unwrap()).abs();
                let counts = a_row_each || keep[at / width] == 1;
                assert!(!counts || off < 1e-4, "{what}: logit {at} differs by {off}");
            }
            // And back: what was written is what is read.
            assert_eq!(folder::load(folder).unwrap().config, *config, "{what}");
        }
    }
}
