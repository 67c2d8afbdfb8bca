//! Exported GGUF files read back bit for bit, in every architecture and type.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use support::{N_IDS, Place, exported, models, small};
use vulpes_export::{Dtype, Format};
use vulpes_model::config::{ActivationKind, Family, FeedForwardKind, Pooling, RopeScaling, ScalingKind};
use vulpes_model::folder::{self, LoadOptions, Loaded, LoadedDecoder};
use vulpes_model::gguf::{self, File};
use vulpes_model::{Head, Input, Model, ModelSection, PackedType, Pass, Transformer};

/// A model's output for some tokens: logits, or hidden states if `bare`.
fn answers(model: &Transformer, bare: bool) -> Vec<f32> {
    // Skips the first two ids, one of which may be padding.
    let ids: Vec<u32> = (0..12).map(|i| 2 + (i * 7 + 3) % (model.config().vocab_size as u32 - 2)).collect();
    let input = Input::new(&ids, 1, &Device::Cpu).unwrap();
    let answer = match bare {
        true => model.forward(&input, &mut Pass::inference()),
        false => model.predict(&input, &mut Pass::inference()),
    };
    answer.unwrap().to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn read(path: &Path) -> Loaded {
    let file = File::open(path).unwrap_or_else(|error| panic!("{error}"));
    gguf::load(&file, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Whether the file leaves out the head, so that only hidden states can be compared.
fn is_bare(head: Head) -> bool {
    matches!(head, Head::MaskedToken | Head::Hidden { .. })
}

/// A decoder's logits after some tokens.
fn decoded(loaded: LoadedDecoder) -> Vec<f32> {
    let mut decoder = loaded.decoder.unwrap();
    let mut row = decoder.empty_row();
    decoder.read_prompt(&mut row, &[5, 3, 250, 4, 77]).unwrap().to_vec()
}

fn same(name: &str, own: &[f32], theirs: &[f32]) {
    assert_eq!(own.len(), theirs.len(), "{name}");
    assert!(own.iter().all(|number| number.is_finite()), "{name}");
    let differ = own.iter().zip(theirs).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    assert_eq!(differ, 0, "{name}: values that differ, of {}", own.len());
}

#[test]
fn every_architecture_round_trips_bit_for_bit() {
    for (number, (name, config)) in models().into_iter().enumerate() {
        let name = format!("{name}, number {number}");
        let bare = is_bare(config.head);
        let place = Place::new(&config);
        let path = place.export(Format::Gguf, None, "f32.gguf").unwrap().path;
        let found = read(&path);
        same(&name, &answers(&place.model, bare), &answers(&found.transformer, bare));
        if config.head == Head::NextToken {
            let own = folder::load_decoder(&place.folder(), None, 2).unwrap();
            let theirs = gguf::load_decoder(&File::open(&path).unwrap(), None, 2).unwrap();
            same(&name, &decoded(own), &decoded(theirs));
        }

        for (dtype, plain) in [(Dtype::F16, DType::F16), (Dtype::Bf16, DType::BF16)] {
            let out = place.out(dtype.name());
            exported(&place.folder(), Format::Hf, Some(dtype), &out).unwrap();
            // Vectors and learned positions stay float32 in the file.
            let halved = folder::load(&out).unwrap().transformer;
            for (name, var) in halved.parameters().iter() {
                let is_small = var.rank() < 2 || name.contains("position") || name.contains("token_type");
                if is_small && let Ok(own) = place.model.parameters().get(name) {
                    var.set(&own.as_detached_tensor()).unwrap();
                }
            }
            let path =
                place.export(Format::Gguf, Some(dtype), &format!("{}.gguf", dtype.name())).unwrap().path;
            let file = File::open(&path).unwrap();
            assert_eq!(gguf::describe(&file).unwrap().dtype, plain);
            same(&name, &answers(&halved, bare), &answers(&read(&path).transformer, bare));
        }
        for (dtype, to) in [(Dtype::Q8_0, PackedType::Q8_0), (Dtype::Q4_0, PackedType::Q4_0)] {
            let path =
                place.export(Format::Gguf, Some(dtype), &format!("{}.gguf", dtype.name())).unwrap().path;
            let file = File::open(&path).unwrap();
            assert_eq!(gguf::stored(&file).unwrap().0.packed(), Some(to));
            if config.head == Head::NextToken {
                let own = folder::load_decoder(&place.folder(), to, 2).unwrap();
                let theirs = gguf::load_decoder(&file, to, 2).unwrap();
                same(&name, &decoded(own), &decoded(theirs));
            }
            // A dequantized value is off by at most half a step, or in q4_0 by the step that its range lacks; the scale
            // is rounded to float16.
            let share = if dtype == Dtype::Q8_0 { 1.0 / 254.0 } else { 1.0 / 8.0 };
            let widened = read(&path).transformer;
            for (parameter, var) in widened.parameters().iter() {
                let Ok(own) = place.model.parameters().get(parameter) else { continue };
                let numbers = |var: &candle_core::Var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let (own, theirs) = (numbers(own), numbers(var));
                if own.len() != theirs.len() {
                    // Position tables with rows for padding, which the file leaves out.
                    continue;
                }
                let size = own.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let off = own.iter().zip(&theirs).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
                assert!(off <= size * (share + 1.0 / 2048.0), "{name}, {parameter}: {off} of {size}");
            }
        }
    }
}

/// The type may differ from the file's.
#[test]
fn a_file_is_read_in_any_type() {
    let config = small(Family::Llama).resolve(N_IDS, Head::NextToken);
    let place = Place::new(&config);
    let path = place.export(Format::Gguf, None, "f32.gguf").unwrap().path;
    for to in [None, Some(PackedType::Bf16), Some(PackedType::Q8_0), Some(PackedType::Q4_0)] {
        let own = folder::load_decoder(&place.folder(), to, 2).unwrap();
        let theirs = gguf::load_decoder(&File::open(&path).unwrap(), to, 1).unwrap();
        same(&format!("{to:?}"), &decoded(own), &decoded(theirs));
    }
}

/// Settings that llama.cpp has no key for.
#[test]
fn settings_without_llama_cpp_keys_round_trip() {
    let scaling = |original_context_len| RopeScaling {
        kind: ScalingKind::Llama3,
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context_len,
    };
    let with = |scaling| ModelSection { rope_scaling: Some(scaling), ..small(Family::Llama) };
    let labels = Head::Classify { n_labels: 3 };
    let modern = ModelSection {
        feed_forward: Some(FeedForwardKind::GegluTanh),
        head_activation: Some(ActivationKind::GeluTanh),
        pooling: Some(Pooling::Mean),
        ..small(Family::Modernbert)
    };
    let erf = Some(FeedForwardKind::GeluErf);
    for (section, head) in [
        (with(RopeScaling::linear(4.0)), Head::NextToken),
        (with(scaling(128)), Head::NextToken),
        (ModelSection { feed_forward: erf, ..small(Family::Gpt2) }, Head::NextToken),
        (
            ModelSection { norm_eps: Some(3e-6), rope_theta: Some(123_456.7), ..small(Family::Qwen3) },
            Head::NextToken,
        ),
        (modern, labels),
    ] {
        let place = Place::new(&section.resolve(N_IDS, head));
        let path = place.export(Format::Gguf, None, "a.gguf").unwrap().path;
        same("", &answers(&place.model, false), &answers(&read(&path).transformer, false));
    }
    // Llama 3.1's scaling is recognized from the factors alone.
    let place = Place::new(
        &ModelSection { context_len: Some(64), d_head: Some(64), ..with(scaling(8192)) }
            .resolve(N_IDS, Head::NextToken),
    );
    let path = place.export(Format::Gguf, None, "a.gguf").unwrap().path;
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(13).position(|bytes| bytes == b"vulpes.config").unwrap();
    bytes[at] = b'w';
    std::fs::write(place.out("other.gguf"), bytes).unwrap();
    same("", &answers(&place.model, false), &answers(&read(&place.out("other.gguf")).transformer, false));
}

/// Labels and pooling.
#[test]
fn labels_and_pooling_round_trip() {
    let config = small(Family::Bert).resolve(N_IDS, Head::Classify { n_labels: 3 });
    let place = Place::new(&config);
    let mut object: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place.folder().join("config.json")).unwrap()).unwrap();
    object["id2label"] = serde_json::json!({"0": "no", "1": "so so", "2": "yes"});
    object["label2id"] = serde_json::json!({"no": 0, "so so": 1, "yes": 2});
    let place = place.with("config.json", object.to_string());
    let path = place.export(Format::Gguf, None, "a.gguf").unwrap().path;
    assert_eq!(read(&path).extra.labels, ["no", "so so", "yes"]);

    let config = small(Family::Bert).resolve(N_IDS, Head::Hidden { pooler: false });
    let pooling = r#"{"word_embedding_dimension": 64, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    let place = Place::new(&config).with("1_Pooling/config.json", pooling);
    let path = place.export(Format::Gguf, None, "a.gguf").unwrap().path;
    let sentence = read(&path).extra.sentence.unwrap();
    assert_eq!(sentence.embedder.pooling, vulpes_model::TextPooling::Cls);
}

/// Fixture folders in transformers' layouts, with joined and transposed matrices.
#[test]
fn transformers_folders_round_trip() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(fixtures.join("families"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .chain(
            ["gpt2-one", "llama-plain", "llama-stretched", "bert-cls", "bert-mlm"]
                .map(|name| fixtures.join(name)),
        )
        .collect();
    folders.sort();
    let out = tempfile::tempdir().unwrap();
    let mut n_read = 0;
    for folder in folders {
        let path = out.path().join(folder.file_name().unwrap()).with_extension("gguf");
        // Models that llama.cpp can't represent are rejected, which other tests check.
        if exported(&folder, Format::Gguf, Some(Dtype::F32), &path).is_err() {
            continue;
        }
        n_read += 1;
        let own = folder::load(&folder).unwrap().transformer;
        let bare = is_bare(own.config().head);
        let name = folder.display().to_string();
        same(&name, &answers(&own, bare), &answers(&read(&path).transformer, bare));
    }
    assert!(n_read >= 8, "{n_read} folders");
}
