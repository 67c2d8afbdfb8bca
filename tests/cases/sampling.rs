//! Sampling settings and output.

use std::process::Command;

use serde_json::Value;

use super::{PAIRS, place, sample};
use crate::support::Said;

#[test]
fn a_word_after_an_unknown_prompt_is_separated() {
    let place = place("gpt2", "kind = \"word\"");
    let said = sample(&place, &["--model", "base", "--prompt", "plugh", "-n", "1", "--temp", "0"]);
    let text = said.succeeds().stdout.trim_end();
    let after = text.strip_prefix("plugh").expect("the prompt");
    assert!(after.is_empty() || after.starts_with([' ', '.']), "{text}");
}

/// Names in transformers' files that mean something else elsewhere, or have a special form.
#[test]
fn generation_settings_have_the_meaning_of_transformers() {
    let place = place("gpt2", PAIRS);
    let said = |config: &str, args: &[&str]| {
        place.write("base/model/generation_config.json", config);
        sample(&place, &[&["base", "The quick", "-n", "4", "--seed", "1"], args].concat())
    };
    // None, and an integer as Python may write it.
    let plain = said("{}", &[]).succeeds().stdout.clone();
    assert_eq!(said("{\"eos_token_id\": -1}", &[]).succeeds().stdout, plain);
    let whole = said("{\"top_k\": 5.0}", &[]).succeeds().stdout.clone();
    assert_eq!(whole, said("{\"top_k\": 5}", &[]).stdout);
    for (config, wanted) in [
        ("{\"top_p\": 1.5}", "generation_config.json: top_p is 1.5; wanted 0 to 1"),
        ("{\"temperature\": \"warm\"}", "generation_config.json: temperature is \"warm\"; wanted a number"),
        ("{\"eos_token_id\": \"end\"}", "generation_config.json: eos_token_id is \"end\""),
    ] {
        said(config, &[]).fails(2, &[wanted]);
    }
}

/// A repetition penalty of transformers covers the entire text, one of llama.cpp the last 64 tokens.
#[test]
fn a_folders_penalty_covers_the_entire_text() {
    let place = place("gpt2", PAIRS);
    let wide = place.read("tiny.toml").replace("context_len = 64", "context_len = 256");
    place.write("tiny.toml", wide);
    place.train(&["--config", "tiny.toml", "--out", "base", "--quiet", "--overwrite"]).succeeds();
    let greedy = |ids: &str, args: &[&str]| -> Value {
        let said =
            sample(&place, &[&["base", "--ids", ids, "-n", "1", "--temp", "0", "--json"], args].concat());
        said.succeeds().json()["samples"][0]["tokens"][0]["id"].clone()
    };
    let likely = greedy(&["10"; 80].join(","), &[]);
    // The most likely token is far back; only a penalty over the entire text reduces its probability.
    let far = [vec![likely.to_string()], vec!["10".to_owned(); 79]].concat().join(",");
    let found = greedy(&far, &[]);
    place.write("base/model/generation_config.json", "{\"repetition_penalty\": 1000.0}");
    assert_ne!(greedy(&far, &[]), found);
    place.write("base/model/generation_config.json", "{}");
    assert_eq!(greedy(&far, &["--repeat-penalty", "1000"]), found);
}

#[test]
fn the_smallest_temperature_is_the_greedy_choice() {
    let place = place("gpt2", PAIRS);
    let ids = |temp: &str| {
        let args = ["base", "The quick", "-n", "6", "--seed", "2", "--temp", temp, "--json"];
        let tokens = sample(&place, &args).succeeds().json()["samples"][0]["tokens"].clone();
        tokens.as_array().expect("tokens").iter().map(|token| token["id"].clone()).collect::<Vec<_>>()
    };
    let greedy = ids("0");
    assert_eq!(greedy.len(), 6);
    for temp in ["1e-40", "1e-300", "5e-324"] {
        assert_eq!(ids(temp), greedy, "{temp}");
    }
}

/// Messages have no negative zero, no Rust types, and no repeated causes.
#[test]
fn messages_and_numbers_are_readable() {
    let place = place("gpt2", PAIRS);
    let heads = place.read("tiny.toml").replace("n_head = 1", "n_head = 2");
    place.write("tiny.toml", heads);
    place.train(&["--config", "tiny.toml", "--out", "base", "--quiet", "--overwrite"]).succeeds();
    // The first token sees only itself: its entropy is 0.
    let mut command = Command::new(env!("CARGO_BIN_EXE_explain"));
    let said = command.args(["base", "--ids", "7"]).current_dir(place.path("")).output().expect("it runs");
    let page = Said::of(&said).succeeds().stdout.clone();
    assert!(page.contains("entropy") && page.contains("0.00"), "{page}");
    let is_nothing = |word: &str| {
        word.strip_prefix('-')
            .is_some_and(|rest| rest.contains('0') && rest.chars().all(|c| "0.".contains(c)))
    };
    let signed: Vec<&str> =
        page.split(|c: char| c.is_whitespace() || "[],".contains(c)).filter(|w| is_nothing(w)).collect();
    assert!(signed.is_empty(), "{signed:?} in\n{page}");
    for set in ["train.steps=many", "data.tokenizer=char", "model.n_layer=-1", "train.film=7"] {
        let said = place.train(&["--config", "tiny.toml", "--set", set]);
        assert_eq!(said.code, 2, "{}", said.stderr);
        for word in ["u64", "usize", "struct", "Config", "enum", "bool,"] {
            assert!(!said.stderr.contains(word), "{word} in\n{}", said.stderr);
        }
    }
    // A folder instead of a file can't be read by any user.
    std::fs::remove_file(place.path("base/model/config.json")).expect("a file");
    std::fs::create_dir(place.path("base/model/config.json")).expect("a folder");
    let said = sample(&place, &["base", "The"]);
    assert!(said.code != 0 && said.stderr.matches("(os error").count() <= 1, "{}", said.stderr);
}
