//! The worked example of attention, from weights to a prediction and back, run with the model's operations.
//!
//! Given weights, embeddings, Wout → `attention` → context → `linear` → logits → `softmax` → `cross_entropy` →
//! `backward` → every gradient → `sgd`, repeated until the prediction is the true word. All in float64.

mod given;
mod page;
mod tape;

use serde::Serialize;

pub use page::print;

use crate::error::Error;
use given::{FIRST, Given, SECOND};
use tape::Tape;

/// The learning rate of the updates.
const LEARNING_RATE: f64 = 0.1;
/// The maximum number of updates; both examples need far fewer.
const MOST_STEPS: usize = 1000;

/// Both worked examples with all their values.
#[derive(Clone, Debug, Serialize)]
pub struct Walkthrough {
    /// The learning rate of the update steps (plain gradient descent).
    pub learning_rate: f64,
    /// "jumps" instead of "fox"; "fox" instead of "pizza".
    pub examples: Vec<Example>,
}

/// One worked example.
///
/// Legend: s words read, v words of the vocabulary; vectors are two wide.
#[derive(Clone, Debug, Serialize)]
pub struct Example {
    /// Its title.
    pub title: &'static str,
    /// The words read so far, `[s]`.
    pub words: &'static [&'static str],
    /// Their embeddings, which are their value vectors too, `[s][2]`.
    pub embeddings: Vec<Vec<f64>>,
    /// The attention scores `q·k`, chosen as `ln(weight)` so that their softmax is the given weights, `[s]`.
    pub scores: Vec<f64>,
    /// The attention weights, `softmax(scores)`, `[s]`.
    pub weights: Vec<f64>,
    /// What each word adds to the context: weight times value, `[s][2]`.
    pub contributions: Vec<Vec<f64>>,
    /// The context vector, the weighted sum of the values, `[2]`.
    pub context: Vec<f64>,
    /// The words that can come next, `[v]`.
    pub vocabulary: [&'static str; 4],
    /// The output projection, one row per word, `[v][2]`.
    pub wout: Vec<Vec<f64>>,
    /// `context · row`, `[v]`.
    pub logits: Vec<f64>,
    /// `softmax(logits)`, `[v]`.
    pub probabilities: Vec<f64>,
    /// The most likely word.
    pub predicted: &'static str,
    /// The true word.
    pub target: &'static str,
    /// Cross-entropy `-ln(probability of the target)`, in nats.
    pub loss: f64,
    /// The derivative of the loss with respect to every quantity.
    pub gradients: GradientsOf,
    /// Updates until the prediction is the target.
    pub steps_to_flip: usize,
    /// The state before the first update and after each.
    pub steps: Vec<Step>,
    /// Results that differ from the text's.
    pub differences: Vec<Difference>,
}

/// The derivative of the loss with respect to every quantity, in the shape of the quantity.
#[derive(Clone, Debug, Serialize)]
pub struct GradientsOf {
    /// With respect to the logits, `[v]`.
    pub logits: Vec<f64>,
    /// With respect to the context vector, `[2]`.
    pub context: Vec<f64>,
    /// With respect to the output projection, `[v][2]`.
    pub wout: Vec<Vec<f64>>,
    /// With respect to the value vectors (here the embeddings), `[s][2]`.
    pub values: Vec<Vec<f64>>,
    /// With respect to the attention weights, `[s]`.
    pub weights: Vec<f64>,
    /// With respect to the attention scores, `[s]`.
    pub scores: Vec<f64>,
}

/// The state after a number of updates.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Updates so far.
    pub step: usize,
    /// The loss.
    pub loss: f64,
    /// The context vector.
    pub context: Vec<f64>,
    /// The probabilities over the vocabulary.
    pub probabilities: Vec<f64>,
    /// The most likely word.
    pub predicted: &'static str,
    /// The angle in degrees between the context vector and the target's initial row of Wout.
    pub angle_to_target: f64,
}

/// A number that the text rounds differently.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The quantity.
    pub what: String,
    /// The value in the text.
    pub stated: f64,
    /// The exact value.
    pub exact: f64,
}

/// Computes both examples.
///
/// # Errors
/// Returns an error if a tensor operation fails.
pub fn walkthrough() -> Result<Walkthrough, Error> {
    let examples = [FIRST, SECOND].iter().map(work).collect::<Result<_, _>>()?;
    Ok(Walkthrough { learning_rate: LEARNING_RATE, examples })
}

fn work(given: &'static Given) -> Result<Example, Error> {
    let mut tape = Tape::new(given)?;
    let first = tape.run(given.target)?;
    let target_row = given.wout[given.target];
    let step = |step: usize, pass: &tape::Pass| Step {
        step,
        loss: pass.loss,
        context: pass.context.clone(),
        probabilities: pass.probabilities.clone(),
        predicted: given.vocabulary[greatest(&pass.probabilities)],
        angle_to_target: angle(&pass.context, &target_row),
    };
    let mut steps = vec![step(0, &first)];
    let mut pass = first.clone();
    while greatest(&pass.probabilities) != given.target && steps.len() <= MOST_STEPS {
        tape.update(LEARNING_RATE)?;
        pass = tape.run(given.target)?;
        steps.push(step(steps.len(), &pass));
    }
    let times = |(weight, value): (&f64, &[f64; 2])| value.iter().map(|v| weight * v).collect();
    Ok(Example {
        title: given.title,
        words: given.words,
        embeddings: given.embeddings.iter().map(|row| row.to_vec()).collect(),
        contributions: first.weights.iter().zip(given.embeddings).map(times).collect(),
        vocabulary: given.vocabulary,
        wout: given.wout.iter().map(|row| row.to_vec()).collect(),
        predicted: given.vocabulary[greatest(&first.probabilities)],
        target: given.vocabulary[given.target],
        steps_to_flip: steps.len() - 1,
        steps,
        differences: differences(given, &first),
        scores: first.scores,
        weights: first.weights,
        context: first.context,
        logits: first.logits,
        probabilities: first.probabilities,
        loss: first.loss,
        gradients: first.gradients,
    })
}

/// Where the text's numbers differ from the exact ones, rounded.
fn differences(given: &Given, pass: &tape::Pass) -> Vec<Difference> {
    let of = |name: &str, stated: &[f64; 4], exact: &[f64], unit: f64| -> Vec<Difference> {
        let pairs = given.vocabulary.iter().zip(stated.iter().zip(exact));
        let wrong = pairs.filter(|(_, (stated, exact))| (*stated - *exact).abs() > unit / 2.0 + 1e-9);
        wrong
            .map(|(word, (&stated, &exact))| Difference {
                what: format!("{name} of \"{word}\""),
                stated,
                exact,
            })
            .collect()
    };
    let mut all = of("logit", &given.stated_logits, &pass.logits, 0.001);
    all.extend(of("probability", &given.stated_probabilities, &pass.probabilities, 0.01));
    all
}

/// The index of the largest value, the first of ties.
fn greatest(values: &[f64]) -> usize {
    let better = |best: usize, i: usize| if values[i] > values[best] { i } else { best };
    (0..values.len()).reduce(better).unwrap_or(0)
}

/// The angle between two vectors, in degrees.
fn angle(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).clamp(-1.0, 1.0).acos().to_degrees()
}

#[cfg(test)]
mod tests;
