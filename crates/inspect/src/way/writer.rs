//! Writes equations: values with their formulas, and the parameters in them.

use candle_core::{DType, Tensor};
use vulpes_model::{Norm, Recorder, Site};
use vulpes_ops::{Activation, Linear};

use super::{Equation, Parameter, Part, kept};
use crate::error::Error;

/// The name of an activation in a config.
pub(crate) fn name_of(activation: Activation) -> &'static str {
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
    /// The recorded values; without them only formulas are written.
    pub(super) recorder: Option<&'a Recorder>,
    pub(super) with_parameters: bool,
    pub(super) part: Part,
}

impl Writer<'_> {
    /// A value that comes from elsewhere.
    pub(super) fn given(&mut self, name: &str, site: Site) -> Result<(), Error> {
        self.equation(name, String::new(), site)
    }

    /// An equation whose value is stored elsewhere.
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
        // Heads are slices of queries and keys, so those are kept completely.
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

    /// The formula of a projection; its parameters are stored under their names.
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
                (Some(weight), bias.as_ref(), *eps, format!("({of} − mean({of})) / √(var({of}) + ε)"))
            }
            Norm::Rms { weight, eps } | Norm::RmsPlusOne { weight, eps } => {
                (Some(weight), None, *eps, format!("{of} / √(mean({of}²) + ε)"))
            }
            Norm::RmsBare { width: _, eps } => (None, None, *eps, format!("{of} / √(mean({of}²) + ε)")),
        };
        let (gamma, beta) = (format!("γ{mark}"), format!("β{mark}"));
        let plus = if bias.is_some() { format!(" + {beta}") } else { String::new() };
        let times = if weight.is_some() { format!(" × {gamma}") } else { String::new() };
        // γ is the complete scale, also if the model stores the scale minus 1.
        let scale = weight.map(|weight| norm.scale(weight)).transpose()?;
        self.parameter(&gamma, scale.as_ref())?;
        self.parameter(&beta, bias)?;
        self.number("ε", eps);
        let short = if name.starts_with("norm") { String::new() } else { format!("norm({of}) = ") };
        self.equation(name, format!("{short}{core}{times}{plus}"), site)
    }

    /// A scalar in formulas.
    pub(super) fn number(&mut self, name: &str, number: f64) {
        let number = Parameter { shape: Vec::new(), numbers: vec![number as f32] };
        self.part.parameters.insert(name.into(), number);
    }

    /// The norm of queries or keys, per head or over all heads.
    pub(super) fn normed_heads(
        &mut self,
        name: &str,
        (of, gamma): (&str, &str),
        norm: &Norm<Tensor>,
        site: Option<Site>,
        d_head: usize,
    ) -> Result<(), Error> {
        let each = if norm.width() == d_head { ", each head by itself" } else { "" };
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
