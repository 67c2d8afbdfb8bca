//! Files written by the `gguf` package of llama.cpp compared with ours: every tensor byte and every key.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

mod needs_shared {
    use std::path::PathBuf;

    use candle_core::{DType, Device};
    use serde_json::Value;
    use vulpes_export::{Dtype, Format};
    use vulpes_model::folder::{self, Extra, LoadOptions, LoadedDecoder};
    use vulpes_model::gguf::{self, File, Stored};
    use vulpes_model::{Input, Model, PackedType, Pass, Transformer};

    use super::support::{Gguf, exported};

    fn shared() -> PathBuf {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
        std::env::var_os("VULPES_SHARED").map_or_else(|| root.into(), PathBuf::from)
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn gguf_files_equal_those_of_llama_cpps_package() {
        let out = tempfile::tempdir().unwrap();
        for (golden, folder, dtype) in [
            ("stories260k-f32", "pretrained/stories260k", Dtype::F32),
            ("stories260k-q8_0", "pretrained/stories260k", Dtype::Q8_0),
            ("gpt2-tiny-f32", "goldens/gpt2-tiny", Dtype::F32),
        ] {
            let path = out.path().join(golden);
            exported(&shared().join(folder), Format::Gguf, Some(dtype), &path).unwrap();
            let mut ours = Gguf::open(&path);
            let mut wanted = Gguf::open(&shared().join("goldens/gguf").join(golden).with_extension("gguf"));
            assert_eq!(ours.names(), wanted.names(), "{golden}");
            for name in wanted.names() {
                assert_eq!(ours.dtype(&name), wanted.dtype(&name), "{golden}: {name}");
                assert!(ours.bytes(&name) == wanted.bytes(&name), "{golden}: {name}");
            }
            for key in wanted.keys().keys().filter(|key| *key != "general.name") {
                assert_eq!(ours.key(key), wanted.key(key), "{golden}: {key}");
            }
        }
    }

    /// Files that another program wrote are read: the folder's numbers to the bit, and its ids.
    #[test]
    #[ignore = "needs ../shared"]
    fn the_files_of_llama_cpps_own_package_are_read() {
        let answers = |model: &Transformer| -> Vec<f32> {
            let ids: Vec<u32> = (0..40).map(|i| (i * 7 + 3) % model.config().vocab_size as u32).collect();
            let input = Input::new(&ids, 1, &Device::Cpu).unwrap();
            let logits = model.predict(&input, &mut Pass::inference()).unwrap();
            logits.flatten_all().unwrap().to_vec1().unwrap()
        };
        for (golden, folder) in
            [("stories260k-f32", "pretrained/stories260k"), ("gpt2-tiny-f32", "goldens/gpt2-tiny")]
        {
            let file = open(golden);
            let theirs = gguf::load(&file, &LoadOptions::default()).unwrap();
            let own = folder::load(&shared().join(folder)).unwrap();
            assert!(answers(&theirs.transformer) == answers(&own.transformer), "{golden}");
        }
        let file = open("stories260k-q8_0");
        assert_eq!(gguf::stored(&file).unwrap(), (Stored::Q8_0, true));
        let logits = |loaded: LoadedDecoder| {
            let mut decoder = loaded.decoder.unwrap();
            let mut row = decoder.empty_row();
            decoder.read_prompt(&mut row, &[1, 403, 407, 261, 378]).unwrap().to_vec()
        };
        let theirs = logits(gguf::load_decoder(&file, PackedType::Q8_0, 2).unwrap());
        // Rows of 172 numbers are no blocks, and are float16 in the file.
        let rounded = folder::load(&shared().join("pretrained/stories260k")).unwrap().transformer;
        for (name, var) in rounded.parameters().iter().filter(|(name, _)| name.ends_with("down.weight")) {
            let half = var.as_detached_tensor().to_dtype(DType::F16).unwrap();
            var.set(&half.to_dtype(DType::F32).unwrap()).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let out = tempfile::tempdir().unwrap();
        folder::save(out.path(), &rounded, &Extra::default()).unwrap();
        assert!(logits(folder::load_decoder(out.path(), PackedType::Q8_0, 2).unwrap()) == theirs);

        let vocabulary = vulpes_data::gguf::read(file.keys(), "stories260k-q8_0.gguf").unwrap().unwrap();
        let path = shared().join("pretrained/stories260k/encodings.json");
        let encodings: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for encoding in &encodings {
            let text = encoding["text"].as_str().unwrap();
            let ids = vocabulary.tokenizer.encode_framed(text, None, None).unwrap().0;
            assert_eq!(serde_json::json!(ids), encoding["ids"], "{text:?}");
            let decoded = vocabulary.tokenizer.decode(&ids, true).unwrap();
            assert_eq!(decoded, encoding["decoded"].as_str().unwrap(), "{text:?}");
        }
        assert_eq!(vocabulary.end_ids, [2]);
    }

    /// A vocabulary alone, and an adapter: no model, in words.
    #[test]
    #[ignore = "needs ../shared"]
    fn files_without_a_model_are_told() {
        let file = open("bpe512-vocab");
        let vocabulary = vulpes_data::gguf::read(file.keys(), "bpe512-vocab.gguf").unwrap().unwrap();
        assert_eq!(vocabulary.tokenizer.vocab_size(), 512);
        let error = gguf::describe(&file).unwrap_err().to_string();
        assert!(error.contains("has no key gpt2.block_count"), "{error}");
        let error = gguf::describe(&open("lora-llama-qv-f32")).unwrap_err().to_string();
        assert!(error.contains("is not a model") && error.contains("--adapter"), "{error}");
    }

    fn open(golden: &str) -> File {
        File::open(&shared().join("goldens/gguf").join(golden).with_extension("gguf")).unwrap()
    }
}
