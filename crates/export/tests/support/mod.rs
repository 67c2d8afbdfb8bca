//! A small model of each architecture, in folders, and GGUF files read back.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "helpers of several test files"
)]

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;
use vulpes_export::{Dtype, Error, Exported, Format, Request, export};
use vulpes_model::config::{Family, FeedForwardKind, LayerOverride, Pooling, Positions};
use vulpes_model::folder::{self, Extra, Sources};
use vulpes_model::{Head, ModelConfig, ModelSection, Transformer};

/// The vocabulary of the small models.
pub const N_IDS: usize = 512;

/// A small model of a family, width 64.
pub fn small(family: Family) -> ModelSection {
    ModelSection {
        family: Some(family),
        n_layer: Some(2),
        n_head: Some(4),
        d_model: Some(64),
        d_ff: Some(96),
        context_len: Some(24),
        ..ModelSection::default()
    }
}

/// llama.cpp's name and the model: each architecture, with what it supports beyond its family's preset.
pub fn models() -> Vec<(&'static str, ModelConfig)> {
    let near = LayerOverride { window: Some(4), rope_theta: Some(500.0), ..LayerOverride::default() };
    let two_kinds = Some(vec![near, LayerOverride::default()]);
    let bag = LayerOverride { positions: Some(Positions::None), ..LayerOverride::default() };
    let grouped = |family| ModelSection { n_kv_head: Some(2), ..small(family) };
    let labels = Head::Classify { n_labels: 3 };
    let granite = ModelSection {
        residual_multiplier: Some(0.4),
        embedding_scale: Some(3.0),
        logit_divisor: Some(1.7),
        attention_scale: Some(0.3),
        ..grouped(Family::Granite)
    };
    let smollm = ModelSection {
        n_layer: Some(4),
        layers: Some(vec![LayerOverride::default(), LayerOverride::default(), LayerOverride::default(), bag]),
        ..grouped(Family::Smollm3)
    };
    let tanh = Some(FeedForwardKind::GeluTanh);
    let modern = ModelSection { layers: two_kinds.clone(), ..small(Family::Modernbert) };
    [
        ("gpt2", small(Family::Gpt2), Head::NextToken),
        ("gpt2", ModelSection { tied_head: Some(false), ..small(Family::Gpt2) }, Head::NextToken),
        (
            "llama",
            ModelSection { d_head: Some(24), tied_head: Some(true), ..grouped(Family::Llama) },
            Head::NextToken,
        ),
        (
            "llama",
            ModelSection {
                attention_bias: Some(true),
                feed_forward_bias: Some(true),
                ..grouped(Family::Llama)
            },
            Head::NextToken,
        ),
        ("qwen2", grouped(Family::Qwen2), Head::NextToken),
        ("qwen3", ModelSection { d_head: Some(24), ..grouped(Family::Qwen3) }, Head::NextToken),
        (
            "gemma3",
            ModelSection {
                layers: two_kinds,
                d_head: Some(24),
                logit_softcap: Some(2.0),
                ..grouped(Family::Gemma3)
            },
            Head::NextToken,
        ),
        ("olmo2", ModelSection { tied_head: Some(true), ..grouped(Family::Olmo2) }, Head::NextToken),
        ("smollm3", smollm, Head::NextToken),
        ("granite", granite, Head::NextToken),
        (
            "gptneox",
            ModelSection { rotary_fraction: Some(0.5), feed_forward: tanh, ..small(Family::GptNeox) },
            Head::NextToken,
        ),
        ("phi2", ModelSection { rotary_fraction: Some(0.5), ..small(Family::Phi) }, Head::NextToken),
        ("bert", small(Family::Bert), Head::MaskedToken),
        ("bert", small(Family::Bert), labels),
        ("bert", small(Family::Roberta), labels),
        ("bert", small(Family::Distilbert), Head::Hidden { pooler: false }),
        ("modern-bert", modern.clone(), Head::MaskedToken),
        ("modern-bert", ModelSection { pooling: Some(Pooling::Mean), ..modern }, labels),
    ]
    .into_iter()
    .map(|(name, section, head)| (name, section.resolve(N_IDS, head)))
    .collect()
}

/// A model folder and a place for the output.
pub struct Place {
    pub dir: TempDir,
    pub model: Transformer,
}

impl Place {
    /// A folder of a model with all parameters random, also the ones and zeros of norms and biases.
    pub fn new(config: &ModelConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let model = Transformer::init(config, 7, DType::F32, &Device::Cpu).unwrap();
        for (number, (_, var)) in model.parameters().iter().enumerate() {
            if var.rank() == 1 {
                let bump: Vec<f32> =
                    (0..var.elem_count()).map(|i| ((i * 7 + number) % 13) as f32 / 40.0).collect();
                let bump = Tensor::from_vec(bump, var.shape(), &Device::Cpu).unwrap();
                var.set(&(var.as_tensor() + bump).unwrap()).unwrap();
            }
        }
        let extra = Extra { bos_token_id: Some(1), eos_token_id: vec![2], ..Extra::default() };
        folder::save(&dir.path().join("model"), &model, &extra).unwrap();
        Self { dir, model }
    }

    /// The same with a file in the folder.
    pub fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("model")
    }

    pub fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join("out").join(name)
    }

    pub fn export(&self, format: Format, dtype: Option<Dtype>, name: &str) -> Result<Exported, Error> {
        exported(&self.folder(), format, dtype, &self.out(name))
    }

    /// The GGUF file of the folder, read back.
    pub fn gguf(&self, dtype: Option<Dtype>) -> (Exported, Gguf) {
        let exported =
            self.export(Format::Gguf, dtype, "model.gguf").unwrap_or_else(|error| panic!("{error}"));
        let read = Gguf::open(&exported.path);
        (exported, read)
    }
}

pub fn exported(folder: &Path, format: Format, dtype: Option<Dtype>, out: &Path) -> Result<Exported, Error> {
    exported_from(&folder.into(), format, dtype, out)
}

pub fn exported_from(
    sources: &Sources,
    format: Format,
    dtype: Option<Dtype>,
    out: &Path,
) -> Result<Exported, Error> {
    export(&Request {
        model: sources,
        name: "small".into(),
        format,
        dtype,
        with_tokenizer: true,
        out,
        stop: &|| false,
    })
}

/// A GGUF file, read by candle.
pub struct Gguf {
    file: File,
    content: Content,
}

impl Gguf {
    pub fn open(path: &Path) -> Self {
        let mut file = File::open(path).unwrap();
        let content = Content::read(&mut file).unwrap();
        Self { file, content }
    }

    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.content.tensor_infos.keys().cloned().collect();
        names.sort();
        names
    }

    pub fn keys(&self) -> &HashMap<String, Value> {
        &self.content.metadata
    }

    /// A key as printed.
    pub fn key(&self, name: &str) -> String {
        self.content.metadata.get(name).map_or("none".into(), |value| format!("{value:?}"))
    }

    pub fn dtype(&self, name: &str) -> String {
        format!("{:?}", self.content.tensor_infos[name].ggml_dtype)
    }

    pub fn tensor(&mut self, name: &str) -> Tensor {
        let tensor = self.content.tensor(&mut self.file, name, &Device::Cpu).unwrap();
        tensor.dequantize(&Device::Cpu).unwrap()
    }

    pub fn bytes(&mut self, name: &str) -> Vec<u8> {
        self.content.tensor(&mut self.file, name, &Device::Cpu).unwrap().data().unwrap().into_owned()
    }

    /// The number of a key.
    pub fn numbers_of(&self, name: &str) -> f32 {
        self.content.metadata[name].to_f32().unwrap()
    }

    /// The numbers of an array.
    pub fn numbers(&self, name: &str) -> Vec<f32> {
        let number = |value: &Value| match value {
            Value::I32(number) => *number as f32,
            other => other.to_f32().unwrap(),
        };
        self.content.metadata[name].to_vec().unwrap().iter().map(number).collect()
    }

    pub fn texts(&self, name: &str) -> Vec<String> {
        let array = self.content.metadata[name].to_vec().unwrap();
        array.iter().map(|value| value.to_string().unwrap().clone()).collect()
    }
}
