//! Truncated, damaged and foreign GGUF files: each is rejected with a message, and none panics.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use support::{Place, small};
use vulpes_export::{Dtype, Format};
use vulpes_model::config::Family;
use vulpes_model::folder::LoadOptions;
use vulpes_model::gguf::{self, File};
use vulpes_model::{Head, ModelSection, PackedType};

/// A GGUF file of a small model with its tokenizer.
fn written(family: Family, dtype: Dtype) -> (Place, PathBuf, Vec<u8>) {
    let tokenizer =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tokenizers/bpe/tokenizer.json");
    let section = ModelSection { n_layer: Some(1), d_ff: Some(64), ..small(family) };
    let place = Place::new(&section.resolve(320, Head::NextToken))
        .with("tokenizer.json", std::fs::read(tokenizer).unwrap());
    let path = place.export(Format::Gguf, Some(dtype), "a.gguf").unwrap().path;
    let bytes = std::fs::read(&path).unwrap();
    (place, path, bytes)
}

/// Reads everything that `sample` reads of a file; returns the error message.
fn read(path: &Path, whole: bool) -> Result<(), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let vocabulary = vulpes_data::gguf::read(file.keys(), &path.display().to_string());
    let vocabulary = vocabulary.map_err(|error| error.to_string())?;
    if let Some(vocabulary) = vocabulary {
        let _ = vocabulary.tokenizer.encode("The quick brown fox");
    }
    gguf::describe(&file).map_err(|error| error.to_string())?;
    if whole {
        gguf::load(&file, &LoadOptions::default()).map_err(|error| error.to_string())?;
        gguf::load_decoder(&file, PackedType::Q8_0, 1).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Random bits from a seed, for offsets and bit flips (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Truncates a file or flips bits of it, `n` times; returns how many were rejected.
fn mutants(family: Family, dtype: Dtype, n: u64, whole: bool) -> u64 {
    let (place, _, good) = written(family, dtype);
    // The tensor headers come last before the data, that of the final norm near their end.
    let head = place_of(&good, "output_norm.weight") + 40;
    let path = place.out("mutant.gguf");
    let (mut state, mut refused) = (7, 0);
    for number in 0..n {
        let mut bytes = good.clone();
        // Damaged weights are still valid weights, so only the header is damaged.
        let at = (next(&mut state) % head as u64) as usize;
        let what = match next(&mut state) % 4 {
            0 => {
                bytes.truncate(at);
                format!("truncated to {at} bytes")
            }
            1 => {
                let byte = [0, 0xff, 0x7f, 0x80][(next(&mut state) % 4) as usize];
                let end = (at + 1 + (next(&mut state) % 8) as usize).min(bytes.len());
                bytes[at..end].fill(byte);
                format!("bytes {at} to {end} are {byte}")
            }
            _ => {
                let bit = 1 << (next(&mut state) % 8);
                bytes[at] ^= bit;
                format!("bit {bit} of byte {at} flipped")
            }
        };
        std::fs::write(&path, bytes).unwrap();
        let found = catch_unwind(AssertUnwindSafe(|| read(&path, whole)));
        let found = found.unwrap_or_else(|_| panic!("mutant {number} ({what}) panicked"));
        if let Err(words) = found {
            assert!(words.contains("mutant.gguf"), "mutant {number} ({what}): {words}");
            refused += 1;
        }
    }
    refused
}

#[test]
fn damaged_files_are_rejected_with_their_path() {
    let refused = mutants(Family::Gpt2, Dtype::Q8_0, 300, true);
    assert!(refused > 60, "{refused} of 300");
    let refused = mutants(Family::Llama, Dtype::F32, 200, false);
    assert!(refused > 40, "{refused} of 200");
}

#[test]
#[ignore = "long: minutes"]
fn twenty_thousand_damaged_files_are_rejected_with_their_path() {
    mutants(Family::Gpt2, Dtype::Q4_0, 10_000, true);
    mutants(Family::Gemma3, Dtype::Bf16, 10_000, false);
}

/// The offset of a string in a file.
fn place_of(bytes: &[u8], text: &str) -> usize {
    bytes
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .unwrap_or_else(|| panic!("no {text}"))
}

#[test]
fn each_kind_of_damage_has_its_message() {
    let (place, _, good) = written(Family::Llama, Dtype::Q8_0);
    let path = place.out("bad.gguf");
    let error = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        read(&path, true).err().unwrap_or_else(|| panic!("it was accepted"))
    };
    // A key's name is followed by four bytes of type and the value; a tensor's by dimensions, type and offset.
    let value = |bytes: &[u8], key: &str| place_of(bytes, key) + key.len() + 4;
    let head = |bytes: &[u8], tensor: &str| place_of(bytes, tensor) + tensor.len();
    let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| bytes[at..at + new.len()].copy_from_slice(new);
    type Damage = Box<dyn Fn(&mut Vec<u8>)>;
    let cases: Vec<(&str, Damage)> = vec![
        ("is not a GGUF file", Box::new(|bytes| bytes[0] = b'X')),
        ("is not a GGUF file", Box::new(Vec::clear)),
        ("truncated or damaged in its header", Box::new(|bytes| bytes.truncate(10))),
        ("version 9; expected version 2 or 3", Box::new(|bytes| bytes[4] = 9)),
        (
            "is a big-endian GGUF file; only little-endian is supported",
            Box::new(|bytes| bytes[4..8].copy_from_slice(&[0, 0, 0, 3])),
        ),
        ("announces 18446744073709551615 tensors", Box::new(|bytes| bytes[8..16].fill(0xff))),
        ("announces 18446744073709551615 keys", Box::new(|bytes| bytes[16..24].fill(0xff))),
        ("is truncated: the tensor", Box::new(|bytes| bytes.truncate(bytes.len() - 100))),
        ("is truncated or damaged in ", Box::new(|bytes| bytes.truncate(2000))),
        (
            "general.architecture is \"llamb\", which is not supported; expected one of llama, gpt2,",
            Box::new(move |bytes| {
                let at = value(bytes, "general.architecture") + 8;
                put(bytes, at, b"llamb");
            }),
        ),
        (
            "has no key general.architecture",
            Box::new(|bytes| {
                let at = place_of(bytes, "general.architecture");
                bytes[at] = b'x';
            }),
        ),
        (
            "has no key llama.embedding_length",
            Box::new(|bytes| {
                let at = place_of(bytes, "llama.embedding_length");
                bytes[at + 6] = b'x';
            }),
        ),
        (
            "llama.block_count is",
            Box::new(|bytes| {
                // A float32 instead.
                let at = place_of(bytes, "llama.block_count") + "llama.block_count".len();
                bytes[at] = 6;
            }),
        ),
        (
            "has 4294967295 layers by its keys, but only",
            Box::new(move |bytes| {
                let at = value(bytes, "llama.block_count");
                bytes[at..at + 4].fill(0xff);
            }),
        ),
        (
            "is above 4194304",
            Box::new(move |bytes| {
                let at = value(bytes, "llama.context_length");
                bytes[at..at + 4].fill(0x7f);
            }),
        ),
        (
            "the tensor \"blk.0.attn_q.weight\" is of type q4_K; expected f32, f16, bf16, q8_0 or q4_0",
            Box::new(move |bytes| {
                let at = head(bytes, "blk.0.attn_q.weight") + 4 + 16;
                put(bytes, at, &[12, 0, 0, 0]);
            }),
        ),
        (
            "is of type number 99",
            Box::new(move |bytes| {
                let at = head(bytes, "blk.0.attn_q.weight") + 4 + 16;
                put(bytes, at, &[99, 0, 0, 0]);
            }),
        ),
        (
            "\"blk.0.attn_q.weight\" has more elements than can be addressed",
            Box::new(move |bytes| {
                let at = head(bytes, "blk.0.attn_q.weight") + 4;
                put(bytes, at + 6, &[0x40]);
                put(bytes, at + 14, &[0x40]);
            }),
        ),
        (
            "is truncated: the tensor \"blk.0.attn_q.weight\"",
            Box::new(move |bytes| {
                let at = head(bytes, "blk.0.attn_q.weight") + 4 + 16 + 4;
                bytes[at..at + 8].fill(0xff);
            }),
        ),
        (
            "the tensor blk.0.attn_q.weight has shape [32, 64]; expected [64, 64]",
            Box::new(move |bytes| {
                let at = head(bytes, "blk.0.attn_q.weight") + 4 + 8;
                put(bytes, at, &[32]);
            }),
        ),
        (
            "is missing tensors: blk.0.attn_q.weight",
            Box::new(|bytes| {
                let at = place_of(bytes, "blk.0.attn_q.weight");
                bytes[at] = b'c';
            }),
        ),
        (
            "has tensors unknown to the architecture llama: clk.0.attn_q.weight",
            Box::new(|bytes| {
                let at = place_of(bytes, "blk.0.attn_q.weight");
                bytes[at] = b'c';
            }),
        ),
        (
            "is not a model: general.type is \"adapt\"",
            Box::new(move |bytes| {
                let at = value(bytes, "general.type") + 8;
                put(bytes, at, b"adapt");
            }),
        ),
    ];
    for (words, change) in cases {
        let found = error(&change);
        assert!(found.contains(words) && found.contains("bad.gguf"), "{words:?} is not in {found:?}");
    }
    let folder = place.dir.path().join("folder.gguf");
    std::fs::create_dir(&folder).unwrap();
    assert!(!gguf::is_gguf(&folder) && File::open(&folder).is_err());
}
