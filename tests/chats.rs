//! Conversations from end to end: rows shown, a model trained and chatted with, and faults reported.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Place, Said};

/// `sample` in the folder of a place, with piped input.
fn sample(place: &Place, args: &[&str], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sample"))
        .args(args)
        .current_dir(place.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sample starts");
    // A program that refuses its command line doesn't read its input.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    Said::of(&child.wait_with_output().expect("an end"))
}

/// A barely trained model for the conversations of `chat.toml`.
fn untrained() -> Place {
    let place = Place::new();
    let args = ["--config", "chat.toml", "--out", "run", "--quiet", "--set", "train.steps=1"];
    let still = ["--set", "schedule.warmup_steps=1", "--set", "optimizer.lr=1e-12"];
    place.train(&[&args[..], &still].concat()).succeeds();
    place
}

#[test]
fn the_fox_learns_to_answer() {
    let place = Place::new();
    let said = place.train(&["--config", "chat.toml", "--out", "run", "--json", "--quiet"]);
    let summary = said.succeeds().json();
    let loss = summary["evaluation"]["loss"].as_f64().expect("a loss");
    assert!(loss < 0.05, "validation loss {loss}");
    // The model's folder has the template, and its special tokens.
    assert!(place.read("run/model/chat_template.jinja").contains("'Assistant: '"));
    let tokens: Value = serde_json::from_str(&place.read("run/model/tokenizer_config.json")).expect("JSON");
    assert_eq!(tokens["eos_token"], "<|endoftext|>");
    // Questions from training, one after the other, and one from a file.
    let talk = sample(&place, &["run", "--chat"], "What does a cow say?\n\nWhere does a \\\nbear live?\n");
    let answers: Vec<&str> = talk.succeeds().stdout.lines().collect();
    assert_eq!(answers.len(), 2, "{}", talk.stdout);
    assert_eq!(answers[0], "A cow says moo, said the fox.");
    assert!(answers.iter().all(|answer| answer.ends_with(", said the fox.")), "{answers:?}");
    place.write("one.json", json!([{"role": "user", "content": "What does a cow say?"}]).to_string());
    let once = sample(&place, &["run", "--chat-file", "one.json"], "");
    assert_eq!(once.succeeds().stdout, "A cow says moo, said the fox.\n");
    let input = json!({"messages": [{"role": "user", "content": "What does a cow say?"}]}).to_string();
    let document = sample(&place, &["run", "--chat-file", "-", "--json"], &input).succeeds().json();
    assert_eq!(document["message"], json!({"role": "assistant", "content": "A cow says moo, said the fox."}));
    assert_eq!(document["samples"][0]["finish_reason"], "stop");
    assert_eq!(document["samples"][0]["text"], " A cow says moo, said the fox.");
}

#[test]
fn rows_are_shown_with_their_targets() {
    let place = Place::new();
    let shown = place.train(&["--config", "chat.toml", "--dry-run", "--show-rows", "2"]);
    let text = &shown.succeeds().stdout;
    assert!(text.contains("parameters") && text.contains("row 1: ") && text.contains("row 2: "), "{text}");
    assert!(text.contains("Assistant:⟦ A pig says oink, said the fox.<|endoftext|>⟧\n"), "{text}");
    let json = place.train(&["--config", "chat.toml", "--dry-run", "--show-rows", "500", "--json"]);
    let json = json.succeeds().json();
    let rows = json["rows"].as_array().expect("rows");
    assert_eq!((rows.len(), json.as_object().expect("an object").len()), (200, 1));
    let (text, spans) =
        (rows[0]["text"].as_str().expect("a text"), rows[0]["learned"].as_array().expect("spans"));
    let at = |n: usize| spans[0][n].as_u64().expect("a place") as usize;
    assert_eq!(&text[at(0)..at(1)], " A pig says oink, said the fox.<|endoftext|>");
    // The other kinds of rows, too: all but the first word, masked words, a label.
    for (config, wanted) in [
        ("fox.toml", "⟦ "),
        ("fox-bert.toml", "[MASK]⟧"),
        ("bert-classify.toml", "tokens, label "),
        ("embed-mini.toml", "0 of them targets"),
    ] {
        let said = place.train(&["--config", config, "--dry-run", "--show-rows", "3"]);
        assert!(said.succeeds().stdout.contains(wanted), "{config}: {}", said.stdout);
    }
    place.train(&["--config", "fox.toml", "--show-rows", "3"]).fails(2, &["--dry-run"]);
}

#[test]
fn packed_conversations_train_as_separate_ones() {
    let place = Place::new();
    let first = |run: &str, more: &[&str]| {
        let args = ["--config", "chat.toml", "--out", run, "--quiet", "--set", "train.steps=1"];
        let all =
            ["--set", "schedule.warmup_steps=0", "--set", "train.shuffle=false", "--set", "train.shards=1"];
        place.train(&[&args[..], &all, more].concat()).succeeds();
        let line: Value =
            serde_json::from_str(place.read(&format!("{run}/metrics.jsonl")).lines().next().expect("a line"))
                .expect("JSON");
        let of = |key: &str| line[key].as_f64().expect("a number");
        (of("loss"), of("grad_norm"))
    };
    let plan = ["--config", "chat.toml", "--dry-run", "--json", "--set", "data.rows=windows"];
    let n = place.train(&plan).succeeds().json()["train_rows"].as_u64().expect("rows");
    assert!(n < 100, "{n} windows hold 200 conversations");
    let batch = format!("train.batch_rows={n}");
    let (alone, packed) = (
        first("alone", &["--set", "train.batch_rows=200"]),
        first("packed", &["--set", "data.rows=windows", "--set", &batch]),
    );
    assert!((alone.0 - packed.0).abs() < 1e-5, "{alone:?} {packed:?}");
    assert!((alone.1 - packed.1).abs() < 1e-4 * alone.1, "{alone:?} {packed:?}");
}

#[test]
fn a_resumed_run_keeps_its_template_and_its_time() {
    let place = Place::new();
    place.write(
        "own.jinja",
        "{{ strftime_now('%Y') }}{% for m in messages %}{{ '\\n' + m.role + ': ' + m.content }}{% endfor %}\
         {% if add_generation_prompt %}{{ '\\nassistant: ' }}{% endif %}",
    );
    let args = ["--config", "chat.toml", "--out", "run", "--quiet", "--set", "data.template=own.jinja"];
    let args = [&args[..], &["--set", "schedule.warmup_steps=1"]].concat();
    let steps = |n: &'static str| [&args[..], &["--set", n, "--set", "train.checkpoint_every=2"]].concat();
    place.train(&steps("train.steps=2")).succeeds();
    let resolved = place.read("run/config.toml");
    assert!(resolved.contains("\nnow = \"20"), "{resolved}");
    std::fs::remove_file(place.path("own.jinja")).expect("gone");
    place.train(&[&steps("train.steps=4")[..], &["--resume"]].concat()).succeeds();
    assert!(place.read("run/model/chat_template.jinja").contains("strftime_now"));
    place.train(&["--verify", "run"]).succeeds();
}

#[test]
fn faults_of_conversations_are_reported() {
    let place = untrained();
    for (document, wanted) in [
        ("{", "standard input is not JSON"),
        ("[]", "the conversation is empty"),
        ("{\"messages\": [{\"content\": \"a\"}]}", "message 1 has no role"),
        (
            "[{\"role\": \"tool\", \"content\": \"a\"}]",
            "knows the roles system, user and assistant, not tool",
        ),
        (
            "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]",
            "nothing to answer",
        ),
    ] {
        sample(&place, &["run", "--chat-file", "-"], document).fails(2, &[wanted]);
    }
    sample(&place, &["run", "--chat-file", "none.json"], "").fails(2, &["none.json can't be read"]);
    sample(&place, &["run", "--chat-template", "plain", "--prompt", "a"], "").fails(2, &["requires --chat"]);
    sample(&place, &["run", "--chat", "--prompt", "a"], "").fails(2, &["cannot be used with"]);
    std::fs::remove_file(place.path("run/model/chat_template.jinja")).expect("gone");
    sample(&place, &["run", "--chat"], "a\n").fails(2, &["has no chat template", "--chat-template plain"]);
    sample(&place, &["run", "--chat", "--chat-template", "plain"], "a\n").succeeds();
    place.write("wrong.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"\n");
    let wrong = |set: &str| place.train(&["--config", "chat.toml", "--dry-run", "--set", set]);
    wrong("data.train=wrong.jsonl").fails(1, &["wrong.jsonl:2: EOF while parsing"]);
    wrong("data.template=chatml").fails(2, &["\"chatml\" is neither a file nor the name of a template"]);
    wrong("data.cache=x").fails(2, &["conversations are tokenized at each start"]);
    wrong("objective.kind=masked_token").fails(2, &["\"chat\" needs objective.kind = \"next_token\""]);
    let text = ["--config", "fox.toml", "--dry-run", "--set", "data.template=plain"];
    place.train(&text).fails(2, &["applies to kind = \"chat\" only"]);
}

mod needs_script {
    use std::io::Read;
    use std::process::{Child, ChildStdin};
    use std::sync::mpsc::{Receiver, channel};
    use std::time::Duration;

    use super::*;

    /// What the line editor sends to a terminal when it begins to read (bracketed paste mode).
    const READY: &str = "\u{1b}[?2004h";

    /// `sample --chat` on a terminal.
    struct Terminal {
        child: Child,
        keys: ChildStdin,
        bytes: Receiver<Vec<u8>>,
        shown: String,
    }

    impl Terminal {
        fn new(place: &Place, args: &str) -> Self {
            // With exec, as a shell that waits for the program may end itself by the Ctrl-C that the program survives.
            let command = format!("exec '{}' run --chat {args}", env!("CARGO_BIN_EXE_sample"));
            let mut child = Command::new("script")
                .args(["-q", "-e", "-c", &command, "/dev/null"])
                .current_dir(place.path(""))
                .env("TERM", "xterm")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("script starts");
            let (keys, mut out) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
            let (sender, bytes) = channel();
            std::thread::spawn(move || {
                let mut block = [0; 4096];
                while let Ok(n @ 1..) = out.read(&mut block) {
                    if sender.send(block[..n].to_vec()).is_err() {
                        return;
                    }
                }
            });
            Self { child, keys, bytes, shown: String::new() }
        }

        /// Waits until the output since the last wait contains `text`, or more than a number of bytes.
        fn wait_for(&mut self, text: &str, most: usize) {
            let mut new = String::new();
            while !new.contains(text) && new.len() < most {
                let block = self.bytes.recv_timeout(Duration::from_secs(60));
                let block = block.unwrap_or_else(|_| panic!("{text:?} never came:\n{}{new}", self.shown));
                new += &String::from_utf8_lossy(&block);
            }
            self.shown += &new;
        }

        fn type_in(&mut self, keys: &[u8]) {
            self.keys.write_all(keys).and_then(|()| self.keys.flush()).expect("typed");
        }

        /// The exit code, and the entire output.
        fn end(mut self) -> (Option<i32>, String) {
            let status = self.child.wait().expect("an end");
            self.shown.extend(self.bytes.iter().map(|block| String::from_utf8_lossy(&block).into_owned()));
            (status.code(), self.shown)
        }
    }

    #[test]
    #[ignore = "needs script"]
    fn a_terminal_edits_lines_and_ctrl_c_ends_only_the_answer() {
        let place = untrained();
        // A penalty below 1 makes the model repeat itself forever.
        let mut terminal = Terminal::new(&place, "-n 100000000 --temp 0 --repeat-penalty 0.5");
        terminal.wait_for(READY, usize::MAX);
        terminal.type_in(b"first question\r");
        // An endless answer is interrupted.
        terminal.wait_for("\u{0}", 4096);
        terminal.type_in(b"\x03");
        terminal.wait_for(READY, usize::MAX);
        // The arrow key recalls earlier input, and a line continues on the next.
        terminal.type_in(b"\x1b[A\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7fword\\\rmore\r");
        terminal.wait_for("\u{0}", 4096);
        terminal.type_in(b"\x03");
        terminal.wait_for(READY, usize::MAX);
        terminal.type_in(b"/help\r");
        // Ctrl-D only reaches the editor while it reads.
        terminal.wait_for(READY, usize::MAX);
        terminal.type_in(b"\x04");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(0), "{shown}");
        assert!(shown.contains("starts a new conversation"), "{shown}");
        assert!(shown.contains("first word\\"), "{shown}");
        // At the prompt Ctrl-C exits.
        let mut terminal = Terminal::new(&place, "");
        terminal.wait_for(READY, usize::MAX);
        terminal.type_in(b"\x03");
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(130), "{shown}");
    }
}

mod needs_shared {
    use super::*;

    fn shared(folder: &str) -> PathBuf {
        let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
        let path = std::env::var_os("VULPES_SHARED").map_or_else(beside, PathBuf::from).join(folder);
        assert!(path.exists(), "{} is not here; VULPES_SHARED names its folder", path.display());
        path
    }

    #[test]
    #[ignore = "needs ../shared"]
    fn conversations_match_torch_losses_with_an_adapter() {
        for name in ["zephyr-tinyllama", "mistral-7b-instruct"] {
            let golden = std::fs::read(shared(&format!("goldens/sft/{name}/golden.json"))).expect("a golden");
            let golden: Value = serde_json::from_slice(&golden).expect("JSON");
            let rows = golden["rows"].as_array().expect("rows");
            let place = Place::new();
            let lines: String =
                rows.iter().map(|row| format!("{}\n", json!({ "messages": row["messages"] }))).collect();
            place.write("rows.jsonl", lines);
            place.write(
                "sft.toml",
                "[data]\nkind = \"chat\"\ntrain = \"rows.jsonl\"\nvalidation = \"rows.jsonl\"\n[adapter]\n[optimizer]\n\
                 lr = 1e-3\nbetas = [0.9, 0.95]\neps = 1e-8\nweight_decay = 0.1\nclip = 1.0\n[train]\nsteps = 20\n\
                 shuffle = false\neval_every = 0\ncheckpoint_every = 0\n",
            );
            let sets = [
                format!("train.init_from={}", shared("pretrained/stories260k").display()),
                format!("data.template={}", shared(&format!("goldens/chat/{name}/template.jinja")).display()),
                format!("train.batch_rows={}", rows.len()),
                format!("train.adapter={}", shared(&format!("goldens/sft/{name}")).display()),
            ];
            let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", set.as_str()]).collect();
            place.train(&[&["--config", "sft.toml", "--quiet"], &sets[..]].concat()).succeeds();
            let metrics = place.read("runs/sft/metrics.jsonl");
            let lines: Vec<Value> =
                metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            let of = |key: &'static str| lines.iter().filter_map(move |line| line[key].as_f64());
            let ours: Vec<f64> = of("loss").chain(of("val_loss")).collect();
            let theirs = golden["adamw"]["loss_curve"].as_array().expect("a curve");
            assert_eq!((ours.len(), theirs.len()), (21, 21));
            for (step, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                let off = (ours - theirs.as_f64().expect("a loss")).abs();
                assert!(off < 5e-5, "{name}: after {step} steps the loss differs by {off}");
            }
        }
    }
}
