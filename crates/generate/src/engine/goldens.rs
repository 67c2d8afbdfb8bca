//! Greedy texts of transformers: single, batched with different lengths, and left-padded.
//!
//! Each is compared through the decoder and through the padded batch. Fixtures are in `tests/fixtures`; larger
//! goldens are read from the folder that `VULPES_SHARED` names, else from `../shared` next to the repository.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde_json::Value;

use super::*;

/// A prompt, and transformers' continuation.
type Text = (Vec<u32>, Vec<u32>);

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let families = ["qwen2", "qwen3", "olmo2", "smollm3", "granite", "gpt_neox", "phi", "gemma3"];
    let families = families.map(|name| root.join("tests/fixtures/families").join(name));
    ["gpt2-one", "gpt2-relu2", "llama-plain", "llama-stretched"]
        .map(|name| root.join("tests/fixtures").join(name))
        .into_iter()
        .chain(families)
        .collect()
}

fn shared() -> Vec<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let folder = std::env::var_os("VULPES_SHARED").map_or_else(beside, PathBuf::from).join("goldens");
    let families = ["qwen2", "qwen3", "olmo2", "smollm3", "granite", "gpt_neox", "phi", "gemma3"];
    let families = families.map(|name| folder.join("families").join(format!("{name}-tiny")));
    ["gpt2-tiny", "llama-tiny"].map(|name| folder.join(name)).into_iter().chain(families).collect()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Each text, and again from its prompt and the first two new tokens, so that the rows of a batch differ in length.
fn greedy(folder: &Path) -> Vec<Text> {
    let golden: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let mut texts = Vec::new();
    for text in golden["greedy"].as_array().unwrap() {
        let (prompt, new) = (ids(&text["prompt"]), ids(&text["new_tokens"]));
        texts.push(([&prompt[..], &new[..2]].concat(), new[2..].to_vec()));
        texts.push((prompt, new));
    }
    texts
}

/// The batch that transformers padded on the left and continued.
fn left_padded(folder: &Path) -> Vec<Text> {
    let file =
        candle_core::safetensors::load(folder.join("golden_leftpad.safetensors"), &Device::Cpu).unwrap();
    let rows = |name: &str| -> Vec<Vec<i64>> { Tensor::to_vec2(&file[name]).unwrap() };
    let (read, mask, new) = (rows("gen_input_ids"), rows("gen_attention_mask"), rows("gen_new_tokens"));
    let real = |(row, mask): (&Vec<i64>, &Vec<i64>)| -> Vec<u32> {
        row.iter().zip(mask).filter(|(_, mask)| **mask == 1).map(|(id, _)| *id as u32).collect()
    };
    let prompts = read.iter().zip(&mask).map(real);
    prompts.zip(new.iter().map(|new| new.iter().map(|id| *id as u32).collect())).collect()
}

/// Continues all texts as one batch, and checks each token.
fn check(model: &Transformer, texts: &[Text], with_decoder: bool, what: &str) {
    let prompts: Vec<&[u32]> = texts.iter().map(|(prompt, _)| prompt.as_slice()).collect();
    let decoder = if with_decoder { Decoder::new(model, 2).unwrap() } else { None };
    let mut engine = Engine::with_decoder(model, &prompts, decoder).unwrap();
    let longest = texts.iter().map(|(_, new)| new.len()).max().unwrap_or(0);
    for step in 0..longest {
        let mut next = Vec::new();
        for (row, (_, new)) in texts.iter().enumerate() {
            let logits = engine.logits(row);
            let best = (0..logits.len()).reduce(|a, b| if logits[b] > logits[a] { b } else { a }).unwrap();
            next.push(new.get(step).map(|id| {
                assert_eq!(best as u32, *id, "{what}, row {row}, step {step}, decoder {with_decoder}");
                *id
            }));
        }
        engine.push(&next, None).unwrap();
    }
}

fn greedy_is_what_transformers_says(folders: Vec<PathBuf>) {
    for folder in folders {
        let what = folder.display().to_string();
        let loaded = vulpes_model::folder::load(&folder).unwrap_or_else(|error| panic!("{what}: {error}"));
        let model = loaded.transformer.without_gradients().unwrap();
        // transformers stops a text at its end token; these were continued past it, as here.
        let (texts, padded) = (greedy(&folder), left_padded(&folder));
        assert!(
            texts.len() > 1 && padded.len() > 1 && padded.iter().any(|(p, _)| p.len() < padded[0].0.len())
        );
        for with_decoder in [true, false] {
            check(&model, &texts, with_decoder, &what);
            check(&model, &padded, with_decoder, &format!("{what}, left-padded"));
            texts.iter().for_each(|text| check(&model, std::slice::from_ref(text), with_decoder, &what));
        }
    }
}

#[test]
fn greedy_texts_of_the_fixtures_equal_transformers() {
    greedy_is_what_transformers_says(fixtures());
}

mod needs_shared {
    #[test]
    #[ignore = "needs ../shared"]
    fn greedy_texts_of_larger_models_equal_transformers() {
        super::greedy_is_what_transformers_says(super::shared());
    }
}
