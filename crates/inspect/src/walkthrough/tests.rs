//! The walkthrough compared with values computed independently in float64 and checked by central differences.

use super::*;
use serde_json::Value;

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/walkthrough.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The largest difference of two JSON values of the same shape.
fn distance(a: &Value, b: &Value) -> f64 {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).map(|(a, b)| distance(a, b)).fold(0.0, f64::max)
        }
        _ => (a.as_f64().unwrap() - b.as_f64().unwrap()).abs(),
    }
}

#[test]
fn every_number_equals_the_exact_one() {
    let ours = serde_json::to_value(walkthrough().unwrap()).unwrap();
    for (ours, exact) in
        ours["examples"].as_array().unwrap().iter().zip(fixture()["examples"].as_array().unwrap())
    {
        for key in ["context", "contributions", "logits", "probabilities", "loss", "scores", "weights"] {
            assert!(distance(&ours[key], &exact[key]) < 1e-9, "{key}: {} and {}", ours[key], exact[key]);
        }
        for key in ["logits", "context", "wout", "values", "weights", "scores"] {
            let (ours, exact) = (&ours["gradients"][key], &exact["gradients"][key]);
            assert!(distance(ours, exact) < 1e-9, "gradient of {key}: {ours} and {exact}");
        }
        assert_eq!((&ours["predicted"], &ours["target"]), (&exact["predicted"], &exact["target"]));
        let after_one = &ours["steps"][1]["loss"];
        assert!(distance(after_one, &exact["loss_after_one_step"]) < 1e-9, "{after_one}");
    }
}

#[test]
fn updates_change_the_prediction_to_the_target() {
    for example in walkthrough().unwrap().examples {
        let last = example.steps.last().unwrap();
        assert!(example.steps_to_flip > 0 && example.steps_to_flip == last.step);
        assert_eq!(last.predicted, example.target);
        assert!(example.steps[..last.step].iter().all(|step| step.predicted != example.target));
        assert!(example.steps.windows(2).all(|pair| pair[1].loss < pair[0].loss));
        assert!(example.steps.windows(2).all(|pair| pair[1].angle_to_target < pair[0].angle_to_target));
    }
}

#[test]
fn only_wrong_rounding_is_reported() {
    let found: Vec<Vec<String>> = walkthrough()
        .unwrap()
        .examples
        .into_iter()
        .map(|e| e.differences.into_iter().map(|d| d.what).collect())
        .collect();
    assert_eq!(found[0], ["probability of \"jumps\""]);
    assert_eq!(found[1], ["probability of \"run\"", "probability of \"pizza\""]);
}

#[test]
fn the_page_numbers_its_sections_and_omits_rounding_differences() {
    let mut out = Vec::new();
    print(&walkthrough().unwrap(), &mut crate::terminal::Paper::new(&mut out, 100)).unwrap();
    let text = console::strip_ansi_codes(std::str::from_utf8(&out).unwrap()).into_owned();
    let numbers: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split_once(". "))
        .filter(|(number, title)| {
            number.len() == 1 && title.chars().all(|c| c != ':' || title.contains("Wq"))
        })
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers[..8], ["1", "2", "3", "4", "5", "6", "7", "8"], "{text}");
    assert!(!text.contains("Rounding") && text.contains("section 8 shows"), "{text}");
    for line in text.lines().filter(|line| line.starts_with("After ")) {
        assert!(!line.starts_with("After 1 updates"), "{line}");
    }
}
