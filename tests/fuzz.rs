//! Arbitrary bytes to every reader: no panic, no number taken from a header before there are bytes for it.
//!
//! Inputs are drawn from keyed streams: half are sound inputs with bytes changed, removed, doubled and spliced, half
//! are made up from bytes that the format is fond of. A failing input can be drawn again by its number.

use std::path::Path;

use vulpes_data::{DataConfig, DataKind, Dataset, ObjectiveConfig, OpenOptions, Tokenizer};
use vulpes_model::folder;
use vulpes_random::{Key, Stream};
use vulpes_trainer::RunConfig;
use vulpes_trainer::checkpoint::{State, manifest::Manifest};

use crate::support::{SMALL, plan, train};

/// Calls `read` with `n` inputs made from `seeds`.
fn feed(target: &str, n: u64, seeds: &[Vec<u8>], fond_of: &[u8], mut read: impl FnMut(&[u8])) {
    let key = Key::new(11, "fuzz").with(target);
    for number in 0..n {
        let mut draw = key.row(number);
        let input = if draw.below(2) == 0 { mutated(seeds, &mut draw) } else { made_up(fond_of, &mut draw) };
        read(&input);
    }
    eprintln!("{target}: {n} inputs");
}

fn mutated(seeds: &[Vec<u8>], draw: &mut Stream) -> Vec<u8> {
    let pick = |draw: &mut Stream| seeds[draw.below(seeds.len() as u64) as usize].clone();
    let mut bytes = pick(draw);
    for _ in 0..1 + draw.below(4) {
        let n = bytes.len() as u64;
        let at = draw.below(n.max(1)) as usize;
        let end = (at + draw.below(16) as usize).min(bytes.len());
        match draw.below(6) {
            0 if n > 0 => bytes[at] = draw.next_u32() as u8,
            1 if n > 0 => bytes[at] ^= 1 << draw.below(8),
            2 => drop(bytes.drain(at.min(bytes.len())..end)),
            3 => {
                let part = bytes[at.min(bytes.len())..end].to_vec();
                bytes.splice(at.min(bytes.len())..at.min(bytes.len()), part);
            }
            4 => bytes.truncate(at),
            _ => {
                let other = pick(draw);
                let from = draw.below(other.len().max(1) as u64) as usize;
                bytes.truncate(at);
                bytes.extend(&other[from.min(other.len())..]);
            }
        }
    }
    bytes
}

fn made_up(fond_of: &[u8], draw: &mut Stream) -> Vec<u8> {
    let n = draw.below(200);
    let byte = |draw: &mut Stream| match draw.below(8) {
        0 => draw.next_u32() as u8,
        _ => fond_of[draw.below(fond_of.len() as u64) as usize],
    };
    (0..n).map(|_| byte(draw)).collect()
}

const JSON: &[u8] = b"{}[]\":,0123456789.-eEtruefalsn \n\\u\"id_vocab";

fn configs(n: u64) {
    let seeds =
        [SMALL.as_bytes().to_vec(), b"[model]\nfamily = \"fox\"\n[data]\ntrain = [\"a\", 'b']\n".to_vec()];
    feed("config", n, &seeds, b"[]=\"'\n.# model_train stepsn123-+{}\\", |input| {
        let text = String::from_utf8_lossy(input);
        let set = text.chars().rev().take(40).collect::<String>();
        let result = RunConfig::parse("fuzz.toml", &text, &[format!("train.{set}")], input.len() % 2 == 0);
        if let Err(faults) = result {
            assert!(!faults.to_string().is_empty());
        }
    });
}

fn checkpoints(n: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let plan = plan(
        &dir.path().join("run"),
        SMALL,
        &["train.steps=1", "model.d_model=4", "model.n_layer=1", "schedule.warmup_steps=0"],
    );
    train(&plan, false, u64::MAX).expect("a run");
    let folder = plan.run_dir.join("checkpoints/step-00000001");
    let read = |name: &str| std::fs::read(folder.join(name)).expect("a file");
    let with = |name: &str, input: &[u8], look: &dyn Fn(&Path)| {
        let good = read(name);
        std::fs::write(folder.join(name), input).expect("written");
        look(&folder);
        std::fs::write(folder.join(name), good).expect("written");
    };
    let seeds = [read("tokenizer.json")];
    feed("tokenizer.json", n, &seeds, JSON, |input| {
        let _ = Tokenizer::from_bytes(input, "fuzz");
    });
    feed("config.json", n, &[read("config.json")], JSON, |input| {
        with("config.json", input, &|dir| drop(folder::load(dir)));
    });
    let seeds = [read("model.safetensors")];
    feed(
        "model.safetensors",
        n,
        &seeds,
        b"\0\0\0\0\x08{}\":[],F32dtypeshapedata_offsets0123456789",
        |input| {
            with("model.safetensors", input, &|dir| drop(folder::load(dir)));
        },
    );
    feed("train_state.json", n, &[read("train_state.json")], JSON, |input| {
        with("train_state.json", input, &|dir| drop(State::read(dir)));
    });
    feed("manifest.json", n, &[read("manifest.json")], JSON, |input| {
        with("manifest.json", input, &|dir| {
            if let Ok(manifest) = Manifest::read(dir) {
                let _ = manifest.verify(dir);
            }
        });
    });
}

fn rows(n: u64) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("rows.jsonl");
    let config = DataConfig {
        kind: DataKind::Jsonl,
        train: path.display().to_string().as_str().into(),
        cache: Some(dir.path().join("cache").display().to_string()),
        ..DataConfig::default()
    };
    let options = OpenOptions { context_len: 8, seed: 1, vocab_size: None, tokenizer: None, progress: &() };
    let seeds =
        [b"{\"text\": \"The quick brown fox jumps over the lazy dog\"}\n{\"text\": \"a b c d\", \"n\": 1}\n"
            .to_vec()];
    feed("rows.jsonl", n, &seeds, b"{}\":,text ab\n\\u00[]1", |input| {
        std::fs::write(&path, input).expect("written");
        if let Ok(dataset) = Dataset::open(&config, &ObjectiveConfig::default(), &options) {
            let _ = dataset.batch(vulpes_data::Cursor::default(), 2);
        }
    });
}

#[test]
fn no_reader_panics() {
    configs(3_000);
    checkpoints(400);
    rows(100);
}

#[test]
#[ignore = "some minutes"]
fn a_million_configs() {
    configs(1_000_000);
}

#[test]
#[ignore = "an hour or more"]
fn a_million_files_of_each_kind_in_a_checkpoint() {
    checkpoints(1_000_000);
}

#[test]
#[ignore = "an hour or more"]
fn a_million_files_of_rows() {
    rows(1_000_000);
}
