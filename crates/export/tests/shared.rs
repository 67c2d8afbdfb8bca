//! The files that the `gguf` package of llama.cpp wrote, against ours: every tensor to the byte, and every key.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

mod needs_shared {
    use std::path::PathBuf;

    use vulpes_export::{Dtype, Format};

    use super::support::{Gguf, exported};

    fn shared() -> PathBuf {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");
        std::env::var_os("VULPES_SHARED").map_or_else(|| root.into(), PathBuf::from)
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn the_files_are_those_of_llama_cpps_own_package() {
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
}
