//! Recomputes every equation that a page states from the values that the page contains.
//!
//! The formulas are parsed as written on the page: a name that the page doesn't define, or a missing bias or norm,
//! fails here.

mod formula;
mod unpack;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use vulpes_data::{Tokenizer, TokenizerConfig};
use vulpes_model::config::{BlockKind, Family, LayerOverride, Pooling, Positions};
use vulpes_model::{Embedder, Head, ModelSection, Transformer};

use formula::{Scope, dot};
use unpack::{floats, rows, weights};

use super::*;
use crate::explanation::{Subject, explain, said};
use crate::influence::projection;
use crate::way::way;

type Rows = Vec<Vec<f64>>;

const TEXT: &str = "The quick brown fox jumps over";

/// The data of the page of a model in which all parameters (also norms and biases) have distinct values.
fn data(section: ModelSection, head: Head) -> Value {
    let text = "The quick brown fox jumps over the lazy dog .";
    let tokenizer = Tokenizer::train(&TokenizerConfig::default(), [text]).unwrap();
    let section = ModelSection { context_len: Some(8), ..section };
    let config = section.resolve(tokenizer.vocab_size(), head);
    let model = Transformer::init(&config, 3, DType::F32, &Device::Cpu).unwrap();
    let mut state = 7u64;
    for (_, var) in model.parameters().iter() {
        let mut number = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.4
        };
        let numbers: Vec<f32> = (0..var.elem_count()).map(|_| number()).collect();
        var.set(&Tensor::from_vec(numbers, var.dims(), &Device::Cpu).unwrap()).unwrap();
    }
    let subject =
        Subject { model: &model, tokenizer: &tokenizer, labels: &[], embedder: Embedder::default() };
    let ids = tokenizer.encode(TEXT).unwrap();
    let explanation = explain(&subject, &ids, &[]).unwrap();
    let target = explanation.next.first().cloned();
    // Every output is listed, so that the sum of softmax can be recomputed, too.
    let n = explanation.logits[0].len();
    let extras = Extras {
        lens: Vec::new(),
        knockouts: Vec::new(),
        target: target.unwrap_or(NextToken { id: 0, text: String::new(), probability: 0.0, logit: 0.0 }),
        is_target_given: false,
        gradients: None,
        way: way(&model, &explanation.input(&model).unwrap()).unwrap(),
        projection: projection(&subject, &explanation, n).unwrap(),
        said: said(&subject, &explanation, n),
        update: None,
        origins: Vec::new(),
        habits: Vec::new(),
        taught: None,
        story: None,
        first: (0, 0),
        is_first_given: true,
        live: None,
    };
    let page = page(&explanation, &extras).unwrap();
    let (_, json) = page.split_once("id=\"data\">").unwrap();
    serde_json::from_str(json.split_once("</script>").unwrap().0).unwrap()
}

/// To the four decimals that a page shows.
#[track_caller]
fn same(what: &str, stated: &[f64], again: &[f64]) {
    assert_eq!(stated.len(), again.len(), "{what}");
    for (stated, again) in stated.iter().zip(again) {
        assert!((stated - again).abs() < 2e-5 * (1.0 + again.abs()), "{what}: {stated} and {again}");
    }
}

/// The number of equations of a page, all checked.
fn check(data: &Value) -> usize {
    let mut n = 0;
    let parts = [&data["way"]["embedding"], &data["way"]["head"]];
    for part in parts.into_iter().chain(data["way"]["layers"].as_array().unwrap()) {
        let scope = Scope::of(part);
        for equation in part["equations"].as_array().unwrap() {
            let (name, formula) = (equation["name"].as_str().unwrap(), equation["formula"].as_str().unwrap());
            if formula.is_empty() || equation["values"].is_null() {
                continue;
            }
            let again = match formula {
                "hidden, of the last token" => scope.value("hidden").last().cloned().into_iter().collect(),
                "hidden, the mean of all tokens" => vec![mean(scope.value("hidden"))],
                _ => scope.evaluate(formula),
            };
            // A classifier's head reads only the first token.
            for (stated, again) in scope.value(name).iter().zip(&again) {
                same(&format!("{name} = {formula}"), stated, again);
            }
            n += 1;
        }
    }
    (0..data["n_layer"].as_u64().unwrap() as usize).for_each(|layer| n += check_heads(data, layer));
    n + check_outputs(data)
}

fn mean(rows: &Rows) -> Vec<f64> {
    let n = rows.len() as f64;
    (0..rows[0].len()).map(|at| rows.iter().map(|row| row[at]).sum::<f64>() / n).collect()
}

/// Queries, keys, values, rotation, scores, weights and contexts of every head of a layer.
fn check_heads(data: &Value, layer: usize) -> usize {
    let part = &data["way"]["layers"][layer];
    let scope = Scope::of(part);
    let number = |key: &str| data[key].as_u64().unwrap() as usize;
    let (d, n_head) = (number("d_head"), number("n_head"));
    let formula = |name: &str| {
        let equation = part["equations"].as_array().unwrap().iter().find(|e| e["name"] == name);
        equation.map(|equation| equation["formula"].as_str().unwrap())
    };
    let kind = data["kinds"][layer].as_u64().unwrap() as usize;
    let mask = data["masks"][kind].as_array().unwrap();
    let mask: Vec<Vec<bool>> =
        mask.iter().map(|row| row.as_str().unwrap().bytes().map(|cell| cell == b'1').collect()).collect();
    let contexts = scope.value(if n_head == 1 { "context" } else { "contexts" });
    if data["vectors"].as_object().unwrap().is_empty() {
        // Scores with a learned bias don't follow from queries and keys alone.
        return 0;
    }
    for head in 0..n_head {
        let vectors = &data["vectors"][format!("{layer}.{head}")];
        let of = |key: &str| rows(&vectors[key], d);
        let (q, k, v) = (of("q"), of("k"), of("v"));
        let n_kv = scope.evaluate(formula("V").unwrap())[0].len() / d;
        for (name, key, vectors, number) in [
            ("Q", "q0", &q, head),
            ("K", "k0", &k, head / (n_head / n_kv)),
            ("V", "", &v, head / (n_head / n_kv)),
        ] {
            let cut = |all: Rows| -> Rows {
                all.iter().map(|row| row[number * d..(number + 1) * d].to_vec()).collect()
            };
            // The value of a formula for all heads: a projection, or the norm of one.
            let all = |formula_of: &str| match formula(&format!("{name}ₚ")) {
                Some(projected) => scope.norm_heads(formula_of, &scope.evaluate(projected), d),
                None => scope.evaluate(formula_of),
            };
            if let Some(unrotated) = formula(&format!("{name}₀")) {
                let before = of(key);
                let again = cut(all(unrotated));
                before.iter().zip(&again).for_each(|(a, b)| same(&format!("{name}₀ = {unrotated}"), a, b));
                assert_eq!(formula(name), Some(format!("rotate({name}₀)").as_str()));
                for (t, before) in before.iter().enumerate() {
                    let (cos, sin) = (&scope.value("cos")[t], &scope.value("sin")[t]);
                    let (turned_part, rest) = before.split_at(2 * cos.len());
                    let (a, b) = turned_part.split_at(cos.len());
                    let half = |sign: f64, x: &[f64], y: &[f64]| -> Vec<f64> {
                        (0..cos.len()).map(|i| x[i] * cos[i] + sign * y[i] * sin[i]).collect()
                    };
                    let turned = [half(-1.0, a, b), half(1.0, b, a), rest.to_vec()].concat();
                    same(&format!("{name} = rotate({name}₀)"), &vectors[t], &turned);
                }
            } else {
                let again = cut(all(formula(name).unwrap()));
                vectors.iter().zip(&again).for_each(|(a, b)| same(formula(name).unwrap(), a, b));
            }
        }
        let stated = weights(&data["weights"][layer][head], &mask);
        for (t, query) in q.iter().enumerate() {
            let scale = data["scale"].as_f64().unwrap();
            let power = |(j, key): (usize, &Vec<f64>)| {
                if mask[t][j] { (dot(query, key) * scale).exp() } else { 0.0 }
            };
            let powers: Vec<f64> = k.iter().enumerate().map(power).collect();
            let sum: f64 = powers.iter().sum();
            let alphas: Vec<f64> = powers.iter().map(|power| power / sum).collect();
            same("α = softmax(score)", &stated[t], &alphas);
            let context: Vec<f64> =
                (0..d).map(|c| v.iter().zip(&alphas).map(|(v, alpha)| alpha * v[c]).sum()).collect();
            same("context = Σ α × V", &contexts[t][head * d..(head + 1) * d], &context);
        }
    }
    5 * n_head
}

/// The logits of every listed output, and their softmax.
fn check_outputs(data: &Value) -> usize {
    let head = Scope::of(&data["way"]["head"]);
    let projection = &data["projection"];
    if projection.is_null() {
        return 0;
    }
    let wout = rows(&projection["rows"], projection["kept"].as_u64().unwrap() as usize);
    let bias = (!projection["bias"].is_null()).then(|| floats(&projection["bias"]));
    let read = head.values.get("read").unwrap_or_else(|| head.value("hidden"));
    let said = data["said"].as_array().unwrap();
    for (said, read) in said.iter().zip(read) {
        let mut sum = 0.0;
        for next in said["next"].as_array().unwrap() {
            let row = projection["ids"].as_array().unwrap().iter().position(|id| *id == next["id"]).unwrap();
            let logit = dot(&wout[row], read) + bias.as_ref().map_or(0.0, |bias| bias[row]);
            same("logit = Wout @ read", &[next["logit"].as_f64().unwrap()], &[logit]);
            sum += logit.exp();
            let stated = next["probability"].as_f64().unwrap();
            same("probability", &[stated], &[(logit - said["log_sum"].as_f64().unwrap()).exp()]);
        }
        same("the sum of softmax", &[said["log_sum"].as_f64().unwrap()], &[sum.ln()]);
    }
    2
}

fn section(family: Family) -> ModelSection {
    ModelSection {
        family: Some(family),
        n_layer: Some(2),
        n_head: Some(4),
        d_model: Some(16),
        ..ModelSection::default()
    }
}

fn four(section: ModelSection) -> ModelSection {
    ModelSection { n_layer: Some(4), ..section }
}

#[test]
fn every_equation_on_the_page_of_every_family_holds() {
    let fox = ModelSection { family: Some(Family::Fox), ..ModelSection::default() };
    let grouped = ModelSection { n_kv_head: Some(2), ..section(Family::Llama) };
    let varied = ModelSection {
        window: Some(2),
        layers: Some(vec![
            LayerOverride { positions: Some(Positions::None), ..LayerOverride::default() },
            LayerOverride { window: Some(3), rope_theta: Some(100.0), ..LayerOverride::default() },
        ]),
        ..grouped.clone()
    };
    let models = [
        ("fox", fox.clone(), Head::NextToken),
        (
            "fox, two layers of two heads",
            ModelSection { n_layer: Some(2), n_head: Some(2), ..fox },
            Head::NextToken,
        ),
        ("gpt2", section(Family::Gpt2), Head::NextToken),
        (
            "gpt2 without biases, scale and positions",
            ModelSection {
                attention_bias: Some(false),
                feed_forward_bias: Some(false),
                attention_scale: Some(1.0),
                positions: Some(Positions::None),
                tied_head: Some(false),
                ..section(Family::Gpt2)
            },
            Head::NextToken,
        ),
        (
            "gpt2, post-norm",
            ModelSection { block: Some(BlockKind::Post), ..section(Family::Gpt2) },
            Head::NextToken,
        ),
        ("bert, masked", section(Family::Bert), Head::MaskedToken),
        ("bert, labels", section(Family::Bert), Head::Classify { n_labels: 3 }),
        ("bert, no head", section(Family::Bert), Head::Hidden { pooler: false }),
        ("llama", grouped, Head::NextToken),
        ("llama, layers that differ", varied, Head::NextToken),
        ("qwen2", section(Family::Qwen2), Head::NextToken),
        ("qwen3", section(Family::Qwen3), Head::NextToken),
        ("olmo2", section(Family::Olmo2), Head::NextToken),
        ("smollm3, four layers", four(section(Family::Smollm3)), Head::NextToken),
        (
            "granite",
            ModelSection {
                residual_multiplier: Some(0.4),
                embedding_scale: Some(3.0),
                logit_divisor: Some(1.5),
                ..section(Family::Granite)
            },
            Head::NextToken,
        ),
        (
            "gpt_neox",
            ModelSection { rotary_fraction: Some(0.5), ..section(Family::GptNeox) },
            Head::NextToken,
        ),
        ("phi", section(Family::Phi), Head::NextToken),
        ("gemma3", section(Family::Gemma3), Head::NextToken),
        ("gemma3, labels", section(Family::Gemma3), Head::Classify { n_labels: 3 }),
        ("roberta", section(Family::Roberta), Head::MaskedToken),
        ("distilbert, labels", section(Family::Distilbert), Head::Classify { n_labels: 3 }),
        ("mpnet", section(Family::Mpnet), Head::MaskedToken),
        ("modernbert", section(Family::Modernbert), Head::MaskedToken),
        (
            "modernbert, labels",
            ModelSection { pooling: Some(Pooling::Mean), ..section(Family::Modernbert) },
            Head::Classify { n_labels: 3 },
        ),
    ];
    for (name, section, head) in models {
        let n = check(&data(section, head));
        assert!(n > 6, "{name}: only {n} equations");
    }
}

#[test]
fn formulas_of_q_name_its_norm() {
    let formulas = |section: ModelSection, head| -> Vec<String> {
        let data = data(section, head);
        let equations = data["way"]["layers"][1]["equations"].as_array().unwrap().clone();
        let said =
            |e: &Value| format!("{} = {}", e["name"].as_str().unwrap(), e["formula"].as_str().unwrap());
        equations.iter().map(said).collect()
    };
    let has = |section, head, wanted: &str| {
        let all = formulas(section, head);
        assert!(all.iter().any(|formula| formula == wanted), "no {wanted} in {all:?}");
    };
    has(section(Family::Gpt2), Head::NextToken, "Q = Wq @ norm(x) + bq");
    has(section(Family::Bert), Head::MaskedToken, "Q = Wq @ x + bq");
    has(section(Family::Bert), Head::MaskedToken, "y = norm(s) = (s − mean(s)) / √(var(s) + ε) × γ₁ + β₁");
    has(section(Family::Llama), Head::NextToken, "Q₀ = Wq @ norm(x)");
    has(section(Family::Llama), Head::NextToken, "norm(x) = x / √(mean(x²) + ε) × γ₁");
}
