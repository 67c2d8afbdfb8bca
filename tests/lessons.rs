//! Runs each lesson of `configs/lessons` and checks the claims of its README.

use serde_json::Value;

use crate::support::Place;

/// A place with the lessons and their data in it.
fn place() -> Place {
    let place = Place::new();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    for folder in ["configs/lessons", "data"] {
        for entry in std::fs::read_dir(format!("{root}{folder}")).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_file() {
                place.write(&format!("{folder}/{name}"), std::fs::read(&path).expect("content"));
            }
        }
    }
    place
}

/// Runs a lesson; returns its last evaluation.
fn run(place: &Place, lesson: &str) -> Value {
    let config = format!("configs/lessons/{lesson}.toml");
    place.train(&["--config", &config, "--out", lesson, "--quiet"]).succeeds();
    let lines = place.read(&format!("{lesson}/metrics.jsonl"));
    let evaluation = lines.lines().rfind(|line| line.contains("val_loss")).expect("an evaluation");
    serde_json::from_str(evaluation).expect("JSON")
}

/// The first and the last frame of the lesson's film, for its only probe.
fn film(place: &Place, lesson: &str) -> [Value; 2] {
    let lines = place.read(&format!("{lesson}/film.jsonl"));
    let frame = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("JSON");
        value["probes"][0].take()
    };
    [frame(lines.lines().nth(1).expect("a first frame")), frame(lines.lines().next_back().expect("a last"))]
}

/// The largest attention weight of the probe's last word in the first head.
fn greatest_weight(frame: &Value) -> f64 {
    let rows = frame["attentions"][0][0].as_array().expect("rows");
    let last = rows.last().and_then(Value::as_array).expect("a row");
    last.iter().filter_map(Value::as_f64).fold(0.0, f64::max)
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no {key} in {value}"))
}

#[test]
fn lessons_01_to_06_reach_their_stated_results() {
    let place = place();
    let loss = number(&run(&place, "01-weights"), "val_loss");
    let [before, after] = film(&place, "01-weights");
    assert!(greatest_weight(&before) < 0.5 && greatest_weight(&after) > 0.9);

    run(&place, "02-context");
    let [before, after] = film(&place, "02-context");
    assert!(number(&before, "angle") > 80.0 && number(&after, "angle") < 45.0);
    assert_eq!(after["next"][0]["text"], "jumps");
    let frames = place.read("02-context/film.jsonl");
    assert!(frames.lines().count() > 20);
    // The first steps, in which most is learned, have separate frames.
    for step in [1, 2, 4, 8] {
        assert!(frames.contains(&format!("{{\"step\":{step},")), "no frame of step {step}");
    }

    let slow = number(&run(&place, "04-learning"), "val_loss");
    assert!(slow < 4.0 && slow > loss + 0.5, "{slow} and {loss}");

    run(&place, "05-query-key-value");
    let [_, after] = film(&place, "05-query-key-value");
    assert!(greatest_weight(&after) < 0.6);
    assert_eq!(after["next"][0]["text"], "jumps");

    let heads = number(&run(&place, "06-heads"), "val_loss");
    assert!(heads < loss - 0.05, "{heads} and {loss}");
}

/// Entropy in nats of the queried word's attention weights, at the beginning and at each evaluation.
fn entropies(place: &Place, lesson: &str) -> Vec<f64> {
    let lines = place.read(&format!("{lesson}/film.jsonl"));
    let entropy = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let counts = value["step"] == 0 || value["val_loss"].is_number();
        counts.then(|| value["probes"][0]["entropies"][0][0].as_f64().expect("an entropy"))
    };
    lines.lines().skip(1).filter_map(entropy).collect()
}

#[test]
fn lesson_05_without_scale_attention_saturates_early() {
    let place = place();
    let with = number(&run(&place, "01-weights"), "val_loss");
    let without = number(&run(&place, "05-without-scale"), "val_loss");
    let (scaled, bare) = (entropies(&place, "01-weights"), entropies(&place, "05-without-scale"));
    assert!(scaled[0] > 1.3 && bare[0] < 0.7 * scaled[0], "{scaled:?} and {bare:?}");
    assert!(bare[1] < scaled[1] - 0.5, "{scaled:?} and {bare:?}");
    assert!(without > with + 0.1, "{without} and {with}");
}

#[test]
fn lesson_03_is_near_uniform_after_one_step() {
    let place = place();
    let found = run(&place, "03-prediction");
    // A uniform guess over the fox's roughly 180 words has a loss of 5.2.
    assert!(number(&found, "val_loss") > 5.0, "{found}");
}

#[test]
fn lesson_07_without_a_mask_warns_and_leaks_the_answer() {
    let place = place();
    // Unless the config sets the mask explicitly, it is an error.
    let config = "configs/lessons/08-classify.toml";
    let set = [
        "data.kind=text",
        "data.train=data/fox.txt",
        "data.validation=data/fox.val.txt",
        "objective.kind=next_token",
    ];
    let args: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    place
        .train(&[&["--config", config, "--out", "mistaken", "--quiet"][..], &args].concat())
        .fails(2, &["mask"]);

    let lesson = "07-without-mask";
    let config = format!("configs/lessons/{lesson}.toml");
    let said = place.train(&["--config", &config, "--out", lesson, "--quiet"]);
    assert!(said.succeeds().stderr.contains("warning: model.mask"), "{}", said.stderr);
    let lines = place.read(&format!("{lesson}/metrics.jsonl"));
    let last = lines.lines().rfind(|line| line.contains("val_loss")).expect("an evaluation");
    let peeking = number(&serde_json::from_str(last).expect("JSON"), "val_loss");
    let honest = number(&run(&place, "06-heads"), "val_loss");
    assert!(peeking < 0.25 * honest, "{peeking} and {honest}");

    assert!(number(&run(&place, "07-bert"), "val_accuracy") > 0.6);
}

#[test]
fn lesson_08_classifies_sentences() {
    let place = place();
    assert!(number(&run(&place, "08-classify"), "val_accuracy") > 0.9);
}

#[test]
fn the_lessons_readme_links_to_each_page() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/lessons");
    let readme = std::fs::read_to_string(format!("{root}/README.md")).expect("a README");
    for entry in std::fs::read_dir(root).expect("the lessons") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        let is_linked = readme.contains(&format!("](../../runs/{name}/page.html)"));
        assert!(is_linked || name == "README", "no link to the page of {name}");
    }
}
