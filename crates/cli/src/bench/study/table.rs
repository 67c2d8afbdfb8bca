//! The table of a study: each variant against the first, at equal tokens and at equal time.

use std::fmt::Write as _;

use serde_json::{Value, json};
use vulpes_runs::thousands;

use super::curve::{Curve, Point};
use super::statistics::Sample;

/// The runs of a variant.
pub(super) struct Runs {
    pub(super) name: String,
    /// Seed and evaluations of each finished run.
    pub(super) curves: Vec<(u64, Curve)>,
}

/// A comparison: the loss at the same point of every curve.
struct Measure {
    /// The point, as text and as a number.
    place: String,
    /// The losses of each variant's runs.
    losses: Vec<Vec<f64>>,
}

impl Measure {
    /// The comparison at the furthest point that every run has reached.
    fn at(runs: &[Runs], of: fn(&Point) -> f64, words: impl Fn(f64) -> String) -> Self {
        let all = runs.iter().flat_map(|variant| &variant.curves);
        let ends = all.filter_map(|(_, curve)| curve.last()).map(|point| of(&point));
        let place = ends.fold(f64::INFINITY, f64::min);
        let losses = |variant: &Runs| {
            variant.curves.iter().filter_map(|(_, curve)| curve.at(of, place)).collect::<Vec<f64>>()
        };
        Self { place: words(place), losses: runs.iter().map(losses).collect() }
    }

    /// The sample of a variant, and its p-value against the first.
    fn of(&self, variant: usize) -> (Option<Sample>, Option<f64>) {
        let own = Sample::of(&self.losses[variant]);
        let first = Sample::of(&self.losses[0]).filter(|_| variant > 0);
        (own, first.and_then(|first| own?.p_value(&first)))
    }
}

fn measures(runs: &[Runs]) -> [Measure; 2] {
    [
        Measure::at(runs, |point| point.tokens, |tokens| format!("{} tokens", thousands(tokens))),
        Measure::at(runs, |point| point.secs, |secs| format!("{secs:.1} s")),
    ]
}

/// The lowest loss of each run, and their mean.
fn lowest(variant: &Runs) -> Option<Sample> {
    let all: Vec<f64> = variant.curves.iter().filter_map(|(_, curve)| curve.lowest()).collect();
    Sample::of(&all)
}

/// A Markdown table with a row per variant.
pub(super) fn table(runs: &[Runs]) -> String {
    let measures = measures(runs);
    let [tokens, secs] = &measures;
    let mut text = format!(
        "| variant | runs | loss at {} | p | loss at {} | p | lowest |\n|---|--:|--:|--:|--:|--:|--:|\n",
        tokens.place, secs.place
    );
    for (number, variant) in runs.iter().enumerate() {
        let _ = write!(text, "| {} | {} |", variant.name, variant.curves.len());
        for measure in &measures {
            let (sample, p) = measure.of(number);
            let _ = write!(text, " {} | {} |", words(sample), p.map_or_else(String::new, p_words));
        }
        let _ =
            writeln!(text, " {} |", lowest(variant).map_or(String::new(), |own| format!("{:.4}", own.mean)));
    }
    text
}

/// `1.7312 ± 0.0041`.
fn words(sample: Option<Sample>) -> String {
    match sample {
        None => String::new(),
        Some(Sample { mean, deviation: None, .. }) => format!("{mean:.4}"),
        Some(Sample { mean, deviation: Some(deviation), .. }) => format!("{mean:.4} ± {deviation:.4}"),
    }
}

fn p_words(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}

/// The same as one JSON document.
pub(super) fn document(runs: &[Runs]) -> Value {
    let measures = measures(runs);
    let of = |number: usize, measure: &Measure| {
        let (sample, p) = measure.of(number);
        json!({
            "at": measure.place, "losses": measure.losses[number], "mean": sample.map(|sample| sample.mean),
            "deviation": sample.and_then(|sample| sample.deviation), "p": p,
        })
    };
    let variant = |(number, variant): (usize, &Runs)| {
        let [tokens, secs] = &measures;
        json!({
            "variant": variant.name,
            "seeds": variant.curves.iter().map(|(seed, _)| seed).collect::<Vec<_>>(),
            "at_equal_tokens": of(number, tokens), "at_equal_time": of(number, secs),
        })
    };
    json!({ "study": runs.iter().enumerate().map(variant).collect::<Vec<_>>() })
}
