//! A folder's settings are honored, or refused by name.

use serde_json::{Value, json};

use super::{PAIRS, edit, further, place, sample};
use crate::support::Place;

#[test]
fn settings_given_with_a_folder_are_honored_or_refused() {
    let place = place("gpt2", PAIRS);
    let refused = |sets: &[&str], code: i32, wanted: &str| further(&place, sets).fails(code, &[wanted]);
    refused(
        &["data.tokenizer.eos=nonsense"],
        2,
        "data.tokenizer.eos: the vocabulary has no token \"nonsense\"",
    );
    refused(&["data.tokenizer.kind=char"], 2, "has no effect with train.init_from = \"base/model\"");
    further(&place, &["data.tokenizer.kind=word"]).fails(0, &["warning: [data.tokenizer] has no effect"]);
    refused(&["data.tokenizer.eos="], 2, "data.tokenizer.eos: the token is empty");
    refused(&["data.validation="], 2, "data.validation: a path is empty");
    refused(&["train.max_len=65"], 2, "train.max_len = 65 is more than the model's context of 64 tokens");
    refused(&["data.rows=windows"], 2, "a smaller train.max_len");
    further(&place, &["data.rows=windows", "train.max_len=16"]).succeeds();
    let config: Value = serde_json::from_str(&place.read("run/model/config.json")).expect("JSON");
    assert_eq!(config["n_positions"], 64, "the folder keeps its context");
    std::fs::rename(place.path("base/model/tokenizer.json"), place.path("base/model/spiece.model"))
        .expect("a file");
    refused(&[], 2, "the folder's tokenizer is in spiece.model");
}

#[test]
fn memory_is_counted_by_the_longest_row() {
    let place = place("llama", PAIRS);
    edit(&place, "config.json", |config| config["max_position_embeddings"] = json!(131_072));
    let plan = place.train(&["--config", "further.toml", "--dry-run", "--json"]);
    let bytes = plan.succeeds().json()["memory_bytes"].as_u64().expect("a number");
    assert!(bytes < 10 << 20, "{bytes}");
}

#[test]
fn generation_settings_of_a_folder_are_kept() {
    let place = place("llama", PAIRS);
    let stated = json!({"temperature": 0.6, "do_sample": true, "repetition_penalty": 1.1, "eos_token_id": [0, 4],
        "bos_token_id": 0, "pad_token_id": 1, "num_beams": 1});
    edit(&place, "generation_config.json", |config| *config = stated.clone());
    let found = |sets: &[&str]| -> Value {
        further(&place, sets).succeeds();
        let mut found =
            serde_json::from_str::<Value>(&place.read("run/model/generation_config.json")).expect("JSON");
        found.as_object_mut().expect("an object").remove("_from_model_config");
        found
    };
    assert_eq!(found(&[]), stated);
    let mut wanted = stated.clone();
    wanted["top_k"] = json!(7);
    assert_eq!(found(&["sample.top_k=7"]), wanted);
}

#[test]
fn alternative_names_of_gpt2_sizes_are_read() {
    let place = place("gpt2", PAIRS);
    let before =
        sample(&place, &["--model", "base", "--prompt", "The", "--next", "3"]).succeeds().stdout.clone();
    edit(&place, "config.json", |config| {
        let names =
            [("n_embd", "hidden_size"), ("n_layer", "num_hidden_layers"), ("n_head", "num_attention_heads")];
        let config = config.as_object_mut().expect("an object");
        for (ours, other) in names.into_iter().chain([("n_positions", "max_position_embeddings")]) {
            let value = config.remove(ours).expect("a size");
            config.insert(other.to_owned(), value);
        }
    });
    let after = sample(&place, &["--model", "base", "--prompt", "The", "--next", "3"]);
    assert_eq!(after.succeeds().stdout, before);
    edit(&place, "config.json", |config| config["n_embd"] = json!(16));
    let said = sample(&place, &["--model", "base", "--prompt", "The", "--next", "3"]);
    said.fails(1, &["n_embd = 16, but hidden_size = 8"]);
    place.write(
        "base/model/model.safetensors",
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    );
    edit(&place, "config.json", |config| config["n_embd"] = json!(8));
    sample(&place, &["--model", "base", "--prompt", "The"])
        .fails(1, &["is a git-lfs pointer", "git lfs pull"]);
}

#[test]
fn pairs_need_a_model_with_two_token_types() {
    let place = Place::new();
    let row = |label: &str| format!("{{\"text\": \"a b\", \"pair\": \"c\", \"label\": \"{label}\"}}\n");
    place.write("p.jsonl", row("x") + &row("y"));
    place.write(
        "c.toml",
        "[model]\nfamily = \"bert\"\nn_layer = 1\nn_head = 1\nd_model = 8\ncontext_len = 8\nn_token_type = 1\n\
         [data]\nkind = \"jsonl\"\ntrain = \"p.jsonl\"\npair_column = \"pair\"\n[objective]\nkind = \"classify\"\n\
         [train]\nsteps = 1\n",
    );
    place
        .train(&["--config", "c.toml", "--dry-run"])
        .fails(2, &["data.pair_column", "model.n_token_type = 1"]);
    place.train(&["--config", "c.toml", "--dry-run", "--set", "model.n_token_type=2"]).succeeds();
}
