//! A folder's weights in another dtype with everything else unchanged, and what holds for both formats.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::cell::Cell;

use candle_core::DType;
use serde_json::{Value, json};
use support::{N_IDS, Place, models, small};
use vulpes_export::{Dtype, Error, Format, Request, export};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, folder};

fn llama() -> Place {
    Place::new(&small(Family::Llama).resolve(N_IDS, Head::NextToken))
}

#[test]
fn every_value_is_rounded_to_nearest() {
    for (name, config) in models() {
        let place = Place::new(&config);
        for (dtype, plain, word) in [
            (Dtype::F32, DType::F32, "float32"),
            (Dtype::Bf16, DType::BF16, "bfloat16"),
            (Dtype::F16, DType::F16, "float16"),
        ] {
            let exported = place.export(Format::Hf, Some(dtype), dtype.name()).unwrap();
            let found = folder::describe(&exported.path).unwrap();
            assert_eq!((found.config, found.dtype), (config.clone(), plain), "{name}");
            let json: Value =
                serde_json::from_slice(&std::fs::read(exported.path.join("config.json")).unwrap()).unwrap();
            assert_eq!((&json["dtype"], &json["torch_dtype"]), (&json!(word), &json!(word)));
            let again = folder::load(&exported.path).unwrap().transformer;
            for (parameter, var) in place.model.parameters().iter() {
                let own = var.to_dtype(plain).unwrap().to_dtype(DType::F32).unwrap();
                let floats =
                    |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let kept = again.parameters().get(parameter).unwrap();
                assert!(floats(kept.as_tensor()) == floats(&own), "{name}: {parameter}");
            }
        }
    }
}

#[test]
fn the_rest_of_the_folder_is_copied() {
    let place = Place::new(&small(Family::Llama).resolve(N_IDS, Head::Hidden { pooler: false }));
    let config = place.folder().join("config.json");
    let mut own: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    own["transformers_version"] = json!("4.40.0");
    own["dtype"] = json!("float16");
    std::fs::write(&config, own.to_string()).unwrap();
    let place = place
        .with("tokenizer.json", "{}")
        .with("README.md", "# A card")
        .with("generation_config.json", "{\"temperature\": 0.7}")
        .with(
            "modules.json",
            r#"[{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]"#,
        )
        .with("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": true}"#)
        .with("onnx/model.onnx", "x")
        .with("pytorch_model.bin", "x")
        .with("manifest.json", "x")
        .with("train_state.safetensors", "x");
    let exported = place.export(Format::Hf, Some(Dtype::Bf16), "b").unwrap();
    let names = |dir: &str| {
        let entries = std::fs::read_dir(exported.path.join(dir)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let wanted = [
        "1_Pooling",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "generation_config.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
    ];
    assert_eq!(names("."), wanted);
    assert_eq!(names("1_Pooling"), ["config.json"]);
    let read = |name: &str| std::fs::read_to_string(exported.path.join(name)).unwrap();
    assert_eq!(read("generation_config.json"), "{\"temperature\": 0.7}");
    let written: Value = serde_json::from_str(&read("config.json")).unwrap();
    assert_eq!(written["transformers_version"], "4.40.0", "unknown keys are kept");
    assert_eq!(written["dtype"], "bfloat16");
    assert_eq!(exported.notes, ["folders left out: onnx"]);
    assert_eq!(
        place.export(Format::Hf, None, "c").unwrap().dtype,
        Dtype::F32,
        "the weights' own dtype, not that in config.json"
    );
}

/// A family that has no class of its own is exported as another one that represents it.
#[test]
fn custom_models_are_exported_if_a_transformers_class_fits() {
    let gpt2 = small(Family::Gpt2).resolve(N_IDS, Head::NextToken);
    let place = Place::new(&vulpes_model::ModelConfig { family: Family::Fox, ..gpt2.clone() });
    let own = std::fs::read_to_string(place.folder().join("config.json")).unwrap();
    assert!(own.contains("\"vulpes\""), "{own}");
    let exported = place.export(Format::Hf, None, "a").unwrap();
    assert_eq!(exported.architecture, "gpt2");
    assert_eq!(folder::describe(&exported.path).unwrap().config, gpt2);

    let fox = Place::new(&small(Family::Fox).resolve(N_IDS, Head::NextToken));
    let error = fox.export(Format::Hf, None, "a").unwrap_err().to_string();
    assert!(error.contains("transformers can't represent this model"), "{error}");
}

#[test]
fn existing_files_are_not_overwritten() {
    let place = llama();
    for format in [Format::Hf, Format::Gguf] {
        let there = place.dir.path().join("there");
        std::fs::write(&there, "mine").unwrap();
        let error = support::exported(&place.folder(), format, None, &there).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "{error}");
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "mine");
        let nowhere = place.dir.path().join("link");
        let _ = std::os::unix::fs::symlink("nothing", &nowhere);
        let error = support::exported(&place.folder(), format, None, &nowhere).unwrap_err();
        assert!(matches!(error, Error::Exists { .. }), "a broken link: {error}");
    }
}

/// Stopped at any point at which it checks, it leaves nothing behind.
#[test]
fn a_stopped_export_leaves_nothing() {
    let place = llama();
    let folder = place.folder();
    let out = place.out("model");
    for format in [Format::Hf, Format::Gguf] {
        let mut after = 0;
        loop {
            let asked = Cell::new(0);
            let stop = || {
                asked.set(asked.get() + 1);
                asked.get() > after
            };
            let request = Request {
                model: &folder.as_path().into(),
                name: String::new(),
                format,
                dtype: None,
                with_tokenizer: true,
                out: &out,
                stop: &stop,
            };
            match export(&request) {
                Ok(_) => break,
                Err(error) => assert!(matches!(error, Error::Stopped), "{error}"),
            }
            let left = out.parent().unwrap();
            assert!(!left.exists() || std::fs::read_dir(left).unwrap().count() == 0, "after {after}");
            after += 1;
        }
        assert!(after > 3, "it never checked");
        let _ = std::fs::remove_dir_all(&out).or_else(|_| std::fs::remove_file(&out));
    }
}

#[test]
fn block_dtypes_are_refused_for_folders_and_files_have_default_permissions() {
    let place = llama();
    let error = place.export(Format::Hf, Some(Dtype::Q8_0), "a").unwrap_err().to_string();
    assert!(error.contains("q8_0 is a type of GGUF files"), "{error}");
    let file = place.export(Format::Gguf, None, "a.gguf").unwrap().path;
    let dir = place.export(Format::Hf, None, "b").unwrap().path;
    let rights = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    let usual = place.dir.path().join("usual");
    std::fs::write(&usual, "").unwrap();
    assert_eq!(rights(&file), rights(&usual));
    std::fs::create_dir(place.dir.path().join("folder")).unwrap();
    assert_eq!(rights(&dir), rights(&place.dir.path().join("folder")));
}

#[test]
fn values_out_of_range_are_reported() {
    let place = Place::new(
        &ModelSection { n_layer: Some(1), ..small(Family::Llama) }.resolve(N_IDS, Head::NextToken),
    );
    let var = place.model.parameters().get("blocks.0.feed_forward.up.weight").unwrap();
    var.set(&(var.as_tensor() * 1e9).unwrap()).unwrap();
    folder::save(&place.folder(), &place.model, &folder::Extra::default()).unwrap();
    for format in [Format::Hf, Format::Gguf] {
        let error = place.export(format, Some(Dtype::F16), "a").unwrap_err().to_string();
        assert!(error.contains("beyond f16") && error.contains("up"), "{error}");
    }
}
