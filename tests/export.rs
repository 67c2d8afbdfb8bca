//! The program `export`, and its files read by llama.cpp and its Python package.

use std::path::Path;
use std::process::Command;

use crate::support::{FOX_BPE, Place, Said, fixtures};

fn export(place: &Place, args: &[&str]) -> Said {
    place.run(env!("CARGO_BIN_EXE_export"), args)
}

/// A trained model in `runs/NAME`, with these keys in addition to those of [`FOX_BPE`].
fn trained(place: &Place, name: &str, keys: &[&str]) -> String {
    place.trained(FOX_BPE, name, keys)
}

#[test]
fn a_run_becomes_a_file_and_a_folder() {
    let place = Place::new();
    let run = trained(&place, "small", &["model.family=gpt2"]);
    let said = export(&place, &[&run, "--to", "gguf", "--dtype", "q8_0", "--out", "made/small.gguf"]);
    assert_eq!(said.succeeds().stdout, "", "data only");
    assert!(said.stderr.contains("wrote made/small.gguf (gpt2, 28 tensors, q8_0, "), "{}", said.stderr);
    let content = std::fs::read(place.path("made/small.gguf")).expect("a file");
    assert!(content.starts_with(b"GGUF"));
    assert!(content.windows(5).any(|bytes| bytes == b"small"), "it is called as its run");

    export(&place, &["--model", &run, "--to", "hf", "--dtype", "bf16", "--out", "made/half"]).succeeds();
    let next = |model: &str| {
        let args = ["--model", model, "--prompt", "The quick brown", "-n", "5", "--temp", "0"];
        place.run(env!("CARGO_BIN_EXE_sample"), &args).succeeds().stdout.clone()
    };
    assert_eq!(next("made/half"), next(&run), "a folder as any other");
    let weights =
        |folder: &str| std::fs::metadata(place.path(folder).join("model.safetensors")).expect("a file").len();
    assert!(weights("made/half") < weights(&format!("{run}/model")) * 6 / 10);
}

#[test]
fn impossible_exports_are_refused_before_anything_is_written() {
    let place = Place::new();
    let run = trained(&place, "small", &["model.family=llama", "train.steps=1"]);
    place.write("mine", "mine");
    export(&place, &[&run, "--to", "gguf", "--out", "mine"]).fails(2, &["mine exists already", "remove it"]);
    assert_eq!(place.read("mine"), "mine");
    export(&place, &[&run, "--to", "hf", "--dtype", "q4_0", "--out", "a"])
        .fails(2, &["q4_0 is a type of GGUF files"]);
    export(&place, &["nowhere", "--to", "hf", "--out", "a"]).fails(2, &["nowhere: does not exist"]);
    export(&place, &[&run, "--to", "onnx", "--out", "a"]).fails(2, &["onnx", "gguf"]);
    export(&place, &[&run, "--to", "gguf", "--out", "mine/a"]).fails(1, &["mine", "can't be written"]);

    let words =
        trained(&place, "words", &["model.family=gpt2", "train.steps=1", "data.tokenizer={kind=\"word\"}"]);
    let said = export(&place, &[&words, "--to", "gguf", "--out", "a"]);
    said.fails(1, &["GGUF can't represent this tokenizer", "WordLevel", "--no-tokenizer"]);
    assert!(!place.path("a").exists());
    export(&place, &[&words, "--to", "gguf", "--no-tokenizer", "--out", "a"]).succeeds();
}

/// Queries llama.cpp about a file.
struct LlamaCpp {
    program: std::path::PathBuf,
    libraries: std::path::PathBuf,
}

impl LlamaCpp {
    /// The driver of `fixtures/llama.c`, built against the llama.cpp that `VULPES_LLAMA_CPP` names.
    fn build(place: &Place) -> Self {
        let root = std::env::var_os("VULPES_LLAMA_CPP").expect("VULPES_LLAMA_CPP names a built llama.cpp");
        let root = Path::new(&root);
        let libraries = ["lib", "build/bin", "bin", "."].map(|dir| root.join(dir));
        let named = |dir: &Path, start: &str| {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut found: Vec<_> = entries
                .filter(|path| {
                    let name = path.file_name().unwrap_or_default().to_string_lossy();
                    name.strip_prefix(start).is_some_and(|rest| rest.starts_with('.')) && name.contains(".so")
                })
                .collect();
            found.sort();
            found.into_iter().next()
        };
        let dir =
            libraries.iter().find(|dir| named(dir, "libllama").is_some()).expect("libllama.so is there");
        let program = place.path("llama");
        let mut compile = Command::new("cc");
        compile.arg("-O1").arg("-I").arg(root.join("include")).arg("-I").arg(root.join("ggml/include"));
        compile.arg(fixtures().join("llama.c")).arg("-o").arg(&program);
        compile.args(
            ["libllama", "libggml", "libggml-base"].map(|name| named(dir, name).expect("its libraries")),
        );
        let said = Said::of(&compile.arg(format!("-Wl,-rpath,{}", dir.display())).output().expect("cc runs"));
        assert_eq!(said.code, 0, "{}", said.stderr);
        Self { program, libraries: dir.clone() }
    }

    /// Lines of numbers.
    fn ask(&self, file: &Path, words: &[&str], ids: &[u32], stdin: &str) -> Vec<Vec<f32>> {
        use std::io::Write;
        use std::process::Stdio;
        let mut command = Command::new(&self.program);
        command.arg(file).arg(&self.libraries).args(words).args(ids.iter().map(u32::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the driver runs");
        child.stdin.take().expect("a pipe").write_all(stdin.as_bytes()).expect("it reads");
        let said = Place::wait(child);
        assert_eq!(said.code, 0, "{} {words:?}: {}", file.display(), said.stderr);
        let row = |line: &str| line.split_whitespace().map(|word| word.parse().expect("a number")).collect();
        said.stdout.lines().map(row).collect()
    }

    fn ids(&self, file: &Path, words: &[&str], ids: &[u32], stdin: &str) -> Vec<Vec<u32>> {
        let rows = self.ask(file, words, ids, stdin).into_iter();
        rows.map(|row| row.into_iter().map(|id| id as u32).collect()).collect()
    }
}

/// Each architecture: its config keys, and the tolerance relative to the largest value (llama.cpp's GELU is rounded to
/// half precision).
const ARCHITECTURES: &[(&str, &[&str], f32)] = &[
    ("gpt2", &["model.family=gpt2"], 2e-3),
    ("llama", &["model.family=llama", "model.n_kv_head=2"], 1e-4),
    (
        "llama-wide",
        &["model.family=llama", "model.d_head=16", "model.tied_head=true", "model.attention_bias=true"],
        1e-4,
    ),
    ("qwen2", &["model.family=qwen2", "model.n_kv_head=2"], 1e-4),
    ("qwen3", &["model.family=qwen3", "model.d_head=16"], 1e-4),
    (
        "gemma3",
        &[
            "model.family=gemma3_text",
            "model.n_kv_head=1",
            "model.layers=[{window=4,rope_theta=500.0},{}]",
            "model.logit_softcap=5.0",
        ],
        2e-3,
    ),
    ("olmo2", &["model.family=olmo2", "model.tied_head=true"], 1e-4),
    (
        "smollm3",
        &["model.family=smollm3", "model.n_layer=4", "model.layers=[{},{},{},{positions=\"none\"}]"],
        1e-4,
    ),
    (
        "granite",
        &[
            "model.family=granite",
            "model.embedding_scale=3.0",
            "model.residual_multiplier=0.5",
            "model.attention_scale=0.3",
            "model.logit_divisor=1.5",
        ],
        1e-4,
    ),
    ("gptneox", &["model.family=gpt_neox", "model.rotary_fraction=0.5"], 2e-3),
    ("phi2", &["model.family=phi", "model.rotary_fraction=0.5"], 2e-3),
    ("stretched", &["model.family=llama", "model.rope_scaling={factor=8.0,original_context_len=16}"], 1e-4),
    ("linear", &["model.family=qwen2", "model.rope_scaling={kind=\"linear\",factor=2.0}"], 1e-4),
];

mod needs_llama_cpp {
    use candle_core::{Device, IndexOp};
    use vulpes_data::Tokenizer;
    use vulpes_model::{Input, Pass, folder, mean_pooled, normalized};

    use super::*;

    /// The greedy continuation: the prompt's ids, and the next ones.
    fn greedy(place: &Place, model: &str, prompt: &str, n: usize) -> (Vec<u32>, Vec<u32>) {
        let n = n.to_string();
        let args = [
            "--model",
            model,
            "--prompt",
            prompt,
            "-n",
            &n,
            "--temp",
            "0",
            "--repeat-penalty",
            "1",
            "--json",
        ];
        let json = place.run(env!("CARGO_BIN_EXE_sample"), &args).succeeds().json();
        let ids = |value: &serde_json::Value| -> Vec<u32> {
            value.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id") as u32).collect()
        };
        let tokens = json["samples"][0]["tokens"].as_array().expect("tokens").iter();
        (ids(&json["prompt_ids"]), tokens.map(|token| token["id"].as_u64().expect("an id") as u32).collect())
    }

    #[test]
    #[ignore = "needs VULPES_LLAMA_CPP"]
    fn llama_cpp_matches_our_logits_for_every_architecture() {
        let place = Place::new();
        let llama = LlamaCpp::build(&place);
        for (name, keys, fair) in ARCHITECTURES {
            let run = trained(&place, name, keys);
            let file = place.path(&format!("{name}.gguf"));
            export(&place, &[&run, "--to", "gguf", "--out", &file.display().to_string()]).succeeds();
            let model = folder::load(&place.path(&run).join("model")).expect("a model").transformer;
            let ids: Vec<u32> = (0..24).map(|i| (i * i * 7 + 3) % model.config().vocab_size as u32).collect();
            let input = Input::new(&ids, 1, &Device::Cpu).expect("ids");
            let hidden = model.forward(&input, &mut Pass::inference()).expect("hidden states");
            let ours = model.logits(&hidden, &mut Pass::inference()).expect("logits").i(0).expect("a row");
            let ours: Vec<Vec<f32>> = ours.to_vec2().expect("numbers");
            let theirs = llama.ask(&file, &["logits"], &ids, "");
            assert_eq!(theirs.len(), ours.len());
            let largest = ours.iter().flatten().fold(0.0, |largest: f32, x| largest.max(x.abs()));
            for (place, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                let off = ours.iter().zip(theirs).fold(0.0, |off: f32, (a, b)| off.max((a - b).abs()));
                assert!(off <= fair * largest, "{name}, token {place}: {off} of {largest}");
            }
        }
    }

    #[test]
    #[ignore = "needs VULPES_LLAMA_CPP"]
    fn llama_cpp_matches_greedy_texts_of_sample() {
        let place = Place::new();
        let llama = LlamaCpp::build(&place);
        let shared = std::env::var_os("VULPES_SHARED")
            .map_or_else(|| crate::repository::root().join("../shared"), Into::into);
        let stories = shared.join("pretrained/stories260k").display().to_string();
        let gpt2 = trained(&place, "gpt2", &["model.family=gpt2", "train.steps=100"]);
        let keys = ["model.family=llama", "train.steps=100", "data.tokenizer={kind=\"char\"}"];
        let letters = trained(&place, "letters", &keys);
        for (model, prompts, n) in [
            (stories.as_str(), ["Once upon a time", "Lily's dog said: \"Hi!\"\n"], 60),
            (gpt2.as_str(), ["The quick brown fox", "A small dog's 12 bones"], 12),
            (letters.as_str(), ["The quick brown ", "A small dog"], 13),
        ] {
            for dtype in ["f32", "f16", "q8_0"] {
                let name = format!("{}-{dtype}.gguf", n);
                let file = place.path(&name);
                export(&place, &[model, "--to", "gguf", "--dtype", dtype, "--out", &name]).succeeds();
                for prompt in prompts {
                    let (ids, wanted) = greedy(&place, model, prompt, n);
                    assert_eq!(
                        llama.ids(&file, &["ids"], &[], prompt),
                        std::slice::from_ref(&ids),
                        "{prompt:?}"
                    );
                    let words = ["greedy", &wanted.len().to_string()];
                    let found = llama.ids(&file, &words, &ids, "").remove(0);
                    // Rounded weights may diverge eventually, those in f32 never.
                    let n_same = found.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
                    let n_wanted = if dtype == "f32" { wanted.len() } else { 5 };
                    assert!(n_same >= n_wanted, "{model} {dtype} {prompt:?}: {found:?}, not {wanted:?}");
                }
            }
        }
    }

    #[test]
    #[ignore = "needs VULPES_LLAMA_CPP"]
    fn llama_cpp_matches_our_embeddings_and_token_ids() {
        let place = Place::new();
        let llama = LlamaCpp::build(&place);
        let masked = "objective.kind=masked_token";
        let pieces = "data.tokenizer={kind=\"wordpiece\",vocab_size=400,lowercase=true}";
        for (name, keys) in [
            ("bert", vec!["model.family=bert", masked, pieces]),
            ("roberta", vec!["model.family=roberta", masked, pieces]),
            ("distilbert", vec!["model.family=distilbert", masked, pieces]),
            (
                "modern-bert",
                vec![
                    "model.family=modernbert",
                    masked,
                    pieces,
                    "model.layers=[{},{window=3,rope_theta=500.0}]",
                ],
            ),
        ] {
            let run = trained(&place, name, &keys);
            let file = place.path(&format!("{name}.gguf"));
            export(&place, &[&run, "--to", "gguf", "--out", &file.display().to_string()]).succeeds();
            let dir = place.path(&run).join("model");
            let model = folder::load(&dir).expect("a model").transformer;
            let tokenizer = Tokenizer::from_folder(&dir).expect("a tokenizer");
            let texts = ["The quick brown fox jumps.", "Déjà vu: 12 dogs, 3 foxes!", "foxfoxfox 中文", "  "];
            let mut wanted = Vec::new();
            for text in texts {
                let ids = tokenizer.encode_framed(text, None, None).expect("ids").0;
                wanted.push(ids.clone());
                let input = Input::new(&ids, 1, &Device::Cpu).expect("ids");
                let hidden = model.forward(&input, &mut Pass::inference()).expect("hidden states");
                let ours = mean_pooled(&hidden, &input).and_then(|ours| normalized(&ours)).expect("a vector");
                let ours: Vec<f32> = ours.flatten_all().and_then(|ours| ours.to_vec1()).expect("numbers");
                let theirs = llama.ask(&file, &["embed"], &ids, "").remove(0);
                let norm = theirs.iter().map(|x| x * x).sum::<f32>().sqrt();
                let off =
                    ours.iter().zip(&theirs).fold(0.0, |off: f32, (a, b)| off.max((a - b / norm).abs()));
                assert!(ours.len() == theirs.len() && off < 1e-3, "{name} {text:?}: {off}");
            }
            let found = llama.ids(&file, &["ids"], &[], &texts.join("\0"));
            assert_eq!(found, wanted, "{name}");
        }
    }
}

mod needs_gguf {
    use super::*;

    #[test]
    #[ignore = "needs VULPES_PYTHON with gguf"]
    fn llama_cpps_own_package_reads_every_tensor() {
        let python = std::env::var_os("VULPES_PYTHON")
            .expect("VULPES_PYTHON names a Python with gguf and safetensors");
        let place = Place::new();
        let masked = "objective.kind=masked_token";
        let mut models: Vec<(&str, Vec<&str>)> = ARCHITECTURES
            .iter()
            .filter(|(name, ..)| *name != "stretched")
            .map(|(name, keys, _)| (*name, keys.to_vec()))
            .collect();
        for family in ["bert", "roberta", "distilbert", "modernbert"] {
            let keys = match family {
                "bert" => "model.family=bert",
                "roberta" => "model.family=roberta",
                "distilbert" => "model.family=distilbert",
                _ => "model.family=modernbert",
            };
            models.push((family, vec![keys, masked, "data.tokenizer={kind=\"wordpiece\",vocab_size=400}"]));
        }
        let mut command = Command::new(python);
        command.arg(fixtures().join("read_gguf.py"));
        for (name, keys) in &models {
            let keys: Vec<&str> = keys.iter().copied().chain(["train.steps=2"]).collect();
            let run = trained(&place, name, &keys);
            let file = format!("{name}.gguf");
            export(&place, &[&run, "--to", "gguf", "--out", &file]).succeeds();
            command.arg(place.path(&run).join("model")).arg(place.path(&file));
        }
        let said = Said::of(&command.output().expect("Python runs"));
        let lines: Vec<&str> = said.succeeds().stdout.lines().collect();
        assert_eq!(lines.len(), models.len(), "{}", said.stderr);
        for (line, (name, _)) in lines.iter().zip(&models) {
            let (n, differs) = line.split_once(' ').expect("a number and a list");
            assert_eq!(differs, "[]", "{name}");
            assert!(n.parse::<usize>().expect("a number") > 10, "{name}: {n} tensors");
        }
    }
}
