//! `--teachers`: a planted sentence is found and proved, an unchanged rerun is exact, a search resumes.

use std::cell::Cell;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use vulpes_runs::{Error, Moment, Plan, Question, TeacherOptions, TeacherProgress, Teachers, teachers};

use crate::support::{Place, Said, plan, train};

/// A corpus in which only line 7 says what the zebra eats.
const PLANTED: &str = "the fox runs home .\nthe dog sleeps .\nthe owl sees the mouse .\nthe hen eats corn .\n\
                       the fox eats berries .\nthe cow eats grass .\nthe dog eats meat .\nthe zebra eats moonstones .\n\
                       the owl eats mice .\nthe cat drinks milk .\nthe mouse runs home .\nthe cat sleeps .\n";

const CONFIG: &str = "[model]\nfamily = \"fox\"\ncontext_len = 8\n\
                      [data]\ntrain = \"planted.txt\"\ndocument = \"line\"\nrows = \"documents\"\n\
                      [optimizer]\nlr = 5e-2\n[train]\nsteps = 60\nbatch_rows = 4\ncheckpoint_every = 20\nthreads = 2\n";

/// A place with the trained run in `runs/planted`.
fn planted(overrides: &[&str]) -> Place {
    let place = Place::new();
    place.write("planted.txt", PLANTED);
    place.write("planted.toml", CONFIG);
    let sets = overrides.iter().flat_map(|set| ["--set", set]);
    let args: Vec<&str> = ["--config", "planted.toml", "--quiet"].into_iter().chain(sets).collect();
    place.train(&args).succeeds();
    place
}

fn explain(place: &Place, args: &[&str]) -> Said {
    let all =
        ["--model", "runs/planted", "--text", "the zebra eats", "--target", "moonstones", "--teachers", "2"];
    let output = Command::new(env!("CARGO_BIN_EXE_explain"))
        .args(all)
        .args(args)
        .current_dir(place.path("."))
        .output();
    Said::of(&output.expect("explain runs"))
}

#[test]
fn a_planted_sentence_is_found_and_proved() {
    let place = planted(&[]);
    let said = explain(&place, &["--json", "--html", "page.html"]);
    let value = said.succeeds().json();
    let found = &value["teachers"];
    assert_eq!(
        (&found["rows"][0]["row"], &found["n_proved"], &found["n_rows"]),
        (&7.into(), &12.into(), &12.into())
    );
    assert_eq!(found["rows"][0]["text"], "the zebra eats moonstones.");
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let (with, without) = (number(&found["probability"]), number(&found["rows"][0]["without"]));
    assert!((with - number(&value["target"]["probability"])).abs() < 1e-6, "{with}");
    assert!(with > 0.8 && without < 0.2, "{with}, {without}");
    assert!(number(&found["rows"][0]["effect"]) > 1.0 && found["agreement"].is_f64(), "{found}");
    assert!(number(&found["without_all"]) < 0.2, "{found}");
    let page = place.read("page.html");
    assert!(page.contains("the zebra eats moonstones.") && page.contains("taught-section"));
    // Results are reused, and shown in the terminal.
    let again = explain(&place, &[]);
    assert!(!again.succeeds().stderr.contains("steps of the run"), "{}", again.stderr);
    assert!(
        again.stdout.contains("Who taught it \"moonstones\"")
            && again.stdout.contains("these 2 rows together")
    );
}

#[test]
fn an_irreproducible_run_is_reported_with_advice() {
    let place = planted(&["train.steps=10"]);
    let refused = |said: &Said, code: i32, words: &[&str]| {
        assert_eq!(said.code, code, "{}", said.stderr);
        words.iter().for_each(|word| assert!(said.stderr.contains(word), "{word}: {}", said.stderr));
    };
    let config = place.read("runs/planted/config.toml");
    place.write("runs/planted/config.toml", config.replace("lr = 0.05", "lr = 0.02"));
    refused(&explain(&place, &[]), 1, &["can't be reproduced", "train it again"]);
    place.write("runs/planted/config.toml", config);
    std::fs::rename(place.path("runs/planted/checkpoints"), place.path("elsewhere")).expect("moved");
    refused(&explain(&place, &[]), 2, &["existing steps: none", "train.keep_best=1"]);
    std::fs::rename(place.path("runs/planted/model"), place.path("model")).expect("moved");
    refused(&explain(&place, &["--model", "model"]), 2, &["error"]);
    let args = ["--model", "model", "--text", "the zebra eats", "--target", "moonstones", "--teachers", "2"];
    let output = Command::new(env!("CARGO_BIN_EXE_explain")).args(args).current_dir(place.path(".")).output();
    refused(&Said::of(&output.expect("explain runs")), 2, &["is not a run", "runs/NAME"]);
}

/// A masked model, and a classifier with class weights.
#[test]
fn teachers_of_a_masked_word_and_of_a_label_are_found() {
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let ask = |place: &Place, text: &str, target: &str| {
        let args = ["runs/planted", text, "--target", target, "--teachers", "2", "--json"];
        let output =
            Command::new(env!("CARGO_BIN_EXE_explain")).args(args).current_dir(place.path(".")).output();
        Said::of(&output.expect("explain runs")).succeeds().json()["teachers"].clone()
    };
    let bert = ["model.family=bert", "model.n_layer=1", "model.n_head=2", "optimizer.lr=0.005"];
    let masked = ["model.d_model=32", "objective.kind=masked_token", "train.steps=300"];
    let place = planted(&[&bert[..], &masked].concat());
    let found = ask(&place, "the zebra eats [MASK] .", "moonstones");
    assert_eq!(found["rows"][0]["text"], "the zebra eats moonstones.", "{found}");
    assert!(number(&found["rows"][0]["without"]) < 0.5 * number(&found["probability"]), "{found}");

    let place = Place::new();
    let rows: Vec<String> = PLANTED
        .lines()
        .map(|text| {
            let label = if text.contains("moonstones") { "stone" } else { "beast" };
            format!("{{\"text\": \"{text}\", \"label\": \"{label}\"}}")
        })
        .collect();
    place.write("planted.jsonl", rows.join("\n"));
    let config = CONFIG.replace("planted.txt", "planted.jsonl");
    let config = config.replace("document = \"line\"\nrows = \"documents\"\n", "");
    place.write("planted.toml", &config);
    let label = ["model.d_model=16", "objective.kind=classify", "objective.class_weights={stone=8.0}"];
    let sets = bert.iter().chain(&label).flat_map(|set| ["--set", set]);
    let args: Vec<&str> = ["--config", "planted.toml", "--quiet"].into_iter().chain(sets).collect();
    place.train(&args).succeeds();
    let found = ask(&place, "the zebra eats moonstones .", "stone");
    assert_eq!(found["rows"][0]["text"], "stone: the zebra eats moonstones.", "{found}");
    assert!(number(&found["rows"][0]["without"]) < 0.5 * number(&found["probability"]), "{found}");
}

/// A complete search with dropout, accumulation, shards and clipping, with all progress passed to `hear`.
fn search(
    plan: &Plan,
    stop_after: usize,
    hear: &mut dyn FnMut(TeacherProgress),
) -> Result<Option<Teachers>, Error> {
    let moment = Moment::of(&plan.run_dir)?;
    let tokenizer = plan.dataset.tokenizer().expect("a tokenizer");
    let ids = tokenizer.encode("the zebra eats").expect("ids");
    let answer = tokenizer.encode("moonstones").expect("ids")[0];
    let question = Question { position: ids.len() - 1, ids, token_types: Vec::new(), answer };
    let asked = AtomicUsize::new(0);
    let stop = || asked.fetch_add(1, Ordering::Relaxed) >= stop_after;
    teachers(plan, &moment, &question, &mut TeacherOptions { top: 3, stop: &stop, hear })
}

#[test]
fn an_unchanged_rerun_is_exact_and_a_stopped_search_continues() {
    let place = Place::new();
    place.write("planted.txt", PLANTED);
    let train_on = format!("data.train={}", place.path("planted.txt").display());
    let sets = [
        "model.family=gpt2",
        "model.n_layer=2",
        "model.n_head=2",
        "model.d_model=16",
        "model.dropout=0.1",
        "train.steps=8",
        "train.accumulate=2",
        "train.shards=2",
        "optimizer.clip=0.5",
        &train_on,
    ];
    let plan = plan(&place.path("run"), CONFIG, &sets);
    train(&plan, false, u64::MAX).expect("a run");
    let n_begun = Cell::new(0);
    let mut last = None;
    // The first search would fail here if a bit of the checkpoint differed.
    assert_eq!(search(&plan, 30, &mut |progress| last = Some(progress)).expect("a search"), None);
    assert!(matches!(last, Some(TeacherProgress::Proving { .. })), "{last:?}");
    let whole = search(&plan, usize::MAX, &mut |progress| {
        if matches!(progress, TeacherProgress::Finding { .. }) {
            n_begun.set(n_begun.get() + 1);
        }
    });
    let whole = whole.expect("a search").expect("an end");
    assert_eq!(n_begun.get(), 0, "the run was repeated twice");
    std::fs::remove_dir_all(plan.run_dir.join("teachers")).expect("removed");
    assert_eq!(search(&plan, usize::MAX, &mut |_| ()).expect("a search").expect("an end"), whole);
    assert_eq!(whole.n_proved, whole.n_rows);
    assert!(whole.every.windows(2).all(|pair| pair[0].effect >= pair[1].effect), "{whole:?}");
    // Leaving out one row together with none equals leaving it out.
    assert_eq!((whole.rows[0].together, whole.rows.len()), (Some(whole.rows[0].without), 3));
    assert_eq!(whole.rows[2].together, Some(whole.without_all));
}

/// A batch whose only row is left out has no targets; the step is done nevertheless.
#[test]
fn a_step_without_targets_is_still_done() {
    let place = planted(&["train.batch_rows=1", "train.steps=30"]);
    let found = explain(&place, &["--json"]).succeeds().json()["teachers"].clone();
    assert!(found["rows"][0]["without"].as_f64().expect("a number") > 0.0, "{found}");
}
