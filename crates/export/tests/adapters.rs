//! Adapters: exported alone for llama.cpp, and merged into the exported model.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};

use support::{Gguf, exported_from};
use vulpes_export::Format;
use vulpes_model::folder::{self, LoadOptions, Sources};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn sources(base: &str, adapter: &str) -> Sources {
    Sources { model: fixture("lora/bases").join(base), adapter: Some(fixture(adapter)) }
}

/// The file that llama.cpp's package wrote for the same adapter.
#[test]
fn gguf_adapter_equals_llama_cpps_byte_for_byte() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), sources("llama-tiny", "gguf/lora-llama-qv"));
    let out = dir.path().join("a.gguf");
    exported_from(&folder, Format::GgufAdapter, None, &out).unwrap();
    let (mut ours, mut theirs) = (Gguf::open(&out), Gguf::open(&fixture("gguf/lora-llama-qv/llama-qv.gguf")));
    assert_eq!(ours.names(), theirs.names());
    for name in theirs.names() {
        assert_eq!(ours.bytes(&name), theirs.bytes(&name), "{name}");
    }
    for key in theirs.keys().keys().filter(|key| *key != "general.name") {
        assert_eq!(ours.key(key), theirs.key(key), "{key}");
    }
}

/// llama.cpp has one alpha per file: any other factor of a module is in its B.
#[test]
fn scales_of_single_modules_are_multiplied_into_b() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), sources("llama-tiny", "lora/llama-patterns"));
    let out = dir.path().join("a.gguf");
    exported_from(&folder, Format::GgufAdapter, None, &out).unwrap();
    let mut file = Gguf::open(&out);
    let alpha = file.numbers_of("adapter.lora.alpha");
    let loaded =
        folder::load_adapted(&folder.model, folder.adapter.as_ref().unwrap(), &LoadOptions::default())
            .unwrap();
    let spec = loaded.transformer.adapter().unwrap();
    for (ours, theirs) in [("feed_forward.up", "ffn_up"), ("attention.value", "attn_v")] {
        let name = format!("blocks.1.{ours}");
        let module = &spec.modules[&name];
        let b = loaded.transformer.parameters().get(&format!("{name}.adapter.b")).unwrap();
        let wanted = b.affine(module.scale(), 0.0).unwrap();
        let found = file.tensor(&format!("blk.1.{theirs}.weight.lora_b"));
        let found = found.affine(f64::from(alpha) / module.rank as f64, 0.0).unwrap();
        let off = (wanted - found).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(off < 1e-6, "{ours}: {off}");
    }
}

#[test]
fn unsupported_adapters_are_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let error = |folder: &Sources| {
        let found = exported_from(folder, Format::GgufAdapter, None, &dir.path().join("a.gguf"));
        found.unwrap_err().to_string()
    };
    let of = |base: &str, adapter: &str| error(&sources(base, adapter));
    assert!(of("gpt2-tiny", "lora/gpt2-all-rslora-dora").contains("magnitudes (DoRA); merge it: --to gguf"));
    assert!(of("gpt2-tiny", "lora/gpt2-bias").contains("fully trained"));
    assert!(of("llama-tiny", "lora/llama-embedding").contains("doesn't store separately"));
    let alone = error(&fixture("lora/bases/llama-tiny").as_path().into());
    assert!(alone.contains("a model without an adapter"), "{alone}");
}

/// An exported model with an adapter equals the model with the adapter applied.
#[test]
fn an_adapter_is_merged_into_folders_and_files() {
    let (dir, folder) = (tempfile::tempdir().unwrap(), sources("gpt2-tiny", "lora/gpt2-all-rslora-dora"));
    let out = dir.path().join("merged");
    exported_from(&folder, Format::Hf, None, &out).unwrap();
    assert!(!folder::is_adapter(&out) && !out.join("adapter_config.json").exists());
    let options = LoadOptions { adapter: folder.adapter.clone(), ..LoadOptions::default() };
    let wanted = folder::load_with(&folder.model, &options).unwrap().transformer;
    let found = folder::load(&out).unwrap().transformer;
    for ((name, one), (_, other)) in wanted.parameters().iter().zip(found.parameters().iter()) {
        let values = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(one), values(other), "{name}");
    }
    let file = dir.path().join("merged.gguf");
    exported_from(&folder, Format::Gguf, None, &file).unwrap();
    assert!(Gguf::open(&file).names().contains(&"blk.0.attn_qkv.weight".to_owned()));
}
