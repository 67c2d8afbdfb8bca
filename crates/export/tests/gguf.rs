//! Each architecture's file, read back by candle: names, shapes, keys and values.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::collections::BTreeMap;

use candle_core::Tensor;
use support::{N_IDS, Place, models, small};
use vulpes_export::{Dtype, Format};
use vulpes_model::config::{Family, LayerOverride, RopeScaling, ScalingKind};
use vulpes_model::{Head, ModelConfig, ModelSection, Transformer};

/// Rows of a matrix or vector by index.
fn rows(tensor: &Tensor, numbers: &[usize]) -> Vec<f32> {
    let flat: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    let width = flat.len() / tensor.dim(0).unwrap();
    numbers.iter().flat_map(|row| flat[row * width..(row + 1) * width].to_vec()).collect()
}

/// The order in which llama.cpp has the rows of queries or keys, whose channels 2i and 2i + 1 it rotates together:
/// channels i and i + k/2 of ours.
fn neighbors(n_head: usize, d_head: usize) -> Vec<usize> {
    let place = |head: usize, channel: usize| head * d_head + channel % 2 * (d_head / 2) + channel / 2;
    (0..n_head).flat_map(|head| (0..d_head).map(move |channel| place(head, channel))).collect()
}

/// The tensors that a model's file must have, by name, with their values.
fn wanted(name: &str, config: &ModelConfig, model: &Transformer) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut wanted = BTreeMap::new();
    let get = |ours: &str| model.parameters().get(ours).ok().map(|var| var.as_tensor().clone());
    let turns = ["llama", "granite", "smollm3"].contains(&name);
    let gemma = if name == "gemma3" { 1.0 } else { 0.0 };
    let joined = ["gpt2", "gptneox", "modern-bert"].contains(&name);
    let mut put = |theirs: String, ours: &[String], order: Option<Vec<usize>>, add: f32| {
        let parts: Vec<Tensor> = ours.iter().filter_map(|ours| get(ours)).collect();
        if parts.is_empty() {
            return;
        }
        assert_eq!(parts.len(), ours.len(), "{theirs}");
        let whole = Tensor::cat(&parts, 0).unwrap();
        let order = order.unwrap_or_else(|| (0..whole.dim(0).unwrap()).collect());
        let mut shape = whole.dims().to_vec();
        shape[0] = order.len();
        let numbers = rows(&whole, &order).into_iter().map(|x| x + add).collect();
        wanted.insert(theirs, (shape, numbers));
    };
    for last in ["weight", "bias"] {
        let one = |ours: &str| [format!("{ours}.{last}")];
        put(format!("token_embd.{last}"), &one("embedding.token"), None, 0.0);
        let skipped = config.n_position() - config.context_len;
        let positions = (skipped..config.n_position()).collect();
        put(format!("position_embd.{last}"), &one("embedding.position"), Some(positions), 0.0);
        put(format!("token_types.{last}"), &one("embedding.token_type"), None, 0.0);
        put(format!("token_embd_norm.{last}"), &one("embedding.norm"), None, 0.0);
        put(format!("output_norm.{last}"), &one("norm"), None, gemma);
        match config.head {
            Head::NextToken => put(format!("output.{last}"), &one("head"), None, 0.0),
            Head::Classify { .. } => {
                put(format!("cls.{last}"), &one("head.pooler"), None, 0.0);
                put(format!("cls.{last}"), &one("head.transform"), None, 0.0);
                put(format!("cls.norm.{last}"), &one("head.norm"), None, 0.0);
                put(format!("cls.output.{last}"), &one("head.classifier"), None, 0.0);
            }
            Head::MaskedToken | Head::Hidden { .. } => {}
        }
        for layer in 0..config.n_layer {
            let ours = |module: &str| format!("blocks.{layer}.{module}.{last}");
            let theirs = |module: &str| format!("blk.{layer}.{module}.{last}");
            let (before, between) = match name {
                "bert" => ("attn_output_norm", "layer_output_norm"),
                _ => ("attn_norm", "ffn_norm"),
            };
            put(theirs(before), &[ours("attention.norm")], None, gemma);
            put(theirs(between), &[ours("feed_forward.norm")], None, gemma);
            put(theirs("post_attention_norm"), &[ours("attention.branch_norm")], None, gemma);
            put(theirs("post_ffw_norm"), &[ours("feed_forward.branch_norm")], None, gemma);
            put(theirs("attn_q_norm"), &[ours("attention.query_norm")], None, gemma);
            put(theirs("attn_k_norm"), &[ours("attention.key_norm")], None, gemma);
            put(theirs("attn_output"), &[ours("attention.output")], None, 0.0);
            let order = |n_head: usize| turns.then(|| neighbors(n_head, config.d_head));
            if joined {
                let parts = ["query", "key", "value"].map(|part| ours(&format!("attention.{part}")));
                put(theirs("attn_qkv"), &parts, None, 0.0);
            } else {
                put(theirs("attn_q"), &[ours("attention.query")], order(config.n_head), 0.0);
                put(theirs("attn_k"), &[ours("attention.key")], order(config.n_kv_head), 0.0);
                put(theirs("attn_v"), &[ours("attention.value")], None, 0.0);
            }
            if name == "modern-bert" {
                put(theirs("ffn_up"), &[ours("feed_forward.gate"), ours("feed_forward.up")], None, 0.0);
            } else {
                put(theirs("ffn_gate"), &[ours("feed_forward.gate")], None, 0.0);
                put(theirs("ffn_up"), &[ours("feed_forward.up")], None, 0.0);
            }
            put(theirs("ffn_down"), &[ours("feed_forward.down")], None, 0.0);
        }
    }
    if ["olmo2", "gptneox", "phi2"].contains(&name) && config.tied_head {
        put("output.weight".into(), &["embedding.token.weight".to_owned()], None, 0.0);
    }
    wanted
}

#[test]
fn every_architecture_exports_its_tensors() {
    for (name, config) in models() {
        let place = Place::new(&config);
        let (exported, mut read) = place.gguf(None);
        assert_eq!((exported.architecture.as_str(), exported.dtype), (name, Dtype::F32));
        let wanted = wanted(name, &config, &place.model);
        assert_eq!(read.names(), wanted.keys().cloned().collect::<Vec<_>>(), "{name}");
        assert_eq!(exported.n_tensors, wanted.len());
        assert_eq!(exported.n_bytes, std::fs::metadata(&exported.path).unwrap().len());
        for (tensor, (shape, numbers)) in wanted {
            let found = read.tensor(&tensor);
            assert_eq!(found.dims(), shape, "{name}: {tensor}");
            let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
            assert!(found == numbers, "{name}: {tensor}");
        }
    }
}

/// The keys that all have, and those of each.
#[test]
fn every_architecture_exports_its_keys() {
    for (name, config) in models() {
        let place = Place::new(&config);
        let (_, read) = place.gguf(None);
        let key = |last: &str| read.key(&format!("{name}.{last}"));
        let u = |n: usize| format!("U32({n})");
        let f = |x: f64| format!("F32({:?})", x as f32);
        assert_eq!(read.key("general.architecture"), format!("String({name:?})"));
        assert_eq!(read.key("general.name"), "String(\"small\")");
        assert_eq!(read.key("general.file_type"), u(0));
        assert_eq!(read.key("tokenizer.ggml.model"), "String(\"none\")", "without a tokenizer");
        for (last, n) in [
            ("block_count", config.n_layer),
            ("context_length", config.context_len),
            ("embedding_length", config.d_model),
            ("feed_forward_length", config.d_ff),
            ("attention.head_count", config.n_head),
            ("attention.head_count_kv", config.n_kv_head),
            ("vocab_size", N_IDS),
        ] {
            assert_eq!(key(last), u(n), "{name}: {last}");
        }
        let by_mean_square =
            ["llama", "qwen2", "qwen3", "gemma3", "olmo2", "smollm3", "granite"].contains(&name);
        let (own, other) = ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon");
        let (own, other) = if by_mean_square { (own, other) } else { (other, own) };
        assert_eq!((key(own), key(other)), (f(config.norm_eps), "none".into()), "{name}");
        if ["llama", "qwen3", "gemma3", "smollm3", "granite"].contains(&name) {
            assert_eq!(key("attention.key_length"), u(config.d_head));
            assert_eq!(key("attention.value_length"), u(config.d_head));
        }
        if !["gpt2", "bert"].contains(&name) {
            let turned = if ["gptneox", "phi2"].contains(&name) { config.d_head / 2 } else { config.d_head };
            assert_eq!(key("rope.dimension_count"), u(turned), "{name}");
            assert_eq!(key("rope.freq_base"), f(config.rope_theta), "{name}");
        }
        let is_encoder = ["bert", "modern-bert"].contains(&name);
        assert_eq!(key("attention.causal"), if is_encoder { "Bool(false)" } else { "none" });
        if is_encoder {
            let labels = config.head.n_labels();
            assert_eq!(key("pooling_type"), u(if labels.is_some() { 4 } else { 1 }));
            assert_eq!(key("classifier.output_labels") != "none", labels.is_some());
        }
        match name {
            "gemma3" => {
                assert_eq!(key("attention.sliding_window"), u(4));
                assert_eq!(key("attention.sliding_window_pattern"), "Array([Bool(true), Bool(false)])");
                assert_eq!(key("rope.freq_base_swa"), f(500.0));
                assert_eq!(key("final_logit_softcapping"), f(2.0));
            }
            // Both sides together: 3 tokens before and 3 after.
            "modern-bert" => assert_eq!(key("attention.sliding_window"), u(6)),
            "granite" => {
                assert_eq!(key("attention.scale"), f(0.3));
                assert_eq!(key("embedding_scale"), f(3.0));
                assert_eq!(key("residual_scale"), f(0.4));
                assert_eq!(key("logit_scale"), f(1.7));
            }
            "gptneox" => assert_eq!(key("use_parallel_residual"), "Bool(true)"),
            _ => {}
        }
    }
}

#[test]
fn rope_scaling_is_exported() {
    let with = |scaling| ModelSection { rope_scaling: Some(scaling), ..small(Family::Llama) };
    let place = Place::new(&with(RopeScaling::linear(4.0)).resolve(N_IDS, Head::NextToken));
    let (_, read) = place.gguf(None);
    assert_eq!(read.key("llama.rope.scaling.type"), "String(\"linear\")");
    assert_eq!(read.key("llama.rope.scaling.factor"), "F32(4.0)");

    let scaling = RopeScaling {
        kind: ScalingKind::Llama3,
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_len: 128,
    };
    let place = Place::new(&with(scaling).resolve(N_IDS, Head::NextToken));
    let (_, mut read) = place.gguf(None);
    let factors: Vec<f32> = read.tensor("rope_freqs.weight").to_vec1().unwrap();
    // Wavelengths 2π 10000^(i/8): 6, 20, 63, 199, 628, … tokens; those below 32 are kept, those above 128 scaled
    // fully.
    assert_eq!(factors.len(), 8);
    assert_eq!(factors[..2], [1.0, 1.0]);
    assert_eq!(factors[3..], [8.0; 5]);
    // smooth = (128 / 62.83 - 1) / 3 = 0.3457; 1 / ((1 - smooth) / 8 + smooth) = 2.3391.
    assert!((factors[2] - 2.3391).abs() < 1e-3, "{factors:?}");
}

/// The folder's own dtype is kept by default.
#[test]
fn every_dtype_is_written_and_noted() {
    let section = ModelSection { d_ff: Some(80), ..small(Family::Llama) };
    let place = Place::new(&section.resolve(N_IDS, Head::NextToken));
    for (dtype, matrix, file_type) in [
        (Dtype::F32, "F32", 0),
        (Dtype::F16, "F16", 1),
        (Dtype::Bf16, "BF16", 32),
        (Dtype::Q8_0, "Q8_0", 7),
        (Dtype::Q4_0, "Q4_0", 2),
    ] {
        let out = format!("{}.gguf", dtype.name());
        let exported = place.export(Format::Gguf, Some(dtype), &out).unwrap();
        let mut read = support::Gguf::open(&exported.path);
        assert_eq!(read.dtype("blk.0.attn_q.weight"), matrix);
        assert_eq!(read.dtype("token_embd.weight"), matrix);
        assert_eq!(read.dtype("blk.0.attn_norm.weight"), "F32");
        assert_eq!(read.key("general.file_type"), format!("U32({file_type})"));
        let blocks = matches!(dtype, Dtype::Q8_0 | Dtype::Q4_0);
        let down = if blocks { "F16" } else { matrix };
        assert_eq!(read.dtype("blk.0.ffn_down.weight"), down, "its rows of 80 are no blocks of 32");
        let said = exported
            .notes
            .iter()
            .any(|note| note.starts_with("2 tensors are f16") && note.contains("ffn_down"));
        assert_eq!(said, blocks, "{:?}", exported.notes);
        let own = place.model.parameters().get("blocks.1.attention.value.weight").unwrap().as_tensor();
        let off = (read.tensor("blk.1.attn_v.weight") - own).unwrap().abs().unwrap().flatten_all().unwrap();
        let off = off.max(0).unwrap().to_scalar::<f32>().unwrap();
        let fair =
            [0.0, 1e-4, 1e-3, 1e-3, 2e-2][[0, 1, 32, 7, 2].iter().position(|n| *n == file_type).unwrap()];
        assert!(off <= fair, "{}: {off}", dtype.name());
    }
    let half = place.out("half");
    support::exported(&place.folder(), Format::Hf, Some(Dtype::Bf16), &half).unwrap();
    let kept = support::exported(&half, Format::Gguf, None, &place.out("kept.gguf")).unwrap();
    assert_eq!(kept.dtype, Dtype::Bf16);
}

#[test]
fn models_beyond_llama_cpp_are_refused_with_the_reason() {
    let near = LayerOverride { window: Some(2), ..LayerOverride::default() };
    let mixed = Some(vec![near, LayerOverride::default()]);
    let cases = [
        (small(Family::Mpnet), Head::MaskedToken, vec!["no architecture for mpnet", "gpt2"]),
        (small(Family::Fox), Head::NextToken, vec!["no architecture for fox"]),
        (
            ModelSection { window: Some(4), ..small(Family::Llama) },
            Head::NextToken,
            vec!["llama.cpp's llama", "window = 4"],
        ),
        (ModelSection { layers: mixed, ..small(Family::Qwen2) }, Head::NextToken, vec!["layers differ"]),
        (
            ModelSection { attention_scale: Some(0.5), ..small(Family::Gemma3) },
            Head::NextToken,
            vec!["llama.cpp's gemma3", "attention_scale = 0.5"],
        ),
        (small(Family::Llama), Head::Classify { n_labels: 2 }, vec!["classifier"]),
        (small(Family::Distilbert), Head::Classify { n_labels: 2 }, vec!["classifier"]),
        (small(Family::Olmo2), Head::Hidden { pooler: false }, vec!["head"]),
        (
            ModelSection {
                rope_scaling: Some(RopeScaling { kind: ScalingKind::Llama3, ..RopeScaling::linear(2.0) }),
                ..small(Family::Qwen2)
            },
            Head::NextToken,
            vec!["rope_scaling"],
        ),
    ];
    for (section, head, words) in cases {
        let place = Place::new(&section.resolve(N_IDS, head));
        let error = place.export(Format::Gguf, None, "model.gguf").unwrap_err().to_string();
        words.iter().for_each(|word| assert!(error.contains(word), "{word:?} is not in {error:?}"));
        assert!(!place.out("").exists(), "something was left");
    }
}

#[test]
fn an_explicit_default_scale_is_accepted() {
    let section = ModelSection { attention_scale: Some(0.25), ..small(Family::Llama) };
    Place::new(&section.resolve(N_IDS, Head::NextToken)).gguf(None);
}
