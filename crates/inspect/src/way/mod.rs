//! The way from ids to logits as equations: how each value is made of those before it, with the model's own numbers.
//!
//! A formula is written from the layers that the running model has: a bias is named where there is one, a norm stands
//! where the block has it. What the formulas speak of was recorded by a probe; nothing is computed here.

mod layer;

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};
use vulpes_model::config::Pooling;
use vulpes_model::{
    ClassifierStep, HeadLayer, Input, Norm, Recorder, Run, Site, Transform, Transformer,
};
use vulpes_ops::{Activation, Linear};

use crate::error::Error;

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
    head(model, &mut writer)?;
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

fn head(model: &Transformer, writer: &mut Writer) -> Result<(), Error> {
    let n_layer = model.config().n_layer;
    writer.given("z", n_layer.checked_sub(1).map_or(Site::Embedding, Site::Block))?;
    match &model.layers().norm {
        Some(norm) => writer.normed("hidden", "z", norm, "", Site::Hidden)?,
        None => writer.equation("hidden", "z".into(), Site::Hidden)?,
    }
    match &model.layers().head {
        HeadLayer::Vocabulary { transform, weight: _, bias: _, divisor, softcap: _ } => {
            let last = match transform {
                Some(transform) => transformed(transform, writer)?,
                None if *divisor != 1.0 => "hidden",
                None => return Ok(()),
            };
            if *divisor != 1.0 {
                writer.number("divided", divisor.recip());
                return writer.equation("read", format!("divided × {last}"), Site::HeadInput);
            }
            read(transform.as_ref(), last, writer)
        }
        HeadLayer::Labels { pooling, pad_id: _, step, classifier: _, dropout: _ } => {
            let of = match pooling {
                Pooling::First => "hidden",
                Pooling::Last => {
                    writer.equation("text", "hidden, of the last token".into(), Site::HeadRow)?;
                    "text"
                }
                Pooling::Mean => {
                    writer.equation("text", "hidden, the mean of all tokens".into(), Site::HeadRow)?;
                    "text"
                }
            };
            match step {
                ClassifierStep::None => writer.equation("read", of.into(), Site::HeadInput),
                ClassifierStep::Pooler(dense) => {
                    writer.linear("dense", ("Wp", "bp"), of, dense, Site::HeadDense)?;
                    writer.equation("read", "tanh(dense)".into(), Site::HeadInput)
                }
                ClassifierStep::Relu(dense) => {
                    writer.linear("dense", ("Wp", "bp"), of, dense, Site::HeadDense)?;
                    writer.equation("read", "relu(dense)".into(), Site::HeadInput)
                }
                ClassifierStep::Transform(transform) => {
                    writer.linear("dense", ("Wp", "bp"), of, &transform.dense, Site::HeadDense)?;
                    let last = activated(transform, writer)?;
                    read(Some(transform), last, writer)
                }
            }
        }
        HeadLayer::Hidden { .. } => Ok(()),
    }
}

/// Dense and activation of a head; the name of what they come to.
fn transformed(transform: &Transform<Tensor>, writer: &mut Writer) -> Result<&'static str, Error> {
    writer.linear("dense", ("Wt", "bt"), "hidden", &transform.dense, Site::HeadDense)?;
    activated(transform, writer)
}

fn activated(transform: &Transform<Tensor>, writer: &mut Writer) -> Result<&'static str, Error> {
    let Some(activation) = transform.activation else { return Ok("dense") };
    writer.equation("active", format!("{}(dense)", name_of(activation)), Site::HeadActivated)?;
    Ok("active")
}

/// What the last matrix reads: the norm of a head, where there is one.
fn read(transform: Option<&Transform<Tensor>>, last: &str, writer: &mut Writer) -> Result<(), Error> {
    match transform.and_then(|transform| transform.norm.as_ref()) {
        Some(norm) => writer.normed("read", last, norm, "ₜ", Site::HeadInput),
        None => writer.equation("read", last.into(), Site::HeadInput),
    }
}

/// An activation by the word that a config has for it.
fn name_of(activation: Activation) -> &'static str {
    match activation {
        Activation::GeluTanh => "gelu_tanh",
        Activation::GeluErf => "gelu_erf",
        Activation::Silu => "silu",
        Activation::Relu2 => "relu2",
        Activation::Relu => "relu",
    }
}

/// Writes the equations of a part.
struct Writer<'a> {
    /// What was seen; without it formulas alone are written.
    recorder: Option<&'a Recorder>,
    with_parameters: bool,
    part: Part,
}

impl Writer<'_> {
    /// A value that comes from elsewhere.
    fn given(&mut self, name: &str, site: Site) -> Result<(), Error> {
        self.equation(name, String::new(), site)
    }

    /// An equation whose value stands elsewhere.
    fn formula(&mut self, name: &str, formula: String) {
        self.part.equations.push(Equation { name: name.into(), formula, width: 0, values: Vec::new() });
    }

    fn equation(&mut self, name: &str, formula: String, site: Site) -> Result<(), Error> {
        let Some(recorder) = self.recorder else {
            self.formula(name, formula);
            return Ok(());
        };
        let tensor = recorder.get(site).ok_or_else(|| Error::NotSeen(site.to_string()))?;
        let tensor = match tensor.rank() {
            4 => tensor.flatten_from(2)?.squeeze(0)?,
            3 => tensor.squeeze(0)?,
            _ => tensor.clone(),
        };
        let width = tensor.dim(1)?;
        // Heads are cut out of queries and keys, so those are kept whole.
        let n = if name.starts_with(['Q', 'K']) { width } else { kept(width) };
        let values = tensor.narrow(1, 0, n)?.to_dtype(DType::F32)?.to_vec2()?;
        self.part.equations.push(Equation { name: name.into(), formula, width, values });
        Ok(())
    }

    /// `name = W @ of + b`.
    fn linear(
        &mut self,
        name: &str,
        (weight, bias): (&str, &str),
        of: &str,
        linear: &Linear<Tensor>,
        site: Site,
    ) -> Result<(), Error> {
        let formula = self.projected((weight, bias), of, linear)?;
        self.equation(name, formula, site)
    }

    /// The formula of a projection, whose parameters are kept under their names.
    fn projected(
        &mut self,
        (weight, bias): (&str, &str),
        of: &str,
        linear: &Linear<Tensor>,
    ) -> Result<String, Error> {
        let plus = if linear.bias.is_some() { format!(" + {bias}") } else { String::new() };
        self.parameter(weight, Some(&linear.weight))?;
        self.parameter(bias, linear.bias.as_ref())?;
        Ok(format!("{weight} @ {of}{plus}"))
    }

    /// `name = norm(of)`, written out.
    fn normed(
        &mut self,
        name: &str,
        of: &str,
        norm: &Norm<Tensor>,
        mark: &str,
        site: Site,
    ) -> Result<(), Error> {
        let (weight, bias, eps, core) = match norm {
            Norm::Layer { weight, bias, eps } => {
                (weight, bias.as_ref(), *eps, format!("({of} − mean({of})) / √(var({of}) + ε)"))
            }
            Norm::Rms { weight, eps } | Norm::RmsPlusOne { weight, eps } => {
                (weight, None, *eps, format!("{of} / √(mean({of}²) + ε)"))
            }
        };
        // γ is the whole scale, also where the model stores what it has above 1.
        let weight = &match norm {
            Norm::RmsPlusOne { .. } => weight.affine(1.0, 1.0)?,
            Norm::Layer { .. } | Norm::Rms { .. } => weight.clone(),
        };
        let (gamma, beta) = (format!("γ{mark}"), format!("β{mark}"));
        let plus = if bias.is_some() { format!(" + {beta}") } else { String::new() };
        self.parameter(&gamma, Some(weight))?;
        self.parameter(&beta, bias)?;
        self.number("ε", eps);
        let short = if name.starts_with("norm") { String::new() } else { format!("norm({of}) = ") };
        self.equation(name, format!("{short}{core} × {gamma}{plus}"), site)
    }

    /// A number that formulas name.
    fn number(&mut self, name: &str, number: f64) {
        let number = Parameter { shape: Vec::new(), numbers: vec![number as f32] };
        self.part.parameters.insert(name.into(), number);
    }

    /// The norm of queries or keys, of each head or of all together.
    fn normed_heads(
        &mut self,
        name: &str,
        (of, gamma): (&str, &str),
        norm: &Norm<Tensor>,
        site: Option<Site>,
        d_head: usize,
    ) -> Result<(), Error> {
        let (Norm::Layer { weight, .. } | Norm::Rms { weight, .. } | Norm::RmsPlusOne { weight, .. }) = norm;
        let each = if weight.elem_count() == d_head { ", each head by itself" } else { "" };
        let mut of_norm = Writer { recorder: None, with_parameters: self.with_parameters, part: Part::default() };
        of_norm.normed("norm", of, norm, gamma, Site::Hidden)?;
        let formula = of_norm.part.equations.pop().map(|equation| equation.formula).unwrap_or_default();
        self.part.parameters.append(&mut of_norm.part.parameters);
        let formula = format!("{formula}{each}");
        match site {
            Some(site) => self.equation(name, formula, site),
            None => {
                self.formula(name, formula);
                Ok(())
            }
        }
    }

    fn parameter(&mut self, name: &str, tensor: Option<&Tensor>) -> Result<(), Error> {
        if let (Some(tensor), true) = (tensor, self.with_parameters) {
            let numbers = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
            let parameter = Parameter { shape: tensor.dims().to_vec(), numbers };
            self.part.parameters.insert(name.into(), parameter);
        }
        Ok(())
    }
}
