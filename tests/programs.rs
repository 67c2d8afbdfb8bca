//! Calling the programs: alone or through `vulpes`, with positional arguments, with piped input.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{Place, Said};

const PROGRAMS: [(&str, &str); 5] = [
    ("train", env!("CARGO_BIN_EXE_train")),
    ("sample", env!("CARGO_BIN_EXE_sample")),
    ("explain", env!("CARGO_BIN_EXE_explain")),
    ("export", env!("CARGO_BIN_EXE_export")),
    ("bench", env!("CARGO_BIN_EXE_bench")),
];

/// A program in a folder, not started yet, as from an installed folder and not through cargo.
fn program(place: &Place, path: &str, args: &[&str]) -> Command {
    let mut command = Command::new(path);
    command.args(args).current_dir(place.path(".")).stdin(Stdio::null()).env_remove("CARGO_MANIFEST_DIR");
    command
}

fn run(place: &Place, path: &str, args: &[&str]) -> Said {
    Said::of(&program(place, path, args).output().expect("it runs"))
}

fn vulpes(place: &Place, args: &[&str]) -> Said {
    run(place, env!("CARGO_BIN_EXE_vulpes"), args)
}

fn sample(place: &Place, args: &[&str]) -> Said {
    run(place, PROGRAMS[1].1, args)
}

/// A place with a trained fox in `runs/fox`.
fn with_fox() -> Place {
    let place = Place::new();
    place.train(&["--config", "fox.toml", "--quiet", "--set", "train.steps=60"]).succeeds();
    place
}

#[test]
fn vulpes_prints_the_same_help_as_the_programs() {
    let place = Place::new();
    for (name, path) in PROGRAMS {
        let alone = run(&place, path, &["--help"]);
        let through = vulpes(&place, &[name, "--help"]);
        assert_eq!(through.code, 0, "{}", through.stderr);
        let words = |text: &str| {
            let text = text.replace(&format!("vulpes {name}"), name);
            text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(words(&through.stdout), words(&alone.stdout), "{name}");
    }
    let examples = vulpes(&place, &["sample", "--help"]).stdout;
    assert!(examples.contains("\n  vulpes sample runs/fox"), "{examples}");
    let all = vulpes(&place, &["--help"]).stdout;
    assert!(PROGRAMS.iter().all(|(name, _)| all.contains(&format!("\n  {name} "))), "{all}");
}

#[test]
fn vulpes_exits_as_the_programs_do() {
    let place = Place::new();
    for (name, args) in [
        ("train", &["--config", "nowhere.toml"][..]),
        ("train", &["--config", "small.toml", "--set", "train.stps=3"]),
        ("train", &["--check", "nowhere"]),
        ("train", &["--colour"]),
        ("sample", &["--model", "nowhere"]),
        ("sample", &["--prompt", "fox"]),
        ("explain", &["--model", "nowhere", "--text", "fox"]),
        ("explain", &["--model", "nowhere"]),
        ("export", &["nowhere", "--to", "gguf", "--out", "a"]),
        ("export", &["--to", "hf"]),
        ("bench", &["--config", "nowhere.toml", "--peer", "jax=python"]),
        ("bench", &[]),
    ] {
        let path = PROGRAMS.iter().find(|(other, _)| *other == name).expect("a program").1;
        let (alone, through) = (run(&place, path, args), vulpes(&place, &[&[name], args].concat()));
        let plain = |text: &str| text.replace(&format!("vulpes {name}"), name);
        assert_eq!((plain(&through.stderr), through.code), (alone.stderr, alone.code), "{name} {args:?}");
        assert_ne!(through.code, 0, "{name} {args:?}");
    }
    vulpes(&place, &["sample", "--model", "m", "fox"]).fails(2, &["try `vulpes sample m \"fox\"`"]);
    assert_eq!(vulpes(&place, &["sing"]).code, 2);
    assert_eq!(vulpes(&place, &[]).code, 2);
}

#[test]
fn a_run_through_vulpes_is_the_same_run_and_its_tips_name_vulpes() {
    let place = Place::new();
    let args = ["--config", "small.toml", "--json", "--set", "train.steps=3"];
    let path = PROGRAMS[0].1;
    let alone = run(&place, path, &[&args[..], &["--out", "alone"]].concat());
    let through = vulpes(&place, &[&["train"], &args[..], &["--out", "through"]].concat());
    assert_eq!(through.succeeds().json()["digest"], alone.succeeds().json()["digest"]);
    assert!(through.stderr.contains("\n  vulpes sample --model through --prompt"), "{}", through.stderr);
    assert!(through.stderr.contains("\n  vulpes explain --model through --text"), "{}", through.stderr);
    assert!(alone.stderr.contains("\n  sample --model alone --prompt"), "{}", alone.stderr);
}

/// `bench` starts itself as workers: through `vulpes` they need the subcommand first.
#[test]
fn bench_through_vulpes_starts_its_workers() {
    let place = Place::new();
    let args =
        ["bench", "--config", "small.toml", "--rounds", "1", "--steps", "1", "--threads", "1", "--json"];
    assert!(vulpes(&place, &args).succeeds().json().is_object());
}

#[test]
fn completions_have_every_program_and_flag() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = vulpes(&place, &["completions", shell]);
        script.succeeds();
        for word in ["repeat-last-n", "walkthrough", "dry-run", "rounds", "completions"] {
            assert!(script.stdout.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(vulpes(&place, &["completions", "sh"]).code, 2);
}

#[test]
fn manual_pages_have_every_flag() {
    let place = Place::new();
    for (args, words) in [
        (&["man"][..], &["vulpes\\-train", "completions", ".SH EXAMPLES", "Examples:"][..]),
        (&["man", "train"], &["\\-\\-overwrite", "Exit codes"]),
        (&["man", "sample"], &["\\-\\-text\\-column", "sample runs/fox"]),
        (&["man", "export"], &["\\-\\-no\\-tokenizer", "export runs/llama\\-mini"]),
        (&["man", "explain"], &["\\-\\-walkthrough"]),
    ] {
        let page = vulpes(&place, args);
        assert!(page.succeeds().stdout.contains(".TH "), "{}", page.stdout);
        words
            .iter()
            .for_each(|word| assert!(page.stdout.contains(word), "{args:?}: {word}: {}", page.stdout));
    }
    assert_eq!(vulpes(&place, &["man", "sing"]).code, 2);
}

#[test]
fn folder_and_texts_can_be_positional() {
    let place = with_fox();
    let next = ["--next", "3"];
    let typed =
        sample(&place, &[&["--model", "runs/fox", "--prompt", "The quick brown"], &next[..]].concat());
    let placed = sample(&place, &[&["runs/fox", "The quick brown"], &next[..]].concat());
    assert_eq!(placed.succeeds().stdout, typed.succeeds().stdout);
    let placed = sample(&place, &["--next", "3", "runs/fox", "The quick", "A small", "--json"]);
    assert_eq!(placed.succeeds().json()["prompts"].as_array().map(Vec::len), Some(2));
    let path = PROGRAMS[2].1;
    let typed = run(&place, path, &["--model", "runs/fox", "--text", "The quick brown"]);
    let placed = run(&place, path, &["runs/fox", "The quick brown"]);
    assert_eq!(placed.succeeds().stdout, typed.succeeds().stdout);
}

#[test]
fn piped_text_is_the_prompt() {
    let place = with_fox();
    let wanted = sample(&place, &["runs/fox", "The quick brown", "--next", "3", "--json"]);
    let command = || program(&place, PROGRAMS[1].1, &["--model", "runs/fox", "--next", "3", "--json"]);
    for text in ["The quick brown\n", "The quick brown", "The quick brown\r\n"] {
        let mut child = command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
        let said = Said::of(&child.wait_with_output().expect("an end"));
        assert_eq!(said.succeeds().stdout, wanted.succeeds().stdout, "{text:?}");
        place.write("text.txt", text);
        let file = File::open(place.path("text.txt")).expect("a file");
        let said = Said::of(&command().stdin(file).output().expect("an end"));
        assert_eq!(said.succeeds().stdout, wanted.stdout, "{text:?}");
    }
}

#[test]
fn empty_standard_input_is_no_prompt() {
    let place = with_fox();
    let own = sample(&place, &["runs/fox", "--next", "3", "--json"]);
    own.succeeds();
    let command = |args: &[&str]| program(&place, PROGRAMS[1].1, args);
    place.write("empty.txt", "");
    let empty = File::open(place.path("empty.txt")).expect("a file");
    let said =
        Said::of(&command(&["runs/fox", "--next", "3", "--json"]).stdin(empty).output().expect("an end"));
    assert_eq!(said.succeeds().stdout, own.stdout);
    // Sockets inherited from servers may stay silent forever; so may a pipe, which isn't read if there is a prompt.
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a socket");
    let theirs = std::os::fd::OwnedFd::from(theirs);
    let said =
        Said::of(&command(&["runs/fox", "--next", "3", "--json"]).stdin(theirs).output().expect("an end"));
    assert_eq!(said.succeeds().stdout, own.stdout);
    drop(ours);
    let (silent, writer) = std::io::pipe().expect("a pipe");
    let typed = Said::of(
        &command(&["runs/fox", "The", "--next", "3", "--json"]).stdin(silent).output().expect("an end"),
    );
    assert_ne!(typed.succeeds().stdout, own.stdout);
    drop(writer);
}

#[test]
fn notes_report_generated_seeds_and_changed_settings() {
    let place = with_fox();
    let said = |args: &[&str]| sample(&place, &[&["runs/fox", "The", "-n", "4"], args].concat());
    assert!(said(&[]).stderr.contains("seed: "), "a generated seed is reported");
    assert!(said(&["--seed", "-1"]).stderr.contains("seed: "), "so is one requested with -1");
    assert!(!said(&["--seed", "7"]).stderr.contains("seed"), "one given by flag is not");
    assert!(!said(&["--temp", "0"]).stderr.contains("seed"), "nothing is sampled");
    let below = said(&["--temp", "-1"]);
    assert!(below.stderr.contains("--temp -1 is treated as 0"), "{}", below.stderr);
    assert_eq!(below.stdout, said(&["--temp", "0"]).stdout);
}

/// Both streams in one file, as on a terminal: the note begins a line.
#[test]
fn a_note_begins_on_a_new_line() {
    let place = with_fox();
    let both = File::create(place.path("both.txt")).expect("a file");
    let prompt = "the fox ".repeat(9);
    let mut command = program(&place, PROGRAMS[1].1, &["runs/fox", &prompt, "-n", "2", "--seed", "1"]);
    let status = command.stdout(both.try_clone().expect("a file")).stderr(both).status().expect("an end");
    assert!(status.success());
    let shown = place.read("both.txt");
    assert!(shown.contains("\nnote: the text is longer than the context"), "{shown}");
}

/// An error is a message without a backtrace.
#[test]
fn errors_have_no_backtrace() {
    let place = Place::new();
    place.train(&["--config", "small.toml", "--set", "train.steps=3"]).succeeds();
    place.write("runs/small/model/model.safetensors", "nothing");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    command.args(["--model", "runs/small", "--prompt", "The"]).current_dir(place.path("."));
    command.env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    let said = Said::of(&command.output().expect("sample runs"));
    said.fails(1, &["model.safetensors"]);
    assert!(!said.stderr.contains("   0: "), "{}", said.stderr);
}
