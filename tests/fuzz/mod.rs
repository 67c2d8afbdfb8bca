//! Fuzzing of every reader: no panic, and no memory allocated for a size claimed in a header.

mod inputs;

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vulpes_data::{
    DataConfig, DataKind, Dataset, ObjectiveConfig, OpenOptions, Tokenizer, TokenizerConfig, TokenizerKind,
};
use vulpes_model::folder;
use vulpes_runs::RunConfig;
use vulpes_runs::checkpoint::{manifest::Manifest, read_state};

use crate::support::{SMALL, plan, train};
use inputs::feed;

const JSON: &[u8] = b"{}[]\":,0123456789.-eEtruefalsn \n\\u\"id_vocab";
const TEXT: &str = "The quick brown fox jumps over the lazy dog.";

fn configs(n: u64) {
    let seeds =
        [SMALL.as_bytes().to_vec(), b"[model]\nfamily = \"fox\"\n[data]\ntrain = [\"a\", 'b']\n".to_vec()];
    feed("config", n, &seeds, b"[]=\"'\n.# model_train stepsn123-+{}\\", |input, _| {
        let text = String::from_utf8_lossy(input);
        let set = text.chars().rev().take(40).collect::<String>();
        let result = RunConfig::parse("fuzz.toml", &text, &[format!("train.{set}")]);
        if let Err(faults) = result {
            assert!(!faults.to_string().is_empty());
            assert!(!vulpes_cli::draw_faults(&faults, input.len() % 2 == 0).is_empty());
        }
    });
}

fn tokenizers(n: u64) {
    let kinds = [TokenizerKind::Word, TokenizerKind::Char, TokenizerKind::Bpe, TokenizerKind::Wordpiece];
    let seeds: Vec<Vec<u8>> = kinds
        .into_iter()
        .map(|kind| {
            let config = TokenizerConfig { kind, ..TokenizerConfig::default() };
            Tokenizer::train(&config, [TEXT]).expect("a tokenizer").to_json().into()
        })
        .collect();
    feed("tokenizer.json", n, &seeds, JSON, |input, _| {
        if let Ok(tokenizer) = Tokenizer::from_bytes(input, "fuzz")
            && let Ok(ids) = tokenizer.encode(TEXT)
        {
            let _ = tokenizer.decode(&ids, false);
        }
    });
}

/// A checkpoint of the smallest model, one file of which is replaced repeatedly.
struct Folder {
    _dir: TempDir,
    path: PathBuf,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let plan = plan(
            &dir.path().join("run"),
            SMALL,
            &["train.steps=1", "model.d_model=4", "model.n_layer=1", "schedule.warmup_steps=0"],
        );
        train(&plan, false, u64::MAX).expect("a run");
        Self { path: plan.run_dir.join("checkpoints/step-00000001"), _dir: dir }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path.join(name)).expect("a file")
    }

    fn feed(&self, n: u64, name: &str, seeds: &[Vec<u8>], fond_of: &[u8], look: impl Fn(&Path)) {
        let good = self.read(name);
        feed(name, n, seeds, fond_of, |input, _| {
            std::fs::write(self.path.join(name), input).expect("written");
            look(&self.path);
        });
        std::fs::write(self.path.join(name), good).expect("written");
        look(&self.path);
    }
}

fn model_configs(n: u64) {
    let folder = Folder::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let mut seeds: Vec<Vec<u8>> = ["gpt2-one", "bert-cls", "bert-mlm", "llama-stretched"]
        .into_iter()
        .map(|name| std::fs::read(fixtures.join(name).join("config.json")).expect("a file"))
        .collect();
    // Inputs that fit the tensors get further.
    seeds.extend(vec![folder.read("config.json"); 4]);
    folder.feed(n, "config.json", &seeds, JSON, |dir| drop(folder::load(dir)));
}

fn tensors(n: u64) {
    let folder = Folder::new();
    let seeds = [folder.read("model.safetensors")];
    let fond_of = b"\0\0\0\0\x08{}\":[],F32dtypeshapedata_offsets0123456789";
    folder.feed(n, "model.safetensors", &seeds, fond_of, |dir| drop(folder::load(dir)));
}

fn states(n: u64) {
    let folder = Folder::new();
    let seeds = |name: &str| [folder.read(name)];
    folder.feed(n, "train_state.json", &seeds("train_state.json"), JSON, |dir| drop(read_state(dir)));
    folder.feed(n, "manifest.json", &seeds("manifest.json"), JSON, |dir| {
        if let Ok(manifest) = Manifest::read(dir) {
            let _ = manifest.verify(dir);
        }
    });
}

/// Rows of text, rows with a label and rows of ids, read up to a batch.
fn rows(n: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("rows.jsonl");
    let tokenizer = Tokenizer::train(&TokenizerConfig::default(), [TEXT]).expect("a tokenizer");
    let config = |kind| DataConfig {
        kind,
        train: path.display().to_string().as_str().into(),
        ..DataConfig::default()
    };
    let classify: ObjectiveConfig = toml::from_str("kind = \"classify\"").expect("an objective");
    let ways = [
        (config(DataKind::Jsonl), ObjectiveConfig::default()),
        (DataConfig { pair_column: Some("n".to_owned()), ..config(DataKind::Jsonl) }, classify),
        (config(DataKind::Ids), ObjectiveConfig::default()),
        (
            DataConfig { template: Some("plain".to_owned()), ..config(DataKind::Chat) },
            ObjectiveConfig::default(),
        ),
    ];
    let options = OpenOptions { tokenizer: Some(&tokenizer), ..OpenOptions::new(8, 1) };
    let seeds = [
        format!("{{\"text\": \"{TEXT}\"}}\n{{\"text\": \"a b c d\", \"n\": 1}}\n"),
        "{\"text\": \"The fox\", \"n\": \"quick\", \"label\": 0}\n{\"text\": \"dog\", \"n\": \"\", \"label\": \"1\"}\n".to_owned(),
        "{\"input_ids\": [1, 2, 3, 4], \"labels\": [2, -100, 4, 0], \"attention_mask\": [1, 1, 1, 0]}\n".to_owned(),
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n".to_owned(),
    ];
    feed("rows.jsonl", n, &seeds.map(String::into_bytes), b"{}\":,text ab\n\\u00[]1", |input, number| {
        std::fs::write(&path, input).expect("written");
        let (data, objective) = &ways[(number % 4) as usize];
        if let Ok(dataset) = Dataset::open(data, objective, &options) {
            let _ = dataset.batch(vulpes_data::Cursor::default(), 2);
        }
    });
}

#[test]
fn no_reader_panics() {
    configs(3_000);
    tokenizers(500);
    model_configs(500);
    tensors(500);
    states(500);
    rows(500);
}

#[test]
#[ignore = "long: minutes"]
fn a_million_configs() {
    configs(1_000_000);
}

#[test]
#[ignore = "long: minutes"]
fn a_million_tokenizers() {
    tokenizers(1_000_000);
}

#[test]
#[ignore = "long: minutes"]
fn a_million_model_configs() {
    model_configs(1_000_000);
}

#[test]
#[ignore = "long: minutes"]
fn a_million_tensor_files() {
    tensors(1_000_000);
}

#[test]
#[ignore = "long: minutes"]
fn a_million_states_and_manifests() {
    states(1_000_000);
}

#[test]
#[ignore = "long: minutes"]
fn a_million_files_of_rows() {
    rows(1_000_000);
}
