//! Labels, filled masks and next words for single texts and for every row of a file.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::repository::read;
use crate::support::{Place, Said};

/// A place with a classifier of five topics, trained for a number of steps, and the output of training.
fn trained(steps: u32) -> (Place, Said) {
    let place = Place::new();
    let steps = format!("train.steps={steps}");
    let args =
        ["--config", "bert-classify.toml", "--json", "--set", &steps, "--set", "schedule.total_steps=120"];
    let said = place.train(&args);
    said.succeeds();
    (place, said)
}

/// The classifier in the place of [`trained`].
const TOPICS: &str = "runs/bert-classify";

fn topics() -> (Place, &'static Path) {
    (trained(120).0, Path::new(TOPICS))
}

#[test]
fn the_suggested_command_classifies_a_text_of_the_corpus() {
    let tips = trained(2).1.stderr;
    let text = "\"The chef peels a basket of potatoes and tastes it with a spoon.\"\n";
    assert!(tips.contains(&format!("--model {TOPICS} --prompt {text}")), "{tips}");
    assert!(tips.ends_with(&format!("--model {TOPICS} --text {text}")), "{tips}");
}

fn sample(place: &Place, model: &Path, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
    command.arg(model).args(args).current_dir(place.path(".")).stdin(Stdio::null());
    Said::of(&command.output().expect("sample runs"))
}

/// The lines of a table, cut at tabs.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split('\t').collect()).collect()
}

fn lines(said: &Said) -> Vec<Value> {
    said.succeeds().stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_classifier_prints_label_and_probability() {
    let (place, topics) = topics();
    let text = "A late frost was gone by noon and the temperature dropped to zero.";
    let best = sample(&place, topics, &[text]);
    let (label, probability) = best.succeeds().stdout.trim_end().split_once("  ").expect("two columns");
    assert_eq!(label, "weather");
    assert!(probability.trim().parse::<f64>().expect("a number") > 0.5, "{probability}");
    let table = sample(&place, topics, &["--prompt", text, "--next", "9"]);
    assert_eq!(table.succeeds().stdout.lines().count(), 5, "{}", table.stdout);
    assert!(table.stdout.starts_with("weather "), "{}", table.stdout);
    let json = sample(&place, topics, &[text, "--json"]).succeeds().json();
    assert_eq!(json["label"], "weather");
    assert_eq!(format!("{:.4}", json["probability"].as_f64().expect("a number")), probability.trim());
    let two =
        sample(&place, topics, &[text, "Her brother fries eggs and tastes them with a spoon.", "--json"])
            .succeeds()
            .json();
    assert_eq!(two["prompts"][1]["label"], "kitchen");
    sample(&place, topics, &[]).fails(2, &["--prompt TEXT"]);
    sample(&place, topics, &[text, "--temp", "1"]).fails(2, &["is a classifier"]);
    sample(&place, topics, &[text, "-n", "4"]).fails(2, &["-n"]);
    let long = sample(&place, topics, &[&"snow ".repeat(90)]);
    assert!(long.succeeds().stderr.contains("are dropped"), "{}", long.stderr);
}

#[test]
fn every_row_of_a_file_gets_the_same_label_as_alone() {
    let (place, topics) = topics();
    let rows: Vec<Value> =
        read("data/topics.val.jsonl").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    place.write("topics.jsonl", read("data/topics.val.jsonl"));
    let texts: Vec<&str> = rows.iter().map(|row| row["text"].as_str().expect("a text")).collect();
    place.write("topics.txt", texts.join("\n"));
    let csv: String =
        rows.iter().map(|row| format!("{},{}\n", row["label"].as_str().unwrap(), row["text"])).collect();
    place.write("topics.csv", format!("topic,body\n{csv}"));
    place.write("topics.tsv", format!("topic\tbody\n{}", csv.replacen(",\"", "\t\"", usize::MAX)));
    let json = sample(&place, topics, &["--prompt-file", "topics.jsonl", "--json"]);
    let table = sample(&place, topics, &["--prompt-file", "topics.jsonl"]);
    let one_thread = sample(&place, topics, &["--prompt-file", "topics.jsonl", "--threads", "1"]);
    assert_eq!(one_thread.succeeds().stdout, table.succeeds().stdout);
    let (json, found) = (lines(&json), cells(&table.stdout));
    assert_eq!(found[0], ["row", "label", "probability", "text"]);
    assert_eq!((json.len(), found.len()), (60, 61));
    for (number, (one, cells)) in json.iter().zip(&found[1..]).enumerate() {
        let probability = format!("{:.4}", one["probability"].as_f64().expect("a number"));
        assert_eq!(
            cells[..],
            [&(number + 1).to_string(), one["label"].as_str().unwrap(), &probability, texts[number]]
        );
        assert_eq!(
            (one["row"].as_u64(), one["line"].as_u64()),
            (Some(number as u64 + 1), Some(number as u64 + 1))
        );
    }
    for number in [0, 7, 31] {
        let alone = sample(&place, topics, &[texts[number]]);
        let wanted = format!("{}  {}\n", found[number + 1][1], found[number + 1][2]);
        assert_eq!(alone.succeeds().stdout, wanted);
    }
    let by_lines = sample(&place, topics, &["--prompt-file", "topics.txt"]);
    assert_eq!(by_lines.succeeds().stdout, table.stdout);
    let by_columns = sample(&place, topics, &["--prompt-file", "topics.csv", "--text-column", "body"]);
    assert_eq!(by_columns.succeeds().stdout, table.stdout);
    let by_tabs = sample(&place, topics, &["--prompt-file", "topics.tsv", "--text-column", "body"]);
    assert_eq!(by_tabs.succeeds().stdout, table.stdout);
    let shares = json[0]["probabilities"].as_object().expect("an object");
    let sum: f64 = shares.values().map(|share| share.as_f64().expect("a number")).sum();
    assert!(shares.len() == 5 && (sum - 1.0).abs() < 1e-5, "{shares:?}");
    let three = sample(&place, topics, &["--prompt-file", "topics.jsonl", "--next", "3"]);
    let three = cells(&three.succeeds().stdout);
    assert_eq!((three[0].len(), three.len()), (5, 181));
    assert_eq!((three[4][..3].to_vec(), three[4][3]), (vec!["2", "1", found[2][1]], found[2][2]));
}

#[test]
fn given_labels_are_scored_as_in_training() {
    let (place, said) = trained(50);
    let topics = Path::new(TOPICS);
    place
        .write("rows.jsonl", read("data/topics.val.jsonl") + "{\"text\": \"A dog.\", \"label\": \"pets\"}\n");
    let args = ["--prompt-file", "rows.jsonl", "--label-column", "label"];
    let json = lines(&sample(&place, topics, &[&args[..], &["--json"]].concat()));
    assert_eq!(json.len(), 62);
    let report = &json[61]["report"];
    let right = json[..60].iter().filter(|row| row["label"] == row["given"]).count();
    assert_eq!(report["rows"], 60);
    assert!((report["accuracy"].as_f64().unwrap() - right as f64 / 60.0).abs() < 1e-12, "{report}");
    let labels = report["labels"].as_array().unwrap();
    let support: u64 = labels.iter().map(|label| label["support"].as_u64().unwrap()).sum();
    assert_eq!((labels.len(), support), (5, 60));
    let of_training = &said.json()["evaluation"];
    for score in ["accuracy", "macro_f1"] {
        let (found, wanted) = (report[score].as_f64().unwrap(), of_training[score].as_f64().unwrap());
        assert!((found - wanted).abs() < 1e-12 && found < 1.0, "{score}: {found}, and in training {wanted}");
    }
    let table = sample(&place, topics, &args);
    assert_eq!(cells(&table.succeeds().stdout)[0].last(), Some(&"given"));
    for words in [
        "rows.jsonl:61: unknown label \"pets\" (the model has ",
        "60 rows: accuracy",
        "macro-F1",
        "label    precision  recall      F1  support",
        "confusion: given (rows) and predicted (columns, by number)",
    ] {
        assert!(table.stderr.contains(words), "{words:?} is not in\n{}", table.stderr);
    }
}

#[test]
fn unusable_rows_are_reported_with_their_line() {
    let (place, topics) = topics();
    let long = "snow ".repeat(90);
    place
        .write("rows.csv", format!("text\nShe boils eggs.\n\"\"\n\"Two\tlines\nof snow\"\n{long}\n{long}\n"));
    let said = sample(&place, topics, &["--prompt-file", "rows.csv"]);
    said.fails(
        0,
        &[
            "rows.csv:3: the text is empty; row skipped",
            "cut to the context of 64 tokens: 2 rows, the first in line 6",
        ],
    );
    let rows: Vec<&str> = said.stdout.lines().filter_map(|line| line.split('\t').next()).collect();
    assert_eq!(rows, ["row", "1", "3", "of snow\"", "4", "5"], "{}", said.stdout);
    assert!(said.stdout.contains("\"Two\tlines\nof snow\""), "a text is unchanged, quoted if necessary");
    place.write("empty.csv", "text\n\"\"\n");
    sample(&place, topics, &["--prompt-file", "empty.csv"])
        .fails(1, &["has no row that this model can read"]);
    place.write("bad.jsonl", "{\"text\": \"snow\"}\nsnow\n");
    sample(&place, topics, &["--prompt-file", "bad.jsonl"]).fails(1, &["bad.jsonl:2"]);
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let (place, topics) = topics();
    place.write("rows.txt", "Snow fell on the fields.\n".repeat(3000));
    for form in [&[][..], &["--json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sample"));
        command.arg(topics).args(["--prompt-file", "rows.txt"]).args(form).current_dir(place.path("."));
        let said = Said::of(&command.stdin(Stdio::null()).stdout(writer).output().expect("sample runs"));
        assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    }
}

#[test]
fn unsuitable_row_flags_are_refused() {
    let (place, topics) = topics();
    place.write("rows.csv", "body\nsnow\n");
    place.write("rows.txt", "snow\n");
    place.write("rows.csv.gz", [0x1f, 0x8b, 8, 0]);
    place.train(&["--config", "fox-bert.toml", "--quiet", "--set", "train.steps=50"]).succeeds();
    let bert = place.path("runs/fox-bert");
    for (model, args, words) in [
        (topics, &["--prompt-file", "rows.csv"][..], "no column \"text\"; it has body"),
        (topics, &["--prompt-file", "rows.csv", "--text-column", "bod"], "no column \"bod\""),
        (topics, &["--prompt-file", "rows.txt", "--text-column", "body"], "plain text, with a row per line"),
        (topics, &["--prompt-file", "rows.tsv"], "rows.tsv can't be read"),
        (topics, &["--prompt-file", "rows.csv.gz"], "gunzip"),
        (&bert, &["--prompt-file", "rows.csv.gz"], "gunzip"),
        (topics, &["--prompt-file", "-", "--rows"], "from standard input"),
        (topics, &["--rows", "--prompt", "snow"], "--prompt-file"),
        (topics, &["--label-column", "body", "snow"], "--prompt-file"),
        (
            &bert,
            &["--prompt-file", "rows.csv", "--label-column", "body"],
            "--label-column requires a classifier",
        ),
        (&bert, &["--prompt-file", "rows.txt", "--rows", "--num-samples", "2"], "--num-samples"),
    ] {
        sample(&place, model, args).fails(2, &[words]);
    }
}

#[test]
fn masks_of_every_row_are_filled() {
    let place = Place::new();
    place.train(&["--config", "fox-bert.toml", "--quiet", "--set", "train.steps=200"]).succeeds();
    let model = place.path("runs/fox-bert");
    let texts = ["The quick [MASK] fox jumps", "The [MASK] fox [MASK] over", "The small fox"];
    place.write("rows.txt", texts.join("\n"));
    let said = sample(&place, &model, &["--prompt-file", "rows.txt", "--rows"]);
    said.fails(0, &["rows.txt:3: the text has no mask to fill; row skipped"]);
    let found = cells(&said.stdout);
    assert_eq!((found.len(), &found[0][..]), (3, &["row", "filled", "text"][..]));
    for (cells, text) in found[1..].iter().zip(texts) {
        let alone = sample(&place, &model, &[text]);
        assert_eq!((format!("{}\n", cells[1]), cells[2]), (alone.succeeds().stdout.clone(), text));
    }
    let tables = sample(&place, &model, &["--prompt-file", "rows.txt", "--rows", "--next", "2", "--json"]);
    let tables = lines(&tables);
    assert_eq!((tables[1]["masks"].as_array().map(Vec::len), tables.len()), (Some(2), 2));
    // Without --rows a file is one prompt.
    let one = sample(&place, &model, &["--prompt-file", "rows.txt"]);
    assert_eq!(one.succeeds().stdout.lines().count(), 1, "{}", one.stdout);
}

#[test]
fn every_row_is_continued_the_same_as_alone() {
    let place = Place::new();
    place.train(&["--config", "fox.toml", "--quiet", "--set", "train.steps=100"]).succeeds();
    let model = place.path("runs/fox");
    let texts: Vec<String> =
        (0..70).map(|i| ["The quick brown", "A", "The lazy dog and the"][i % 3].to_owned()).collect();
    place.write("rows.txt", texts.join("\n"));
    let rows = ["--prompt-file", "rows.txt", "--rows"];
    let said = sample(&place, &model, &[&rows[..], &["-n", "4", "--temp", "0"]].concat());
    let found = cells(&said.succeeds().stdout);
    assert_eq!((found.len(), &found[0][..]), (71, &["row", "continuation", "text"][..]));
    let alone = sample(&place, &model, &["The lazy dog and the", "-n", "4", "--temp", "0"]);
    assert_eq!(alone.succeeds().stdout, format!("The lazy dog and the{}\n", found[3][1]));
    assert!(!said.stderr.contains("seed"), "{}", said.stderr);
    let chance = sample(&place, &model, &[&rows[..], &["-n", "1"]].concat());
    assert!(chance.succeeds().stderr.contains("seed: "), "a generated seed is reported");
    // A row's random numbers don't depend on the rows continued with it.
    let drawn = ["-n", "6", "--temp", "2", "--top-k", "0", "--seed", "3"];
    let all = sample(&place, &model, &[&rows[..], &drawn].concat());
    let all = cells(&all.succeeds().stdout);
    let mut prompts = Vec::new();
    texts.iter().for_each(|text| prompts.extend(["--prompt", text]));
    let together = sample(&place, &model, &[&prompts[..], &drawn].concat());
    let together: Vec<&str> = together.succeeds().stdout.trim_end().split("\n---\n").collect();
    for (number, whole) in together.iter().enumerate() {
        assert_eq!(**whole, format!("{}{}", texts[number], all[number + 1][1]), "row {}", number + 1);
    }
    let next = sample(&place, &model, &[&rows[..], &["--next", "2"]].concat());
    let next = cells(&next.succeeds().stdout);
    assert_eq!((next.len(), &next[0][..]), (141, &["row", "rank", "token", "probability", "text"][..]));
    let table = sample(&place, &model, &["The quick brown", "--next", "1"]);
    assert_eq!(table.succeeds().stdout.split_whitespace().collect::<Vec<_>>(), next[1][2..4]);
}

/// The kind of a file follows from its extension, for any kind of answer.
#[test]
fn rows_of_every_kind_of_file_are_continued_and_filled() {
    let place = Place::new();
    let texts = ["The quick [MASK] fox, it jumps", "The \"lazy\" [MASK]", "Every [MASK]\nfox"];
    let json = |text: &str| serde_json::to_string(text).expect("a string");
    let quoted: Vec<String> = texts.iter().map(|text| format!("\"{}\"", text.replace('"', "\"\""))).collect();
    let table = |comma: &str| {
        format!("id{comma}text\n")
            + &quoted.iter().map(|text| format!("7{comma}{text}\n")).collect::<String>()
    };
    place.write("rows.csv", table(","));
    place.write("ROWS.TSV", table("\t"));
    place.write("rows.jsonl", texts.map(|text| format!("{{\"text\": {}}}\n", json(text))).concat());
    place.write("rows.txt", texts.join("\n"));
    for (config, flags) in
        [("fox", &["-n", "3", "--temp", "0"][..]), ("fox", &["--next", "2"]), ("fox-bert", &[])]
    {
        let run = format!("runs/{config}");
        place.train(&["--config", config, "--overwrite", "--quiet", "--set", "train.steps=60"]).succeeds();
        let of = |name: &str, columns: &[&str]| {
            let args = [&["--prompt-file", name, "--json"][..], columns, flags].concat();
            let rows = lines(&sample(&place, Path::new(&run), &args));
            let without_place = |mut row: Value| {
                row.as_object_mut().expect("an object").remove("line");
                row
            };
            rows.into_iter().map(without_place).collect::<Vec<_>>()
        };
        let by_comma = of("rows.csv", &["--text-column", "text"]);
        assert_eq!(by_comma.iter().map(|row| row["text"].as_str()).collect::<Vec<_>>(), texts.map(Some));
        assert_eq!(of("ROWS.TSV", &["--text-column", "text"]), by_comma);
        assert_eq!(of("rows.jsonl", &["--rows"]), by_comma);
        let by_line = of("rows.txt", &["--rows"]);
        assert_eq!(by_line[..2], by_comma[..2], "{config}");
    }
}
