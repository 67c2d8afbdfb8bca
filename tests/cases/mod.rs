//! Small inputs from public bug reports about similar programs, each run on the real programs.

mod files;
mod folders;
mod ids;
mod sampling;

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Place, Said};

const LINES: &str = "The quick brown fox jumps.\nA small red hen runs.\nThe old dog sleeps.\n";

/// A place with `base/`, a model folder of one tiny layer with BPE, and `lines.txt`.
fn place(family: &str, tokenizer: &str) -> Place {
    let place = Place::new();
    place.write("lines.txt", LINES);
    place.write(
        "tiny.toml",
        format!(
            "[model]\nfamily = \"{family}\"\nn_layer = 1\nn_head = 1\nd_model = 8\ncontext_len = 64\ndropout = 0\n\
             [data]\ntrain = \"lines.txt\"\ndocument = \"line\"\nrows = \"documents\"\n\
             [data.tokenizer]\n{tokenizer}\n[objective]\nkind = \"{}\"\n[train]\nsteps = 1\n",
            if family == "bert" { "masked_token" } else { "next_token" }
        ),
    );
    place.train(&["--config", "tiny.toml", "--out", "base", "--quiet"]).succeeds();
    place.write("further.toml", FURTHER);
    place
}

/// BPE with three more special tokens: ids 3, 4 and 5.
const PAIRS: &str = "kind = \"bpe\"\nspecial_tokens = [\"<s>\", \"<|stop|>\", \"<|im_start|>\"]";

const FURTHER: &str = r#"
[data]
train = "lines.txt"
document = "line"
rows = "documents"
shuffle = false

[train]
init_from = "base/model"
steps = 1
batch_rows = 3
"#;

fn edit(place: &Place, file: &str, change: impl FnOnce(&mut Value)) {
    let path = format!("base/model/{file}");
    let mut value: Value = match place.path(&path).is_file() {
        true => serde_json::from_str(&place.read(&path)).expect("JSON"),
        false => json!({}),
    };
    change(&mut value);
    place.write(&path, value.to_string());
}

/// Puts `<s>` before each text, as Llama's tokenizers do.
fn put_bos(tokenizer: &mut Value) {
    let text = |id: &str, n: u64| json!({"Sequence": {"id": id, "type_id": n}});
    let bos = |n: u64| json!({"SpecialToken": {"id": "<s>", "type_id": n}});
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [bos(0), text("A", 0)],
        "pair": [bos(0), text("A", 0), bos(1), text("B", 1)],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}},
    });
}

fn further(place: &Place, sets: &[&str]) -> Said {
    std::fs::remove_dir_all(place.path("run")).ok();
    let mut args = vec!["--config", "further.toml", "--out", "run", "--quiet"];
    sets.iter().for_each(|set| args.extend(["--set", set]));
    place.train(&args)
}

fn sample(place: &Place, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    Said::of(&command.args(args).current_dir(place.path("")).output().expect("sample runs"))
}

fn ids_of(place: &Place, prompt: &str) -> Vec<u64> {
    let said = sample(place, &["--model", "base", "--prompt", prompt, "--next", "1", "--json"]);
    serde_json::from_value(said.succeeds().json()["prompt_ids"].clone()).expect("ids")
}

/// Each kind of case, and its tests: paths from `tests/`, without the extension.
const ROWS: [(&str, &[&str]); 28] = [
    (
        "the frame of the tokenizer, in training as in use",
        &[
            "cases/ids::documents_have_the_same_frame_as_prompts",
            "cases/ids::masked_words_over_a_stream_have_the_frame_too",
        ],
    ),
    (
        "the first word of a document is learned",
        &["cases/ids::a_document_without_a_frame_starts_and_ends_with_the_end_token"],
    ),
    (
        "rows shorter than the folder's context",
        &["cases/folders::settings_given_with_a_folder_are_honored_or_refused"],
    ),
    ("end tokens given by id", &["cases/ids::special_tokens_are_those_that_the_folder_gives_by_id"]),
    ("memory of one long document", &["cases/files::a_long_document_needs_little_memory"]),
    (
        "special tokens in typed text",
        &["cases/ids::a_document_without_a_frame_starts_and_ends_with_the_end_token"],
    ),
    (
        "settings that contradict a folder",
        &["cases/folders::settings_given_with_a_folder_are_honored_or_refused"],
    ),
    ("older tokenizer files", &["cases/folders::settings_given_with_a_folder_are_honored_or_refused"]),
    ("an unclosed quote", &["cases/files::faults_of_files_are_reported_with_their_location"]),
    ("a validation without a target", &["cases/ids::text_outside_the_vocabulary_is_reported"]),
    ("a repetition penalty of transformers", &["cases/sampling::a_folders_penalty_covers_the_entire_text"]),
    (
        "a folder's generation settings after training",
        &["cases/folders::generation_settings_of_a_folder_are_kept"],
    ),
    (
        "tokens that only tokenizer_config.json names",
        &["cases/ids::tokens_that_only_the_tokenizer_config_names_are_added"],
    ),
    ("nothing to resume", &["resume::resuming_without_a_run_is_reported"]),
    ("an empty label", &["cases/files::faults_of_files_are_reported_with_their_location"]),
    ("a byte order mark", &["cases/ids::a_byte_order_mark_is_not_text"]),
    ("text outside the vocabulary", &["cases/ids::text_outside_the_vocabulary_is_reported"]),
    ("pairs for a model without types", &["cases/folders::pairs_need_a_model_with_two_token_types"]),
    ("more memory than the machine has", &["watch::a_run_that_exceeds_the_memory_is_refused_and_names_keys"]),
    ("memory of short rows", &["cases/folders::memory_is_counted_by_the_longest_row"]),
    (
        "labels that are numbers, one label alone",
        &["cases/files::faults_of_files_are_reported_with_their_location"],
    ),
    ("lines that aren't rows", &["cases/files::faults_of_files_are_reported_with_their_location"]),
    ("empty keys", &["cases/folders::settings_given_with_a_folder_are_honored_or_refused"]),
    ("alternative names of config keys", &["cases/folders::alternative_names_of_gpt2_sizes_are_read"]),
    ("values in a special form", &["cases/sampling::generation_settings_have_the_meaning_of_transformers"]),
    (
        "links and compressed files",
        &[
            "cases/files::faults_of_files_are_reported_with_their_location",
            "cases/folders::alternative_names_of_gpt2_sizes_are_read",
            "predict::unsuitable_row_flags_are_refused",
        ],
    ),
    ("the smallest temperature", &["cases/sampling::the_smallest_temperature_is_the_greedy_choice"]),
    (
        "readable output",
        &[
            "cases/sampling::a_word_after_an_unknown_prompt_is_separated",
            "cases/sampling::messages_and_numbers_are_readable",
            "cases/ids::documents_have_the_same_frame_as_prompts",
        ],
    ),
];

#[test]
fn every_case_has_its_test() {
    for (number, (kind, tests)) in ROWS.iter().enumerate() {
        assert!(!tests.is_empty(), "{}: {kind}", number + 1);
        for test in *tests {
            let (file, name) = test.split_once("::").expect("a file and a name");
            let text = crate::repository::read(&format!("tests/{file}.rs"));
            let found = text
                .split("#[test]")
                .skip(1)
                .any(|part| part.trim_start().starts_with(&format!("fn {name}(")));
            assert!(found, "{} ({kind}): {test} is no test", number + 1);
        }
    }
}
