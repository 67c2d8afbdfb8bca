//! Evaluates formulas as written on a page.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Rows;
use super::unpack::{floats, rows};

/// One part of the computation, with everything its formulas name.
pub(super) struct Scope<'a> {
    pub(super) values: BTreeMap<&'a str, Rows>,
    parameters: BTreeMap<&'a str, Vec<f64>>,
}

impl<'a> Scope<'a> {
    pub(super) fn of(part: &'a Value) -> Self {
        let mut values = BTreeMap::new();
        for equation in part["equations"].as_array().unwrap() {
            if !equation["values"].is_null() {
                let width = equation["kept"].as_u64().unwrap() as usize;
                values.insert(equation["name"].as_str().unwrap(), rows(&equation["values"], width));
            }
        }
        let parameter =
            |(name, parameter): (&'a String, &'a Value)| (name.as_str(), floats(&parameter["numbers"]));
        let parameters = part["parameters"].as_object().unwrap().iter().map(parameter).collect();
        Self { values, parameters }
    }

    pub(super) fn value(&self, name: &str) -> &Rows {
        self.values.get(name).unwrap_or_else(|| panic!("a formula speaks of {name}, which the page lacks"))
    }

    fn parameter(&self, name: &str) -> &[f64] {
        self.parameters
            .get(name)
            .unwrap_or_else(|| panic!("a formula speaks of {name}, which the page lacks"))
    }

    /// The value of a formula, for every token.
    pub(super) fn evaluate(&self, formula: &str) -> Rows {
        let formula = formula.rsplit(" = ").next().unwrap();
        if formula.contains("mean(") {
            return self.norm(formula);
        }
        let mut sum: Option<Rows> = None;
        for term in formula.split(" + ") {
            let term = self.term(term, sum.as_ref().map_or(0, Vec::len));
            sum = Some(match sum {
                None => term,
                Some(sum) => sum.iter().zip(&term).map(|(a, b)| add(a, b)).collect(),
            });
        }
        sum.unwrap()
    }

    fn term(&self, term: &str, n: usize) -> Rows {
        if let Some((weight, of)) = term.split_once(" @ ") {
            let weight = self.parameter(weight);
            let of = self.value(of);
            return of.iter().map(|x| weight.chunks(x.len()).map(|row| dot(row, x)).collect()).collect();
        }
        if let Some((a, b)) = term.split_once(" × ") {
            let b = self.term(b, n);
            // A factor alone is one number for all.
            if let Some([factor]) = self.parameters.get(a).map(Vec::as_slice) {
                return b.iter().map(|b| b.iter().map(|b| factor * b).collect()).collect();
            }
            let a = self.term(a, n);
            return a.iter().zip(&b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a * b).collect()).collect();
        }
        if let Some(value) = self.values.get(term) {
            return value.clone();
        }
        if let Some((function, of)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
            let function = match function {
                "tanh" => f64::tanh,
                "gelu_tanh" => |x: f64| {
                    0.5 * x
                        * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
                },
                "gelu_erf" => |x: f64| 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
                "silu" => |x: f64| x / (1.0 + (-x).exp()),
                "relu" => |x: f64| x.max(0.0),
                "relu2" => |x: f64| x.max(0.0).powi(2),
                other => panic!("no function {other}"),
            };
            return self.value(of).iter().map(|x| x.iter().map(|x| function(*x)).collect()).collect();
        }
        vec![self.parameter(term).to_vec(); n]
    }

    /// The norm of queries or keys, given their values before it: of each head, or of all together.
    pub(super) fn norm_heads(&self, formula: &str, before: &Rows, d_head: usize) -> Rows {
        let (formula, each) =
            formula.strip_suffix(", each head by itself").map_or((formula, false), |f| (f, true));
        let width = if each { d_head } else { before[0].len() };
        let row = |x: &Vec<f64>| x.chunks(width).flat_map(|part| self.normed(formula, part)).collect();
        before.iter().map(row).collect()
    }

    fn norm(&self, formula: &str) -> Rows {
        let (core, _) = formula.split_once(" × ").unwrap();
        let of = match core.strip_prefix('(') {
            Some(rest) => rest.split_once(" − mean(").unwrap().0,
            None => core.split_once(" / √(mean(").unwrap().0,
        };
        self.value(of).iter().map(|x| self.normed(formula, x)).collect()
    }

    /// The norm of one vector, by `formula`.
    fn normed(&self, formula: &str, x: &[f64]) -> Vec<f64> {
        let (core, after) = formula.split_once(" × ").unwrap();
        let (gamma, beta) =
            after.split_once(" + ").map_or((after, None), |(gamma, beta)| (gamma, Some(beta)));
        let eps = self.parameter("ε")[0];
        let centered = core.starts_with('(');
        let mean = if centered { x.iter().sum::<f64>() / x.len() as f64 } else { 0.0 };
        let square = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let scaled =
            x.iter().zip(self.parameter(gamma)).map(|(x, gamma)| (x - mean) / (square + eps).sqrt() * gamma);
        let scaled: Vec<f64> = scaled.collect();
        beta.map_or(scaled.clone(), |beta| add(&scaled, self.parameter(beta)))
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// By its series, which suffices for the small values here.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    if x.abs() > 5.0 { x.signum() } else { sum * 2.0 / std::f64::consts::PI.sqrt() }
}
