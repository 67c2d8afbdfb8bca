//! Writing equations: values with their formulas, and the parameters that these name.

use candle_core::{DType, Tensor};
use vulpes_model::{Norm, Recorder, Site};
use vulpes_ops::{Activation, Linear};

use super::{Equation, Parameter, Part, kept};
use crate::error::Error;

/// An activation by the word that a config has for it.
pub(super) fn name_of(activation: Activation) -> &'static str {
    match activation {
        Activation::GeluTanh => "gelu_tanh",
        Activation::GeluErf => "gelu_erf",
        Activation::Silu => "silu",
        Activation::Relu2 => "relu2",
        Activation::Relu => "relu",
    }
}

/// Writes the equations of a part.
pub(super) struct Writer<'a> {
    /// What was seen; without it formulas alone are written.
    pub(super) recorder: Option<&'a Recorder>,
    pub(super) with_parameters: bool,
    pub(super) part: Part,
}

impl Writer<'_> {
    /// A value that comes from elsewhere.
    pub(super) fn given(&mut self, name: &str, site: Site) -> Result<(), Error> {
        self.equation(name, String::new(), site)
    }

    /// An equation whose value stands elsewhere.
    pub(super) fn formula(&mut self, name: &str, formula: String) {
        self.part.equations.push(Equation { name: name.into(), formula, width: 0, values: Vec::new() });
    }

    pub(super) fn equation(&mut self, name: &str, formula: String, site: Site) -> Result<(), Error> {
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
    pub(super) fn linear(
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
    pub(super) fn projected(
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
    pub(super) fn normed(
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
    pub(super) fn number(&mut self, name: &str, number: f64) {
        let number = Parameter { shape: Vec::new(), numbers: vec![number as f32] };
        self.part.parameters.insert(name.into(), number);
    }

    /// The norm of queries or keys, of each head or of all together.
    pub(super) fn normed_heads(
        &mut self,
        name: &str,
        (of, gamma): (&str, &str),
        norm: &Norm<Tensor>,
        site: Option<Site>,
        d_head: usize,
    ) -> Result<(), Error> {
        let (Norm::Layer { weight, .. } | Norm::Rms { weight, .. } | Norm::RmsPlusOne { weight, .. }) = norm;
        let each = if weight.elem_count() == d_head { ", each head by itself" } else { "" };
        let mut of_norm =
            Writer { recorder: None, with_parameters: self.with_parameters, part: Part::default() };
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

    pub(super) fn parameter(&mut self, name: &str, tensor: Option<&Tensor>) -> Result<(), Error> {
        if let (Some(tensor), true) = (tensor, self.with_parameters) {
            let numbers = tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
            let parameter = Parameter { shape: tensor.dims().to_vec(), numbers };
            self.part.parameters.insert(name.into(), parameter);
        }
        Ok(())
    }
}
