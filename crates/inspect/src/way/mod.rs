//! The equations from ids to logits: how each value follows from those before it, with the model's values.
//!
//! Formulas are written from the layers of the running model: a bias appears if there is one, a norm where the block
//! has it. The values in the formulas were recorded by a probe; nothing is computed here.

mod head;
mod layer;
mod writer;

use std::collections::BTreeMap;

use candle_core::Tensor;
use vulpes_model::{Input, Pass, Recorder, Site, Transformer};

use crate::error::Error;
use writer::Writer;
pub(crate) use writer::name_of;

/// Parameters are included if the layers and the head's own have at most this many.
const FEW: usize = 120_000;
/// Of vectors wider than the first number, only the second number of values are kept.
const WIDE: (usize, usize) = (64, 8);

/// All equations, part by part.
#[derive(Clone, Debug, Default)]
pub struct Way {
    /// From ids to the input of the first layer.
    pub embedding: Part,
    /// Each layer, from its input to its output.
    pub layers: Vec<Part>,
    /// From the last layer to the input of the head's last matrix.
    pub head: Part,
}

/// The equations of one part of the model, in the order of computation.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// Each value with its equation.
    pub equations: Vec<Equation>,
    /// The parameters in the formulas, if the model is small enough.
    pub parameters: BTreeMap<String, Parameter>,
}

/// `name = formula`, for every token.
#[derive(Clone, Debug)]
pub struct Equation {
    /// The name of the value.
    pub name: String,
    /// Its formula; empty if the value comes from elsewhere.
    pub formula: String,
    /// The width of the value.
    pub width: usize,
    /// The value of each token; of a wide one its first elements.
    pub values: Vec<Vec<f32>>,
}

/// A parameter as named in formulas.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Rows and columns of a matrix; the length of a vector; empty for a scalar.
    pub shape: Vec<usize>,
    /// The values, row by row.
    pub numbers: Vec<f32>,
}

impl Part {
    /// The equation of that name.
    pub fn get(&self, name: &str) -> Option<&Equation> {
        self.equations.iter().find(|equation| equation.name == name)
    }
}

/// How many elements of a vector are kept.
pub(crate) fn kept(width: usize) -> usize {
    if width > WIDE.0 { WIDE.1 } else { width }
}

/// Runs the model on a text of one row and records the equations.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn way(model: &Transformer, input: &Input) -> Result<Way, Error> {
    let n_layer = model.config().n_layer;
    let sites: Vec<Site> = ENDS.into_iter().chain((0..n_layer).flat_map(layer::sites)).collect();
    let mut recorder = Recorder::of(&sites);
    let hidden = model.forward(input, &mut Pass::probed(&mut recorder))?;
    model.logits(&model.read_by_head(&hidden, input)?, &mut Pass::probed(&mut recorder))?;
    let layers = model.layers();
    let n_parameter: usize = layers.leaves().iter().map(|leaf| leaf.elem_count()).sum();
    let tables = layers.embedding.token.elem_count()
        + layers.embedding.position.as_ref().map_or(0, Tensor::elem_count)
        + layers.embedding.bigram.as_ref().map_or(0, Tensor::elem_count);
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
/// Returns an error if an operation fails.
pub(crate) fn formulas(model: &Transformer) -> Result<Vec<Vec<String>>, Error> {
    let of_layer = |block| {
        let mut writer = Writer { recorder: None, with_parameters: false, part: Part::default() };
        layer::write(block, model.config(), &mut writer)?;
        let said = writer.part.equations.iter().filter(|equation| !equation.formula.is_empty());
        Ok(said.map(|equation| format!("{} = {}", equation.name, equation.formula)).collect())
    };
    model.layers().blocks.iter().map(of_layer).collect()
}

const ENDS: [Site; 11] = [
    Site::TokenVector,
    Site::PositionVector,
    Site::TypeVector,
    Site::PairVector,
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
    if layer.bigram.is_some() {
        writer.given("pair", Site::PairVector)?;
        summands.push("pair");
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
