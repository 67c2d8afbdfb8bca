//! Model folders for the tests of `explain`.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod browser;
pub(crate) mod live;

use std::path::PathBuf;
use std::process::{Command, Output};

use candle_core::{DType, Device};
use serde_json::Value;
use vulpes_data::{Tokenizer, TokenizerConfig};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, Transformer, folder};

pub(crate) const TEXT: &str = "The quick brown fox";

/// A folder with a tiny untrained model and its tokenizer; removed when dropped.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str, section: ModelSection, head: Head) -> Self {
        let text = "The quick brown fox jumps over the lazy dog .";
        let tokenizer = Tokenizer::train(&TokenizerConfig::default(), [text]).unwrap();
        let section = ModelSection { context_len: Some(8), init_std: Some(0.4), ..section };
        let model =
            Transformer::init(&section.resolve(tokenizer.vocab_size(), head), 3, DType::F32, &Device::Cpu)
                .unwrap();
        let path = std::env::temp_dir().join(format!("vulpes-explain-{name}-{}", std::process::id()));
        folder::save(&path, &model, &folder::Extra::default()).unwrap();
        tokenizer.save(path.join("tokenizer.json")).unwrap();
        Self(path)
    }

    pub(crate) fn fox(name: &str) -> Self {
        Self::new(
            name,
            ModelSection { family: Some(Family::Fox), ..ModelSection::default() },
            Head::NextToken,
        )
    }

    pub(crate) fn heads(name: &str, family: Family, head: Head) -> Self {
        let section = ModelSection {
            family: Some(family),
            n_layer: Some(2),
            n_head: Some(4),
            n_kv_head: (family == Family::Llama).then_some(2),
            d_model: Some(16),
            ..ModelSection::default()
        };
        Self::new(name, section, head)
    }

    pub(crate) fn explain(&self, args: &[&str]) -> Output {
        let output =
            Command::new(env!("CARGO_BIN_EXE_explain")).arg("--model").arg(&self.0).args(args).output();
        output.unwrap()
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.explain(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
