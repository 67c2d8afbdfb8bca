//! Every family through the real programs: train, resume, check, sample, explain, and init another run.

use std::process::Command;

use crate::support::{Place, Said};

/// A family's model type on disk, and the objective.
const DECODERS: &[(&str, &str)] = &[
    ("llama", "LlamaForCausalLM"),
    ("qwen2", "Qwen2ForCausalLM"),
    ("qwen3", "Qwen3ForCausalLM"),
    ("olmo2", "Olmo2ForCausalLM"),
    ("smollm3", "SmolLM3ForCausalLM"),
    ("granite", "GraniteForCausalLM"),
    ("gpt_neox", "GPTNeoXForCausalLM"),
    ("phi", "PhiForCausalLM"),
    ("gemma3_text", "Gemma3ForCausalLM"),
];
const ENCODERS: &[(&str, &str)] = &[
    ("bert", "BertForMaskedLM"),
    ("roberta", "RobertaForMaskedLM"),
    ("xlm-roberta", "XLMRobertaForMaskedLM"),
    ("distilbert", "DistilBertForMaskedLM"),
    ("mpnet", "MPNetForMaskedLM"),
    ("modernbert", "ModernBertForMaskedLM"),
];
const CLASSIFIERS: &[(&str, &str)] = &[
    ("gpt2", "GPT2ForSequenceClassification"),
    ("qwen3", "Qwen3ForSequenceClassification"),
    ("gemma3_text", "Gemma3TextForSequenceClassification"),
    ("roberta", "RobertaForSequenceClassification"),
    ("distilbert", "DistilBertForSequenceClassification"),
    ("mpnet", "MPNetForSequenceClassification"),
    ("modernbert", "ModernBertForSequenceClassification"),
];

/// A config without its model.
fn config(objective: &str) -> String {
    let data = match objective {
        "classify" => {
            "kind = \"jsonl\"\ntrain = \"data/topics.jsonl\"\nvalidation = \"data/topics.val.jsonl\"\n\
             tokenizer = { kind = \"wordpiece\", vocab_size = 400, lowercase = true }"
        }
        _ => {
            "train = \"data/fox.txt\"\nvalidation = \"data/fox.val.txt\"\ndocument = \"line\"\nrows = \"documents\""
        }
    };
    format!(
        "[data]\n{data}\n[objective]\nkind = \"{objective}\"\n[optimizer]\nlr = 1e-2\n\
         [schedule]\nwarmup_steps = 1\ntotal_steps = 6\n[train]\nsteps = 6\nbatch_rows = 4\nshards = 2\neval_every = 3\n"
    )
}

/// A complete run in two parts, with the output of `sample` and `explain --json`.
fn run(objective: &str, family: &str, class: &str, text: &str) -> (String, serde_json::Value) {
    let (place, plain) = (Place::new(), config(objective));
    let sizes = "n_head = 2\nn_layer = 2\nd_model = 16\ncontext_len = 48\ndropout = 0.1";
    place.write("run.toml", format!("[model]\nfamily = \"{family}\"\n{sizes}\n{plain}"));
    let run = ["--config", "run.toml", "--out", "run", "--quiet"];
    place.train(&[&run[..], &["--set", "train.steps=3"]].concat()).succeeds();
    place.train(&[&run[..], &["--resume"]].concat()).succeeds();
    place.train(&["--check", "run"]).succeeds();
    let written: serde_json::Value =
        serde_json::from_str(&place.read("run/model/config.json")).expect("JSON");
    assert_eq!(written["architectures"][0], class, "{family}");
    // Its folder starts another run.
    let again = plain.replace("tokenizer = { kind = \"wordpiece\", vocab_size = 400, lowercase = true }", "");
    place.write("again.toml", format!("{again}init_from = \"run\"\n"));
    place.train(&["--config", "again.toml", "--out", "again", "--quiet"]).succeeds();
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(place.path("")).output().expect("it runs");
        Said::of(&output)
    };
    let sampled = said(env!("CARGO_BIN_EXE_sample"), &["--model", "again", "--prompt", text]);
    let explain = env!("CARGO_BIN_EXE_explain");
    said(explain, &["--model", "again", "--text", text, "--html", "page.html"]).succeeds();
    let explained = said(explain, &["--model", "again", "--text", text, "--json"]);
    (sampled.succeeds().stdout.clone(), explained.succeeds().json())
}

#[test]
fn every_decoder_is_trained_resumed_sampled_and_explained() {
    for (family, class) in DECODERS {
        let (text, explained) = run("next_token", family, class, "The quick brown");
        assert!(text.starts_with("The quick brown"), "{family}: {text}");
        assert!(explained["logits"].as_array().expect("logits").len() > 10, "{family}");
        assert_eq!(explained["attentions"].as_array().expect("layers").len(), 2, "{family}");
    }
}

#[test]
fn every_encoder_is_trained_resumed_filled_and_explained() {
    for (family, class) in ENCODERS {
        let (text, explained) = run("masked_token", family, class, "The quick [MASK] fox");
        assert!(text.contains("The quick") && !text.contains("[MASK]"), "{family}: {text}");
        assert!(explained["next"][0]["id"].is_u64(), "{family}");
    }
}

#[test]
fn classifiers_of_decoders_and_encoders_are_trained_resumed_and_sampled() {
    for (family, class) in CLASSIFIERS {
        let (text, explained) = run("classify", family, class, "the cat sat");
        assert!(!text.is_empty(), "{family}");
        assert_eq!(explained["logits"].as_array().expect("labels").len(), 5, "{family}");
    }
}

/// A causal model is fine-tuned as a classifier, in two parts.
#[test]
fn a_decoder_becomes_a_classifier() {
    let place = Place::new();
    let sizes = "n_head = 2\nn_layer = 2\nd_model = 16\ncontext_len = 48";
    place.write("run.toml", format!("[model]\nfamily = \"qwen3\"\n{sizes}\n{}", config("next_token")));
    place.train(&["--config", "run.toml", "--out", "run", "--quiet"]).succeeds();
    let own = "tokenizer = { kind = \"wordpiece\", vocab_size = 400, lowercase = true }";
    let labels = config("classify").replace(own, "");
    place.write("labels.toml", format!("{labels}init_from = \"run\"\n"));
    let args = ["--config", "labels.toml", "--out", "labels", "--quiet"];
    place.train(&[&args[..], &["--set", "train.steps=3"]].concat()).succeeds();
    place.train(&[&args[..], &["--resume"]].concat()).succeeds();
    place.train(&["--check", "labels"]).succeeds();
    let written: serde_json::Value =
        serde_json::from_str(&place.read("labels/model/config.json")).expect("JSON");
    assert_eq!(written["architectures"][0], "Qwen3ForSequenceClassification");
}
