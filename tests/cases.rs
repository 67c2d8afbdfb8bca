//! The same text is the same ids in training and in use, and what files and folders state is honored or refused by name.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Place, Said};

const LINES: &str = "The quick brown fox jumps.\nA small red hen runs.\nThe old dog sleeps.\n";

/// A place with `base/`, a model folder of one tiny layer with byte pairs, and `lines.txt`.
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

/// Byte pairs with three special tokens more: ids 3, 4 and 5.
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

/// Loss of the first step, and the number of tokens that it reads: of documents, of their targets.
fn first_step(place: &Place, sets: &[&str]) -> (f64, u64) {
    further(place, sets).succeeds();
    let metrics = place.read("run/metrics.jsonl");
    let step: Value = serde_json::from_str(metrics.lines().next().expect("a step")).expect("JSON");
    (step["loss"].as_f64().expect("a loss"), step["tokens"].as_u64().expect("targets"))
}

/// The same step on rows of ids given by hand: `before`, the line's own ids, `after`.
fn by_hand(place: &Place, before: &[u64], after: &[u64]) -> (f64, u64) {
    let rows: String = LINES
        .lines()
        .map(|line| {
            let mut ids = before.to_vec();
            ids.extend(ids_of(place, line).into_iter().skip_while(|id| before == [*id]));
            ids.extend(after);
            format!("{}\n", json!({ "input_ids": ids }))
        })
        .collect();
    place.write("rows.jsonl", rows);
    let sets = ["data.kind=ids", "data.train=rows.jsonl", "data.document=file"];
    let (loss, n_tokens) = first_step(place, &sets);
    // The last token of a row of ids is read, though it asks nothing.
    (loss, n_tokens - LINES.lines().count() as u64)
}

fn sample(place: &Place, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    Said::of(&command.args(args).current_dir(place.path("")).output().expect("sample runs"))
}

fn ids_of(place: &Place, prompt: &str) -> Vec<u64> {
    let said = sample(place, &["--model", "base", "--prompt", prompt, "--next", "1", "--json"]);
    serde_json::from_value(said.succeeds().json()["prompt_ids"].clone()).expect("ids")
}

#[test]
fn a_document_without_a_frame_opens_and_ends_with_the_end_token() {
    let place = place("gpt2", PAIRS);
    let (loss, n_targets) = first_step(&place, &[]);
    assert_eq!((loss, n_targets), by_hand(&place, &[0], &[0]));
    assert_eq!(ids_of(&place, ""), [0], "a text of its own starts as a document does");
    let typed = ids_of(&place, "The quick<|endoftext|>");
    assert_eq!((typed.last(), typed.len()), (Some(&0), ids_of(&place, "The quick").len() + 1));
}

#[test]
fn documents_have_the_frame_that_prompts_have() {
    let place = place("llama", PAIRS);
    edit(&place, "tokenizer.json", put_bos);
    assert_eq!(ids_of(&place, "")[..], [3]);
    assert_eq!(ids_of(&place, "The")[0], 3);
    let found = first_step(&place, &[]);
    assert_eq!(found, by_hand(&place, &[3], &[0]));
    // In a stream, too: three documents of as many tokens.
    let plan = |rows: &str| {
        let set = format!("data.rows={rows}");
        let args =
            ["--config", "further.toml", "--set", &set, "--set", "train.max_len=8", "--dry-run", "--json"];
        place.train(&args).succeeds().json()["train_tokens"].clone()
    };
    assert_eq!((plan("windows"), plan("documents")), (json!(found.1 + 3), json!(found.1 + 3)));
    let said = sample(&place, &["--model", "base", "--prompt", "<s>The", "--next", "1"]);
    assert!(said.succeeds().stderr.contains("puts <s> before every text"), "{}", said.stderr);
}

#[test]
fn masked_words_over_a_stream_have_the_frame_too() {
    let place = place("bert", "kind = \"wordpiece\"");
    let args = ["--config", "further.toml", "--set", "train.max_len=8", "--dry-run", "--json", "--set"];
    let tokens =
        |rows: &str| place.train(&[&args[..], &[rows]].concat()).succeeds().json()["train_tokens"].clone();
    assert_eq!(tokens("data.rows=windows"), tokens("data.rows=documents"));
}

#[test]
fn special_tokens_are_those_that_the_folder_states_by_id() {
    let place = place("llama", PAIRS);
    edit(&place, "config.json", |config| config["eos_token_id"] = json!([4, 0]));
    edit(&place, "generation_config.json", |config| config["bos_token_id"] = json!(3));
    assert_eq!(first_step(&place, &[]), by_hand(&place, &[3], &[4]));
    assert_eq!(ids_of(&place, ""), [3]);
    edit(&place, "tokenizer_config.json", |config| config["eos_token"] = json!("<|im_start|>"));
    assert_eq!(first_step(&place, &[]), by_hand(&place, &[3], &[5]), "a name goes before an id");
    assert_eq!(first_step(&place, &["data.tokenizer.eos=<|stop|>"]), by_hand(&place, &[3], &[4]));
    edit(&place, "tokenizer.json", |tokenizer| {
        let text = tokenizer.to_string().replace("<|endoftext|>", "<|zero|>");
        *tokenizer = serde_json::from_str(&text).expect("JSON");
    });
    std::fs::remove_file(place.path("base/model/tokenizer_config.json")).expect("a file");
    edit(&place, "config.json", |config| config["eos_token_id"] = Value::Null);
    edit(&place, "generation_config.json", |config| config["eos_token_id"] = Value::Null);
    let said = further(&place, &[]);
    assert!(said.succeeds().stderr.contains("names no end token"), "{}", said.stderr);
}

#[test]
fn settings_beside_a_folder_are_honored_or_refused() {
    let place = place("gpt2", PAIRS);
    let refused = |sets: &[&str], code: i32, wanted: &str| further(&place, sets).fails(code, &[wanted]);
    refused(
        &["data.tokenizer.eos=nonsense"],
        2,
        "data.tokenizer.eos: the vocabulary has no token \"nonsense\"",
    );
    refused(&["data.tokenizer.kind=char"], 2, "has no effect beside train.init_from = \"base/model\"");
    refused(&["data.tokenizer.eos="], 2, "data.tokenizer.eos: the token is empty");
    refused(&["data.validation="], 2, "data.validation: a path is empty");
    refused(&["train.max_len=65"], 2, "train.max_len = 65 is more than the model's context of 64 tokens");
    refused(&["data.rows=windows"], 2, "a smaller train.max_len");
    further(&place, &["data.rows=windows", "train.max_len=16"]).succeeds();
    let config: Value = serde_json::from_str(&place.read("run/model/config.json")).expect("JSON");
    assert_eq!(config["n_positions"], 64, "the folder keeps its context");
    std::fs::rename(place.path("base/model/tokenizer.json"), place.path("base/model/vocab.txt"))
        .expect("a file");
    refused(&[], 2, "holds its tokenizer as vocab.txt");
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
fn what_a_folder_says_of_generation_stays() {
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
fn tokens_that_only_the_tokenizer_config_names_are_added() {
    let place = place("gpt2", &PAIRS.replace(", \"<|im_start|>\"", ""));
    edit(&place, "tokenizer_config.json", |config| {
        config["additional_special_tokens"] = json!(["<|im_start|>"]);
    });
    let said = sample(&place, &["--model", "base", "--prompt", "<|im_start|>", "--next", "1"]);
    assert!(said.succeeds().stderr.contains("names <|im_start|>, for which"), "{}", said.stderr);
    let wider = place.read("tiny.toml").replace("[model]", "[model]\nvocab_size = 267");
    place.write("tiny.toml", wider);
    std::fs::remove_dir_all(place.path("base")).expect("a folder");
    place.train(&["--config", "tiny.toml", "--out", "base", "--quiet"]).succeeds();
    edit(&place, "tokenizer_config.json", |config| {
        config["additional_special_tokens"] = json!(["<|im_start|>"]);
    });
    assert_eq!(ids_of(&place, "<|im_start|>"), [266]);
}

/// Tables and texts that are not what they seem, each with the place and what it is.
#[test]
fn faults_of_files_are_named_with_their_place() {
    let place = Place::new();
    let words = "[model]\nfamily = \"gpt2\"\nn_layer = 1\nn_head = 1\nd_model = 8\ncontext_len = 8\n[train]\nsteps = 1\n";
    let labels =
        words.replace("gpt2", "bert").replace("[train]", "[objective]\nkind = \"classify\"\n[train]");
    let rows = |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let x = "{\"text\": \"a b\", \"label\": \"x\"}";
    let of_labels = [
        ("csv", rows(&["text,label", "a b,x", "c d,y", "e f,"]), "t.csv:4: column \"label\" is empty"),
        ("jsonl", rows(&[x, "{\"text\": \"c\", \"label\": \" \"}"]), "t.jsonl:2: column \"label\" is empty"),
        ("jsonl", rows(&[x, x]), "data.train: has one label only, \"x\""),
        (
            "jsonl",
            rows(&["{\"text\": \"a\", \"label\": 1}", "{\"text\": \"b\", \"label\": 1.0}"]),
            "only, \"1\"",
        ),
        ("csv", rows(&["text,label", "a b,2", "c d,2.0"]), "only, \"2\""),
        ("jsonl", rows(&[x, "{\"label\": \"y\"}"]), "t.jsonl:2: no column \"text\""),
        ("jsonl", rows(&[x, "{\"text\": \"\\ud83d\", \"label\": \"y\"}"]), "t.jsonl:2: a lone surrogate"),
    ];
    let open = rows(&["text", "a b c d e f", "\"oops", "g h"]);
    let closed = rows(&["text", "\"a \"\"b\"\" c\",", "x"]);
    let of_words = [
        ("csv", open.clone(), "t.csv:3: a quote opens here and is never closed"),
        ("csv", open.replace("oops", "o\"\"ops"), "t.csv:3: a quote opens here"),
        ("csv", closed, "t.csv:2: 2 fields"),
        ("text", "version https://git-lfs.github.com/spec/v1\noid".to_owned(), "git lfs pull"),
    ];
    let cases = of_labels.iter().map(|case| (labels.as_str(), case));
    for (config, (kind, content, wanted)) in cases.chain(of_words.iter().map(|case| (words, case))) {
        place.write("c.toml", config);
        place.write(&format!("t.{kind}"), content);
        let sets = [format!("data.kind={kind}"), format!("data.train=t.{kind}")];
        let args = ["--config", "c.toml", "--out", "run", "--set", &sets[0], "--set", &sets[1]];
        let said = place.train(&args);
        assert!(said.code != 0 && said.stderr.contains(wanted), "{wanted:?} is not in\n{}", said.stderr);
    }
    place.write("t.gz", b"\x1f\x8b\x08\0\0");
    place.write("c.toml", words);
    place
        .train(&["--config", "c.toml", "--set", "data.train=t.gz"])
        .fails(2, &["t.gz is compressed with gzip", "gunzip"]);
}

#[test]
fn text_that_the_tokenizer_cannot_say_is_spoken_of() {
    let place = place("bert", "kind = \"word\"");
    place.write("cn.txt", "狐狸跳过懒狗\n快速的棕色狐狸\n");
    let further = |sets: &[&str]| further(&place, sets);
    further(&["data.validation=cn.txt"]).fails(2, &["data.validation: no row has a target"]);
    place.write("mixed.txt", "The fox 狐狸\n");
    let said = further(&["data.validation=mixed.txt"]);
    let wanted = "data.validation = mixed.txt: 50 % of the text isn't in the tokenizer's vocabulary and is read as [UNK]";
    assert!(said.succeeds().stderr.contains(wanted), "{}", said.stderr);
    place.write("marked.txt", format!("\u{feff}{LINES}"));
    let sets = ["data.train=marked.txt", "data.validation=lines.txt"];
    assert!(!further(&sets).succeeds().stderr.contains("vocabulary"), "a byte order mark is no text");
}

#[test]
fn a_word_after_an_unknown_prompt_stands_apart() {
    let place = place("gpt2", "kind = \"word\"");
    let said = sample(&place, &["--model", "base", "--prompt", "plugh", "-n", "1", "--temp", "0"]);
    let text = said.succeeds().stdout.trim_end();
    let after = text.strip_prefix("plugh").expect("the prompt");
    assert!(after.is_empty() || after.starts_with([' ', '.']), "{text}");
}

#[test]
fn other_names_of_gpt2s_sizes_are_read() {
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
        .fails(1, &["is a pointer of git-lfs", "git lfs pull"]);
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
