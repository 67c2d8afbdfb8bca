//! The walkthrough printed to a terminal: from attention weights to a prediction, and back to learning.

use std::io::Result;

use super::{Example, Walkthrough};
use crate::terminal::{Cell, Paper, fixed, heat, shade};

/// Prints the walkthrough.
///
/// # Errors
/// Returns an error if the page can't be written.
pub fn print(walkthrough: &Walkthrough, paper: &mut Paper) -> Result<()> {
    paper.text(
        "Attention by hand: a toy with vectors two wide. Every number below was just computed, by the operations that \
         train and run the models here.",
    )?;
    let [first, second] = walkthrough.examples.as_slice() else { return Ok(()) };
    weights(first, paper)?;
    weighted_sum(first, paper)?;
    paper.heading("3. What Does the Context Vector Mean?")?;
    paper.text(&format!(
        "By itself {} means nothing to us. But in training the model learns to shape such vectors so that they point \
         towards the right word: section 8 shows this one turn towards \"{}\".",
        vector(&first.context, 4),
        first.target
    ))?;
    paper.heading("4. How It Maps to Word Prediction")?;
    prediction(first, paper)?;
    paper.step("The second example")?;
    paper
        .text(&format!("The same steps for {} The true next word is \"{}\".", second.title, second.target))?;
    prediction(second, paper)?;
    query_key_value(first, paper)?;
    forward(paper)?;
    paper.heading("8. Backward Pass Overview")?;
    backward(first, paper)?;
    learning(walkthrough.learning_rate, first, paper)?;
    paper.step("The second example")?;
    backward_table(second, paper)?;
    learning(walkthrough.learning_rate, second, paper)
}

fn weights(example: &Example, paper: &mut Paper) -> Result<()> {
    paper.heading("1. Simplified Attention Weights (Toy Example)")?;
    paper.text(&format!(
        "The sentence is \"The quick brown fox jumps\". The model has read \"{}\" and is to predict the \
         next word (target: \"{}\"). Attention gives a weight to each word read so far; they sum to 1.",
        example.words.join(" "),
        example.target
    ))?;
    paper.blank()?;
    weight_table(example, paper)
}

fn weight_table(example: &Example, paper: &mut Paper) -> Result<()> {
    let rows: Vec<Vec<Cell>> = (0..example.words.len())
        .map(|i| {
            let weight = example.weights[i];
            let cell = Cell::styled(format!(" {weight:.2} {} ", shade(weight)), heat(weight));
            vec![example.words[i].into(), vector(&example.embeddings[i], 1).into(), cell]
        })
        .collect();
    paper.table(&["word", "embedding", "weight α"], &rows)
}

fn weighted_sum(example: &Example, paper: &mut Paper) -> Result<()> {
    paper.heading("2. Weighted Sum (Context Vector)")?;
    paper.text("Each embedding times its weight, added up:")?;
    paper.blank()?;
    sum_table(example, paper)?;
    let most = (0..example.words.len())
        .max_by(|&a, &b| example.weights[a].total_cmp(&example.weights[b]))
        .unwrap_or(0);
    paper.blank()?;
    paper.text(&format!(
        "This is the context vector. Most of it comes from \"{}\", which has the largest weight ({:.2}).",
        example.words[most], example.weights[most]
    ))
}

fn sum_table(example: &Example, paper: &mut Paper) -> Result<()> {
    let mut rows: Vec<Vec<Cell>> = (0..example.words.len())
        .map(|i| {
            let product = format!("{:.2} × {}", example.weights[i], vector(&example.embeddings[i], 1));
            vec![example.words[i].into(), product.into(), vector(&example.contributions[i], 3).into()]
        })
        .collect();
    rows.push(vec!["context".into(), "sum".into(), Cell::strong(vector(&example.context, 3))]);
    paper.table(&["", "weight × embedding", "gives"], &rows)
}

fn prediction(example: &Example, paper: &mut Paper) -> Result<()> {
    paper.step("Step 1: Get Embeddings · Step 2: Compute Attention")?;
    weight_table(example, paper)?;
    paper.step("Step 3: Compute Weighted Sum (Context Vector)")?;
    sum_table(example, paper)?;
    paper.step("Step 4: Output Projection")?;
    paper.text(
        "Each word of the vocabulary has a row in Wout. Its logit is the dot product of context and row:",
    )?;
    paper.blank()?;
    let products = |row: &[f64]| {
        let terms: Vec<String> =
            row.iter().zip(&example.context).map(|(w, c)| format!("{w:.1}×{c:.3}")).collect();
        terms.join(" + ")
    };
    let rows: Vec<Vec<Cell>> = (0..example.vocabulary.len())
        .map(|i| {
            let logit = fixed(example.logits[i], 4);
            vec![
                example.vocabulary[i].into(),
                vector(&example.wout[i], 1).into(),
                products(&example.wout[i]).into(),
                logit.into(),
            ]
        })
        .collect();
    paper.table(&["word", "row of Wout", "row · context", "logit"], &rows)?;
    paper.step("Step 5: Softmax → Prediction")?;
    paper.text("exp(logit), divided by the sum of all four, makes probabilities of the logits:")?;
    paper.blank()?;
    probabilities(example, paper)?;
    paper.blank()?;
    paper.text(&format!(
        "Predicted word = \"{}\" (the largest). The true word is \"{}\".",
        example.predicted, example.target
    ))?;
    paper.step("Step 6: Backpropagation")?;
    let place = example.vocabulary.iter().position(|word| *word == example.target).unwrap_or(0);
    paper.text(&format!(
        "Loss = -ln(probability of \"{}\") = -ln({:.4}) = {:.4}. Section 8 sends it back through every step.",
        example.target, example.probabilities[place], example.loss
    ))
}

fn probabilities(example: &Example, paper: &mut Paper) -> Result<()> {
    let rows: Vec<Vec<Cell>> = (0..example.vocabulary.len())
        .map(|i| {
            let probability = example.probabilities[i];
            let text = format!("{probability:.4}");
            let best = example.vocabulary[i] == example.predicted;
            let number = if best { Cell::strong(text) } else { text.into() };
            let bar = "█".repeat((probability * 40.0).round() as usize);
            vec![example.vocabulary[i].into(), number, format!("{bar:<20}").into()]
        })
        .collect();
    paper.table(&["word", "probability", ""], &rows)
}

fn query_key_value(example: &Example, paper: &mut Paper) -> Result<()> {
    paper.heading("5. Role of Query (Q), Key (K), Value (V)")?;
    paper.text(
        "Where do the weights come from? The current word has a query Q: what it is looking for. Every word \
         has a key K, what it offers, and a value V, what it contributes if chosen. score = Q · K, weight = \
         softmax(score), context = sum of weight × V. The toy states its weights, so the scores here are \
         chosen to produce them: score = ln(weight), by Q = [1, 0] and K = [ln(weight), 0].",
    )?;
    paper.blank()?;
    let rows: Vec<Vec<Cell>> = (0..example.words.len())
        .map(|i| {
            let (score, weight) = (example.scores[i], example.weights[i]);
            let value = vector(&example.embeddings[i], 1);
            vec![
                example.words[i].into(),
                format!("{score:.4}").into(),
                format!("{weight:.2}").into(),
                value.into(),
            ]
        })
        .collect();
    paper.table(&["word", "score Q·K", "softmax", "value V"], &rows)?;
    paper.heading("6. What Are Wq, Wk, Wv?")?;
    paper.text(
        "In a model Q, K and V are not given: they are projections of the embeddings, Q = Wq @ embedding, \
         K = Wk @ embedding, V = Wv @ embedding. The three matrices start with random values and are learned. (That is \
         the simplest model. Many normalize the embedding first, or add a bias, and their later layers read \
         the output of earlier ones: explain --model shows what your model does.) Here V is the embedding \
         itself, as if Wv changed nothing.",
    )
}

fn forward(paper: &mut Paper) -> Result<()> {
    paper.heading("7. Forward Pass Overview")?;
    for (i, line) in [
        "Get embeddings for the words read",
        "Compute Q, K, V with Wq, Wk, Wv",
        "Compute attention scores Q · K",
        "Softmax: the weights α",
        "Context = weighted sum of V",
        "Project the context to logits → predict the next word",
    ]
    .iter()
    .enumerate()
    {
        paper.line(&format!("{}. {line}", i + 1))?;
    }
    Ok(())
}

fn backward(example: &Example, paper: &mut Paper) -> Result<()> {
    paper.text(&format!(
        "The loss compares what was predicted (\"{}\") with the true word (\"{}\"): {:.4}. Its gradient says for every \
         value how the loss changes with it; an update goes the other way. From the end to the beginning:",
        example.predicted, example.target, example.loss
    ))?;
    paper.blank()?;
    backward_table(example, paper)?;
    paper.blank()?;
    paper.text(
        "Each value's gradient is its share of the error. What reaches V flows on into Wv and the \
         embeddings, what reaches the scores flows on into Wq and Wk.",
    )
}

fn backward_table(example: &Example, paper: &mut Paper) -> Result<()> {
    let of = &example.gradients;
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut push = |what: &str, word: &str, values: &[f64]| {
        rows.push(vec![what.into(), word.into(), vector(values, 4).into()]);
    };
    for (i, word) in example.vocabulary.iter().enumerate() {
        push(if i == 0 { "logits" } else { "" }, word, &of.logits[i..=i]);
    }
    for (i, word) in example.vocabulary.iter().enumerate() {
        push(if i == 0 { "Wout" } else { "" }, word, &of.wout[i]);
    }
    push("context", "", &of.context);
    for (i, word) in example.words.iter().enumerate() {
        push(if i == 0 { "values V" } else { "" }, word, &of.values[i]);
    }
    for (i, word) in example.words.iter().enumerate() {
        push(if i == 0 { "weights α" } else { "" }, word, &of.weights[i..=i]);
    }
    for (i, word) in example.words.iter().enumerate() {
        push(if i == 0 { "scores Q·K" } else { "" }, word, &of.scores[i..=i]);
    }
    paper.table(&["gradient of", "word", "value"], &rows)
}

fn learning(lr: f64, example: &Example, paper: &mut Paper) -> Result<()> {
    paper.step("Learning: one update after the other")?;
    paper.text(&format!(
        "Every update moves scores, values and Wout by -{lr} × gradient. Watch the context vector turn towards the row \
         of \"{}\": the angle between them shrinks.",
        example.target
    ))?;
    paper.blank()?;
    let place = example.vocabulary.iter().position(|word| *word == example.target).unwrap_or(0);
    let rival = example.vocabulary.iter().position(|word| *word == example.predicted).unwrap_or(0);
    let header = [
        "update",
        "context",
        "angle",
        &format!("p({})", example.predicted),
        &format!("p({})", example.target),
        "loss",
        "predicts",
    ];
    let rows: Vec<Vec<Cell>> = example
        .steps
        .iter()
        .map(|step| {
            let word = if step.predicted == example.target {
                Cell::strong(step.predicted)
            } else {
                step.predicted.into()
            };
            vec![
                step.step.to_string().into(),
                vector(&step.context, 3).into(),
                format!("{:.1}°", step.angle_to_target).into(),
                format!("{:.4}", step.probabilities[rival]).into(),
                format!("{:.4}", step.probabilities[place]).into(),
                format!("{:.4}", step.loss).into(),
                word,
            ]
        })
        .collect();
    paper.table(&header, &rows)?;
    paper.blank()?;
    paper.text(&format!(
        "After {} update{} the model says \"{}\".",
        example.steps_to_flip,
        if example.steps_to_flip == 1 { "" } else { "s" },
        example.steps.last().map_or("", |step| step.predicted)
    ))
}

fn vector(values: &[f64], decimals: usize) -> String {
    let numbers: Vec<String> = values.iter().map(|&value| fixed(value, decimals)).collect();
    if let [one] = numbers.as_slice() { one.clone() } else { format!("[{}]", numbers.join(", ")) }
}
