//! Chat templates and the learned spans of conversations, compared with transformers.
//!
//! Templates and goldens are read from the folder that `VULPES_SHARED` names, else from `../shared` next to the
//! repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vulpes_data::{
    ChatTemplate, Conversation, DataConfig, DataKind, Dataset, ObjectiveConfig, OpenOptions, Paths, ShownRow,
    Tokenizer, TokenizerConfig, TokenizerKind, Turns,
};

fn shared(path: &str) -> PathBuf {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared"));
    let path = std::env::var_os("VULPES_SHARED").map_or_else(beside, PathBuf::from).join(path);
    assert!(path.exists(), "{} is not here; VULPES_SHARED names its folder", path.display());
    path
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The tags of the templates, for tokenizers with a token for each.
const TAGS: [&str; 17] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "[INST]",
    "[/INST]",
    "<|tool|>",
    "<|/tool|>",
    "<|tool_call|>",
    "<tools>",
    "</tools>",
];

/// A model folder's tokenizer and template: the vocabulary of stories260k, which can encode any text, without or with
/// a token for each tag.
fn folder(golden: &Path, cases: &Value, with_tags: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(shared("pretrained/stories260k/tokenizer.json"), at("tokenizer.json")).unwrap();
    std::fs::copy(golden.join("template.jinja"), at("chat_template.jinja")).unwrap();
    let mut config = json!({ "tokenizer_class": "PreTrainedTokenizerFast" });
    for key in ["bos_token", "eos_token"] {
        config[key] = cases[key].clone();
    }
    if with_tags {
        config["additional_special_tokens"] = json!(TAGS);
    }
    std::fs::write(at("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

/// The rows of one conversation, or why there are none.
fn rows(folder: &Path, messages: &Value, now: Option<&str>) -> Result<Vec<ShownRow>, String> {
    let file = folder.join("rows.jsonl");
    std::fs::write(&file, json!({ "messages": messages }).to_string() + "\n").unwrap();
    let data = DataConfig {
        kind: DataKind::Chat,
        train: Paths(vec![file.display().to_string()]),
        now: now.map(str::to_owned),
        tokenizer: TokenizerConfig {
            kind: TokenizerKind::File,
            path: Some(folder.display().to_string()),
            ..TokenizerConfig::default()
        },
        ..DataConfig::default()
    };
    let options = OpenOptions { keep_texts: true, ..OpenOptions::new(1 << 16, 1) };
    let dataset = Dataset::open(&data, &ObjectiveConfig::default(), &options);
    dataset.and_then(|dataset| dataset.shown(99)).map_err(|error| error.to_string())
}

fn range(value: &Value) -> (usize, usize) {
    (value[0].as_u64().unwrap() as usize, value[1].as_u64().unwrap() as usize)
}

/// The bytes of a text between two of its characters.
fn bytes(text: &str, (start, end): (usize, usize)) -> (usize, usize) {
    let at = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    (at(start), at(end))
}

/// Checks that everything in `must` is learned, and nothing outside `may`.
fn check_spans(what: &str, row: &ShownRow, must: &[(usize, usize)], may: &[(usize, usize)]) {
    let within =
        |at: usize, spans: &[(usize, usize)]| spans.iter().any(|&(start, end)| start <= at && at < end);
    for at in 0..row.text.len() {
        let is_learned = within(at, &row.learned);
        let around = || &row.text.as_bytes()[at.saturating_sub(20)..(at + 20).min(row.text.len())];
        let around = || String::from_utf8_lossy(around()).into_owned();
        assert!(is_learned || !within(at, must), "{what}: byte {at} must be learned: {:?}", around());
        assert!(!is_learned || within(at, may), "{what}: byte {at} may not be learned: {:?}", around());
    }
}

fn check_case(what: &str, case: &Value, found: Result<Vec<ShownRow>, String>) -> &'static str {
    let rule = &case["prefix_rule"];
    if let Some(error) = case["error"].as_str() {
        assert!(found.as_ref().is_err_and(|said| said.contains(error)), "{what}: {found:?}\n{error}");
        return "error";
    }
    if rule.as_str().is_some_and(|rule| rule.contains("refuse")) {
        assert!(
            found.as_ref().is_err_and(|said| said.contains("nothing would be learned")),
            "{what}: {found:?}"
        );
        return "empty";
    }
    let text = case["text"].as_str().unwrap();
    let split = case["split_rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = match found {
        Err(said) => {
            let is_refused = split.iter().any(|row| !row["refuse"].is_null());
            assert!(is_refused && said.contains("can't be located"), "{what}: {said}");
            return "refused";
        }
        Ok(rows) => rows,
    };
    if let [row] = rows.as_slice()
        && row.text == text
    {
        if let Some(tagged) = case["generation_tag_spans"].as_array() {
            let spans: Vec<_> = tagged.iter().map(|span| bytes(text, range(span))).collect();
            check_spans(what, row, &spans, &spans);
            return "tagged";
        }
        let spans = |key: &str| -> Vec<_> {
            case["spans"].as_array().unwrap().iter().map(|span| range(&span[key])).collect()
        };
        check_spans(what, row, &spans("must_bytes"), &spans("may_bytes"));
        return "whole";
    }
    assert_eq!(rows.len(), split.len(), "{what}: {rows:?}");
    for (row, golden) in rows.iter().zip(split) {
        let text = golden["text"].as_str().unwrap();
        assert_eq!(row.text, text, "{what}");
        let span = |key: &str| [bytes(text, range(&golden[key]))];
        check_spans(what, row, &span("must"), &span("may"));
    }
    "split"
}

mod needs_shared {
    use super::*;

    #[test]
    #[ignore = "needs ../shared"]
    fn stock_templates_render_and_mask_as_transformers() {
        let conversations = read(&shared("goldens/chat/conversations.json"));
        let mut counts = std::collections::BTreeMap::new();
        let mut folders: Vec<PathBuf> =
            std::fs::read_dir(shared("goldens/chat")).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|path| path.is_dir());
        folders.sort();
        for golden in &folders {
            let name = golden.file_name().unwrap().to_string_lossy().into_owned();
            let cases = read(&golden.join("cases.json"));
            for with_tags in [true, false] {
                let folder = folder(golden, &cases, with_tags);
                let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
                let template = ChatTemplate::find(Some(folder.path()), None, Some(&tokenizer)).unwrap();
                let clock = cases["strftime_now"].as_str().unwrap();
                let now = template.reads_clock().then_some(clock);
                let template = template.with_clock(clock).unwrap();
                for case in cases["cases"].as_array().unwrap() {
                    let conversation = case["conversation"].as_str().unwrap();
                    let what = format!("{name}, {conversation}, tags {with_tags}");
                    let messages = &conversations[conversation];
                    let parsed = Conversation::of_json(messages.clone()).unwrap();
                    if case["error"].is_null() {
                        for (key, prompts) in [("text", false), ("text_with_generation_prompt", true)] {
                            let text = template.render(&parsed, prompts).unwrap();
                            assert_eq!(text, case[key].as_str().unwrap(), "{what}");
                        }
                    }
                    let found = rows(folder.path(), messages, now);
                    *counts.entry(check_case(&what, case, found)).or_insert(0) += 1;
                }
            }
        }
        assert_eq!(folders.len(), 13);
        println!("{counts:?}");
        assert!(
            ["error", "empty", "refused", "tagged", "whole", "split"].iter().all(|kind| counts[kind] > 0)
        );
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn chat_rows_of_a_real_tokenizer_equal_transformers() {
        for name in ["zephyr-tinyllama", "mistral-7b-instruct"] {
            let golden = read(&shared(&format!("goldens/sft/{name}/golden.json")));
            let template = shared(&format!("goldens/chat/{name}"));
            let folder = folder(&template, &json!({"bos_token": "<s>", "eos_token": "</s>"}), false);
            for row in golden["rows"].as_array().unwrap() {
                let found = rows(folder.path(), &row["messages"], None).unwrap().remove(0);
                assert_eq!(json!(found.text), row["text"]);
                assert_eq!(json!(found.ids), row["input_ids"]);
                let must: Vec<_> = row["must"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|span| bytes(&found.text, range(span)))
                    .collect();
                assert_eq!(found.learned, must, "{:?}", found.text);
                let n_learned: u64 =
                    row["learned"].as_array().unwrap().iter().map(|one| one.as_u64().unwrap()).sum();
                assert_eq!(found.n_learned as u64, n_learned);
            }
        }
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn closing_tokens_of_turns_are_found() {
        for (name, lead, end) in [
            ("zephyr-tinyllama", "", "</s>"),
            ("mixtral-8x22b-instruct", " ", "</s>"),
            ("phi-3-mini", "", "<|end|>"),
            ("phi-4-mini", "", "<|end|>"),
            ("qwen3", "<think>\n\n</think>\n\n", "<|im_end|>"),
            ("smollm3-generation-tags", "", "<|im_end|>"),
        ] {
            let golden = shared(&format!("goldens/chat/{name}"));
            for with_tags in [true, false] {
                let folder = folder(&golden, &read(&golden.join("cases.json")), with_tags);
                let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
                let template = ChatTemplate::find(Some(folder.path()), None, Some(&tokenizer)).unwrap();
                let turns = Turns::of(&template, &tokenizer).unwrap();
                assert_eq!(turns.lead, lead, "{name}");
                let closing =
                    turns.end_id.and_then(|id| tokenizer.id_to_token(id)).or(turns.end_text).unwrap();
                assert!(closing.trim().starts_with(end), "{name}: {closing:?}");
            }
        }
    }
}
