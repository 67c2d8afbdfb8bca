//! Custom data: a config that names little more than the path of a text.

use crate::support::Place;

/// About `n_bytes` bytes of slightly different sentences.
fn text(n_bytes: usize) -> String {
    let (who, does) = (["fox", "dog", "owl", "hen"], ["jumps", "sleeps", "sings", "runs", "waits"]);
    let line =
        |i: usize| format!("The {} {} over hill {} and stone {}.\n", who[i % 4], does[i % 5], i % 17, i % 23);
    (0..)
        .map(line)
        .scan(0, |sum, line| {
            (*sum < n_bytes).then(|| {
                *sum += line.len();
                line
            })
        })
        .collect()
}

const SHORT: [&str; 6] =
    ["--set", "train.steps=3", "--set", "train.batch_rows=2", "--set", "train.eval_every=2"];

#[test]
fn a_bare_path_chooses_a_model_that_suits_the_text_and_says_why() {
    let place = Place::new();
    for (name, n_bytes, tokenizer, d_model) in
        [("page", 5_000, "word", 32), ("chapter", 100_000, "char", 64), ("book", 700_000, "bpe", 128)]
    {
        place.write(&format!("{name}.txt"), text(n_bytes));
        let config = format!("{name}.toml");
        place.write(&config, format!("[data]\ntrain = \"{name}.txt\"\n"));
        let args = [&["--config", &config, "--json"][..], &SHORT].concat();
        let said = place.train(&args);
        let digest = said.succeeds().json()["digest"].clone();
        let chosen =
            [&format!("kind = \"{tokenizer}\"")[..], &format!("d_model = {d_model}"), "data.train has"];
        said.fails(0, &chosen);
        let apart = if n_bytes < 20_000 { "nothing is evaluated" } else { "0.1 of data.train is held out" };
        said.fails(0, &[apart]);
        // The resolved config is complete: it gives the same run, and resumes it.
        let written = place.read(&format!("runs/{name}/config.toml"));
        for key in
            ["n_layer", "n_kv_head", "d_head", "d_ff", "norm_eps", "positions", "init_std", "tied_head"]
        {
            assert!(written.contains(&format!("\n{key} = ")), "{key} is not in\n{written}");
        }
        let again = format!("runs/{name}/config.toml");
        let again = place.train(&["--config", &again, "--out", "again", "--overwrite", "--json"]);
        assert_eq!(again.succeeds().json()["digest"], digest);
        let longer = [&args[..], &["--resume", "--set", "train.steps=4"]].concat();
        place.train(&longer).fails(0, &["resuming after step 3"]);
    }
}

#[test]
fn nothing_is_held_out_if_the_config_says_so() {
    let place = Place::new();
    place.write("mine.txt", text(50_000));
    place.write("mine.toml", "[data]\ntrain = \"mine.txt\"\nvalidation_fraction = 0\n");
    let plan = place.train(&["--config", "mine.toml", "--dry-run", "--json"]).succeeds().json();
    assert_eq!(plan["validation_rows"], 0);
}

#[test]
fn the_kind_of_data_follows_from_the_extension() {
    let place = Place::new();
    let rows: String = (0..40).map(|i| format!("\"a text of row {i}\",{}\n", ["yes", "no"][i % 2])).collect();
    place.write("rows.csv", format!("text,label\n{rows}"));
    place.write("rows.toml", "[data]\ntrain = \"rows.csv\"\n[objective]\nkind = \"classify\"\n");
    let args = [&["--config", "rows.toml", "--json"][..], &SHORT].concat();
    place.train(&args).succeeds();
    assert!(place.read("runs/rows/config.toml").contains("kind = \"csv\""));
    let other = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|set| ["--set", *set]);
        place.train(&["--config", "small.toml", "--dry-run"].into_iter().chain(sets).collect::<Vec<_>>())
    };
    other(&["data.kind=jsonl"]).fails(2, &["data.kind", "doesn't look like \"jsonl\"", "\"text\""]);
    other(&["data.validation=rows.csv"]).fails(2, &["data.validation", "another kind than data.train"]);
}

/// If a built-in config needs files that aren't included, the message says how to get them.
#[test]
fn missing_data_is_reported_with_advice() {
    let place = Place::new();
    place
        .train(&["--config", "finetune"])
        .fails(2, &["train.init_from: runs/llama-mini", "`train --config llama-mini` creates it"]);
    place.train(&["--config", "llama-mini"]).fails(
        2,
        &[
            "data/tinyshakespeare.txt: no such file",
            "curl --create-dirs -o data/tinyshakespeare.txt https://",
        ],
    );
    let absent = place.train(&["--config", "fox", "--set", "data.train=absent.txt"]);
    absent
        .fails(2, &["absent.txt: no such file", "paths in data.train are relative to the current directory"]);
    let other = place.train(&["--config", "finetune", "--set", "train.init_from=runs/mine"]);
    other.fails(2, &["train.init_from: runs/mine"]);
    assert!(!other.stderr.contains("creates it"), "{}", other.stderr);
}
