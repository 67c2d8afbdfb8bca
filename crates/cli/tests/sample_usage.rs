//! `sample` on bad usage, folders that aren't models, and unknown words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::{Command, Output};

use candle_core::{DType, Device};
use vulpes_data::{Tokenizer, TokenizerConfig};
use vulpes_model::config::Family;
use vulpes_model::{Head, ModelSection, Transformer, folder};

fn sample(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sample")).args(args).output().unwrap()
}

#[test]
fn bad_usage_and_a_missing_model_exit_2_with_nothing_on_stdout() {
    for (args, code, word) in [
        (&["--prompt", "fox"][..], 2, "--model"),
        (&["--model", "nowhere", "--colour"], 2, "--colour"),
        (&["--model", "nowhere", "--prompt", "a", "--next", "3", "--seed", "1"], 2, "--seed"),
        (&["--model", "nowhere", "--prompt-file", "nothing.txt"], 2, "nothing.txt"),
        (&["--model", "nowhere", "--device", "tpu"], 2, "tpu"),
        (&["--model", "nowhere", "--prompt", "fox"], 2, "nowhere"),
        (&["nowhere", "fox"], 2, "nowhere"),
        (&["--model", "nowhere", "The fox"], 2, "nowhere \"The fox\"`, or --prompt"),
        (&["nowhere", "fox", "--prompt", "fox"], 2, "--prompt and the text \"fox\""),
        (&["nowhere", "fox", "--ids", "1"], 2, "--ids and the text"),
    ] {
        let output = sample(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{args:?}: {stderr}");
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = sample(&["--help"]);
    assert!(help.status.success() && String::from_utf8(help.stdout).unwrap().contains("--repeat-last-n"));
    assert!(sample(&["--version"]).status.success());
}

/// A folder with a tiny untrained model and its tokenizer.
fn folder(name: &str, family: Family, head: Head) -> PathBuf {
    let text = "The quick brown fox jumps over the lazy dog .";
    let tokenizer = Tokenizer::train(&TokenizerConfig::default(), [text]).unwrap();
    let section = ModelSection {
        family: Some(family),
        n_layer: (family != Family::Fox).then_some(2),
        n_head: (family != Family::Fox).then_some(2),
        d_model: Some(16),
        context_len: Some(8),
        ..ModelSection::default()
    };
    let config = section.resolve(tokenizer.vocab_size(), head);
    let model = Transformer::init(&config, 3, DType::F32, &Device::Cpu).unwrap();
    let path = std::env::temp_dir().join(format!("vulpes-sample-{name}-{}", std::process::id()));
    folder::save(&path, &model, &folder::Extra::default()).unwrap();
    tokenizer.save(path.join("tokenizer.json")).unwrap();
    path
}

fn json(args: &[&str]) -> serde_json::Value {
    let output = sample(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_table_the_text_and_the_trace_agree() {
    let path = folder("fox", Family::Fox, Head::NextToken);
    let model = path.to_str().unwrap();
    let table = json(&["--model", model, "--prompt", "The quick brown fox", "--next", "3", "--json"]);
    let next = table["next"].as_array().unwrap();
    assert_eq!(next.len(), 3);
    assert!(next.windows(2).all(|pair| pair[0]["probability"].as_f64() >= pair[1]["probability"].as_f64()));

    let plain = sample(&["--model", model, "--prompt", "The quick brown fox", "--next", "3"]);
    let first = String::from_utf8(plain.stdout).unwrap();
    assert!(first.starts_with(next[0]["text"].as_str().unwrap()), "{first}");

    // Greedy takes the table's first line.
    let greedy = json(&[
        "--model",
        model,
        "--prompt",
        "The quick brown fox",
        "-n",
        "3",
        "--temp",
        "0",
        "--seed",
        "5",
        "--json",
    ]);
    let token = &greedy["samples"][0]["tokens"][0];
    assert_eq!((&token["id"], &token["probability"]), (&next[0]["id"], &next[0]["probability"]));
    assert_eq!((greedy["seed"].as_u64(), token["rank"].as_u64()), (Some(5), Some(1)));
    assert_eq!(greedy["prompt_ids"], table["prompt_ids"]);

    // The same seed and any number of threads: the same document.
    let drawn = |threads: &str| {
        let args = [
            "--model",
            model,
            "--prompt",
            "The fox",
            "-n",
            "20",
            "--seed",
            "9",
            "--num-samples",
            "2",
            "--json",
        ];
        json(&[&args[..], &["--threads", threads]].concat())
    };
    let one = drawn("1");
    assert_eq!(one, drawn("3"));
    let tokens = one["samples"][1]["tokens"].as_array().unwrap();
    for token in tokens {
        let draw = token["draw"].as_f64().unwrap();
        let candidates =
            token["stages"].as_array().unwrap().last().unwrap()["candidates"].as_array().unwrap();
        let mut sum = 0.0;
        let followed = candidates.iter().find(|candidate| {
            sum += candidate["probability"].as_f64().unwrap();
            sum > draw
        });
        assert_eq!(followed.unwrap()["id"], token["id"]);
    }
    // 20 new tokens don't fit a context of 8.
    assert!(one["samples"][0]["forgotten"].as_u64().unwrap() > 0 || tokens.len() < 20);
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn batched_prompts_give_the_same_texts_as_alone() {
    let path = folder("several", Family::Llama, Head::NextToken);
    let model = path.to_str().unwrap();
    let prompts = ["The quick brown", "fox", "The lazy dog jumps over"];
    let all: Vec<&str> = prompts.iter().flat_map(|prompt| ["--prompt", prompt]).collect();
    let greedy = ["--model", model, "-n", "4", "--temp", "0", "--seed", "1", "--json"];
    let together = json(&[&greedy[..], &all].concat());
    for (number, prompt) in prompts.iter().enumerate() {
        let alone = json(&[&greedy[..], &["--prompt", prompt]].concat());
        let one = &together["prompts"][number];
        assert_eq!(
            (&one["prompt_ids"], &one["samples"]),
            (&alone["prompt_ids"], &alone["samples"]),
            "{prompt}"
        );
    }
    // Sampled texts differ from sample to sample, and come in the order of the prompts.
    let drawn = ["--model", model, "-n", "3", "--seed", "1", "--num-samples", "2", "--temp", "2"];
    let text = String::from_utf8(sample(&[&drawn[..], &all].concat()).stdout).unwrap();
    let texts: Vec<&str> = text.split("---\n").collect();
    assert_eq!(texts.len(), 6, "{text}");
    assert!(texts.iter().zip([0, 0, 1, 1, 2, 2]).all(|(text, number)| text.starts_with(prompts[number])));

    let tables = sample(&[&["--model", model, "--next", "2"][..], &all].concat());
    let tables = String::from_utf8(tables.stdout).unwrap();
    assert!(prompts.iter().all(|prompt| tables.lines().any(|line| line == *prompt)), "{tables}");
    let next = json(&[&["--model", model, "--next", "2", "--json"][..], &all].concat());
    assert_eq!(next["prompts"].as_array().map(Vec::len), Some(3));
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn unknown_words_truncation_and_stops_are_reported() {
    let path = folder("words", Family::Gpt2, Head::NextToken);
    let model = path.to_str().unwrap();
    let unknown = sample(&["--model", model, "--prompt", "The zebra", "--next", "1"]);
    let stderr = String::from_utf8(unknown.stderr).unwrap();
    assert!(unknown.status.success() && stderr.contains("zebra") && stderr.contains("[UNK]"), "{stderr}");

    let long = sample(&["--model", model, "--prompt", &"fox ".repeat(11), "--next", "1"]);
    let stderr = String::from_utf8(long.stderr).unwrap();
    assert!(
        long.status.success() && stderr.contains("11 tokens") && stderr.contains("are dropped"),
        "{stderr}"
    );

    let full = json(&["--model", model, "--prompt", "The", "-n", "6", "--temp", "0", "--json"]);
    let text = full["samples"][0]["text"].as_str().unwrap();
    let word = text.split_whitespace().last().unwrap();
    let stopped =
        json(&["--model", model, "--prompt", "The", "-n", "6", "--temp", "0", "--stop", word, "--json"]);
    let stopped = &stopped["samples"][0];
    assert_eq!(
        (stopped["finish_reason"].as_str(), stopped["stopped_by"].as_str()),
        (Some("stop"), Some(word))
    );
    assert!(!stopped["text"].as_str().unwrap().contains(word));

    // Without --json the text is the prompt and its continuation.
    let plain = sample(&["--model", model, "--prompt", "The", "-n", "6", "--temp", "0"]);
    assert_eq!(String::from_utf8(plain.stdout).unwrap(), format!("The{text}\n"));
    for (args, word) in
        [(["--ids", "999"], "999"), (["--temp", "nan"], "--temp"), (["--top-p", "2"], "--top-p")]
    {
        let wrong = sample(&[&["--model", model][..], &args].concat());
        assert_eq!(wrong.status.code(), Some(2));
        assert!(String::from_utf8(wrong.stderr).unwrap().contains(word));
    }
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn generate_refuses_full_mask_models() {
    let text = "The quick brown fox";
    let tokenizer = Tokenizer::train(&TokenizerConfig::default(), [text]).unwrap();
    let section = ModelSection {
        family: Some(Family::Fox),
        context_len: Some(8),
        mask: Some(vulpes_model::config::MaskKind::Full),
        ..ModelSection::default()
    };
    let config = section.resolve(tokenizer.vocab_size(), Head::NextToken);
    let model = Transformer::init(&config, 3, DType::F32, &Device::Cpu).unwrap();
    let path = std::env::temp_dir().join(format!("vulpes-sample-peeking-{}", std::process::id()));
    folder::save(&path, &model, &folder::Extra::default()).unwrap();
    tokenizer.save(path.join("tokenizer.json")).unwrap();
    let model = path.to_str().unwrap();
    let output = sample(&["--model", model, "--prompt", text, "-n", "3"]);
    assert!(output.status.code() == Some(2) && output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("full attention"));
    assert!(sample(&["--model", model, "--prompt", text, "--next", "3"]).status.success());
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_masked_model_fills_its_masks() {
    let path = folder("bert", Family::Bert, Head::MaskedToken);
    let model = path.to_str().unwrap();
    let table = json(&["--model", model, "--prompt", "The quick [MASK] fox jumps", "--next", "5", "--json"]);
    assert_eq!((table["position"].as_u64(), table["next"].as_array().map(Vec::len)), (Some(2), Some(5)));
    let filled = sample(&["--model", model, "--prompt", "The quick [MASK] fox jumps", "--temp", "0"]);
    let text = String::from_utf8(filled.stdout).unwrap();
    assert!(filled.status.success() && !text.contains("[MASK]") && text.contains("fox jumps"), "{text}");
    let none = sample(&["--model", model, "--prompt", "The quick fox", "--next", "5"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8(none.stderr).unwrap().contains("[MASK]"));
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn a_dtype_of_the_weights_works_for_continuing_texts_only() {
    let path = folder("typed", Family::Llama, Head::NextToken);
    let model = path.to_str().unwrap();
    let text = "The quick brown fox jumps over";
    let ask = |more: &[&str]| {
        let output =
            sample(&[&["--model", model, "--prompt", text, "--temp", "0", "-n", "6"], more].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{more:?}: {stderr}");
        (output.stdout, stderr)
    };
    let right = ask(&[]).0;
    // The folder is float32; rows that aren't multiples of a block stay so, and this is reported.
    assert!(ask(&["--dtype", "auto"]).0 == right && ask(&["--dtype", "f32", "--lookup"]).0 == right);
    let (text, said) = ask(&["--dtype", "q8_0"]);
    assert!(text == right && said.contains("not a multiple of 32"), "{said}");
    assert_eq!(ask(&["--dtype", "bf16"]).0, ask(&["--dtype", "bf16", "--lookup", "--threads", "3"]).0);
    let next = ["--model", model, "--prompt", "The quick", "--next", "3", "--dtype", "bf16"];
    assert!(sample(&next).status.success());
    std::fs::remove_dir_all(path).unwrap();

    let path = folder("typed-bert", Family::Bert, Head::MaskedToken);
    let model = path.to_str().unwrap();
    for (more, word) in [
        (&["--dtype", "q8_0"][..], "--dtype q8_0 works for models that continue a text"),
        (&["--lookup"], "--lookup works for models that continue a text"),
        (&["--dtype", "q9"], "q9"),
    ] {
        let output = sample(&[&["--model", model, "--prompt", "The [MASK] fox"], more].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(word) && output.stdout.is_empty(), "{stderr}");
    }
    std::fs::remove_dir_all(path).unwrap();
}
