//! The way from ids to logits as equations: how each value is made of those before it, with the model's own numbers.
//!
//! A formula is written from the layers that the running model has: a bias is named where there is one, a norm stands
//! where the block has it. What the formulas speak of was recorded by a probe; nothing is computed here.

mod head;
mod layer;
mod writer;

use std::collections::BTreeMap;

use candle_core::Tensor;
use vulpes_model::{Input, Recorder, Run, Site, Transformer};

use crate::error::Error;
use writer::Writer;

/// Parameters are there where the model has no more of them than this in its layers and its head's own.
const FEW: usize = 120_000;
/// Of vectors wider than the first only the second many numbers are kept.
const WIDE: (usize, usize) = (64, 8);

/// The whole way, part by part.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// From ids to the vectors that the first layer reads.
    pub embedding: Part,
    /// Each layer, from what it reads to what it hands on.
    pub layers: Vec<Part>,
    /// From the last layer to what the head's last matrix reads.
    pub head: Part,
}

/// The equations of one part of the model, in the order of computation.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Each value with how it is made.
    pub equations: Vec<Equation>,
    /// The parameters that the formulas name, where the model is small enough.
    pub parameters: BTreeMap<String, Parameter>,
}

/// `name = formula`, for every token.
#[derive(Clone, Debug)]
pub struct Equation {
    /// What is made.
    pub name: String,
    /// Of what; empty where the value comes from elsewhere.
    pub formula: String,
    /// How wide the value is.
    pub width: usize,
    /// The value of each token; of a wide one its first numbers.
    pub values: Vec<Vec<f32>>,
}

/// A parameter as its formulas name it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Rows and columns of a matrix; the length of a vector; nothing for a number.
    pub shape: Vec<usize>,
    /// The numbers, row by row.
    pub numbers: Vec<f32>,
}

impl Part {
    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&Equation> {
        self.equations.iter().find(|equation| equation.name == name)
    }
}

/// How many numbers of a vector are kept.
pub(crate) fn kept(width: usize) -> usize {
    if width > WIDE.0 { WIDE.1 } else { width }
}

/// Runs the model on a text of one row and keeps the way.
///
/// # Errors
/// Where an operation fails.
pub fn way(model: &Transformer, input: &Input) -> Result<Way, Error> {
    let n_layer = model.config().n_layer;
    let sites: Vec<Site> = ENDS.into_iter().chain((0..n_layer).flat_map(layer::sites)).collect();
    let mut recorder = Recorder::of(&sites);
    let hidden = model.forward(input, &mut Run::probed(&mut recorder))?;
    model.logits(&model.read_by_head(&hidden, input)?, &mut Run::probed(&mut recorder))?;
    let layers = model.layers();
    let n_parameter: usize = layers.leaves().iter().map(|leaf| leaf.elem_count()).sum();
    let tables = layers.embedding.token.elem_count()
        + layers.embedding.position.as_ref().map_or(0, Tensor::elem_count);
    let mut writer = Writer {
        recorder: Some(&recorder),
        with_parameters: n_parameter.saturating_sub(tables) <= FEW,
        part: Part::default(),
    };
    embedding(model, &mut writer)?;
    let embedding = std::mem::take(&mut writer.part);
    let mut parts = Vec::new();
    for block in &layers.blocks {
        layer::write(block, model.config(), &mut writer)?;
        parts.push(std::mem::take(&mut writer.part));
    }
    head::write(model, &mut writer)?;
    Ok(Way { embedding, layers: parts, head: writer.part })
}

/// The formulas of each layer of a model, as `name = formula`, in the order of computation.
///
/// # Errors
/// Where an operation fails.
pub(crate) fn formulas(model: &Transformer) -> Result<Vec<Vec<String>>, Error> {
    let of_layer = |block| {
        let mut writer = Writer { recorder: None, with_parameters: false, part: Part::default() };
        layer::write(block, model.config(), &mut writer)?;
        let said = writer.part.equations.iter().filter(|equation| !equation.formula.is_empty());
        Ok(said.map(|equation| format!("{} = {}", equation.name, equation.formula)).collect())
    };
    model.layers().blocks.iter().map(of_layer).collect()
}

const ENDS: [Site; 10] = [
    Site::TokenVector,
    Site::PositionVector,
    Site::TypeVector,
    Site::EmbeddingSum,
    Site::Embedding,
    Site::Hidden,
    Site::HeadRow,
    Site::HeadDense,
    Site::HeadActivated,
    Site::HeadInput,
];

fn embedding(model: &Transformer, writer: &mut Writer) -> Result<(), Error> {
    let layer = &model.layers().embedding;
    let mut summands = vec!["token"];
    writer.given("token", Site::TokenVector)?;
    if layer.position.is_some() {
        writer.given("position", Site::PositionVector)?;
        summands.push("position");
    }
    if layer.token_type.is_some() {
        writer.given("type", Site::TypeVector)?;
        summands.push("type");
    }
    let mut sum = summands.join(" + ");
    if layer.scale != 1.0 {
        writer.number("scale", layer.scale);
        if summands.len() > 1 {
            writer.formula("vectors", sum);
            sum = "vectors".into();
        }
        sum = format!("scale × {sum}");
    }
    match &layer.norm {
        Some(norm) => {
            writer.equation("sum", sum, Site::EmbeddingSum)?;
            writer.normed("x", "sum", norm, "", Site::Embedding)
        }
        None => writer.equation("x", sum, Site::Embedding),
    }
}
