//! Text embeddings: torch's results of each pooling, gradients, and folders of sentence-transformers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
mod support;

use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use serde_json::{Value, json};
use support::{input, shaken, small_encoder, values};
use vulpes_model::{Embedder, Input, Pass, TextPooling, contrastive, folder, normalized};
use vulpes_ops::{CrossEntropyOptions, Gradients, backward};

/// The rows of a golden, padded on the right.
fn golden_input(golden: &Value) -> Input {
    let rows: Vec<Vec<u32>> = serde_json::from_value(golden["ids"].clone()).unwrap();
    let ids: Vec<u32> = rows.concat();
    let padding_mask: Vec<u8> = ids.iter().map(|id| u8::from(*id != 0)).collect();
    Input::new(&ids, rows.len(), &Device::Cpu).unwrap().with_padding_mask(padding_mask.into())
}

/// Values between −1 and 1, distinct within a row.
fn numbers(seed: usize, shape: &[usize]) -> Tensor {
    let n = shape.iter().product();
    let all: Vec<f64> = (0..n).map(|i| ((i * 37 + seed * 53 + 11) % 211) as f64 / 105.0 - 1.0).collect();
    Tensor::from_vec(all, shape, &Device::Cpu).unwrap()
}

fn off(ours: &Tensor, theirs: &Value) -> f64 {
    let theirs: Vec<Vec<f64>> = serde_json::from_value(theirs.clone()).unwrap();
    let ours: Vec<Vec<f64>> = ours.to_dtype(DType::F64).unwrap().to_vec2().unwrap();
    assert_eq!(ours.len(), theirs.len());
    ours.iter().flatten().zip(theirs.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn every_pooling_matches_torch() {
    let dir = common::fixtures().join("sentences/bert");
    let golden = common::json(&dir.join("golden.json"));
    let loaded = folder::load(&dir).unwrap();
    let sentence = loaded.extra.sentence.unwrap();
    assert_eq!(sentence.embedder, Embedder { pooling: TextPooling::Mean, normalize: true });
    assert_eq!(sentence.max_len, Some(12));
    let input = golden_input(&golden);
    let hidden = loaded.transformer.forward(&input, &mut Pass::inference()).unwrap();
    for pooling in TextPooling::ALL {
        for (normalize, kind) in [(false, "pooled"), (true, "normalized")] {
            let vectors = Embedder { pooling, normalize }.embed(&hidden, &input).unwrap();
            let off = off(&vectors, &golden[kind][pooling.word()]);
            assert!(off < 1e-5, "{pooling:?}, {kind}: off by {off}");
        }
    }
}

/// Ids with padding on either side, and without.
#[test]
fn padding_on_either_side_does_not_change_a_vector() {
    let hidden = numbers(1, &[1, 3, 4]);
    let zero = Tensor::full(9.0, (1, 2, 4), &Device::Cpu).unwrap();
    let at = |parts: &[&Tensor], padding_mask: &[u8]| {
        let hidden = Tensor::cat(parts, 1).unwrap();
        let ids = vec![1; padding_mask.len()];
        (hidden, Input::new(&ids, 1, &Device::Cpu).unwrap().with_padding_mask(padding_mask.to_vec().into()))
    };
    for pooling in TextPooling::ALL {
        let embedder = Embedder { pooling, normalize: false };
        let vector = |(hidden, input): (Tensor, Input)| values(&embedder.embed(&hidden, &input).unwrap());
        let alone = vector((hidden.clone(), Input::new(&[1; 3], 1, &Device::Cpu).unwrap()));
        for padded in [at(&[&hidden, &zero], &[1, 1, 1, 0, 0]), at(&[&zero, &hidden], &[0, 0, 1, 1, 1])] {
            let off = vector(padded).iter().zip(&alone).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off < 1e-12, "{pooling:?}: {off}");
        }
    }
}

/// Central differences of the pairs' loss in every element of the vectors, and through each pooling in the hidden
/// states.
#[test]
fn gradients_of_poolings_and_pairs_match_central_differences() {
    let options = CrossEntropyOptions { label_smoothing: 0.1, ..CrossEntropyOptions::default() };
    let ids: Vec<u32> = (0..24).map(|i| i % 7).collect();
    let padding_mask: Vec<u8> = (0..24).map(|i| u8::from(i % 4 != 3 || i < 12)).collect();
    let read = Input::new(&ids, 6, &Device::Cpu).unwrap().with_padding_mask(padding_mask.into());
    let start = numbers(2, &[6, 4, 5]);
    for pooling in TextPooling::ALL {
        let loss = |hidden: &Tensor| {
            let vectors =
                Embedder { pooling, normalize: pooling == TextPooling::Mean }.embed(hidden, &read).unwrap();
            let (a, b) = (vectors.narrow(0, 0, 3).unwrap(), vectors.narrow(0, 3, 3).unwrap());
            contrastive(&a, &b, 0, 5.0, &options).unwrap().mean().unwrap()
        };
        let var = Var::from_tensor(&start).unwrap();
        let mut gradients = Gradients::new(&[("hidden".to_owned(), var.clone())]).unwrap();
        backward(&loss(&var), &mut gradients).unwrap();
        let gradient = values(gradients.get("hidden").unwrap());
        for i in 0..start.elem_count() {
            let moved = |by: f64| {
                let mut all = values(&start);
                all[i] += by;
                loss(&Tensor::from_vec(all, start.shape(), &Device::Cpu).unwrap()).to_scalar::<f64>().unwrap()
            };
            let numeric = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((numeric - gradient[i]).abs() < 1e-7, "{pooling:?}, {i}: {numeric} and {}", gradient[i]);
        }
    }
}

#[test]
fn parts_of_the_pairs_sum_to_the_loss() {
    let (a, b) = (numbers(3, &[5, 3]), numbers(4, &[5, 3]));
    let sum = |start: usize, n: usize| {
        let part = a.narrow(0, start, n).unwrap();
        let loss = contrastive(&part, &b, start, 20.0, &CrossEntropyOptions::default()).unwrap();
        loss.sum.to_scalar::<f64>().unwrap()
    };
    assert!((sum(0, 2) + sum(2, 3) - sum(0, 5)).abs() < 1e-9);
    // By hand: the first of two pairs whose vectors are axes, so the cosines are 1 and 0.
    let axes = Tensor::new(&[[2f64, 0.0], [0.0, 3.0]], &Device::Cpu).unwrap();
    let loss = contrastive(&axes, &axes, 0, 1.0, &CrossEntropyOptions::default()).unwrap();
    let by_hand = -2.0 * (1f64.exp() / (1f64.exp() + 1.0)).ln();
    assert!((loss.sum.to_scalar::<f64>().unwrap() - by_hand).abs() < 1e-12);
}

#[test]
fn written_files_are_read_back() {
    let model = shaken(&small_encoder());
    for pooling in TextPooling::ALL {
        for normalize in [false, true] {
            let out = tempfile::tempdir().unwrap();
            let settings = json!({ "prompts": {"query": "search: "}, "default_prompt_name": null });
            let sentence = folder::Sentence {
                embedder: Embedder { pooling, normalize },
                max_len: Some(7),
                settings: settings.as_object().unwrap().clone(),
            };
            let extra = folder::Extra { sentence: Some(sentence), ..folder::Extra::default() };
            folder::save(out.path(), &model, &extra).unwrap();
            assert_eq!(folder::describe(out.path()).unwrap().extra.sentence, extra.sentence);
        }
    }
}

/// The error of reading the fixture's folder with one file overwritten.
fn refused(file: &str, text: &str) -> String {
    let dir = common::fixtures().join("sentences/bert");
    let out = tempfile::tempdir().unwrap();
    std::fs::create_dir(out.path().join("1_Pooling")).unwrap();
    for name in [
        "config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "1_Pooling/config.json",
    ] {
        std::fs::copy(dir.join(name), out.path().join(name)).unwrap();
    }
    let path: &Path = &out.path().join(file);
    if text.is_empty() {
        std::fs::remove_file(path).unwrap()
    } else {
        std::fs::write(path, text).unwrap()
    }
    let error = folder::load(out.path()).unwrap_err().to_string();
    assert!(error.contains(file), "{error}");
    error
}

#[test]
fn unimplemented_modules_and_settings_are_refused_by_name() {
    let modules = |kinds: &[&str]| {
        let module = |(idx, kind): (usize, &&str)| json!({ "idx": idx, "path": if idx == 0 { String::new() } else { format!("{idx}_{kind}") }, "type": format!("a.b.{kind}") });
        Value::from(kinds.iter().enumerate().map(module).collect::<Vec<_>>()).to_string()
    };
    let mode = |mode: Value| json!({ "pooling_mode": mode }).to_string();
    let cases = [
        ("modules.json", modules(&["Transformer", "Pooling", "Dense"]), "Dense"),
        ("modules.json", modules(&["Transformer"]), "Pooling"),
        ("modules.json", modules(&["WordEmbeddings", "Pooling"]), "WordEmbeddings"),
        ("modules.json", "{}".to_owned(), "list of modules"),
        ("modules.json", r#"[{"path": ""}]"#.to_owned(), "without a \"type\""),
        (
            "modules.json",
            r#"[{"path": "0_Transformer", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]"#
                .to_owned(),
            "0_Transformer",
        ),
        ("1_Pooling/config.json", mode(json!("median")), "\"median\""),
        ("1_Pooling/config.json", mode(json!(["cls", "mean"])), "cls, mean"),
        (
            "1_Pooling/config.json",
            r#"{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}"#.to_owned(),
            "cls, max",
        ),
        ("1_Pooling/config.json", "{}".to_owned(), "no pooling_mode"),
        ("1_Pooling/config.json", String::new(), "cannot be read"),
        ("sentence_bert_config.json", r#"{"do_lower_case": true}"#.to_owned(), "do_lower_case"),
        ("sentence_bert_config.json", r#"{"max_seq_length": "long"}"#.to_owned(), "max_seq_length"),
        (
            "config_sentence_transformers.json",
            r#"{"default_prompt_name": "query", "prompts": {"query": "query: "}}"#.to_owned(),
            "query: ",
        ),
    ];
    for (file, text, words) in cases {
        let error = refused(file, &text);
        assert!(error.contains(words), "{words:?} is not in {error}");
    }
}

#[test]
fn version_6_spellings_are_read() {
    let dir = common::fixtures().join("sentences/bert");
    let out = tempfile::tempdir().unwrap();
    for folder in ["1_Pooling", "2_Normalize"] {
        std::fs::create_dir(out.path().join(folder)).unwrap();
    }
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(dir.join(name), out.path().join(name)).unwrap();
    }
    let write = |name: &str, value: Value| std::fs::write(out.path().join(name), value.to_string()).unwrap();
    write(
        "modules.json",
        json!([
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.base.modules.normalize.Normalize"},
        ]),
    );
    write(
        "1_Pooling/config.json",
        json!({"embedding_dimension": 24, "pooling_mode": "lasttoken", "include_prompt": true}),
    );
    write(
        "2_Normalize/config.json",
        json!({"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}),
    );
    write(
        "sentence_bert_config.json",
        json!({"transformer_task": "feature-extraction", "module_output_name": "token_embeddings"}),
    );
    write("tokenizer_config.json", json!({"model_max_length": 20}));
    let sentence = folder::describe(out.path()).unwrap().extra.sentence.unwrap();
    assert_eq!(sentence.embedder, Embedder { pooling: TextPooling::Last, normalize: true });
    assert_eq!(sentence.max_len, Some(20));
}

#[test]
fn a_vector_does_not_depend_on_other_rows() {
    let model = shaken(&small_encoder());
    let vector = |ids: &[u32], rows: usize| {
        let input = input(ids, rows);
        let hidden = model.forward(&input, &mut Pass::inference()).unwrap();
        values(&normalized(&Embedder::default().embed(&hidden, &input).unwrap()).unwrap())
    };
    let (both, one) = (vector(&[1, 2, 3, 4, 5, 6], 2), vector(&[1, 2, 3], 1));
    assert!(both[..one.len()].iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-12));
}

mod needs_shared {
    use super::*;

    /// sentence-transformers' results for its own folder.
    #[test]
    #[ignore = "needs ../shared"]
    fn sentence_transformers_vectors_match() {
        let dir = common::shared("goldens/families/sentence-tiny");
        let golden = common::json(&dir.join("golden.json"));
        let loaded = folder::load(&dir).unwrap();
        let embedder = loaded.extra.sentence.unwrap().embedder;
        let rows: Vec<Vec<u32>> = serde_json::from_value(golden["token_ids"].clone()).unwrap();
        for (row, wanted) in rows.iter().zip(golden["embeddings"].as_array().unwrap()) {
            let input = Input::new(row, 1, &Device::Cpu).unwrap();
            let hidden = loaded.transformer.forward(&input, &mut Pass::inference()).unwrap();
            let off = off(&embedder.embed(&hidden, &input).unwrap(), &json!([wanted]));
            assert!(off < 1e-5, "{off}");
        }
    }
}
