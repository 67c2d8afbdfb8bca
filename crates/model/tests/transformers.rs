//! Round trip through transformers: every family and head, trained a few steps, loads without a missing or unexpected
//! tensor and computes the same.
//!
//! Runs if `VULPES_PYTHON` names a Python with torch and transformers (4 or 5).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod tried;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use candle_core::{DType, Device, Var};
use serde_json::{Value, json};
use tried::{VOCABULARY, models};
use vulpes_model::{Head, Input, ModelConfig, Pass, Transformer, folder};
use vulpes_ops::{AdamwStep, CrossEntropyOptions, Gradients, adamw, backward};

const ROWS: usize = 3;
const LEN: usize = 11;

/// Three rows, the second of 5 tokens and the third of 1, padded on the right.
fn rows() -> (Vec<u32>, Vec<u8>, Vec<u32>) {
    let padding_mask: Vec<u8> =
        [LEN, 5, 1].iter().flat_map(|n| (0..LEN).map(move |i| u8::from(i < *n))).collect();
    let ids = padding_mask
        .iter()
        .enumerate()
        .map(|(i, real)| (i * i * 7 + 3) as u32 % 43 * u32::from(*real))
        .collect();
    let types =
        padding_mask.iter().enumerate().map(|(i, real)| (i % LEN / 6) as u32 * u32::from(*real)).collect();
    (ids, padding_mask, types)
}

fn input(config: &ModelConfig) -> Input {
    let (ids, padding_mask, types) = rows();
    let input = Input::new(&ids, ROWS, &Device::Cpu).unwrap().with_padding_mask(padding_mask.into());
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
        let pass = &mut Pass::inference();
        let input = input(config);
        let hidden = model.forward(&input, pass).unwrap();
        let hidden = model.read_by_head(&hidden, &input).unwrap();
        let loss = model.loss(&hidden, &targets, &CrossEntropyOptions::default(), pass).unwrap();
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
        let (ids, padding_mask, types) = rows();
        let table = |flat: &[u32]| -> Value { flat.chunks(LEN).map(|row| json!(row)).collect() };
        let real: Vec<u32> = padding_mask.iter().map(|real| u32::from(*real)).collect();
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
                // An untied decoder has a second bias, which nothing reads.
                assert_eq!(answer["n_parameters"], model.parameters().numel(), "{what}");
            }
            let pass = &mut Pass::inference();
            let input = input(config);
            let hidden = model.forward(&input, pass).unwrap();
            let hidden = model.read_by_head(&hidden, &input).unwrap();
            let logits = model.logits(&hidden, pass).unwrap();
            assert_eq!(answer["shape"], json!(logits.dims()), "{what}");
            let a_row_each = matches!(config.head, Head::Classify { .. });
            let width = logits.elem_count() / padding_mask.len();
            let ours: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
            for (at, theirs) in answer["logits"].as_array().unwrap().iter().enumerate() {
                let off = (f64::from(ours[at]) - theirs.as_f64().unwrap()).abs();
                let counts = a_row_each || padding_mask[at / width] == 1;
                assert!(!counts || off < 1e-4, "{what}: logit {at} differs by {off}");
            }
            // And back: what was written is what is read.
            assert_eq!(folder::load(folder).unwrap().config, *config, "{what}");
        }
    }
}
